package helm_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
)

const withHook = `apiVersion: v1
kind: ConfigMap
metadata: {name: a, labels: {x: chart}}
data:
  text: "a\r\n\n---\nb"
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: both}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: both, annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: "3"}}
`

func TestPostRender(t *testing.T) {
	chart, err := helm.Load(t.Context(), minimal(map[string]string{"templates/a.yaml": withHook}), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	post := []helm.PostRenderer{
		func(_ context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
			return append(objects, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "added", "labels": map[string]any{"x": "first"}}}}), nil
		},
		helm.CommonMetadata(map[string]string{"x": "second"}, map[string]string{"y": "z"}),
	}
	release := helm.Release{Name: "a", Namespace: "b"}
	for _, hooks := range []bool{false, true} {
		result, err := helm.Render(t.Context(), chart, release, nil, &helm.RenderOptions{PostRender: post, PostRenderHooks: hooks})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, o := range result.Objects {
			got = append(got, o.GetKind()+" "+o.GetName()+" "+o.GetLabels()["x"]+o.GetAnnotations()["y"])
		}
		want := []string{"ServiceAccount both secondz", "ConfigMap a secondz", "ConfigMap added secondz"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("hooks %t: -want +got\n%s", hooks, diff)
		}
		if len(result.Hooks) != 1 || (result.Hooks[0].Object.GetLabels()["x"] == "second") != hooks || result.Hooks[0].Weight != 3 {
			t.Errorf("hooks %t: %+v", hooks, result.Hooks)
		}
		back, err := helm.ReadManifest(string(result.Manifest))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(result.Objects, back); diff != "" {
			t.Errorf("the manifest differs from the objects\n%s", diff)
		}
		if text, _, _ := unstructured.NestedString(back[1].Object, "data", "text"); text != "a\r\n\n---\nb" {
			t.Errorf("got %q", text)
		}
		if !strings.Contains(string(result.Manifest), "# Source: app/templates/a.yaml\n") {
			t.Errorf("no source in\n%s", result.Manifest)
		}
	}
	broken := errors.New("broken")
	refuse := func(context.Context, []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		return nil, broken
	}
	if _, err := helm.Render(t.Context(), chart, release, nil, &helm.RenderOptions{PostRender: []helm.PostRenderer{refuse}}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	empty := func(context.Context, []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		return []*unstructured.Unstructured{nil}, nil
	}
	if _, err := helm.Render(t.Context(), chart, release, nil, &helm.RenderOptions{PostRender: []helm.PostRenderer{empty}}); !errors.Is(err, helm.ErrTemplate) {
		t.Errorf("got %v", err)
	}
}
