package tenancy_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestGuard: what does not impersonate exactly the identity does not get out.
func TestGuard(t *testing.T) {
	sent := 0
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		sent++
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	account := tenancy.Identity{Namespace: "ns", ServiceAccount: "app"}
	jane := tenancy.Identity{User: "jane", Groups: []string{"dev", "ops"}}
	const user, group = "Impersonate-User", "Impersonate-Group"
	for name, c := range map[string]struct {
		id     tenancy.Identity
		header http.Header
		passes bool
	}{
		"account":        {account, http.Header{user: {"system:serviceaccount:ns:app"}}, true},
		"groups":         {jane, http.Header{user: {"jane"}, group: {"dev", "ops"}}, true},
		"nothing":        {account, http.Header{}, false},
		"empty":          {account, http.Header{user: {""}}, false},
		"other":          {account, http.Header{user: {"system:serviceaccount:ns:other"}}, false},
		"two":            {account, http.Header{user: {"system:serviceaccount:ns:app", "admin"}}, false},
		"group added":    {account, http.Header{user: {"system:serviceaccount:ns:app"}, group: {"system:masters"}}, false},
		"group left out": {jane, http.Header{user: {"jane"}, group: {"dev"}}, false},
		"self":           {tenancy.Identity{Self: true}, http.Header{}, false},
		"nobody":         {tenancy.Identity{}, http.Header{}, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "PATCH", "/", strings.NewReader("x"))
		r.Header = c.header
		before := sent
		resp, err := tenancy.Guard(c.id, base).RoundTrip(r)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != c.passes || (sent > before) != c.passes || !c.passes && !errors.Is(err, tenancy.ErrImpersonation) {
			t.Errorf("%s: %v, sent %t", name, err, sent > before)
		}
	}
}

// TestLockdown: on a real server, a locked policy without a service account writes nothing, and with one, no request of
// the tenant goes out as the controller; neither by what is sent nor by the audit log of the server.
func TestLockdown(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	env := testenv.StartServer(t, &testenv.Options{AuditLog: audit})
	var mu sync.Mutex
	var seen []string
	config := env.Config()
	config.UserAgent = "controller"
	config.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			seen = append(seen, fmt.Sprintf("%s %s as %q", r.Method, r.URL.Path, r.Header.Get("Impersonate-User")))
			mu.Unlock()
			return base.RoundTrip(r)
		})
	})
	clients := &tenancy.Clients{Base: config}
	policy := tenancy.Policy{Lockdown: true}
	reconcile := func(ctx context.Context, serviceAccount string) error {
		id, err := policy.Identity(env.Namespace, serviceAccount)
		if err != nil {
			return err
		}
		cluster, err := clients.For(id)
		if err != nil {
			return err
		}
		mapping, err := cluster.Mapper.RESTMapping(schema.GroupKind{Kind: "ConfigMap"})
		if err != nil {
			return err
		}
		_, err = cluster.Dynamic.Resource(mapping.Resource).Namespace(env.Namespace).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "tenant"},
		}}, metav1.CreateOptions{})
		return err
	}
	if err := reconcile(t.Context(), ""); !errors.Is(err, tenancy.ErrDenied) || !rt.IsTerminal(err) {
		t.Errorf("without a service account: %v", err)
	}
	if len(seen) > 0 {
		t.Errorf("requests: %q", seen)
	}
	if err := reconcile(t.Context(), "poor"); !apierrors.IsForbidden(err) {
		t.Errorf("as an account without rights: %v", err)
	}
	as := fmt.Sprintf("as %q", "system:serviceaccount:"+env.Namespace+":poor")
	if len(seen) == 0 || slices.ContainsFunc(seen, func(s string) bool { return !strings.HasSuffix(s, as) }) {
		t.Errorf("not all are %s: %q", as, seen)
	}
	maps := must(t)(clients.For(tenancy.Identity{Self: true})).Dynamic.Resource(configMaps).Namespace(env.Namespace)
	if _, err := maps.Get(t.Context(), "tenant", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it was written: %v", err)
	}
	writes, err := testenv.ReadAudit(audit)
	if err != nil {
		t.Fatal(err)
	}
	writes = slices.DeleteFunc(writes, func(w testenv.Write) bool { return w.Agent != "controller" })
	if len(writes) != 1 || "as "+strconv.Quote(writes[0].As) != as || writes[0].Code != http.StatusForbidden {
		t.Errorf("the server saw %+v", writes)
	}
}

