package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

func gvk(group, version, kind string) apischema.GroupVersionKind {
	return apischema.GroupVersionKind{Group: group, Version: version, Kind: kind}
}

func TestBuiltin(t *testing.T) {
	versions := schema.Versions()
	if len(versions) < 4 || versions[0] != minor(builtin(t, "").Version()) {
		t.Errorf("versions %v, newest %s", versions, builtin(t, "").Version())
	}
	for _, name := range []string{"1.36", "v1.36", "1.36.0", "v1.36.9-eks-1"} {
		if got := builtin(t, name).Version(); !strings.HasPrefix(got, "1.36.") {
			t.Errorf("%s is %s", name, got)
		}
	}
	for _, name := range []string{"1.5", "36", "latest", "1.360"} {
		_, err := schema.Builtin(name)
		var e *schema.Error
		if !errors.Is(err, schema.ErrUnknownVersion) || !errors.As(err, &e) || !e.Terminal() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, version := range versions {
		set := builtin(t, version)
		if n := len(set.Kinds()); n < 80 {
			t.Errorf("%s has %d kinds", version, n)
		}
		for _, k := range set.Kinds() {
			if _, err := set.TypeConverter(t.Context(), k.GroupVersionKind); err != nil {
				t.Errorf("%s: %v", version, err)
			}
			if v := set.Validate(t.Context(), []*unstructured.Unstructured{{Object: map[string]any{"apiVersion": k.GroupVersion().String(), "kind": k.Kind, "zz": 1}}}, nil); !slices.ContainsFunc(v, func(v schema.Violation) bool { return v.Path == "zz" }) {
				t.Errorf("%s: %s: %v", version, k.GroupVersionKind, v)
			}
		}
	}
}

func minor(version string) string { return version[:strings.LastIndex(version, ".")] }

func TestHints(t *testing.T) {
	set := with(t, builtin(t, "1.36"), load(t, "widget.yaml").Objects...)
	for object, want := range map[string]string{
		"extensions/v1beta1 Ingress":                   "unknown kind extensions/v1beta1 Ingress: Kubernetes removed it in 1.22, use networking.k8s.io/v1 Ingress",
		"batch/v1beta1 CronJob":                        "unknown kind batch/v1beta1 CronJob: Kubernetes removed it in 1.25, use batch/v1 CronJob",
		"policy/v1beta1 PodSecurityPolicy":             "unknown kind policy/v1beta1 PodSecurityPolicy: neither Kubernetes nor a given definition has it",
		"apps/v2 Deployment":                           "unknown kind apps/v2 Deployment: there is apps/v1 Deployment",
		"apps/v1 deployment":                           "unknown kind apps/v1 deployment: there is apps/v1 Deployment",
		"v1 Deployment":                                "unknown kind v1 Deployment: there is apps/v1 Deployment",
		"test.example.com/v2 Widget":                   "unknown kind test.example.com/v2 Widget: there is test.example.com/v1 Widget, test.example.com/v1alpha1 Widget",
		"test.example.com/v0 Widget":                   "unknown kind test.example.com/v0 Widget: there is test.example.com/v1 Widget, test.example.com/v1alpha1 Widget",
		"other.example.com/v1 Thing":                   "unknown kind other.example.com/v1 Thing: no given definition has it; add its custom resource definition",
		"admissionregistration.k8s.io/v1beta1 Mutable": "unknown kind admissionregistration.k8s.io/v1beta1 Mutable: neither Kubernetes nor a given definition has it",
	} {
		apiVersion, kind, _ := strings.Cut(object, " ")
		obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": "a"}}}
		v := set.Validate(t.Context(), []*unstructured.Unstructured{obj}, nil)
		if len(v) != 1 || v[0].Message != want || v[0].Reason != schema.UnknownKind || !errors.Is(v[0], schema.ErrUnknownKind) {
			t.Errorf("%s: %v", object, v)
		}
		_, err := set.TypeConverter(t.Context(), obj.GroupVersionKind())
		if !errors.Is(err, schema.ErrUnknownKind) {
			t.Errorf("%s: type: %v", object, err)
		}
	}
	// What another version has yet, this one has not.
	obj := read(t, "apiVersion: networking.k8s.io/v1beta1\nkind: ServiceCIDR\nmetadata: {name: a}\nspec: {cidrs: [10.0.0.0/24]}\n").Objects
	if v := builtin(t, "1.36").Validate(t.Context(), obj, nil); len(v) != 1 || v[0].Reason != schema.NotServed {
		t.Errorf("1.36: %v", v)
	}
	if v := builtin(t, "1.36").Validate(t.Context(), obj, &schema.ValidateOptions{AllowOptional: true}); len(v) != 0 {
		t.Errorf("1.36 with what is optional: %v", v)
	}
	if v := builtin(t, "1.37").Validate(t.Context(), obj, nil); len(v) != 1 || !strings.HasSuffix(v[0].Message, "removed it in 1.37, use networking.k8s.io/v1 ServiceCIDR") {
		t.Errorf("1.37: %v", v)
	}
}

func TestKinds(t *testing.T) {
	set := with(t, builtin(t, "1.36"), load(t, "widget.yaml").Objects...)
	got, ok := set.Kind(gvk("test.example.com", "v1", "Widget"))
	verbs := []string{"get", "patch", "update"}
	want := schema.Kind{
		GroupVersionKind: gvk("test.example.com", "v1", "Widget"), Resource: "widgets", Singular: "widget", ShortNames: []string{"wd"}, Namespaced: true,
		Verbs: []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		Subresources: []schema.Subresource{
			{Name: "scale", Kind: gvk("autoscaling", "v1", "Scale"), Verbs: verbs}, {Name: "status", Kind: gvk("test.example.com", "v1", "Widget"), Verbs: verbs},
		},
		Definition: "widgets.test.example.com",
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, ok := got.Subresource("scale"); !ok {
		t.Error("no scale")
	}
	if _, ok := got.Subresource("log"); ok {
		t.Error("a log")
	}
	if m, err := set.Mapper().RESTMapping(apischema.GroupKind{Group: "test.example.com", Kind: "Widget"}); err != nil || m.Resource.Version != "v1" {
		t.Errorf("mapping %v, %v", m, err)
	}
	if _, ok := set.Kind(gvk("test.example.com", "v0", "Widget")); ok {
		t.Error("a version that is not served")
	}
	// The set it came from is as it was; a new definition replaces the old one.
	if _, ok := builtin(t, "1.36").Kind(want.GroupVersionKind); ok {
		t.Error("the set has changed")
	}
	changed := load(t, "widget.yaml").Objects[0]
	versions, _, _ := unstructured.NestedSlice(changed.Object, "spec", "versions")
	if err := unstructured.SetNestedSlice(changed.Object, versions[:1], "spec", "versions"); err != nil {
		t.Fatal(err)
	}
	if _, ok := with(t, set, changed).Kind(gvk("test.example.com", "v1alpha1", "Widget")); ok {
		t.Error("the version that the new definition lacks is still there")
	}
}

// TestWithoutBuiltin uses definitions alone, inside a list.
func TestWithoutBuiltin(t *testing.T) {
	list := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "List", "items": []any{load(t, "widget.yaml").Objects[0].Object}}}
	set := with(t, &schema.Set{}, list)
	if len(set.Kinds()) != 2 || set.Version() != "" {
		t.Errorf("kinds %v", set.Kinds())
	}
	if v := set.Validate(t.Context(), load(t, "widgets.yaml").Objects, nil); len(v) > 0 {
		t.Error(v)
	}
	bad := read(t, "apiVersion: test.example.com/v1\nkind: Widget\nmetadata: {name: a, labelz: {}}\nspec: {size: 1}\n")
	if v := set.Validate(t.Context(), bad.Objects, nil); len(v) != 1 || v[0].Path != "metadata.labelz" {
		t.Error(v)
	}
}

