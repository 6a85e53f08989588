package kube_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// releases reconciles HelmReleases, the kind of Flux that has answers for all three annotations.
type releases struct {
	mu     sync.Mutex
	passes map[string][]string
	step   func(r *helmv2.HelmRelease, p *kube.Pass) kube.Result
}

func (l *releases) Reconcile(_ context.Context, r *helmv2.HelmRelease, p *kube.Pass) kube.Result {
	l.mu.Lock()
	l.passes[r.Name] = append(l.passes[r.Name], fmt.Sprintf("force %v, reset %v", p.Force, p.Reset))
	step := l.step
	l.mu.Unlock()
	return step(r, p)
}

func (l *releases) Finalize(context.Context, *helmv2.HelmRelease, *kube.Pass) kube.Result {
	return kube.Ready("")
}

func (l *releases) of(name string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passes[name]
}

// releases runs a controller for HelmReleases in the namespace of a world.
func (w *world) releases() *releases {
	w.t.Helper()
	l := &releases{passes: map[string][]string{}, step: func(*helmv2.HelmRelease, *kube.Pass) kube.Result { return kube.Ready("done") }}
	s := testScheme(w.t)
	if err := helmv2.AddToScheme(s); err != nil {
		w.t.Fatal(err)
	}
	mgr, err := kube.NewManager(w.config, manager.Options{Scheme: s, Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{w.namespace: {}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := kube.Add(w.t.Context(), mgr, l, kube.Options[*helmv2.HelmRelease]{
		Schedule: func(r *helmv2.HelmRelease) kube.Schedule {
			return kube.Schedule{Interval: time.Hour, Retry: rt.Fixed(time.Hour), Suspend: r.Spec.Suspend}
		},
	}); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		mgr.GetHTTPClient().CloseIdleConnections()
	})
	w.client, err = client.New(w.config, client.Options{Scheme: s, HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) release(name string) *helmv2.HelmRelease {
	w.t.Helper()
	r := &helmv2.HelmRelease{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) updateRelease(name string, change func(*helmv2.HelmRelease)) {
	w.t.Helper()
	r := w.release(name)
	base := r.DeepCopy()
	change(r)
	if err := w.client.Patch(w.t.Context(), r, client.MergeFrom(base)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) createRelease(name string, change func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
	w.t.Helper()
	r := &helmv2.HelmRelease{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec:       helmv2.HelmReleaseSpec{Interval: metav1.Duration{Duration: time.Hour}, ChartRef: &helmv2.CrossNamespaceSourceReference{Kind: "OCIRepository", Name: "app"}},
	}
	change(r)
	if err := w.client.Create(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// requestCase is a combination of annotations, and of what was answered before.
type requestCase struct {
	annotations            map[string]string
	handled, force, resets string
}

// requestCases are all combinations of each annotation unset, set, and different from requestedAt, with nothing, each
// of them, and everything answered before.
func requestCases() (out []requestCase) {
	for _, requested := range []string{"", "a"} {
		for _, forced := range []string{"", "a", "b"} {
			for _, reset := range []string{"", "a", "b"} {
				annotations := map[string]string{}
				for key, v := range map[string]string{kube.RequestedAt: requested, kube.ForceAt: forced, kube.ResetAt: reset} {
					if v != "" {
						annotations[key] = v
					}
				}
				for _, before := range [][3]string{{}, {"a"}, {"", "a"}, {"", "", "a"}, {"a", "a", "a"}, {"old", "b", "b"}} {
					out = append(out, requestCase{annotations, before[0], before[1], before[2]})
				}
			}
		}
	}
	return out
}

// TestRequests has objects with every combination of requestedAt, forceAt and resetAt, of which some were answered
// before. While they are suspended nothing happens. Then each has one pass, which is forced or reset as Flux says, and
// every annotation is answered.
func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	l := w.releases()
	cases := requestCases()
	name := func(i int) string { return fmt.Sprintf("r%d", i) }
	for i, c := range cases {
		r := w.createRelease(name(i), func(r *helmv2.HelmRelease) { r.Spec.Suspend, r.Annotations = true, c.annotations })
		r.Status.LastHandledReconcileAt, r.Status.LastHandledForceAt, r.Status.LastHandledResetAt = c.handled, c.force, c.resets
		if err := w.client.Status().Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	w.createRelease("marker", func(*helmv2.HelmRelease) {})
	w.until("an object that is not suspended has its pass", func() bool { return len(l.of("marker")) == 1 })
	for i, c := range cases {
		r := w.release(name(i))
		if r.Status.LastHandledReconcileAt != c.handled || r.Status.LastHandledForceAt != c.force || r.Status.LastHandledResetAt != c.resets || len(l.of(name(i))) > 0 {
			t.Errorf("%+v, suspended: passes %v, status %+v", c, l.of(name(i)), r.Status)
		}
		w.updateRelease(name(i), func(r *helmv2.HelmRelease) { r.Spec.Suspend = false })
	}
	for i, c := range cases {
		var r *helmv2.HelmRelease
		w.until("ready", func() bool { r = w.release(name(i)); return status.IsReady(r) })
		peer := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}}
		peer.Status.LastHandledReconcileAt, peer.Status.LastHandledForceAt, peer.Status.LastHandledResetAt = c.handled, c.force, c.resets
		force, reset := helmv2.ShouldHandleForceRequest(peer), helmv2.ShouldHandleResetRequest(peer)
		if got, want := fmt.Sprint(l.of(name(i))), fmt.Sprintf("[force %v, reset %v]", force, reset); got != want {
			t.Errorf("%+v: passes %s, want %s", c, got, want)
		}
		answered := c.handled
		if token := c.annotations[kube.RequestedAt]; token != "" {
			answered = token
		}
		if got := r.Status; got.LastHandledReconcileAt != answered || got.LastHandledForceAt != peer.Status.LastHandledForceAt || got.LastHandledResetAt != peer.Status.LastHandledResetAt {
			t.Errorf("%+v: answered %q, %q, %q; want %q, %q, %q", c, got.LastHandledReconcileAt, got.LastHandledForceAt, got.LastHandledResetAt,
				answered, peer.Status.LastHandledForceAt, peer.Status.LastHandledResetAt)
		}
	}
}

// A request that comes during a pass is not answered by that pass but by the next one, at once; a value that was
// answered asks for nothing again; one that is answered by a failure is answered.
func TestRequestDuringAPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	l := w.releases()
	began, goOn := make(chan helmv2.HelmReleaseStatus, 10), make(chan kube.Result)
	l.mu.Lock()
	l.step = func(r *helmv2.HelmRelease, _ *kube.Pass) kube.Result {
		if r.Name == "marker" {
			return kube.Ready("beside")
		}
		began <- r.Status
		return <-goOn
	}
	l.mu.Unlock()
	ask := func(token string) {
		w.updateRelease("app", func(r *helmv2.HelmRelease) {
			r.Annotations = map[string]string{kube.RequestedAt: token, kube.ForceAt: token, kube.ResetAt: token}
		})
	}
	w.createRelease("app", func(*helmv2.HelmRelease) {})
	<-began
	ask("one")
	goOn <- kube.Ready("without the request")
	if s := <-began; s.LastHandledReconcileAt != "" || s.LastHandledForceAt != "" || s.LastHandledResetAt != "" {
		t.Errorf("a pass has answered a request that came after it: %+v", s)
	}
	ask("two")
	goOn <- kube.Fail("Failed", context.DeadlineExceeded)
	if s := <-began; s.LastHandledReconcileAt != "one" || s.LastHandledForceAt != "one" || s.LastHandledResetAt != "one" {
		t.Errorf("a pass that failed has not answered: %+v", s)
	}
	goOn <- kube.Ready("with both")
	w.until("answered", func() bool { return w.release("app").Status.LastHandledReconcileAt == "two" })
	ask("two") // changes nothing
	w.updateRelease("app", func(r *helmv2.HelmRelease) { r.Annotations["other"] = "annotation" })
	w.createRelease("marker", func(*helmv2.HelmRelease) {})
	w.until("an object that came later has its pass", func() bool { return len(l.of("marker")) == 1 })
	if got := fmt.Sprint(l.of("app")); got != "[force false, reset false force true, reset true force true, reset true]" {
		t.Error(got)
	}
}

// A request while a pass waits begins a new one, which answers.
func TestRequestDuringAWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		if p.Token == "now" {
			return kube.Ready("asked")
		}
		return kube.Wait("Progressing", "rolling out")
	})
	w.create("app", nil)
	w.eventually("app", "waiting", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionUnknown) })
	w.update("app", func(k *kustomizev1.Kustomization) { k.Annotations = map[string]string{kube.RequestedAt: "now"} })
	w.eventually("app", "answered", func(k *kustomizev1.Kustomization) bool {
		if k.Status.LastHandledReconcileAt == "now" && !ready(k) {
			t.Errorf("answered before its end: %+v", k.Status)
		}
		return ready(k) && k.Status.LastHandledReconcileAt == "now"
	})
}
