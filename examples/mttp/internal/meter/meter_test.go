package meter

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http/internal/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

func TestScan(t *testing.T) {
	text := "# HELP x what it is\n# TYPE x counter\nx 1\nx{} 2\nx{a=\"1\",b=\"q\\\"\\\\\\n,}\"} 3e2 1700000000\nxy 9\n\nother{broken 1\nz 0.5\n"
	var got []sample
	if err := scan(strings.NewReader(text), func(s sample) { got = append(got, s) }, "x", "z"); err != nil {
		t.Fatal(err)
	}
	want := []sample{
		{"x", map[string]string{}, 1}, {"x", map[string]string{}, 2},
		{"x", map[string]string{"a": "1", "b": "q\"\\\n,}"}, 300}, {"z", map[string]string{}, 0.5},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sample{})); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"x", "x ", "x one", `x{a="1" 1`, `x{a=1} 1`, `x{a="1`, `x{a="1\`, "x{", "x " + strings.Repeat("1", 2<<20)} {
		if err := scan(strings.NewReader(bad), func(sample) {}, "x"); err == nil && bad != "x" {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add("x{a=\"1\",b=\"q\\\"\\\\\\n,}\"} 3e2 1700000000\nx 1\n")
	f.Add("x{a=\"1\\")
	f.Fuzz(func(t *testing.T, text string) {
		scan(strings.NewReader(text), func(s sample) { //nolint:errcheck // only that it ends in order
			if s.name != "x" {
				t.Errorf("%q in place of x", s.name)
			}
		}, "x")
	})
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		method, url, contentType string
		want                     Request
	}{
		{"GET", "/api/v1/namespaces", "", Request{"LIST", "namespaces", ""}},
		{"GET", "/api/v1/namespaces/a", "", Request{"GET", "namespaces", ""}},
		{"GET", "/api/v1/namespaces/a/pods?watch=true", "", Request{"WATCH", "pods", ""}},
		{"GET", "/api/v1/namespaces/a/pods/p/log", "", Request{"GET", "pods", "log"}},
		{"GET", "/apis/apps/v1/deployments?watch=false", "", Request{"LIST", "deployments", ""}},
		{"POST", "/apis/apps/v1/namespaces/a/deployments", "", Request{"POST", "deployments", ""}},
		{"PATCH", "/apis/apps/v1/namespaces/a/deployments/d/status", "application/merge-patch+json", Request{"PATCH", "deployments", "status"}},
		{"PATCH", "/apis/apps/v1/namespaces/a/deployments/d", "application/apply-patch+yaml", Request{"APPLY", "deployments", ""}},
		{"DELETE", "/apis/apps/v1/namespaces/a/deployments", "", Request{"DELETE", "deployments", ""}},
		{"DELETE", "/apis/apps/v1/namespaces/a/deployments/d", "", Request{"DELETE", "deployments", ""}},
		{"GET", "/apis/apps/v1", "", Request{}},
		{"GET", "/api", "", Request{}},
		{"GET", "/version", "", Request{}},
		{"GET", "/", "", Request{}},
	} {
		r := httptest.NewRequest(tt.method, tt.url, http.NoBody)
		r.Header.Set("Content-Type", tt.contentType)
		if got, ok := classify(r); got != tt.want || ok != (got.Resource != "") {
			t.Errorf("%s %s: got %v, want %v", tt.method, tt.url, got, tt.want)
		}
	}
}

// TestAPIServer has others and this program send the same requests to a real
// server: exactly those of the others are counted.
func TestAPIServer(t *testing.T) {
	env := testenv.Start(t)
	own := &Own{}
	config := env.Config()
	config.Wrap(own.Wrap)
	server, err := NewAPIServer(config, own)
	if err != nil {
		t.Fatal(err)
	}
	read := func() Counts {
		t.Helper()
		c, err := server.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read()
	mine, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	others, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	stop := use(t, others, env.Namespace, "others")
	defer stop()
	want := Counts{}
	for _, verb := range []string{"POST", "GET", "LIST", "WATCH", "PUT", "PATCH", "APPLY", "DELETE", "DELETE"} {
		want[Request{Verb: verb, Resource: "podtemplates"}]++
	}
	compare := func(when string) {
		t.Helper()
		got := read().Minus(before)
		for r := range got {
			if r.Resource != "podtemplates" {
				delete(got, r)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	compare("requests of others")
	stopMine := use(t, mine, env.Namespace, "mine")
	compare("and the own ones, with a watch that is open")
	stopMine()
	stop()
	compare("and after the watches")
}

// use sends each kind of request once. The watch goes on until stop.
func use(t *testing.T, d dynamic.Interface, namespace, name string) (stop func()) {
	t.Helper()
	templates := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "podtemplates"}).Namespace(namespace)
	object := func() *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "PodTemplate", "metadata": map[string]any{"name": name, "labels": map[string]any{"is": name}},
			"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": "i"}}}},
		}}
	}
	ok := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	watch, err := templates.Watch(ctx, metav1.ListOptions{LabelSelector: "is=" + name})
	ok(nil, err)
	ok(templates.Create(ctx, object(), metav1.CreateOptions{}))
	<-watch.ResultChan()
	ok(templates.Get(ctx, name, metav1.GetOptions{}))
	ok(templates.List(ctx, metav1.ListOptions{LabelSelector: "is=" + name}))
	ok(templates.Update(ctx, object(), metav1.UpdateOptions{}))
	ok(templates.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{}))
	ok(templates.Apply(ctx, name, object(), metav1.ApplyOptions{FieldManager: "test", Force: true}))
	ok(nil, templates.Delete(ctx, name, metav1.DeleteOptions{}))
	ok(nil, templates.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "is=" + name}))
	return watch.Stop
}

func TestControllers(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("process_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 1.048576e+06\nrest_client_requests_total{method=\"GET\"} 3\nrest_client_requests_total{method=\"PUT\"} 4\n"))
	}))
	defer web.Close()
	c := &Controllers{Metrics: []string{web.URL, web.URL}}
	got, err := c.Read(t.Context())
	if want := (Usage{3, 2 << 20, 14}); err != nil || got != want {
		t.Errorf("endpoints: got %v and %v, want %v", got, err, want)
	}
	c.PIDs = []int{os.Getpid()}
	if got, err = c.Read(t.Context()); err != nil || got.CPU == 1.5 || got.RSS < 1<<20 || got.Sent != 14 {
		t.Errorf("this process: %v, %v", got, err)
	}
	if usage, sent := (&Controllers{PIDs: []int{1}}).Known(); !usage || sent {
		t.Error("of a process no requests are known")
	}
	for _, bad := range []*Controllers{{PIDs: []int{-1}}, {Metrics: []string{"http://127.0.0.1:1/metrics"}}} {
		if _, err := bad.Read(t.Context()); err == nil {
			t.Errorf("%v can be read", bad.Metrics)
		}
	}
}

func TestControllersWithoutMetrics(t *testing.T) {
	for _, tt := range []struct {
		status int
		want   string
	}{{200, "has no process_cpu_seconds_total: give the process by -pid"}, {403, "permission"}, {404, "404"}} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) }))
		_, err := (&Controllers{Metrics: []string{web.URL}}).Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("status %d: got %v, want %q", tt.status, err, tt.want)
		}
		web.Close()
	}
}

func TestProcess(t *testing.T) {
	got, err := parseProcess([]byte("7 (a b) c) S 1 7 7 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 9\n"), []byte("Name:\tx\nVmHWM:\t 900 kB\nVmRSS:\t    512 kB\n"))
	if want := (Usage{CPU: 3, RSS: 512 << 10}); err != nil || got != want {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
	for _, bad := range [][2]string{{"", ""}, {"7 (a) S 1", "VmRSS: 1 kB"}, {"7 (a) S 1 7 7 0 -1 4194560 10 0 0 0 x 50 0", "VmRSS: 1 kB"}, {"7 (a) Z 1 7 7 0 -1 4194560 10 0 0 0 250 50 0", "Name: x"}} {
		if got, err := parseProcess([]byte(bad[0]), []byte(bad[1])); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestPeak(t *testing.T) {
	sizes := make(chan string)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case size := <-sizes:
			w.Write([]byte("process_cpu_seconds_total 1\nprocess_resident_memory_bytes " + size + "\n"))
		case <-r.Context().Done():
		}
	}))
	defer web.Close()
	ctx, stop := context.WithCancel(t.Context())
	var p Peak
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Sample(ctx, &Controllers{Metrics: []string{web.URL}})
	}()
	for _, size := range []string{"10", "30", "20"} {
		sizes <- size
	}
	stop()
	<-ended
	if got, err := p.Take(); got != 30 || err != nil {
		t.Errorf("peak %v, %v", got, err)
	}
	if got, err := p.Take(); got != 0 || err != nil {
		t.Errorf("peak after that %v, %v", got, err)
	}
}
