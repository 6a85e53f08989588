package kube_test

import (
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// An object that its type cannot hold stalls, and no other does. Flux and controllers of controller-runtime would not
// list any object of the kind from then on.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	resource := w.dynamic.Resource(kustomizev1.GroupVersion.WithResource("kustomizations")).Namespace(w.namespace)
	w.create("before", nil)
	w.eventually("before", "ready", ready)
	bad := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": kustomizev1.GroupVersion.String(), "kind": "Kustomization",
		"metadata": map[string]any{"name": "bad", "finalizers": []any{finalizer}, "annotations": map[string]any{"keep": "this"}},
		"spec": map[string]any{
			"interval": "9999999h", "prune": true, "sourceRef": map[string]any{"kind": "GitRepository", "name": "app"},
		},
	}}
	if _, err := resource.Create(t.Context(), bad, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stalled := func(name string) *unstructured.Unstructured {
		t.Helper()
		var got *unstructured.Unstructured
		w.until(name+" stalled", func() bool {
			var err error
			if got, err = resource.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
			for _, c := range conditions {
				c, _ := c.(map[string]any)
				if message, _ := c["message"].(string); c["type"] == status.Stalled && strings.Contains(message, "spec.interval: ") && strings.Contains(message, "9999999h") {
					return true
				}
			}
			return false
		})
		return got
	}
	stalled("bad")
	w.create("after", nil)
	w.eventually("after", "ready beside a bad one", ready)
	w.update("before", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
	w.eventually("before", "ready again", func(k *kustomizev1.Kustomization) bool { return ready(k) && k.Status.ObservedGeneration == 2 })

	if err := resource.Delete(t.Context(), "bad", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.control.Trigger(client.ObjectKey{Namespace: w.namespace, Name: "bad"})
	w.update("after", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
	w.eventually("after", "ready again", func(k *kustomizev1.Kustomization) bool { return ready(k) && k.Status.ObservedGeneration == 2 })
	if got := stalled("bad"); len(got.GetFinalizers()) != 1 || w.logic.count("finalize bad") != 0 || w.logic.count("bad") != 0 || got.GetAnnotations()["keep"] != "this" || len(got.GetAnnotations()) != 1 {
		t.Errorf("what is to be cleaned up is not known, and yet: %v", got)
	}
	live, err := resource.Get(t.Context(), "bad", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(live.Object, "1h", "spec", "interval"); err != nil {
		t.Fatal(err)
	}
	if _, err := resource.Update(t.Context(), live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("gone once it can be read", func() bool { return w.missing("bad") })
	if w.logic.count("finalize bad") != 1 {
		t.Error("not finalized")
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "a", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "me"}},
		Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "x"},
	}}
	for range 2 {
		got, err := kube.Trim(obj)
		if err != nil || got != any(obj) {
			t.Fatal(got, err)
		}
	}
	if obj.ManagedFields != nil || len(obj.Annotations) != 1 || obj.Annotations["mine"] != "x" {
		t.Errorf("%+v", obj.ObjectMeta)
	}
	if got, err := kube.Trim("a tombstone"); got != "a tombstone" || err != nil {
		t.Error(got, err)
	}
}

func TestNewManagerRefuses(t *testing.T) {
	t.Parallel()
	if _, err := kube.NewManager(nil, manager.Options{}); err == nil || !strings.Contains(err.Error(), "rest.Config is nil") {
		t.Error(err)
	}
}
