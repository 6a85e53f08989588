package kube_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	ours "github.com/gitopskit/gitopskit/runtime/status"
)

// reconcile asks for a pass and waits for it, as `flux reconcile` does: until its token is answered. It returns what
// kstatus makes of the object then.
func (w *world) reconcile(name, token string) (*kustomizev1.Kustomization, *status.Result) {
	w.t.Helper()
	w.update(name, func(k *kustomizev1.Kustomization) { k.Annotations = map[string]string{kube.RequestedAt: token} })
	k := w.eventually(name, "answered", func(k *kustomizev1.Kustomization) bool { return k.Status.LastHandledReconcileAt == token })
	k.SetGroupVersionKind(kustomizev1.GroupVersion.WithKind("Kustomization"))
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(k)
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := status.Compute(&unstructured.Unstructured{Object: content})
	if err != nil {
		w.t.Fatal(err)
	}
	return k, result
}

// TestWaitLikeFlux asks for a pass of each outcome, and waits as the command line of Flux does. The wait always ends:
// with an object that is current, with one that has failed, or with one that is tried again and says why. At that
// moment the status keeps all rules for an object that is done.
func TestWaitLikeFlux(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		if p.Token == "" {
			return kube.Ready("before")
		}
		switch k.Name {
		case "fail":
			return kube.Fail("BuildFailed", errors.New("line 3 is wrong"))
		case "stall":
			return kube.Stall("InvalidPath", errors.New("there is no such path"))
		case "not-yet":
			return kube.NotYet("ArtifactFailed", "no artifact", time.Hour)
		case "panic":
			panic("nil")
		case "wait", "timeout":
			if p.Why != rt.CauseWoken {
				return kube.Wait("Progressing", "rolling out", rt.WakeAfter(300*time.Millisecond))
			}
			if k.Name == "timeout" {
				return kube.Wait("Progressing", "still rolling out")
			}
		case "quiet":
			if p.Why != rt.CauseWoken {
				return kube.Wait("Progressing", "looking again", rt.WakeAfter(100*time.Millisecond)).Quiet()
			}
		}
		return kube.Ready("after")
	})
	cases := map[string]struct {
		want  status.Status
		ready metav1.ConditionStatus
		says  string
	}{
		"ready":   {status.CurrentStatus, metav1.ConditionTrue, "after"},
		"wait":    {status.CurrentStatus, metav1.ConditionTrue, "after"},
		"quiet":   {status.CurrentStatus, metav1.ConditionTrue, "after"},
		"stall":   {status.FailedStatus, metav1.ConditionFalse, "there is no such path"},
		"fail":    {status.InProgressStatus, metav1.ConditionFalse, "line 3 is wrong"},
		"not-yet": {status.InProgressStatus, metav1.ConditionFalse, "no artifact"},
		"panic":   {status.InProgressStatus, metav1.ConditionFalse, "panic: nil"},
		"timeout": {status.InProgressStatus, metav1.ConditionFalse, "timeout of 1s is over: still rolling out"},
	}
	for name := range cases {
		w.create(name, func(k *kustomizev1.Kustomization) { k.Spec.Timeout = &metav1.Duration{Duration: time.Second} })
	}
	for name := range cases {
		w.eventually(name, "ready before", ready)
	}
	for name, c := range cases {
		for i := range 2 { // what it was before does not matter
			k, result := w.reconcile(name, fmt.Sprint("token", i))
			r := ours.Get(k, ours.Ready)
			if result.Status != c.want || r.Status != c.ready || r.Message != c.says {
				t.Errorf("%s: %s, Ready %s: %s; want %s, %s: %s", name, result.Status, r.Status, r.Message, c.want, c.ready, c.says)
			}
			if wrong := ours.CheckDone(k); wrong != nil {
				t.Errorf("%s: %q", name, wrong)
			}
		}
	}
}
