package kube_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// faulty has a world whose controller meets faults, but nobody else.
func faulty(t *testing.T, change func(*kube.Options[*kustomizev1.Kustomization])) (*world, *chaos.Faults) {
	t.Helper()
	faults := &chaos.Faults{Seed: *scenarioSeed}
	return newWorld(t, change, func(config *rest.Config) { config.Wrap(faults.Wrap) }), faults
}

// Whatever happens to one request, the object ends up ready; how often the reconciler is called and the API server is
// asked follows from the fault.
func TestFaults(t *testing.T) {
	t.Parallel()
	w, faults := faulty(t, nil)
	statusOf, finalizerOf := func(name string) []string { return []string{"/kustomizations/" + name + "/status"} }, func(name string) []string { return []string{"/kustomizations/" + name} }
	cases := []struct {
		name            string
		path            func(string) []string
		fault           chaos.Fault
		times           int
		passes, patches int // of the status, exactly
	}{
		{"throttled", statusOf, chaos.Fault{Kind: chaos.Throttled}, 2, 1, 3}, // the client waits as it is told
		{"conflict", statusOf, chaos.Fault{Kind: chaos.Conflict}, 2, 1, 3},   // the result of the pass is kept
		{"conflicts", statusOf, chaos.Fault{Kind: chaos.Conflict}, 3, 2, 4},
		{"internal", statusOf, chaos.Fault{Kind: chaos.Internal}, 2, 3, 3},
		{"unavailable", statusOf, chaos.Fault{Kind: chaos.Unavailable}, 1, 2, 2},
		{"lost", statusOf, chaos.Fault{Kind: chaos.Lost}, 1, 2, 1}, // it was written; the second pass finds nothing to do
		{"reset", statusOf, chaos.Fault{Kind: chaos.Reset}, 1, 2, 2},
		{"refused", statusOf, chaos.Fault{Kind: chaos.Refused}, 2, 3, 3},
		{"cut", statusOf, chaos.Fault{Kind: chaos.Cut}, 1, 2, 1},
		{"garbage", statusOf, chaos.Fault{Kind: chaos.Garbage}, 1, 2, 2},
		{"hang", statusOf, chaos.Fault{Kind: chaos.Hang, After: time.Second}, 1, 2, 2},
		{"finalizer-lost", finalizerOf, chaos.Fault{Kind: chaos.Lost}, 1, 1, 1},
		{"finalizer-conflict", finalizerOf, chaos.Fault{Kind: chaos.Conflict}, 2, 1, 1},
		{"finalizer-internal", finalizerOf, chaos.Fault{Kind: chaos.Internal}, 2, 1, 1},
	}
	var rules []chaos.Rule
	for _, c := range cases {
		rules = append(rules, chaos.Rule{Match: chaos.On("PATCH", c.path(c.name+"-x")...), Times: c.times, Faults: []chaos.Fault{c.fault}})
	}
	faults.Set(rules...)
	for i, c := range cases { // beside each other, since most of the time is pauses
		w.create(c.name+"-x", func(k *kustomizev1.Kustomization) { k.Spec.Path = fmt.Sprintf("./%d", i) })
	}
	for _, c := range cases {
		name := c.name + "-x" // none begins with another
		w.eventually(name, c.name+": ready", ready)
		w.until("quiet", func() bool { return w.logic.count(name) >= c.passes })
	}
	w.create("marker", nil) // once it is ready, too, nothing more is to come
	w.eventually("marker", "ready", ready)
	for _, c := range cases {
		name := c.name + "-x"
		if got, patches := w.logic.count(name), faults.Requests("PATCH", "/kustomizations/"+name+"/status"); got != c.passes || patches != c.patches {
			t.Errorf("%s: %d passes, %d writes of the status; want %d and %d", c.name, got, patches, c.passes, c.patches)
		}
		for key, s := range w.control.All() {
			if key.Name == name && c.fault.Kind == chaos.Conflict && c.times < 3 && s.Passes != c.passes {
				t.Errorf("%s: %d passes, with those that came to nothing", c.name, s.Passes)
			}
		}
	}
}

// What happens while watches are cut, expired or unanswered is noticed afterwards.
func TestWatchFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []chaos.Fault{{Kind: chaos.EndWatch}, {Kind: chaos.BreakWatch}, {Kind: chaos.ExpireWatch}, {Kind: chaos.Expired}, {Kind: chaos.Stuck, After: 2 * time.Second}} {
		t.Run(string(fault.Kind), func(t *testing.T) {
			t.Parallel()
			w, faults := faulty(t, nil)
			w.create("app", nil)
			w.eventually("app", "ready", ready)
			faults.Set(chaos.Rule{Match: chaos.Watches, Times: 4, Faults: []chaos.Fault{fault}})
			faults.Break()
			w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
			w.create("new", nil)
			if err := w.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: w.namespace}}); err != nil {
				t.Fatal(err)
			}
			w.eventually("app", "new generation", func(k *kustomizev1.Kustomization) bool { return ready(k) && k.Status.ObservedGeneration == 2 })
			w.eventually("new", "ready", ready)
		})
	}
}

