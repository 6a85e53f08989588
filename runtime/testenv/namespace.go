package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// api makes the few calls this package needs itself, over connections that do not outlive it.
type api struct {
	base   string
	client *http.Client
}

func newAPI(config *rest.Config) (*api, error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, &Error{Op: "connect", Subject: config.Host, Err: err}
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}
	return &api{base: config.Host, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}, nil
}

func (a *api) close() { a.client.CloseIdleConnections() }

// do makes one request and returns the status code; the body of an unexpected answer becomes the error.
func (a *api) do(ctx context.Context, method, path, body string, accept ...int) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, err
	}
	for _, code := range accept {
		if resp.StatusCode == code {
			return code, nil
		}
	}
	return resp.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer))
}

// createNamespace creates the namespace and, with accounts, waits for its service account.
func (a *api) createNamespace(ctx context.Context, name string, accounts bool) error {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q}}`, name)
	if _, err := a.do(ctx, http.MethodPost, "/api/v1/namespaces", body, http.StatusCreated); err != nil {
		return &Error{Op: "namespace", Subject: name, Err: err}
	}
	for accounts {
		code, err := a.do(ctx, http.MethodGet, "/api/v1/namespaces/"+name+"/serviceaccounts/default", "", http.StatusOK, http.StatusNotFound)
		if err != nil {
			return &Error{Op: "namespace", Subject: name, Err: err}
		}
		if code == http.StatusOK {
			return nil
		}
		select {
		case <-ctx.Done():
			return &Error{Op: "namespace", Subject: name, Err: context.Cause(ctx)}
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// deleteNamespace begins the deletion of the namespace and does not wait for its end: no other test uses the name. A
// server that has ended needs nothing deleted.
func deleteNamespace(server *Server, name string) error {
	select {
	case <-server.Done():
		return nil
	default:
	}
	a, err := newAPI(server.config)
	if err != nil {
		return err
	}
	defer a.close()
	_, err = a.do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+name, "",
		http.StatusOK, http.StatusAccepted, http.StatusNotFound, http.StatusConflict)
	if err != nil {
		return &Error{Op: "namespace", Subject: name, Err: fmt.Errorf("delete: %w", err)}
	}
	return nil
}

// randomSuffix returns eight characters that make a name unique.
func randomSuffix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}
