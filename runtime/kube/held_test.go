package kube_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// A wait that ends before the patience does is never written: the pass writes once, with what was set before the wait
// too, and tells nothing of it. What waits for others, or for an answer that was asked for, does not lose anything.
func TestPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) { o.Patience = time.Hour })
	var exists atomic.Bool
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		switch {
		case k.Name == "wait" && p.Why != rt.CauseWoken:
			k.Status.LastAttemptedRevision = "main@" + fmt.Sprint(k.Generation)
			return kube.Wait("Progressing", "rolling out", rt.WakeAfter(50*time.Millisecond))
		case k.Name != "wait" && !exists.Load():
			k.Status.LastAttemptedRevision = "nothing of a pass that began anew"
			return kube.NotYet("ArtifactFailed", "no artifact", time.Hour)
		}
		return kube.Ready("done")
	})
	w.create("wait", nil)
	for generation := range 3 {
		k := w.eventually("wait", "ready", func(k *kustomizev1.Kustomization) bool {
			return ready(k) && k.Status.ObservedGeneration == int64(generation+1)
		})
		if want := "main@" + fmt.Sprint(generation+1); k.Status.LastAttemptedRevision != want {
			t.Errorf("attempted %q, want %q", k.Status.LastAttemptedRevision, want)
		}
		if wrong := status.CheckDone(k); wrong != nil {
			t.Errorf("%q", wrong)
		}
		if writes := w.writes("wait"); len(writes) != 1+generation+1 { // and the finalizer
			t.Errorf("writes:\n%q", writes)
		}
		w.update("wait", func(k *kustomizev1.Kustomization) { k.Spec.Path = fmt.Sprint(generation) })
	}

	app := w.create("app", nil)
	w.until("a pass without an artifact", func() bool { return w.logic.count("app") == 1 })
	exists.Store(true)
	w.control.Trigger(client.ObjectKeyFromObject(app))
	k := w.eventually("app", "ready", ready)
	if writes := w.writes("app"); len(writes) != 2 || k.Status.LastAttemptedRevision != "" {
		t.Errorf("attempted %q, writes:\n%q", k.Status.LastAttemptedRevision, writes)
	}
	exists.Store(false)
	k, _ = w.reconcile("app", "now") // which returns with the answer
	if !status.Is(k, status.Ready, metav1.ConditionFalse) {
		t.Errorf("%+v", k.Status)
	}
	for len(w.events) > 0 {
		if e := <-w.events; e != "app false ArtifactFailed: no artifact" {
			t.Error(e)
		}
	}
}

// A wait that is longer than the patience is written and told, and so is one that the end of the controller meets.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	notYet := func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
		return kube.NotYet("ArtifactFailed", "no artifact", time.Hour)
	}
	says := func(k *kustomizev1.Kustomization) bool {
		c := status.Get(k, status.Ready)
		return c != nil && c.Status == metav1.ConditionFalse && c.Message == "no artifact"
	}
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) { o.Patience = 100 * time.Millisecond })
	w.logic.set(notYet)
	w.create("app", nil)
	w.eventually("app", "told", says)
	if e := <-w.events; e != "app false ArtifactFailed: no artifact" {
		t.Error(e)
	}
	w.stop()

	l := &logic{step: notYet, finalize: succeed, passes: map[string]int{}}
	_, stop := w.run(l, func(o *kube.Options[*kustomizev1.Kustomization]) { o.Patience = time.Hour })
	w.create("late", nil)
	gone := w.create("gone", nil)
	w.until("two passes", func() bool { return l.count("late") == 1 && l.count("gone") == 1 })
	if err := w.client.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	w.until("it is gone", func() bool { return w.missing("gone") })
	if says(w.get("late")) {
		t.Error("told too early")
	}
	stop()
	if !says(w.get("late")) {
		t.Error("not told at the end")
	}
}