// A partition ends no pass wrongly: nothing is taken for deleted, and what was missed is made up for.
func TestPartition(t *testing.T) {
	t.Parallel()
	w, faults := faulty(t, nil)
	w.create("app", nil)
	w.create("other", nil)
	w.eventually("app", "ready", ready)
	w.eventually("other", "ready", ready)
	faults.Set(chaos.Rule{Faults: []chaos.Fault{{Kind: chaos.Refused}}})
	faults.Break()
	w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./meanwhile" })
	if err := w.client.Delete(t.Context(), w.get("other")); err != nil {
		t.Fatal(err)
	}
	before := faults.Requests("")
	w.until("some requests have failed", func() bool { return faults.Requests("") > before+3 })
	if w.logic.count("finalize app") != 0 {
		t.Error("an object that cannot be seen is taken for deleted")
	}
	faults.Set()
	w.eventually("app", "caught up", func(k *kustomizev1.Kustomization) bool { return ready(k) && k.Status.ObservedGeneration == 2 })
	w.until("deleted", func() bool { return w.missing("other") })
	if n := w.logic.count("finalize other"); n != 1 {
		t.Errorf("finalized %d times", n)
	}
}

// In bad weather, one request in three meeting some fault, the rules of status hold, and in the end everything is ready.
func TestWeather(t *testing.T) {
	t.Parallel()
	w, faults := faulty(t, nil)
	var mu sync.Mutex
	n := 0
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		mu.Lock()
		defer mu.Unlock()
		k.Status.LastAttemptedRevision = k.Spec.Path
		if n++; n%3 == 0 && k.Spec.Path != "./last" {
			return kube.Fail("BuildFailed", errors.New("bad luck"))
		}
		if err := p.Record(ctx); err != nil {
			return kube.Fail("", err)
		}
		return kube.Ready("done")
	})
	states, seen := w.judge()
	faults.Set(chaos.Rule{Share: 0.3, Faults: chaos.All()})
	names := []string{"a", "b", "c"}
	for end, i := time.Now().Add(*scenarioFor), 0; time.Now().Before(end); i++ {
		if err := w.disturb(names[i%len(names)], []int{0, 3, 6, 1, 7}[i%5], i); err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
	faults.Set()
	for _, name := range names {
		k := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}}
		last := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"path":"./last"}}`))
		if err := w.client.Patch(t.Context(), k, last); client.IgnoreNotFound(err) != nil { // it may be about to go
			t.Fatal(err)
		}
		if k.UID == "" || k.DeletionTimestamp != nil {
			w.until(name+" is gone", func() bool { return w.missing(name) })
			continue
		}
		w.eventually(name, "ready in the end", func(k *kustomizev1.Kustomization) bool {
			return status.IsReady(k) && k.Status.LastAttemptedRevision == "./last"
		})
	}
	wrong := seen()
	t.Logf("%d states, faults %v", states.Load(), faults.Counts())
	for _, v := range wrong {
		t.Error(v)
	}
}

// A status that the API server will never take is told by an event, once, and what it says is not told as if it had
// been written.
func TestStatusRefused(t *testing.T) {
	t.Parallel()
	var refuses atomic.Bool
	var refused atomic.Int64
	w := newWorld(t, nil, func(config *rest.Config) {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return tripper(func(req *http.Request) (*http.Response, error) {
				if !refuses.Load() || req.Method != http.MethodPatch || !strings.HasSuffix(req.URL.Path, "/status") {
					return next.RoundTrip(req)
				}
				refused.Add(1)
				const answer = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","message":"status.x: too long","code":422}`
				return &http.Response{
					StatusCode: http.StatusUnprocessableEntity, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: req,
				}, nil
			})
		})
	})
	w.create("app", nil)
	w.eventually("app", "ready", ready)
	for len(w.events) > 0 {
		<-w.events
	}
	w.logic.set(func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
		return kube.Fail("Broken", errors.New("the new spec is wrong"))
	})
	refuses.Store(true)
	w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
	w.until("it is refused again", func() bool { return refused.Load() > 2 })
	if e := <-w.events; !strings.Contains(e, "app true StatusRefused") || !strings.Contains(e, "the new spec is wrong") || !strings.Contains(e, "too long") {
		t.Error(e)
	}
	if len(w.events) > 0 {
		t.Errorf("%s is told, too", <-w.events)
	}
	refuses.Store(false)
	w.eventually("app", "told", func(k *kustomizev1.Kustomization) bool {
		c := status.Get(k, status.Ready)
		return c != nil && c.Message == "the new spec is wrong"
	})
	if e := <-w.events; !strings.Contains(e, "app true Broken") {
		t.Error(e)
	}
}
