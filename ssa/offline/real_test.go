package offline_test

import (
	"context"
	"io/fs"
	"os"
	"path"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// TestRealManifests applies what real projects publish, here and on a server.
func TestRealManifests(t *testing.T) {
	w := newTwins(t)
	var definitions, rest []*unstructured.Unstructured
	for _, obj := range realManifests(t) {
		if obj.GetKind() == "CustomResourceDefinition" {
			definitions = append(definitions, obj)
		} else {
			rest = append(rest, obj)
		}
	}
	for _, crd := range definitions {
		if _, diff := w.do(t, crd.GroupVersionKind(), applying(crd, "first", true)); diff != "" {
			t.Errorf("%s: -server +offline\n%s", crd.GetName(), diff)
		}
	}
	awaitEstablished(t, w.real, definitions)
	for _, crd := range definitions {
		if _, diff := w.do(t, crd.GroupVersionKind(), getting(crd.GetName())); diff != "" {
			t.Errorf("%s: -server +offline\n%s", crd.GetName(), diff)
		}
	}
	applied, occurred := 0, excused{}
	for _, obj := range rest {
		gvk := obj.GroupVersionKind()
		if _, err := w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version); err != nil {
			continue // its definition is not among the files
		}
		obj.SetNamespace("")
		applied++
		for _, step := range []struct {
			name string
			do   operation
		}{
			{"apply", applying(obj, "first", true)},
			{"again", applying(obj, "first", true)},
			{"labels", patching(obj.GetName(), types.MergePatchType, `{"metadata":{"labels":{"app.kubernetes.io/name":"other"}}}`, "second")},
			{"back", applying(obj, "first", false)},
			{"get", getting(obj.GetName())},
		} {
			if step.name == "get" && gvk.Kind == "APIService" {
				awaitJudged(t, w.real, obj.GetName())
			}
			_, diff := w.do(t, gvk, step.do)
			if diff = occurred.excuse(gvk.Kind, diff); diff != "" {
				t.Errorf("%s %s, %s: -server +offline\n%s", gvk.Kind, obj.GetName(), step.name, diff)
			}
		}
	}
	occurred.check(t)
	t.Logf("%d definitions, %d objects", len(definitions), applied)
	if applied < 30 {
		t.Errorf("only %d objects were compared", applied)
	}
}

// realManifests are those that the tests of package ssa/schema have, too.
func realManifests(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	const root = "../schema/testdata/real"
	var out []*unstructured.Unstructured
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && path.Ext(name) == ".yaml" {
			out = append(out, fromFile(t, path.Join(root, name))...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// awaitJudged waits until a server has said whether an API is available.
func awaitJudged(t *testing.T, d dynamic.Interface, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	services := d.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	for {
		live, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions"); len(conditions) > 0 {
			return
		}
	}
}

// awaitEstablished waits until a server serves the definitions.
func awaitEstablished(t *testing.T, d dynamic.Interface, definitions []*unstructured.Unstructured) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	crds := d.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, crd := range definitions {
		for {
			live, err := crds.Get(ctx, crd.GetName(), metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if established(live) {
				break
			}
		}
	}
	for _, crd := range definitions {
		group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
		plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		version := versions[0].(map[string]any)["name"].(string)
		for {
			if _, err := d.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural}).List(ctx, metav1.ListOptions{Limit: 1}); err == nil {
				break
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
}

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
			return true
		}
	}
	return false
}