func must(t *testing.T) func(*tenancy.Cluster, error) *tenancy.Cluster {
	return func(c *tenancy.Cluster, err error) *tenancy.Cluster {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestNewKind: a kind that is defined later is found without a restart, in a group that was known and by every identity,
// and what is known of a cluster is read once for all of them.
func TestNewKind(t *testing.T) {
	env := testenv.Start(t)
	var looks atomic.Int64
	config := env.Config()
	config.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/apis" {
				looks.Add(1)
			}
			return base.RoundTrip(r)
		})
	})
	clients := &tenancy.Clients{Base: config}
	admin := must(t)(clients.For(tenancy.Identity{Self: true}))
	tenant := must(t)(clients.For(tenancy.Identity{Namespace: env.Namespace, ServiceAccount: "tenant"}))
	other := must(t)(clients.For(tenancy.Identity{Namespace: env.Namespace, ServiceAccount: "other"}))
	var all sync.WaitGroup
	for _, c := range []*tenancy.Cluster{admin, tenant, other} {
		all.Go(func() {
			if _, err := c.Mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := looks.Load(); n != 1 {
		t.Errorf("%d looks at what kinds there are", n)
	}
	group := strings.ReplaceAll(env.Namespace, "-", "x") + ".example.com"
	crds := admin.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, kind := range []string{"Apple", "Pear"} {
		plural := strings.ToLower(kind) + "s"
		if _, err := crds.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": plural + "." + group},
			"spec": map[string]any{
				"group": group, "scope": "Namespaced", "names": map[string]any{"kind": kind, "plural": plural},
				"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object"}}}},
			},
		}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := crds.Delete(context.WithoutCancel(t.Context()), plural+"."+group, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		for _, c := range []*tenancy.Cluster{tenant, other} { // the second one need not look again
			if err := eventually(func() error {
				_, err := c.Mapper.RESTMapping(schema.GroupKind{Group: group, Kind: kind}, "v1")
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	}
	before := looks.Load()
	if _, err := other.Mapper.RESTMapping(schema.GroupKind{Group: group, Kind: "Pear"}); err != nil || looks.Load() != before {
		t.Errorf("%v, %d further looks", err, looks.Load()-before)
	}
	meta.MaybeResetRESTMapper(tenant.Mapper)
	if _, err := other.Mapper.RESTMapping(schema.GroupKind{Group: group, Kind: "Pear"}); err != nil || looks.Load() != before+1 {
		t.Errorf("after a reset: %v, %d further looks", err, looks.Load()-before)
	}
}

// remote is a cluster that answers 404 to everything, and its kubeconfig.
func remote(t *testing.T, handler http.HandlerFunc, user string) (file []byte, open func() int) {
	t.Helper()
	var mu sync.Mutex
	states := map[net.Conn]http.ConnState{}
	s := httptest.NewUnstartedServer(handler)
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		states[c] = state
	}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return kubeconfig(s.URL, "certificate-authority-data: "+ca, user), func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, state := range states {
			if state != http.StateClosed {
				n++
			}
		}
		return n
	}
}

// TestEviction: connections are shared by the identities of one kubeconfig, and closed when nobody needs them.
func TestEviction(t *testing.T) {
	var mu sync.Mutex
	var users []string
	file, open := remote(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		users = append(users, r.Header.Get("Authorization")+" "+r.Header.Get("Impersonate-User"))
		w.WriteHeader(http.StatusNotFound)
	}, "token: t")
	clients := &tenancy.Clients{Base: unused(), Max: 2}
	ask := func(id tenancy.Identity) {
		t.Helper()
		if _, err := must(t)(clients.For(id)).Dynamic.Resource(configMaps).Namespace("ns").List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	}
	ask(tenancy.Identity{Self: true, Kubeconfig: file})
	ask(tenancy.Identity{Namespace: "ns", ServiceAccount: "app", Kubeconfig: file})
	if n := open(); n != 1 {
		t.Errorf("%d connections for two identities", n)
	}
	if want := []string{"Bearer t ", "Bearer t system:serviceaccount:ns:app"}; !slices.Equal(users, want) {
		t.Errorf("%q", users)
	}
	must(t)(clients.For(tenancy.Identity{User: "a"})) // drops the first of the two
	if n := open(); n != 1 {
		t.Errorf("%d connections are left to the other", n)
	}
	must(t)(clients.For(tenancy.Identity{User: "b"}))
	if err := eventually(func() error {
		if n := open(); n > 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	ask(tenancy.Identity{Self: true, Kubeconfig: file}) // and again
	clients.Close()
	if n := clients.Len(); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// TestTTL: what nobody asks for is forgotten; what is asked for is not.
func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clients := &tenancy.Clients{Base: unused(), TTL: time.Minute}
		a, b := tenancy.Identity{User: "a"}, tenancy.Identity{User: "b"}
		first, second := must(t)(clients.For(a)), must(t)(clients.For(b))
		time.Sleep(40 * time.Second)
		must(t)(clients.For(a))
		time.Sleep(40 * time.Second)
		if must(t)(clients.For(a)) != first {
			t.Error("it was forgotten")
		}
		if n := clients.Len(); n != 1 {
			t.Errorf("%d are kept", n)
		}
		if must(t)(clients.For(b)) == second {
			t.Error("it was kept")
		}
	})
}

