package controllers_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestHealthCheckCanceled has a Kustomization wait ten minutes for a Deployment that never gets ready. A commit that
// mends it is applied long before, and an event tells for what the wait was given up.
func TestHealthCheckCanceled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {SELECTOR}, containers: [{name: main, image: main}]}}\n"
	g := w.apps("", map[string]string{"app.yaml": strings.Replace(deployment, "SELECTOR", "no: node", 1)})
	w.kustomization("apps", "prune: true, path: ./, targetNamespace: NAMESPACE, timeout: 10m, wait: true")
	waiting := w.until("Kustomization/apps", "waiting", func(o *unstructured.Unstructured) bool {
		return condition(o, "Ready")["status"] == "Unknown" && condition(o, "Healthy")["status"] == "Unknown" && text(o, "status", "lastAttemptedRevision") != ""
	})
	began := time.Now()
	mended := g.commit(t, "apps", "Mend it", map[string]string{"app.yaml": strings.Replace(deployment, "SELECTOR", "", 1)})
	w.request("GitRepository/apps", "mended")
	o := w.until("Kustomization/apps", "at the new revision", func(o *unstructured.Unstructured) bool {
		return strings.Contains(text(o, "status", "lastAppliedRevision"), mended) && condition(o, "Ready")["status"] == "True"
	})
	if took := time.Since(began); took > time.Minute {
		t.Errorf("applied after %v", took)
	}
	if before := text(waiting, "status", "lastAttemptedRevision"); before == text(o, "status", "lastAppliedRevision") || strings.Contains(before, mended) {
		t.Errorf("waited at %s already", before)
	}
	w.told("apps", "HealthCheckCanceled", "canceled because of a new reconciliation: ")
}
