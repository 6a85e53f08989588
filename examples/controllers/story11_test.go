package controllers_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/ssa"
)

// TestNothingIsBuiltTwice: as long as nobody touches what a Kustomization
// applied, and it would be built of the same, a pass fetches and builds nothing:
// it is not even noticed that the artifact is gone. What somebody changes is
// repaired all the same, and what is built with something else is built.
func TestNothingIsBuiltTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := newGit(t)
	g.commit(t, "repo", "Add a map", map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  region: ${region}\n"})
	o := w.options()
	w.run(all(), o)
	w.apply(`
apiVersion: v1
kind: Secret
metadata: {name: git}
stringData: {username: robot, password: pa55word}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: repo}
spec: {interval: 1h, url: URL/repo, ref: {branch: main}, secretRef: {name: git}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: vars}
data: {region: eu}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app}
spec:
  interval: 1h
  retryInterval: 1s
  path: ./
  prune: true
  wait: true
  targetNamespace: NAMESPACE
  sourceRef: {kind: GitRepository, name: repo}
  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}
`, "URL", g.url)
	w.ready("Kustomization/app")
	request := func(token string) {
		t.Helper()
		w.request("Kustomization/app", token)
		w.until("Kustomization/app", "the pass "+token, func(k *unstructured.Unstructured) bool {
			return text(k, "status", "lastHandledReconcileAt") == token && condition(k, "Ready")["status"] == "True"
		})
	}
	hide := func(from, to string) { // all artifacts
		t.Helper()
		err := filepath.WalkDir(o.StoragePath, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, from) && !d.IsDir() {
				err = os.Rename(path, strings.TrimSuffix(path, from)+to)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	hide(".tar.gz", ".hidden")
	request("one")
	request("two")
	hide(".hidden", ".tar.gz")

	w.patch("ConfigMap/a", `{"data":{"region":"us"}}`)
	request("three")
	w.until("ConfigMap/a", "the repair", func(cm *unstructured.Unstructured) bool { return text(cm, "data", "region") == "eu" })
	w.patch("ConfigMap/vars", `{"data":{"region":"asia"}}`)
	w.until("ConfigMap/a", "the other variable", func(cm *unstructured.Unstructured) bool { return text(cm, "data", "region") == "asia" })
}

// byFlux applies objects as kustomize-controller does: its labels, its field manager, by force.
func (w *world) byFlux(owner, manifests string) {
	w.t.Helper()
	objects, err := ssa.ReadObjects(strings.NewReader(manifests))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range objects {
		o.SetNamespace(w.namespace)
		o.SetLabels(map[string]string{"kustomize.toolkit.fluxcd.io/name": owner, "kustomize.toolkit.fluxcd.io/namespace": w.namespace})
		data, err := o.MarshalJSON()
		if err != nil {
			w.t.Fatal(err)
		}
		force := true
		if _, err := w.resource(o.GroupVersionKind(), w.namespace).Patch(w.t.Context(), o.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "kustomize-controller", Force: &force}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestHandOverFromFlux: what kustomize-controller has applied, and its status, is taken over as it is: nothing is
// written to an object that is as it should be, its managed fields included, and what the inventory of
// kustomize-controller has and the source has no longer is pruned. The objects are applied here as that controller
// does, not by that controller.
func TestHandOverFromFlux(t *testing.T) {
	t.Parallel()
	w, g := newWorld(t), newGit(t)
	const app = `apiVersion: v1
kind: ConfigMap
metadata: {name: kept}
data: {a: b}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80}]}
`
	commit := g.commit(t, "app", "Add an app", map[string]string{"deploy/app.yaml": app})
	w.byFlux("app", app)
	w.byFlux("app", strings.ReplaceAll(app, "name: kept", "name: gone"))
	w.apply(strings.ReplaceAll(strings.ReplaceAll(follower, "500ms", "1h"), "path: ./deploy", "targetNamespace: NAMESPACE, path: ./deploy"), "URL", g.url+"/app")
	w.patch("Kustomization/app", `{"metadata":{"finalizers":["finalizers.fluxcd.io"]}}`)
	var entries []string
	for _, name := range []string{"_kept__ConfigMap", "_gone__ConfigMap", "_app__Service"} {
		entries = append(entries, fmt.Sprintf(`{"id":"%s%s","v":"v1"}`, w.namespace, name))
	}
	status := fmt.Sprintf(`{"status":{"observedGeneration":1,"lastAppliedRevision":"main@sha1:0000","lastAttemptedRevision":"main@sha1:0000","inventory":{"entries":[%s]},
		"conditions":[{"type":"Ready","status":"True","reason":"ReconciliationSucceeded","message":"Applied revision: main@sha1:0000","observedGeneration":1,"lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, strings.Join(entries, ","))
	if _, err := w.resource(w.kind("Kustomization"), w.namespace).Patch(t.Context(), "app", types.MergePatchType, []byte(status), metav1.PatchOptions{FieldManager: "kustomize-controller"}, "status"); err != nil {
		t.Fatal(err)
	}
	before := map[string]*unstructured.Unstructured{}
	for _, ref := range []string{"ConfigMap/kept", "Service/app"} {
		before[ref] = w.get(ref)
	}

	w.run(all(), w.options())
	k := w.readyAt("Kustomization/app", commit)
	for ref, old := range before {
		now := w.get(ref)
		if now == nil || now.GetResourceVersion() != old.GetResourceVersion() || now.GetUID() != old.GetUID() {
			t.Errorf("%s was written: %v, was %v", ref, now, old)
		}
	}
	if w.get("ConfigMap/gone") != nil {
		t.Error("what the source has no longer was not pruned")
	}
	left, _, _ := unstructured.NestedSlice(k.Object, "status", "inventory", "entries")
	if len(left) != 2 {
		t.Errorf("the inventory has %v", left)
	}
}
