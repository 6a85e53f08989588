package testenv

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
)

// Write is a request that may have changed something, as the API server saw it.
type Write struct {
	// Verb is what was asked for: create, update, patch, delete or deletecollection.
	Verb string
	// User sent the request; As is whom it impersonated, empty if nobody.
	User, As string
	// Agent is the User-Agent of the request.
	Agent string
	// Group, Resource and Subresource are what it was about, such as "apps", "deployments", "status".
	Group, Resource, Subresource string
	// Namespace and Name tell the object; Name is empty where the server chose it.
	Namespace, Name string
	// DryRun says that the request asked that nothing be stored.
	DryRun bool
	// Code is the status of the answer: below 300 it was done.
	Code int
}

// ReadAudit reads the file of Options.AuditLog: the requests that may write, in the order of their answers. A last line
// that is still being written is left out. The format is that of audit.k8s.io/v1.
func ReadAudit(path string) ([]Write, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{Op: "read", Subject: path, Err: err, Hint: "name the file of Options.AuditLog; it is created with the first write"}
	}
	defer f.Close() //nolint:errcheck // only read
	var out []Write
	for lines, n := bufio.NewReader(f), 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		var w auditEvent
		if err == nil {
			err = json.Unmarshal(line, &w)
		}
		if err != nil {
			return nil, &Error{Op: "read", Subject: fmt.Sprintf("%s, line %d", path, n), Err: err}
		}
		out = append(out, Write{
			Verb: w.Verb, User: w.User.Username, As: w.ImpersonatedUser.Username, Agent: w.UserAgent,
			Group: w.ObjectRef.APIGroup, Resource: w.ObjectRef.Resource, Subresource: w.ObjectRef.Subresource,
			Namespace: w.ObjectRef.Namespace, Name: w.ObjectRef.Name, DryRun: dryRun(w.RequestURI), Code: w.ResponseStatus.Code,
		})
	}
}

// auditEvent is what we read of an Event of audit.k8s.io/v1.
type auditEvent struct {
	Verb                   string
	User, ImpersonatedUser struct{ Username string }
	UserAgent, RequestURI  string
	ObjectRef              struct{ APIGroup, Resource, Subresource, Namespace, Name string }
	ResponseStatus         struct{ Code int }
}

// dryRun reports a request with the parameter dryRun.
func dryRun(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Query().Has("dryRun")
}
