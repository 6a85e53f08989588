package testenv

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// Env is a test's share of a server: a namespace nobody else uses. Its methods are safe for concurrent use.
type Env struct {
	// Namespace is the test's own namespace; it exists and is deleted after the test.
	Namespace string
	// Server is the server it is in; do not stop it.
	Server *Server
}

// Config returns a new client configuration of the administrator, without a client-side rate limit.
func (e *Env) Config() *rest.Config { return e.Server.Config() }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (e *Env) Kubeconfig() string { return e.Server.Kubeconfig() }

// Start gives the test a namespace of its own in the server that all tests of the process share. The server has every
// controller and two simulated nodes; it is started by the first call and ends with the process. Objects outside of
// namespaces, such as custom resource definitions, are shared too: name them after Env.Namespace and delete them, or use
// StartServer. When there is no server to be had, the test fails; it is never skipped.
func Start(t testing.TB) *Env {
	t.Helper()
	ctx, cancel := startContext(t)
	defer cancel()
	server, err := sharedServer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return newEnv(ctx, t, server, true)
}

// StartServer gives the test a server of its own, with a namespace, and stops it after the test. A nil opts means the
// defaults: an API server alone. It costs some seconds and about 300 MiB more than Start; use it for what must not be
// shared: cluster-wide objects, an end of the server, a durable directory.
func StartServer(t testing.TB, opts *Options) *Env {
	t.Helper()
	ctx, cancel := startContext(t)
	defer cancel()
	o := opts.withDefaults()
	if opts == nil || opts.Progress == nil {
		o.Progress = os.Stderr
	}
	server, err := Launch(ctx, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return newEnv(ctx, t, server, o.hasController("serviceaccount"))
}

// newEnv creates the namespace. With accounts, it waits until the namespace has its service account, without which no pod
// can be created.
func newEnv(ctx context.Context, t testing.TB, server *Server, accounts bool) *Env {
	t.Helper()
	e := &Env{Server: server, Namespace: namespaceName(t.Name())}
	api, err := newAPI(server.config)
	if err != nil {
		t.Fatal(err)
	}
	defer api.close()
	if err := api.createNamespace(ctx, e.Namespace, accounts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := deleteNamespace(server, e.Namespace); err != nil {
			t.Error(err)
		}
	})
	return e
}

// beforeDeadline is how long before the deadline of "go test" a start gives up, so that the error can be read.
const beforeDeadline = 15 * time.Second

// startContext returns the context of a start: it ends shortly before the test binary would be killed.
func startContext(t testing.TB) (context.Context, context.CancelFunc) {
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := d.Deadline(); ok {
			return context.WithDeadlineCause(context.WithoutCancel(t.Context()), deadline.Add(-beforeDeadline), errDeadline)
		}
	}
	return context.WithCancel(context.WithoutCancel(t.Context()))
}

// namespaceName turns the name of a test into a name for a namespace that no other test has.
func namespaceName(test string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, test)
	if len(name) > 40 {
		name = name[:40]
	}
	return strings.Trim(name, "-") + "-" + randomSuffix()
}
