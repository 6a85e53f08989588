package trace_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sha1     = "0123456789abcdef0123456789abcdef01234567"
	revision = "main@sha1:" + sha1
	before   = "main@sha1:" + "ffffffffffffffffffffffffffffffffffffffff"
)

// recorder is a provider of its own, as every program has one.
func recorder(o ...sdktrace.TracerProviderOption) (*tracetest.InMemoryExporter, *trace.Tracer) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(append(o, sdktrace.WithSyncer(exporter))...)
	return exporter, &trace.Tracer{Tracer: provider.Tracer("test")}
}

func TestID(t *testing.T) {
	sha256 := strings.Repeat("5", 31) + strings.Repeat("a", 33)
	for _, tt := range []struct{ name, revision, want string }{
		{"git", revision, sha1[:32]},
		{"digest alone", "sha256:" + sha256, sha256[:32]},
		{"tag", "1.2.3@sha256:" + sha256, sha256[:32]},
		{"at in the branch", "a@b@sha1:" + sha1, sha1[:32]},
		{"empty", "", "00000000000000000000000000000000"},
		{"version", "1.2.3", "c47f5b18b8a430e698b9fe15e51f6119"},
		{"short", "main@sha1:0123", ""},
		{"no hex", "main@sha1:" + strings.Repeat("x", 40), ""},
		{"zeros", "main@sha1:" + strings.Repeat("0", 40), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := trace.ID(tt.revision)
			if tt.want != "" && got.String() != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got.IsValid() != (tt.revision != "") {
				t.Errorf("got %s", got)
			}
			if p := trace.Traceparent(trace.Object{Kind: "A"}, tt.revision); (p == "") != (tt.revision == "") {
				t.Errorf("traceparent %q", p)
			}
		})
	}
	a := trace.Traceparent(trace.Object{Kind: "A", Name: "b"}, revision)
	if len(a) != 55 || !strings.HasPrefix(a, "00-"+sha1[:32]+"-") || !strings.HasSuffix(a, "-01") {
		t.Errorf("got %s", a)
	}
	if b := trace.Traceparent(trace.Object{Kind: "Ab"}, revision); a == b {
		t.Error("two objects, one span")
	}
}

func key(kind string) func(string) trace.Object {
	return func(k string) trace.Object { return trace.Object{Kind: kind, Namespace: "apps", Name: k} }
}