// TestDefinitionsRefused gives definitions that the API server refuses.
func TestDefinitionsRefused(t *testing.T) {
	widget := load(t, "widget.yaml").Objects[0]
	spec := func(o map[string]any) map[string]any {
		versions := o["spec"].(map[string]any)["versions"].([]any)
		return versions[0].(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)["properties"].(map[string]any)["spec"].(map[string]any)
	}
	field := func(o map[string]any, name string) map[string]any {
		return spec(o)["properties"].(map[string]any)[name].(map[string]any)
	}
	const at = "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
	for name, test := range map[string]struct {
		change func(o map[string]any)
		want   []string
	}{
		"not structural": {func(o map[string]any) { delete(field(o, "size"), "type") }, []string{at + ".properties[size].type: Required value"}},
		"bad rule": {func(o map[string]any) {
			spec(o)["x-kubernetes-validations"] = []any{map[string]any{"rule": "self.nothing > 1"}}
		}, []string{at + ".x-kubernetes-validations[0].rule", "undefined field 'nothing'"}},
		"expensive rule": {func(o map[string]any) {
			field(o, "atoms")["x-kubernetes-validations"] = []any{map[string]any{"rule": "self.all(a, self.all(b, self.all(c, a + b + c > 0)))"}}
		}, []string{at + ".properties[atoms].x-kubernetes-validations[0].rule", "estimated rule cost exceeds budget"}},
		"default of wrong type": {func(o map[string]any) { field(o, "min")["default"] = "x" }, []string{at + ".properties[min].default", "must be of type integer"}},
		"name":                  {func(o map[string]any) { o["metadata"].(map[string]any)["name"] = "wrong" }, []string{"wrong", "metadata.name", `must be spec.names.plural+"."+spec.group`}},
		"two faults": {func(o map[string]any) {
			field(o, "tags")["x-kubernetes-list-type"] = "odd"
			delete(field(o, "parts"), "x-kubernetes-list-map-keys")
		}, []string{at + ".properties[tags].x-kubernetes-list-type: Unsupported value", at + ".properties[parts].x-kubernetes-list-map-keys: Required value"}},
		"old version": {func(o map[string]any) { o["apiVersion"] = "apiextensions.k8s.io/v1beta1" }, []string{"apiextensions.k8s.io/v1beta1 is not served any more"}},
		"breaks the server": {func(o map[string]any) {
			spec := o["spec"].(map[string]any)
			spec["versions"] = []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{}, "selectableFields": []any{map[string]any{"jsonPath": ".spec.a"}}}}
		}, []string{"the validation of the API server breaks down"}},
		"wrong type": {func(o map[string]any) { o["spec"] = "x" }, []string{"widgets.test.example.com"}},
		"no spec":    {func(o map[string]any) { delete(o, "spec") }, []string{"spec.group: Required value"}},
		"no schema": {func(o map[string]any) {
			delete(o["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any), "schema")
		}, []string{"spec.versions[0].schema.openAPIV3Schema: Required value"}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := widget.DeepCopy()
			test.change(obj.Object)
			before := obj.DeepCopy()
			set, err := builtin(t, "").With(obj)
			var e *schema.Error
			if set != nil || !errors.Is(err, schema.ErrInvalid) || !errors.As(err, &e) || !e.Terminal() || e.Op != "definition" {
				t.Fatalf("%v", err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("no %q in %v", part, err)
				}
			}
			if diff := cmp.Diff(before, obj); diff != "" {
				t.Errorf("the object was changed:\n%s", diff)
			}
		})
	}
}

