package kustomize_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/kustomize"
)

// TestTransform: objects come out as a build of their manifests has them, and
// those that went in are as they were.
func TestTransform(t *testing.T) {
	in := []*unstructured.Unstructured{
		{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}, "data": map[string]any{"n": "1", "yes": "no"}}},
		{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "b"}, "spec": map[string]any{
			"containers": []any{map[string]any{"name": "c", "image": "app:1", "args": []any{"010", "1e3"}}}, "priority": int64(7)}}},
	}
	before := []*unstructured.Unstructured{in[0].DeepCopy(), in[1].DeepCopy()}
	opts := &kustomize.Options{
		Namespace: "shop", NamePrefix: "x-",
		Images:  []kustomize.Image{{Name: "app", NewTag: "2"}},
		Patches: []kustomize.Patch{{Patch: `[{"op": "add", "path": "/data/m", "value": "2"}]`, Target: &kustomize.Target{Kind: "ConfigMap"}}},
	}
	got, err := kustomize.Transform(t.Context(), in, opts)
	if err != nil {
		t.Fatal(err)
	}
	want := []*unstructured.Unstructured{
		{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "x-a", "namespace": "shop"}, "data": map[string]any{"n": "1", "yes": "no", "m": "2"}}},
		{Object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "x-b", "namespace": "shop"}, "spec": map[string]any{
			"containers": []any{map[string]any{"name": "c", "image": "app:2", "args": []any{"010", "1e3"}}}, "priority": int64(7)}}},
	}
	if !cmp.Equal(got, want) {
		t.Error(cmp.Diff(want, got))
	}
	if !cmp.Equal(in, before) {
		t.Error("the objects were changed: " + cmp.Diff(before, in))
	}
	if got, err := kustomize.Transform(t.Context(), nil, opts); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	if _, err := kustomize.Transform(t.Context(), in, &kustomize.Options{Components: []string{"c"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a component: %v", err)
	}
	in[1].SetKind("")
	if _, err := kustomize.Transform(t.Context(), in, nil); !errors.Is(err, kustomize.ErrInvalid) || !strings.Contains(err.Error(), "object-1.yaml") {
		t.Errorf("an object without kind: %v", err)
	}
}
