package controllers_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// A policy that keeps objects with a label from being deleted.
const undeletable = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: undeletable}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [DELETE], resources: [configmaps]}]
  validations: [{expression: "!('locked' in oldObject.data)", message: is locked}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: undeletable}
spec: {policyName: undeletable, validationActions: [Deny]}
`

// TestDeletion deletes Kustomizations while something is wrong. What a suspended one leaves is in TestDeletionPolicy.
func TestDeletion(t *testing.T) {
	t.Parallel()
	w := worldOf(t, testenv.StartServer(t, nil))
	w.run(all(), w.options())
	locked := func(name string) string { return configMap(name, w.namespace) + "  locked: \"yes\"\n" }
	g := w.apps("", map[string]string{
		"source/a.yaml": configMap("source", w.namespace), "account/a.yaml": configMap("account", w.namespace), "missing/a.yaml": configMap("missing", w.namespace),
		"blocked/a.yaml": locked("blocked") + "---\n" + configMap("beside", w.namespace), "pruned/a.yaml": locked("pruned"), "pruned/b.yaml": configMap("kept", w.namespace),
		"wrong/a.yaml": configMap("wrong", w.namespace),
	})
	w.apply(tenants[strings.Index(tenants, "apiVersion: v1\nkind: ServiceAccount"):strings.Index(tenants, "apiVersion: source")], "team-a", w.namespace)
	w.apply(undeletable)
	w.kustomization("account", "path: ./account, prune: true, serviceAccountName: deployer")
	names := []string{"source", "missing", "blocked", "pruned", "wrong"}
	for _, name := range names {
		w.kustomization(name, "path: ./"+name+", prune: true")
	}
	for _, name := range append(names, "account") {
		w.ready("Kustomization/" + name)
	}
	gone := func(ref string) {
		t.Helper()
		w.until(ref, "gone", func(o *unstructured.Unstructured) bool { return o == nil })
	}

	// An object that is already gone is none to delete.
	w.delete("ConfigMap/missing")
	w.delete("Kustomization/missing")
	gone("Kustomization/missing")

	// A spec that has become wrong does not hold up the deletion.
	w.patch("Kustomization/wrong", `{"spec": {"healthCheckExprs": [{"apiVersion": "v1", "kind": "ConfigMap", "current": "no ("}]}}`)
	w.failed("Kustomization/wrong", "InvalidCELExpression", "")
	w.delete("Kustomization/wrong")
	gone("Kustomization/wrong")
	gone("ConfigMap/wrong")

	// Without the service account, nothing is deleted, and an event tells what is left.
	w.delete("ServiceAccount/deployer")
	w.delete("Kustomization/account")
	gone("Kustomization/account")
	if w.get("ConfigMap/account") == nil {
		t.Error("something was deleted without the account that may do it")
	}
	w.told("account", "PruneFailed", "deployer does not exist any more: left behind: ConfigMap/"+w.namespace+"/account")

	// What cannot be pruned stays in the inventory, and is tried again.
	g.commit(t, "apps", "Remove pruned", map[string]string{"pruned/a.yaml": ""})
	w.request("GitRepository/apps", "removed")
	k := w.failed("Kustomization/pruned", "PruneFailed", "is locked")
	if entries := inventoryOf(k); !strings.Contains(entries, "_pruned__ConfigMap") || !strings.Contains(entries, "_kept__ConfigMap") {
		t.Errorf("the inventory is %s", entries)
	}

	// So it is at the end: the Kustomization stays until everything is deleted.
	w.delete("Kustomization/blocked")
	k = w.failed("Kustomization/blocked", "PruneFailed", "is locked")
	gone("ConfigMap/beside")
	if entries := inventoryOf(k); !strings.Contains(entries, "_blocked__ConfigMap") || w.get("ConfigMap/blocked") == nil {
		t.Errorf("the inventory is %s", entries)
	}
	policies := w.resource(schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicyBinding"}, "")
	if err := policies.Delete(t.Context(), "undeletable", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone("Kustomization/blocked")
	gone("ConfigMap/blocked")
	gone("ConfigMap/pruned")
	if entries := inventoryOf(w.ready("Kustomization/pruned")); strings.Contains(entries, "_pruned__ConfigMap") {
		t.Errorf("the inventory is %s", entries)
	}

	// A source that is broken, or gone, is not needed to delete.
	w.delete("GitRepository/apps")
	gone("GitRepository/apps")
	w.failed("Kustomization/source", "ArtifactFailed", "")
	w.delete("Kustomization/source")
	gone("Kustomization/source")
	gone("ConfigMap/source")
}

func inventoryOf(k *unstructured.Unstructured) string {
	entries, _, _ := unstructured.NestedSlice(k.Object, "status", "inventory", "entries")
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.(map[string]any)["id"].(string))
	}
	return strings.Join(ids, " ")
}

// told waits for an event about an object.
func (w *world) told(name, reason, says string) {
	w.t.Helper()
	events := w.resource(schema.GroupVersionKind{Group: "events.k8s.io", Version: "v1", Kind: "Event"}, w.namespace)
	w.until("Namespace/"+w.namespace, "event "+reason+" that says "+says, func(*unstructured.Unstructured) bool {
		list, err := events.List(w.t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range list.Items {
			if text(&e, "regarding", "name") == name && strings.Contains(text(&e, "note"), says) {
				return true
			}
		}
		return false
	})
}
