package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// hold keeps requests about Secrets from being answered until release is called.
func (w *wiretap) hold() (release func()) {
	held := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = func(req *http.Request) *http.Response {
		select {
		case <-held:
		case <-req.Context().Done():
		}
		return nil
	}
	return sync.OnceFunc(func() {
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		close(held)
	})
}

// settling reports whether an object waits for the watches of what it refers to.
func (w *world) settling(name string) bool {
	for key, state := range w.control.All() {
		if key.Name == name {
			return slices.Equal(state.Waiting, []string{"the watches of what it refers to"})
		}
	}
	return false
}

// What happens to a referenced object before its watch has begun is not missed: the pass reads the object after that.
func TestChangeBeforeTheWatch(t *testing.T) {
	t.Parallel()
	w, tap := byName(t)
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		secret := &corev1.Secret{}
		if err := w.client.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: k.Spec.Path}, secret); err != nil {
			return kube.Fail("", err)
		}
		k.Status.LastAppliedRevision = string(secret.Data["revision"])
		return kube.Ready("done")
	})
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: w.namespace}, Data: map[string][]byte{"revision": []byte("old")}}
	if err := w.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	release := tap.hold()
	t.Cleanup(release)
	w.create("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "one" })
	w.until("the pass waits, or is over", func() bool { return w.settling("app") || status.Get(w.get("app"), status.Ready) != nil })
	secret.Data["revision"] = []byte("new")
	if err := w.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	release()
	w.eventually("app", "ready with the new revision", func(k *kustomizev1.Kustomization) bool {
		return ready(k) && k.Status.LastAppliedRevision == "new"
	})
	if n := w.logic.count("app"); n != 1 {
		t.Errorf("%d passes", n)
	}
}

// A pass that had to wait for watches has the reasons that it began with: the first one, one for a request, and one for
// which another reason came up while it waited.
func TestCauseAfterTheWatch(t *testing.T) {
	t.Parallel()
	const refersTo = "example.com/secret"
	tap := &wiretap{}
	var mu sync.Mutex
	var causes []string
	var waited rt.Cause // of calls that ended in waiting
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		o.Watches = []kube.Watch{{Object: secret, ByName: true}}
		o.References = func(k *kustomizev1.Kustomization) []kube.Reference {
			return []kube.Reference{{GroupKind: schema.GroupKind{Kind: "Secret"}, ObjectKey: client.ObjectKey{Namespace: k.Namespace, Name: k.Annotations[refersTo]}}}
		}
		o.Observe = func(seen rt.Observation[client.ObjectKey]) {
			mu.Lock()
			defer mu.Unlock()
			if seen.State.Phase == rt.PhaseWaiting || seen.State.Phase == rt.PhaseQueued {
				waited |= seen.Why
			}
		}
	}, tap.wrap)
	w.logic.set(func(_ context.Context, _ *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		mu.Lock()
		defer mu.Unlock()
		causes = append(causes, fmt.Sprintf("%v for %q", p.Why, p.Token))
		return kube.Ready("done")
	})
	step := func(want string, act func(), meanwhile func()) {
		t.Helper()
		release := tap.hold()
		t.Cleanup(release)
		before := w.logic.count("app")
		act()
		w.until("the pass waits, or is over", func() bool { return w.settling("app") || w.logic.count("app") > before })
		if meanwhile != nil {
			meanwhile()
		}
		release()
		w.until("the pass", func() bool { return w.logic.count("app") > before })
		mu.Lock()
		defer mu.Unlock()
		if got := causes[before:]; !slices.Equal(got, []string{want}) {
			t.Errorf("passes %q, want %q", got, want)
		}
	}
	annotate := func(secret, token string) {
		w.update("app", func(k *kustomizev1.Kustomization) {
			k.Annotations = map[string]string{refersTo: secret, kube.RequestedAt: token}
		})
	}
	step(`added for ""`, func() {
		w.create("app", func(k *kustomizev1.Kustomization) { k.Annotations = map[string]string{refersTo: "one"} })
	}, nil)
	step(`requested for "now"`, func() { annotate("two", "now") }, nil)
	step(`changed+requested for "again"`, func() { annotate("three", "again") }, func() {
		w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
		w.until("noticed", func() bool { mu.Lock(); defer mu.Unlock(); return waited.Has(rt.CauseChanged) })
	})
}

