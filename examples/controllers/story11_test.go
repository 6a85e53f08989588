package controllers_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestNothingIsBuiltTwice: as long as nobody touches what a Kustomization
// applied, and it would be built of the same, a pass fetches and builds nothing:
// it is not even noticed that the artifact is gone. What somebody changes is
// repaired all the same, and what is built with something else is built.
func TestNothingIsBuiltTwice(t *testing.T) {
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
