package controllers_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

const monitoring = `
apiVersion: v1
kind: Secret
metadata: {name: git}
stringData: {username: robot, password: pa55word}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: setup}
spec: {interval: 1h, url: URL/monitoring, ref: {branch: main}, secretRef: {name: git}, ignore: "/*\n!/manifests\n/manifests/*\n!/manifests/setup"}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: stack}
spec: {interval: 1h, url: URL/monitoring, ref: {branch: main}, secretRef: {name: git}, ignore: "/*\n!/manifests\n/manifests/setup"}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: stack}
spec: {interval: 1h, retryInterval: 1s, timeout: 2m, prune: true, wait: true, path: ./manifests, sourceRef: {kind: GitRepository, name: stack}, dependsOn: [{name: setup}]}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: setup}
spec: {interval: 1h, retryInterval: 1s, timeout: 2m, prune: true, wait: true, path: ./manifests/setup, sourceRef: {kind: GitRepository, name: setup}}
`

// TestStoryMonitoring deploys the whole of kube-prometheus, definitions first, has a second pass change nothing, and
// takes it all away again.
func TestStoryMonitoring(t *testing.T) {
	t.Parallel()
	audit := filepath.Join(t.TempDir(), "audit.log")
	w, g := worldOf(t, testenv.StartServer(t, &testenv.Options{AuditLog: audit, SimulatedNodes: 1})), newGit(t)
	commit, err := g.ImportDir("monitoring", "main", "Import kube-prometheus", unzip(t, "../quickstart/testdata/kube-prometheus.zip"))
	if err != nil {
		t.Fatal(err)
	}
	w.run(all(), w.options())
	w.apply(monitoring, "URL", g.url)
	w.readyAt("Kustomization/setup", commit)
	stack := w.readyAt("Kustomization/stack", commit)
	entries, _, _ := unstructured.NestedSlice(stack.Object, "status", "inventory", "entries")
	if got := text(stack, "status", "lastAppliedRevision"); len(entries) < 100 || got != "main@sha1:"+commit {
		t.Errorf("%d objects of revision %s", len(entries), got)
	}
	ids := fmt.Sprint(entries)
	for _, id := range []string{"monitoring_k8s_monitoring.coreos.com_Prometheus", "_v1beta1.metrics.k8s.io_apiregistration.k8s.io_APIService", "kube-system_resource-metrics-auth-reader_rbac.authorization.k8s.io_RoleBinding"} {
		if !strings.Contains(ids, id) {
			t.Errorf("%s is not in the inventory: %s", id, ids)
		}
	}
	if w.get("Deployment/monitoring/grafana") == nil {
		t.Error("there is no Deployment")
	}

	before := len(w.writesToOthers(audit))
	for _, name := range []string{"GitRepository/setup", "GitRepository/stack", "Kustomization/setup", "Kustomization/stack"} {
		w.request(name, "again")
	}
	for _, name := range []string{"Kustomization/setup", "Kustomization/stack"} {
		w.until(name, "a second pass", func(o *unstructured.Unstructured) bool {
			return text(o, "status", "lastHandledReconcileAt") == "again" && condition(o, "Ready")["status"] == "True"
		})
	}
	if again := w.writesToOthers(audit)[before:]; len(again) > 0 {
		t.Errorf("a second pass wrote %d times, such as %s", len(again), again[0])
	}

	w.delete("Kustomization/stack")
	w.until("Kustomization/stack", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	w.until("Deployment/monitoring/grafana", "deleted with it", func(o *unstructured.Unstructured) bool { return o == nil })
}

// writesToOthers are the writes of the controllers to other objects than those that they reconcile, and that tell of them.
func (w *world) writesToOthers(audit string) []string {
	w.t.Helper()
	writes, err := testenv.ReadAudit(audit)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, a := range writes {
		own := strings.HasSuffix(a.Group, ".fluxcd.io") || slices.Contains([]string{"events", "leases", "selfsubjectaccessreviews"}, a.Resource)
		if a.Agent == all().Name && !own && !a.DryRun {
			out = append(out, fmt.Sprint(a))
		}
	}
	return out
}
