package main

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gitopskit/gitopskit/examples/operator/api"
	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// Connections that are kept open for the next request, by transports that client-go shares.
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

func manifest(name, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\ndata:\n  key: " + value + "\n"
}

// The operator applies a repository, follows it, says what is wrong with it, and cleans up.
func TestOperator(t *testing.T) {
	env := testenv.StartServer(t, nil) // the operator looks at all namespaces, and its kind is there for all
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	commit := func(files map[string]string) {
		t.Helper()
		if _, err := srv.Commit("demo.git", "main", "change", files); err != nil {
			t.Fatal(err)
		}
	}
	commit(map[string]string{"deploy/a.yaml": manifest("a", "one"), "deploy/b.yaml": manifest("b", "one")})
	web := httptest.NewServer(srv)
	defer web.Close()
	c := start(t, env.Config())

	site := &api.Site{ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: env.Namespace}, Spec: api.SiteSpec{
		URL: web.URL + "/demo.git", Path: "deploy", Interval: metav1.Duration{Duration: 200 * time.Millisecond},
	}}
	until(t, "the kind is there", func() bool { return c.Create(t.Context(), site) == nil })
	says := func(readiness metav1.ConditionStatus, part string) {
		t.Helper()
		until(t, part, func() bool {
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(site), site); err != nil {
				t.Fatal(err)
			}
			is := status.Get(site, status.Ready)
			return is != nil && is.Status == readiness && strings.Contains(is.Message+site.Status.Revision, part)
		})
	}
	value := func(name string) string {
		cm := &corev1.ConfigMap{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: env.Namespace, Name: name}, cm); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		return cm.Data["key"]
	}
	says(metav1.ConditionTrue, "main@sha1:")
	until(t, "applied", func() bool { return value("a") == "one" && value("b") == "one" })
	commit(map[string]string{"deploy/a.yaml": manifest("a", "two"), "deploy/b.yaml": ""})
	until(t, "followed", func() bool { return value("a") == "two" && value("b") == "" })
	commit(map[string]string{"deploy/a.yaml": "kind: ["})
	says(metav1.ConditionFalse, "deploy/a.yaml")
	if value("a") != "two" {
		t.Error("a broken commit was applied")
	}
	if err := c.Delete(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	until(t, "cleaned up", func() bool {
		return value("a") == "" && apierrors.IsNotFound(c.Get(t.Context(), client.ObjectKeyFromObject(site), site))
	})
}

// start runs the operator on a cluster that has its kind.
func start(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	s := runtime.NewScheme()
	if err := api.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	if err := scheme.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	crds, err := ssa.ReadObjects(bytes.NewReader(api.CRD))
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range crds {
		if err := c.Create(t.Context(), crd); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the kind is served", func() bool { return c.List(t.Context(), &api.SiteList{}) == nil })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, config) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// The operator is as short as the documentation says.
func TestShort(t *testing.T) {
	src, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(src), "\n)\n")
	lines := 0
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines >= 60 {
		t.Errorf("%d lines besides the imports", lines)
	}
}