// A status never goes to another object that has got the name, neither at the end of a pass nor in the middle of it,
// although the cache knows nothing of it.
func TestRecreatedNamesake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) { o.Finalizer = "" }, lag(2*time.Second))
	recorded := make(chan error, 1)
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		if k.Spec.Path == "./second" {
			return kube.Ready("the second")
		}
		if err := w.client.Delete(ctx, k.DeepCopy()); err != nil {
			return kube.Fail("", err)
		}
		w.create(k.Name, func(k *kustomizev1.Kustomization) { k.Spec.Path = "./second" })
		k.Status.LastAppliedRevision = "of the first"
		if k.Name == "record" {
			recorded <- p.Record(ctx)
		}
		return kube.Ready("the first")
	})
	for _, name := range []string{"record", "finish"} {
		w.create(name, nil)
	}
	if err := <-recorded; !apierrors.IsNotFound(err) {
		t.Errorf("the status of an object that is gone: %v", err)
	}
	for _, name := range []string{"record", "finish"} {
		w.eventually(name, "the second is ready", func(k *kustomizev1.Kustomization) bool {
			c := status.Get(k, status.Ready)
			if k.Status.LastAppliedRevision != "" || c != nil && c.Message == "the first" {
				t.Fatalf("the status of the first went to the second: %+v", k.Status)
			}
			return c != nil && c.Message == "the second"
		})
	}
}

// A pass that ends because its object is gone, belongs to somebody else, or because the controller stops, neither
// writes a status nor tells anything: what it came to is not what is the matter with the object.
func TestEndedFromOutside(t *testing.T) {
	t.Parallel()
	const owner = "example.com/owner"
	for name, c := range map[string]struct {
		end   func(*world)
		cause error
	}{
		"deleted": {func(w *world) {
			if err := w.client.Delete(w.t.Context(), w.get("app")); err != nil {
				w.t.Fatal(err)
			}
		}, rt.ErrDeleted},
		"given away": {func(w *world) {
			w.update("app", func(k *kustomizev1.Kustomization) { k.Labels = map[string]string{owner: "other"} })
		}, rt.ErrDeleted},
		"stopped": {func(w *world) { w.stop() }, rt.ErrStopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
				o.Finalizer, o.Grace = "", 100*time.Millisecond
				o.Select = func(k *kustomizev1.Kustomization) bool { return k.Labels[owner] == "" }
			})
			running, ended := make(chan struct{}), make(chan error, 1)
			w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
				if k.Name != "app" {
					return kube.Ready("beside")
				}
				close(running)
				<-ctx.Done()
				ended <- context.Cause(ctx)
				return kube.Fail("Interrupted", errors.New("the time is over"))
			})
			w.create("app", nil)
			<-running
			c.end(w)
			if err := <-ended; !errors.Is(err, c.cause) {
				t.Errorf("ended by %v", err)
			}
			if !errors.Is(c.cause, rt.ErrStopped) { // a pass that begins later ends later
				w.create("marker", nil)
				w.eventually("marker", "ready", ready)
				w.until("the pass is over", func() bool { return !w.busy("app") })
			}
			if got := w.writes("app"); len(got) != 0 {
				t.Errorf("wrote %v", got)
			}
			for {
				select {
				case e := <-w.events:
					t.Errorf("told %s", e)
					continue
				default:
				}
				break
			}
		})
	}
}

// busy reports whether a pass of an object is running.
func (w *world) busy(name string) bool {
	for key, state := range w.control.All() {
		if key.Name == name {
			return state.Phase == rt.PhaseRunning
		}
	}
	return false
}