// TestTypesAreThoseOfTheServer compares the types of custom resources with
// those of the code that the API server has for it.
func TestTypesAreThoseOfTheServer(t *testing.T) {
	objs := append(fluxDefinitions(t), load(t, "widget.yaml", "real/kube-prometheus/0servicemonitorCustomResourceDefinition.yaml").Objects...)
	for _, obj := range objs {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, crd); err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			doc, err := builder.BuildOpenAPIV3(crd, v.Name, builder.Options{})
			if err != nil {
				t.Fatal(err)
			}
			server, err := managedfields.NewTypeConverter(doc.Components.Schemas, false)
			if err != nil {
				t.Fatal(err)
			}
			if !v.Served {
				continue
			}
			id := gvk(crd.Spec.Group, v.Name, crd.Spec.Names.Kind)
			ours, err := with(t, builtin(t, ""), obj).TypeConverter(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			empty := &unstructured.Unstructured{Object: map[string]any{"apiVersion": id.GroupVersion().String(), "kind": id.Kind}}
			if diff := cmp.Diff(typesOf(t, server, empty), typesOf(t, ours, empty)); diff != "" {
				t.Errorf("%s (-server +ours):\n%s", id, diff)
			}
		}
	}
}

// typesOf describes the type of an object without its name and metadata.
func typesOf(t testing.TB, c managedfields.TypeConverter, obj *unstructured.Unstructured) any {
	t.Helper()
	v, err := c.ObjectToTyped(obj)
	if err != nil {
		t.Fatal(err)
	}
	return describe(t, v)
}

func describe(t testing.TB, v *typed.TypedValue) any {
	t.Helper()
	def, _ := v.Schema().FindNamedType(*v.TypeRef().NamedType)
	data, err := json.Marshal(def.Atom)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return sorted(out)
}

// sorted puts fields into the order of their names.
func sorted(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = sorted(v[k])
		}
	case []any:
		for i := range v {
			v[i] = sorted(v[i])
		}
		slices.SortStableFunc(v, func(a, b any) int {
			name := func(v any) string { m, _ := v.(map[string]any); return fmt.Sprint(m["Name"]) }
			return strings.Compare(name(a), name(b))
		})
	}
	return v
}

// TestConcurrent uses a set from many goroutines.
func TestConcurrent(t *testing.T) {
	set := with(t, builtin(t, "1.36"), load(t, "widget.yaml").Objects...)
	objs := load(t, "kinds.yaml", "widgets.yaml").Objects
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if v := set.Validate(context.Background(), objs, nil); len(v) > 0 {
				t.Error(v)
			}
			for _, obj := range objs {
				c, err := set.TypeConverter(t.Context(), obj.GroupVersionKind())
				if err == nil {
					_, err = c.ObjectToTyped(obj)
				}
				if err == nil {
					_, err = set.Default(obj)
				}
				if err != nil {
					t.Error(err)
				}
			}
			set.Mapper()
		})
	}
	group.Wait()
}