// TestUnreachable: a cluster that gives no answer costs one request its patience; after that, requests to it fail at
// once without touching the network, and say when to try again. Others are not concerned, nor is who goes another way.
func TestUnreachable(t *testing.T) {
	var requests atomic.Int64
	release := make(chan struct{})
	file, _ := remote(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, "token: canary")
	defer close(release)
	clients := &tenancy.Clients{Base: unused(), Patience: 3 * time.Second}
	defer clients.Close()
	list := func(id tenancy.Identity) error {
		_, err := must(t)(clients.For(id)).Dynamic.Resource(configMaps).Namespace("ns").List(t.Context(), metav1.ListOptions{})
		return err
	}
	var timeout interface{ Timeout() bool }
	if err := list(tenancy.Identity{Self: true, Kubeconfig: file}); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("the first: %v", err)
	}
	for _, id := range []tenancy.Identity{{Self: true, Kubeconfig: file}, {Namespace: "ns", ServiceAccount: "app", Kubeconfig: file}} {
		err := list(id)
		var of *tenancy.UnreachableError
		if !errors.As(err, &of) || strings.Contains(err.Error(), "canary") {
			t.Fatalf("%s: %v", id, err)
		}
		if after, ok := rt.RetryAfter(err); !ok || after > 5*time.Second || rt.IsTerminal(err) {
			t.Errorf("%s: again after %s", id, after)
		}
		if _, err := must(t)(clients.For(id)).Mapper.RESTMapping(schema.GroupKind{Kind: "ConfigMap"}); !errors.As(err, &of) {
			t.Errorf("the mapper of %s: %v", id, err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
	up, _ := remote(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "token: t")
	if err := list(tenancy.Identity{Self: true, Kubeconfig: up}); !apierrors.IsNotFound(err) {
		t.Errorf("another cluster: %v", err)
	}
	elsewhere := []byte(strings.Replace(string(file), "server:", "tls-server-name: other.invalid, server:", 1))
	var of *tenancy.UnreachableError
	if err := list(tenancy.Identity{Self: true, Kubeconfig: elsewhere}); err == nil || errors.As(err, &of) {
		t.Errorf("another way to it: %v", err)
	}
}

// TestExec: where the operator allows it, the program of a kubeconfig gives the credentials, beside the impersonation;
// where not, there is no connection.
func TestExec(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	file := filepath.Join(t.TempDir(), "credential")
	user := fmt.Sprintf(`exec: {apiVersion: client.authentication.k8s.io/v1, command: git, args: [config, --file, %q, --get, plugin.answer], interactiveMode: Never}`, file)
	kubeconfig, _ := remote(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("Authorization")+" as "+r.Header.Get("Impersonate-User"))
		w.WriteHeader(http.StatusNotFound)
	}, user)
	const answer = `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"issued"}}`
	if out, err := exec.CommandContext(t.Context(), "git", "config", "--file", file, "plugin.answer", answer).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	id := tenancy.Identity{Namespace: "ns", ServiceAccount: "app", Kubeconfig: kubeconfig}
	if _, err := (&tenancy.Clients{Base: unused()}).For(id); !errors.Is(err, tenancy.ErrNotAllowed) {
		t.Error(err)
	}
	clients := &tenancy.Clients{Base: unused(), Kubeconfig: tenancy.KubeconfigPolicy{Exec: true}}
	defer clients.Close()
	if _, err := must(t)(clients.For(id)).Dynamic.Resource(configMaps).Namespace("ns").List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Error(err)
	}
	if want := []string{"Bearer issued as system:serviceaccount:ns:app"}; !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
}
