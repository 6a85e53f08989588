package kube_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// TestConceal: what a pass conceals is in no condition, event or error, in whatever form others quote it.
func TestConceal(t *testing.T) {
	t.Parallel()
	const secret, long, quoted = "pa55word-canary", "pa55word-canary-of-another", "with \"quotes\"\nand lines"
	w := newWorld(t, nil)
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		p.Conceal(secret, long, " "+quoted+"\n", "true", "abc", "")
		p.Event(kube.Event{Reason: "Progressing", Message: "begun with " + secret})
		status.Set(k, metav1.Condition{Type: "Healthy", Status: metav1.ConditionFalse, Reason: "No", Message: "it is " + long})
		if err := p.Record(ctx); err != nil {
			return kube.Fail("", err)
		}
		status.Set(k, metav1.Condition{Type: "Healthy", Status: metav1.ConditionFalse, Reason: "No", Message: "it was " + secret})
		return kube.Fail("BuildFailed", errors.New(`abc is true: Invalid value: "with \"quotes\"\nand lines": `+secret))
	})
	w.create("app", nil)
	k := w.eventually("app", "failed", func(k *kustomizev1.Kustomization) bool {
		c := status.Get(k, status.Ready)
		return c != nil && c.Reason == "BuildFailed"
	})
	if c := status.Get(k, status.Ready); c.Message != `abc is true: Invalid value: "***": ***` {
		t.Errorf("Ready says %q", c.Message)
	}
	if c := status.Get(k, "Healthy"); c.Message != "it was ***" {
		t.Errorf("Healthy says %q", c.Message)
	}
	for range 2 { // the event of the pass, and that of its failure
		if e := <-w.events; strings.Contains(e, "canary") || strings.Contains(e, "quotes") || !strings.Contains(e, "***") {
			t.Errorf("told: %s", e)
		}
	}
	for _, s := range w.control.All() {
		if s.Err == nil || strings.Contains(s.Err.Error(), "canary") {
			t.Errorf("the loop knows %v", s.Err)
		}
	}
}
