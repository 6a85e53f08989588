package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/examples/mttp/internal/local"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gitopskit-mttp-test-")
	if err != nil {
		panic(err)
	}
	program = sync.OnceValues(func() (string, error) { return local.Build(context.Background(), dir) })
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			os.RemoveAll(dir) //nolint:errcheck // a temporary directory
			os.Exit(code)
		}),
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http/internal/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

// program builds examples/controllers/all once.
var program func() (string, error)

func controllers(t *testing.T) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs the controllers in a cluster until the test ends.
func start(t *testing.T, env *testenv.Env) *local.Controllers {
	t.Helper()
	if err := local.Install(t.Context(), env.Config()); err != nil {
		t.Fatal(err)
	}
	c, err := local.Run(t.Context(), env.Kubeconfig(), &local.Options{Program: controllers(t), Concurrent: 4, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// output runs something on the first line with a text.
type output struct {
	bytes.Buffer
	on   string
	then func()
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if o.on != "" && strings.Contains(string(p), o.on) {
		o.then()
	}
	return o.Buffer.Write(p)
}

// gone fails the test unless nothing is left of a run.
func gone(t *testing.T, env *testenv.Env, namespace string) {
	t.Helper()
	d, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(t.Context(), namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace %s is left, or unknown: %v", namespace, err)
	}
}

// cells reads a printed table: the cells after the first, by the first.
func cells(table string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(table) {
		if parts := strings.Split(strings.TrimSpace(line), "|"); len(parts) > 2 {
			var row []string
			for _, c := range parts[1 : len(parts)-1] {
				row = append(row, strings.TrimSpace(c))
			}
			out[row[0]] = row[1:]
		}
	}
	return out
}

func number(t *testing.T, table map[string][]string, row string, column int) float64 {
	t.Helper()
	if len(table[row]) <= column {
		t.Fatalf("no column %d in row %q: %q", column, row, table[row])
	}
	n, err := strconv.ParseFloat(table[row][column], 64)
	if err != nil {
		t.Fatalf("%s: %v", row, err)
	}
	return n
}

func TestKustomize(t *testing.T) {
	env := testenv.Start(t)
	c := start(t, env)
	namespace := env.Namespace + "-mttp"
	var out, log bytes.Buffer
	err := run(t.Context(), []string{
		"-n", "3", "-kubeconfig", env.Kubeconfig(), "-namespace", namespace, "-metrics", c.Metrics, "-pid", strconv.Itoa(c.PID), "-idle", "2s", "-quiet", "300ms", "-timeout", "1m",
	}, &out, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	t.Log(out.String())
	table := cells(out.String())
	if got, want := fmt.Sprint(table[""]), "[install upgrade nothing changed idle 2 s]"; got != want {
		t.Errorf("columns %s, want %s", got, want)
	}
	for column := range 4 {
		sum := 0.0
		for name := range table {
			if strings.HasPrefix(name, "… ") {
				sum += number(t, table, name, column)
			}
		}
		requests := number(t, table, "API requests per app", column)
		if d := requests - sum; d < -0.5 || d > 0.5 {
			t.Errorf("column %d: %v requests, %v of all verbs", column, requests, sum)
		}
		// What the controllers count are the same requests; the watches of
		// Kubernetes' own controllers, for the new definitions, come on top, and reading the schemas of the API server.
		sent, watches := number(t, table, "requests that the controllers count", column), number(t, table, "watches begun", column)
		if d := requests*3 + watches - sent; column < 3 && (d < -15 || d > 20) {
			t.Errorf("column %d: the API server has %v requests and %v watches, the controllers say %v", column, requests*3, watches, sent)
		}
		if mib := number(t, table, "peak memory, MiB", column); mib < 20 || mib > 2000 {
			t.Errorf("column %d: %v MiB", column, mib)
		}
	}
	for row, least := range map[string]float64{"… APPLY": 4, "… PATCH": 1, "CPU seconds": 0.01, "seconds": 0.01} {
		if got := number(t, table, row, 0); got < least {
			t.Errorf("install, %s: %v, want at least %v", row, got, least)
		}
	}
	// An install is two applies of each object, a dry run first, an upgrade too; a pass that changes nothing is one
	// answer of each object that was asked, and for all together a review of each kind whether it may be applied.
	for row, most := range map[string][]float64{"API requests per app": {24, 15, 5}, "… APPLY": {10, 8, 0}, "… PATCH": {7, 3, 2}} {
		for column, n := range most {
			if got := number(t, table, row, column); got > n+0.05 {
				t.Errorf("column %d, %s: %v, want %v at most", column, row, got, n)
			}
		}
	}
	if s, r := number(t, table, "seconds", 3), number(t, table, "API requests per app", 3); s < 2 || s > 5 || r > 1 {
		t.Errorf("idle for %v s with %v requests per app", s, r)
	}
	gone(t, env, namespace)
}

// TestLocalHelm has the program start all it needs by itself.
func TestLocalHelm(t *testing.T) {
	var out, log bytes.Buffer
	err := run(t.Context(), []string{"-local", "-controllers", controllers(t), "-kind", "helm", "-n", "3", "-json", "-idle", "1s", "-quiet", "300ms", "-timeout", "1m"}, &out, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	var got Report
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in\n%s", err, &out)
	}
	if got.Kind != "helm" || got.Apps != 3 || len(got.Phases) != 4 {
		t.Fatalf("%s", &out)
	}
	for i, p := range got.Phases {
		if p.CPUSeconds == nil || p.PeakMiB == nil || p.Sent == nil {
			t.Errorf("%s: no figures of the controllers", p.Name)
		}
		if i < 2 && (p.Verbs["APPLY"] < 4 || p.Verbs["POST"] < 1) {
			t.Errorf("%s: %v", p.Name, p.Verbs)
		}
		if i < 3 && len(p.Detail) == 0 {
			t.Errorf("%s: no detail", p.Name)
		}
	}
}

// TestNobodyThere has a cluster without definitions, then one without
// controllers.
func TestNobodyThere(t *testing.T) {
	env := testenv.StartServer(t, &testenv.Options{Controllers: []string{"namespace"}})
	args := []string{"-n", "3", "-kubeconfig", env.Kubeconfig(), "-namespace", "nobody", "-timeout", "4s", "-quiet", "100ms"}
	fails := func(want ...string) {
		t.Helper()
		var out, log bytes.Buffer
		err := run(t.Context(), args, &out, &log)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("got %v, want %q in it", err, w)
			}
		}
		if out.Len() > 0 {
			t.Errorf("printed %s", &out)
		}
		gone(t, env, "nobody")
	}
	fails("the cluster has no ocirepositories of source.toolkit.fluxcd.io/v1: install Flux", "no kustomizations of kustomize.toolkit.fluxcd.io/v1")
	if err := local.Install(t.Context(), env.Config()); err != nil {
		t.Fatal(err)
	}
	fails("install: not done after 4s: 6 objects are not there yet:", "kustomizations/app-0001: no controller has looked at it", "and 1 more")
}

// TestFailure has a registry that cannot be reached.
func TestFailure(t *testing.T) {
	env := testenv.Start(t)
	start(t, env)
	namespace := env.Namespace + "-mttp"
	err := run(t.Context(), []string{
		"-n", "1", "-kubeconfig", env.Kubeconfig(), "-namespace", namespace, "-registry-host", "127.0.0.1:1", "-timeout", "3s", "-quiet", "100ms",
	}, t.Output(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "ocirepositories/app-0001: Ready is False: ") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
	gone(t, env, namespace)
}

// TestInterrupt has somebody press Ctrl-C when all is installed.
func TestInterrupt(t *testing.T) {
	env := testenv.Start(t)
	start(t, env)
	namespace := env.Namespace + "-mttp"
	ctx, cancel := context.WithCancelCause(t.Context())
	pressed := errors.New("interrupted")
	log := &output{on: "install: ", then: func() { cancel(pressed) }}
	err := run(ctx, []string{"-n", "2", "-kubeconfig", env.Kubeconfig(), "-namespace", namespace, "-timeout", "1m", "-quiet", "100ms"}, t.Output(), log)
	if !errors.Is(err, pressed) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gone(t, env, namespace)
}

// TestNamespace has a namespace that is somebody's.
func TestNamespace(t *testing.T) {
	env := testenv.Start(t)
	if err := local.Install(t.Context(), env.Config()); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-n", "1", "-kubeconfig", env.Kubeconfig(), "-namespace", env.Namespace}, t.Output(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "namespace "+env.Namespace+" exists") {
		t.Errorf("got %v", err)
	}
	d, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	o, err := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(t.Context(), env.Namespace, metav1.GetOptions{})
	if err != nil || o.GetDeletionTimestamp() != nil {
		t.Errorf("the namespace of somebody else is %v, %v", o, err)
	}
}

// TestControllersEnd has a program that does not know the flags.
func TestControllersEnd(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, err = local.Run(t.Context(), "none", &local.Options{Program: self, Progress: t.Output()})
	if err == nil || !strings.Contains(err.Error(), "the controllers ended by themselves: exit status 2") || !strings.Contains(err.Error(), "metrics-addr") {
		t.Errorf("got %v", err)
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"more":                                `unexpected arguments ["more"]`,
		"-n 0":                                "use 1 to 5000",
		"-n 5001":                             "use 1 to 5000",
		"-kind jsonnet":                       "use kustomize or helm",
		"-timeout 0s":                         "must be positive",
		"-idle -1s":                           "must be positive",
		"-local -kubeconfig x":                "leave out -kubeconfig",
		"-local -metrics x":                   "leave out -kubeconfig",
		"-local -keep":                        "nothing is left",
		"-controllers x":                      "-controllers needs -local",
		"-pid x":                              "invalid syntax",
		"-concurrent 0":                       "use 1 or more",
		"-kubeconfig testdata/missing":        "no cluster",
		"-local -controllers testdata/none":   "controllers: ",
		"-kind x -n 0 -local -keep":           "use 1 to 5000",
		"-n 1 -n 0 -namespace= -concurrent=0": "-namespace is empty",
	} {
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", args, err, want)
		}
	}
}

// TestDeployed checks what a release must have.
func TestDeployed(t *testing.T) {
	release := func(status, version string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"history": []any{map[string]any{"status": status, "chartVersion": version}}}}}
	}
	for _, tt := range []struct {
		o    *unstructured.Unstructured
		want string
	}{
		{release("deployed", "1.1.0+5394cb7f4833"), ""},
		{release("deployed", "1.0.0+5394cb7f4833"), "with chart 1.0.0"},
		{release("failed", "1.1.0"), "is failed"},
		{&unstructured.Unstructured{Object: map[string]any{}}, "no release"},
	} {
		if got := deployed(tt.o, second); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