// one makes the passes of a key in a loop of its own, as a program that was just started does.
func one(t *testing.T, tracer *trace.Tracer, kind, from string, passes int, f rt.Func[string]) {
	t.Helper()
	var source func(string) trace.Object
	if from != "" {
		source = key(from)
	}
	traced := trace.Wrap(tracer, key(kind), source, f)
	ended := make(chan struct{}, 100)
	loop, err := rt.New(traced, &rt.Options[string]{Observe: func(o rt.Observation[string]) {
		traced.Observe(o)
		if o.State.Phase != rt.PhaseWaiting {
			ended <- struct{}{}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	if err := loop.Set("web", rt.Spec[string]{}); err != nil {
		t.Fatal(err)
	}
	for i := range passes {
		if i > 0 {
			loop.Trigger("web", nil)
		}
		<-ended
		synctest.Wait()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func work(at string) rt.Func[string] {
	return func(ctx context.Context, _ rt.Pass[string]) rt.Result {
		fetching, end := trace.Phase(ctx, "fetch")
		time.Sleep(time.Second)
		_, verified := trace.Phase(fetching, "verify")
		time.Sleep(time.Second)
		verified(nil)
		end(nil)
		_, applied := trace.Phase(ctx, "apply")
		time.Sleep(time.Second)
		applied(nil)
		return rt.OK().At(at)
	}
}

func find(t *testing.T, spans tracetest.SpanStubs, name string) tracetest.SpanStub {
	t.Helper()
	for _, s := range spans {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no span %q among %d", name, len(spans))
	return tracetest.SpanStub{}
}

func within(t *testing.T, child, parent tracetest.SpanStub) {
	t.Helper()
	if child.Parent.SpanID() != parent.SpanContext.SpanID() || child.SpanContext.TraceID() != parent.SpanContext.TraceID() {
		t.Errorf("%s is not part of %s", child.Name, parent.Name)
	}
}

// The programs share nothing, and there is a restart between source and consumer.
func TestSpansJoin(t *testing.T) {
	for _, ids := range []bool{true, false} {
		t.Run(fmt.Sprint("ids ", ids), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var o []sdktrace.TracerProviderOption
				if ids {
					o = append(o, sdktrace.WithIDGenerator(trace.IDs{}))
				}
				sources, tracer := recorder(o...)
				one(t, tracer, "GitRepository", "", 2, work(revision))
				consumers, tracer := recorder(o...)
				one(t, tracer, "Kustomization", "GitRepository", 1, work(revision))

				found, applied := find(t, sources.GetSpans(), "reconcile GitRepository"), find(t, consumers.GetSpans(), "reconcile Kustomization")
				if id := found.SpanContext.TraceID(); id.String() != sha1[:32] || applied.SpanContext.TraceID() != id {
					t.Errorf("traces %s and %s", id, applied.SpanContext.TraceID())
				}
				if ids {
					within(t, applied, found)
				}
				if !applied.StartTime.After(found.EndTime.Add(-1)) {
					t.Error("applied before it was found")
				}
				spans := sources.GetSpans()
				fetch, verify, apply := find(t, spans, "fetch"), find(t, spans, "verify"), find(t, spans, "apply")
				within(t, fetch, found)
				within(t, verify, fetch)
				within(t, apply, found)
				if fetch.EndTime.Sub(fetch.StartTime) != 2*time.Second || verify.StartTime.Sub(fetch.StartTime) != time.Second || found.EndTime.Sub(found.StartTime) != 3*time.Second {
					t.Errorf("fetch %v to %v, verify %v", fetch.StartTime, fetch.EndTime, verify.StartTime)
				}
				again := spans[len(spans)-1]
				if again.SpanContext.SpanID() == found.SpanContext.SpanID() || len(again.Links) != 1 || again.Links[0].SpanContext.SpanID() != found.SpanContext.SpanID() {
					t.Errorf("the second pass is linked to %v", again.Links)
				}
				if ids {
					within(t, again, found)
				}
			})
		})
	}
}

// What was seen before a restart is linked to by what is known of it.
func TestLinkAfterRestart(t *testing.T) {
	spans, tracer := recorder(sdktrace.WithIDGenerator(trace.IDs{}))
	object := trace.Object{Kind: "GitRepository", Name: "web"}
	_, pass := tracer.Begin(t.Context(), object, nil)
	pass.End(trace.Outcome{Revision: before, Done: true})
	restarted, tracer := recorder(sdktrace.WithIDGenerator(trace.IDs{}))
	_, pass = tracer.Begin(t.Context(), object, &trace.Start{Revision: before})
	pass.End(trace.Outcome{Revision: revision, Done: true})
	old, got := spans.GetSpans()[0].SpanContext, restarted.GetSpans()[0]
	if len(got.Links) != 1 || got.Links[0].SpanContext.SpanID() != old.SpanID() || got.Links[0].SpanContext.TraceID() != old.TraceID() {
		t.Errorf("linked to %v, want %v", got.Links, old)
	}
	if got.SpanContext.TraceID() != trace.ID(revision) {
		t.Errorf("in the trace %v", got.SpanContext.TraceID())
	}
}

func TestWaitIsPartOfThePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans, tracer := recorder()
		one(t, tracer, "Kustomization", "", 1, func(ctx context.Context, p rt.Pass[string]) rt.Result {
			if !p.Why.Has(rt.CauseWoken) {
				return rt.Wait("health", rt.WakeAfter(time.Minute))
			}
			_, end := trace.Phase(ctx, "health")
			end(nil)
			return rt.OK().At(revision)
		})
		got := spans.GetSpans()
		if len(got) != 3 {
			t.Fatalf("%d spans", len(got))
		}
		pass, wait := find(t, got, "reconcile Kustomization"), find(t, got, "wait")
		within(t, wait, pass)
		within(t, find(t, got, "health"), pass)
		if d := wait.EndTime.Sub(wait.StartTime); d != time.Minute {
			t.Errorf("waited %v", d)
		}
	})
}

func TestLeftOver(t *testing.T) {
	spans, tracer := recorder()
	tracer.MaxPhases = 2
	ctx, pass := tracer.Begin(t.Context(), trace.Object{Kind: "A", Name: strings.Repeat("é", 500)}, &trace.Start{Why: "a\x1b[31m\nb"})
	open, _ := trace.Phase(ctx, "open")
	_, end := trace.Phase(open, "ended")
	_, none := trace.Phase(ctx, "dropped")
	none(nil)
	end(errors.New("first"))
	end(nil)
	pass.End(trace.Outcome{})
	pass.End(trace.Outcome{})
	if _, end := trace.Phase(ctx, "late"); end != nil {
		end(nil)
	}
	_, end = trace.Phase(t.Context(), "without a pass")
	end(nil)
	got := spans.GetSpans()
	if len(got) != 3 || find(t, got, "ended").Status.Code != codes.Error || find(t, got, "open").EndTime.IsZero() {
		t.Errorf("%+v", got)
	}
	for _, a := range find(t, got, "reconcile A").Attributes {
		if v := a.Value.String(); len(v) > 256 || strings.ContainsAny(v, "\x1b\n") || strings.ContainsRune(v, '\uFFFD') {
			t.Errorf("%s is %q", a.Key, v)
		}
	}
}

func TestNothingSecret(t *testing.T) {
	const canary = "canary-4711"
	spans, tracer := recorder()
	fail := func() {
		ctx, pass := tracer.Begin(t.Context(), trace.Object{Kind: "A"}, nil)
		_, end := trace.Phase(ctx, "fetch")
		end(errors.New(canary))
		pass.End(trace.Outcome{Revision: revision, Err: fmt.Errorf("fetch: %w", errors.New(canary))})
	}
	fail()
	if text := fmt.Sprintf("%+v", spans.GetSpans()); strings.Contains(text, canary) || find(t, spans.GetSpans(), "fetch").Status.Code != codes.Error {
		t.Error(text)
	}
	tracer.Text = func(error) string { return "told" }
	spans.Reset()
	fail()
	if s := find(t, spans.GetSpans(), "fetch").Status; s.Description != "told" {
		t.Errorf("%+v", s)
	}
}

func TestFraction(t *testing.T) {
	for _, tt := range []struct {
		fraction    float64
		least, most int
	}{{0, 400, 400}, {1, 400, 400}, {-1, 0, 0}, {.5, 150, 250}} {
		spans, tracer := recorder()
		other, second := recorder()
		tracer.Fraction, second.Fraction = tt.fraction, tt.fraction
		for i := range 400 {
			for _, x := range []*trace.Tracer{tracer, second} {
				_, pass := x.Begin(t.Context(), trace.Object{Kind: "A"}, nil)
				pass.End(trace.Outcome{Revision: fmt.Sprint(i)})
			}
		}
		a, b := spans.GetSpans(), other.GetSpans()
		if len(a) < tt.least || len(a) > tt.most || len(a) != len(b) {
			t.Errorf("fraction %v: %d and %d", tt.fraction, len(a), len(b))
			continue
		}
		for i := range a {
			if a[i].SpanContext.TraceID() != b[i].SpanContext.TraceID() {
				t.Error("two programs chose differently")
			}
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	spans, tracer := recorder()
	tracer.MaxObjects = 2
	pass := func(name string) {
		_, p := tracer.Begin(t.Context(), trace.Object{Name: name}, nil)
		p.End(trace.Outcome{Revision: revision})
	}
	for i := range 100 {
		pass(fmt.Sprint(i))
	}
	pass("99")
	tracer.Gone(trace.Object{Name: "99"})
	pass("99")
	got := spans.GetSpans()
	if len(got[100].Links) != 1 || len(got[101].Links) != 0 {
		t.Errorf("%v, %v", got[100].Links, got[101].Links)
	}
}

// A pass that is cut off by its deletion leaves nothing behind, and is sent.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans, tracer := recorder()
		traced := trace.Wrap(tracer, key("A"), nil, rt.Func[string](func(ctx context.Context, _ rt.Pass[string]) rt.Result {
			<-ctx.Done()
			return rt.Fail(ctx.Err())
		}))
		loop, err := rt.New(traced, &rt.Options[string]{Observe: traced.Observe})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		if err := loop.Set("web", rt.Spec[string]{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := loop.Delete("web").Wait(t.Context()); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := spans.GetSpans(); len(got) != 1 || got[0].Name != "reconcile A" {
			t.Errorf("%+v", got)
		}
	})
}

// The receiver takes connections and never answers. Passes do not wait for it: all of them end before it lets go.
func TestHangingReceiver(t *testing.T) {
	reached, release := make(chan struct{}, 100), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-release
	}))
	defer server.Close()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(server.URL), otlptracehttp.WithTimeout(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Millisecond)))
	tracer := &trace.Tracer{Tracer: provider.Tracer("test")}
	pass := func() {
		ctx, pass := tracer.Begin(t.Context(), trace.Object{Kind: "A"}, nil)
		_, end := trace.Phase(ctx, "apply")
		end(nil)
		pass.End(trace.Outcome{Revision: revision, Done: true})
	}
	pass()
	<-reached
	for range 5000 { // more than the queue of the provider holds
		pass()
	}
	close(release)
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func Example() {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithIDGenerator(trace.IDs{}))
	tracer := &trace.Tracer{Tracer: provider.Tracer("release-controller")}
	object := trace.Object{Kind: "GitRepository", Namespace: "apps", Name: "web"}

	ctx, pass := tracer.Begin(context.Background(), object, nil)
	_, end := trace.Phase(ctx, "fetch")
	end(nil)
	pass.End(trace.Outcome{Revision: revision, Done: true})

	for _, s := range exporter.GetSpans() {
		fmt.Println(s.SpanContext.TraceID(), s.Name)
	}
	fmt.Println(trace.Parent(object, revision).SpanID() == exporter.GetSpans()[1].SpanContext.SpanID())
	// Output:
	// 0123456789abcdef0123456789abcdef fetch
	// 0123456789abcdef0123456789abcdef reconcile GitRepository
	// true
}

func FuzzID(f *testing.F) {
	f.Add(revision)
	f.Add("sha256:")
	f.Fuzz(func(t *testing.T, s string) {
		if trace.ID(s).IsValid() != (s != "") {
			t.Errorf("%q has the trace %v", s, trace.ID(s))
		}
	})
}

// IDs is what the SDK wants.
var _ sdktrace.IDGenerator = trace.IDs{}
