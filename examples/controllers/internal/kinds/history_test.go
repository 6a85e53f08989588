package kinds

import (
	"errors"
	"fmt"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/runtime/kube"
)

// TestHistory: an entry for each digest and status, the newest first, five at
// most; what repeats itself is counted only when somebody asked for it.
func TestHistory(t *testing.T) {
	o, a := &kustomizev1.Kustomization{}, &attempts{}
	good, bad, wait := kube.Ready("").Because("Good"), kube.Fail("Bad", errors.New("broken")), kube.Wait("Progressing", "")
	try := func(content string, result kube.Result, revision string) {
		t.Helper()
		pass := &kube.Pass{}
		a.built(pass, digestOf([]*unstructured.Unstructured{{Object: map[string]any{"data": content}}}))
		a.end(o, pass, &meta.Artifact{Revision: revision}, result)
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		for _, h := range o.Status.History {
			got = append(got, fmt.Sprintf("%s %s %d", h.Metadata["revision"], h.LastReconciledStatus, h.TotalReconciliations))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	try("a", wait, "r1")
	check()
	a.end(o, &kube.Pass{}, &meta.Artifact{Revision: "r1"}, good) // the wait is over
	check("r1 Good 1")
	a.end(o, &kube.Pass{}, &meta.Artifact{Revision: "r9"}, good) // nothing was built
	try("a", good, "r1")
	check("r1 Good 1")
	o.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "now"}
	try("a", good, "r1")
	o.Status.LastHandledReconcileAt = "now"
	check("r1 Good 2")
	try("b", bad, "r2")
	check("r2 Bad 1", "r1 Good 2")
	try("a", good, "r3") // the same content of another revision
	check("r3 Good 3", "r2 Bad 1")
	for i := range 5 {
		try(fmt.Sprint(i), good, fmt.Sprint(i))
	}
	check("4 Good 1", "3 Good 1", "2 Good 1", "1 Good 1", "0 Good 1")
	if len(a.of) != 0 {
		t.Errorf("%d attempts are left", len(a.of))
	}
	if o.Status.History[0].Digest == o.Status.History[1].Digest {
		t.Error("other content has the same digest")
	}
}
