package kube_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// lax takes the validation away from Kustomizations.
func (w *world) lax() {
	w.t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: "kustomizations.kustomize.toolkit.fluxcd.io"}, crd); err != nil {
		w.t.Fatal(err)
	}
	keep := true
	for i := range crd.Spec.Versions {
		crd.Spec.Versions[i].Schema = &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &keep}}
	}
	if err := w.client.Update(w.t.Context(), crd); err != nil {
		w.t.Fatal(err)
	}
	w.until("validation is off", func() bool {
		return w.write("lax", map[string]any{"interval": int64(5)}) == nil
	})
}

// write creates an object with any spec.
func (w *world) write(name string, spec any) error {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": kustomizev1.GroupVersion.String(), "kind": "Kustomization", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
	if spec == "none" {
		delete(o.Object, "spec")
	}
	_, err := w.dynamic.Resource(kustomizev1.GroupVersion.WithResource("kustomizations")).Namespace(w.namespace).Create(w.t.Context(), o, metav1.CreateOptions{})
	return err
}

// TestSpoiledObjects has objects that no validation has seen: without a spec, with nulls, with what the type cannot
// hold, as large as can be stored, and too large for anything to be added. Each stalls alone, or is reconciled; the last
// one, of which nothing can be told, is tried less and less often.
func TestSpoiledObjects(t *testing.T) {
	t.Parallel()
	w := newWorldIn(t, testenv.StartServer(t, nil), nil)
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		if k.Spec.SourceRef.Name == "" {
			return kube.Stall("InvalidSpec", errors.New("spec.sourceRef.name is missing"))
		}
		return kube.Ready("done")
	})
	w.create("before", nil)
	w.eventually("before", "ready", ready)
	w.lax()
	source := map[string]any{"kind": "GitRepository", "name": "app"}
	for name, spec := range map[string]any{
		"none": "none", "null": nil, "empty": map[string]any{},
		"nulls": map[string]any{"interval": nil, "sourceRef": nil, "timeout": nil, "retryInterval": nil, "dependsOn": nil, "suspend": nil},
		"words": map[string]any{"interval": "soon", "sourceRef": source}, "list": []any{}, "text": "text", "number": int64(7),
		"shapes": map[string]any{"interval": "1h", "sourceRef": []any{}, "dependsOn": "everything"},
		"long":   map[string]any{"interval": "99999999999999999999h", "sourceRef": source},
	} {
		if err := w.write(name, spec); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	const size = 1_400_000
	if err := w.write("huge", map[string]any{"interval": "1h", "sourceRef": source, "path": strings.Repeat("x", size)}); err != nil {
		t.Fatal(err)
	}
	const most = 1536 << 10 // what is stored of an object
	for n := most; ; n -= 64 {
		err := w.write("full", map[string]any{"interval": "1h", "sourceRef": source, "path": strings.Repeat("x", n)})
		if err == nil {
			break
		}
		if n < most-4096 || apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	resource := w.dynamic.Resource(kustomizev1.GroupVersion.WithResource("kustomizations")).Namespace(w.namespace)
	for _, name := range []string{"lax", "none", "null", "empty", "nulls", "words", "list", "text", "number", "shapes", "long"} {
		w.until(name+" stalled", func() bool {
			o, err := resource.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
			for _, c := range conditions {
				if c, _ := c.(map[string]any); c["type"] == status.Stalled && c["status"] == "True" {
					return true
				}
			}
			return false
		})
	}
	w.until("the huge one is ready", func() bool { return ready(w.get("huge")) })
	w.create("after", nil)
	w.until("one beside them is ready", func() bool { return ready(w.get("after")) })
	w.update("before", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
	w.until("and one from before again", func() bool { k := w.get("before"); return ready(k) && k.Status.ObservedGeneration == k.Generation })
	w.until("the full one was tried", func() bool { return len(w.writes("full")) > 0 })
	if n := len(w.writes("full")); n > 8 {
		t.Errorf("%d writes to an object that takes none", n)
	}
}
