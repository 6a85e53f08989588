package ssa_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		crashChild() // does not return
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2ClientConn).readLoop"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

// wire records and can tamper with the requests of a client.
type wire struct {
	mu       sync.Mutex
	requests []string // "PATCH deployments dry" and the like
	before   func(r *http.Request) error
	watches  []context.CancelFunc
	expire   bool // the next watch
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		w.mu.Lock()
		kind := r.Method
		switch {
		case r.URL.Query().Get("dryRun") != "":
			kind = "DRYRUN"
		case r.URL.Query().Get("watch") != "":
			kind = "WATCH"
		}
		w.requests = append(w.requests, kind+" "+r.URL.Path)
		before := w.before
		expire := w.expire && kind == "WATCH"
		w.expire = w.expire && !expire
		w.mu.Unlock()
		if before != nil {
			if err := before(r); err != nil {
				return refusal(r, err)
			}
		}
		if expire {
			return answer(r, http.StatusGone, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`), nil
		}
		if kind != "WATCH" {
			return next.RoundTrip(r)
		}
		ctx, cancel := context.WithCancel(r.Context())
		w.mu.Lock()
		w.watches = append(w.watches, cancel)
		w.mu.Unlock()
		response, err := next.RoundTrip(r.WithContext(ctx))
		if err == nil {
			response.Body = &cuttable{ReadCloser: response.Body, cut: ctx}
		}
		return response, err
	})
}

// cuttable is a body that can end in the middle.
type cuttable struct {
	io.ReadCloser
	cut context.Context
}

func (c *cuttable) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && c.cut.Err() != nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// refusal answers with what the API server would say, if the error is of that
// kind; else there is no answer.
func refusal(r *http.Request, err error) (*http.Response, error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil, err
	}
	said := status.Status()
	said.Kind, said.APIVersion = "Status", "v1"
	body, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	return answer(r, int(said.Code), string(body)), nil
}

func answer(r *http.Request, code int, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}

// cut ends all watches in the middle, and lets no request through until the
// returned function is called.
func (w *wire) cutWatches() (restore func()) {
	w.tamper(func(*http.Request) error { return errCut })
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cancel := range w.watches {
		cancel()
	}
	w.watches = nil
	return func() { w.tamper(nil) }
}

// expireOnce has the server answer that the version of the next watch is too old.
func (w *wire) expireOnce() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expire = true
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// take returns the requests since the last call, discovery left out.
func (w *wire) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.requests {
		path := strings.Fields(r)[1]
		if strings.Count(path, "/") > 3 || strings.HasPrefix(path, "/api/v1/") {
			out = append(out, r)
		}
	}
	w.requests = nil
	return out
}

// tamper sets what happens before each request.
func (w *wire) tamper(before func(*http.Request) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = before
}

func count(requests []string, kind string) int {
	n := 0
	for _, r := range requests {
		if strings.HasPrefix(r, kind+" ") {
			n++
		}
	}
	return n
}

// newClient returns a client with an owner and a namespace of its own.
func newClient(t *testing.T) (*ssa.Client, *wire) {
	t.Helper()
	env := testenv.Start(t)
	return clientFor(t, env.Config(), "app", env.Namespace)
}

func clientFor(t testing.TB, config *rest.Config, owner, namespace string) (*ssa.Client, *wire) {
	t.Helper()
	w := &wire{}
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.Wrap(w.wrap)
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &ssa.Client{
		Dynamic:          dyn,
		Mapper:           restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		Owner:            ssa.Owner{Name: owner, Namespace: namespace},
		DefaultNamespace: namespace,
	}, w
}

// objects parses manifests.
func objects(t testing.TB, manifests string) []*unstructured.Unstructured {
	t.Helper()
	objs, err := ssa.ReadObjects(strings.NewReader(manifests))
	if err != nil {
		t.Fatal(err)
	}
	return objs
}

func configMap(name, value string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {key: %q}\n", name, value)
}

func deployment(name string, replicas int) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: "example.com/%[1]s:1", ports: [{containerPort: 80}]}]}
`, name, replicas)
}

// get reads an object of the client's namespace, nil if it does not exist.
func get(t *testing.T, c *ssa.Client, gvk schema.GroupVersionKind, name string) *unstructured.Unstructured {
	t.Helper()
	m, err := c.Mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		t.Fatal(err)
	}
	r := dynamic.ResourceInterface(c.Dynamic.Resource(m.Resource))
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		r = c.Dynamic.Resource(m.Resource).Namespace(c.Owner.Namespace)
	}
	obj, err := r.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		if strings.Contains(err.Error(), "not found") {
			return nil
		}
		t.Fatal(err)
	}
	return obj
}

var (
	configMaps = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	secrets    = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
)

// actions returns "Kind/name action" for each change.
func actions(set *ssa.ChangeSet) []string {
	var out []string
	for _, c := range set.Changes {
		out = append(out, fmt.Sprintf("%s/%s %s", c.Object.Kind, c.Object.Name, c.Action))
	}
	return out
}

// must returns a change set that came without an error.
func must(t *testing.T) func(*ssa.ChangeSet, error) *ssa.ChangeSet {
	return func(set *ssa.ChangeSet, err error) *ssa.ChangeSet {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
}

// soon waits for a channel.
func soon[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s within 20s", what)
	}
	return v
}
