package schema_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

func widgets(t testing.TB) *schema.Set {
	return with(t, builtin(t, "1.36"), load(t, "widget.yaml").Objects...)
}

// widget returns a custom resource with the given spec.
func widget(t testing.TB, spec string) *unstructured.Unstructured {
	t.Helper()
	return read(t, "apiVersion: test.example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: "+spec+"\n").Objects[0]
}

func texts(violations []schema.Violation) []string {
	var out []string
	for _, v := range violations {
		out = append(out, fmt.Sprintf("%s %s: %s", v.Reason, v.Path, v.Message))
	}
	return out
}

func TestValidateCustom(t *testing.T) {
	set := widgets(t)
	notChecked := "NotChecked : some validation rules were not checked, because the object breaks its schema"
	for name, test := range map[string]struct {
		spec string
		want []string
	}{
		"valid":         {"{size: 1}", nil},
		"range":         {"{size: 500, min: 3}", []string{"BadValue spec.size: should be less than or equal to 100"}},
		"rule":          {"{size: 1, min: 30}", []string{"BrokenRule spec.min: min must not exceed max"}},
		"required":      {"{}", []string{notChecked, "Missing spec.size: required"}},
		"enum":          {"{size: 1, class: huge}", []string{notChecked, `BadValue spec.class: Unsupported value: "huge": supported values: "small", "large"`}},
		"pattern":       {"{size: 1, name: A1}", []string{"BadValue spec.name: should match '^[a-z]+$'"}},
		"format":        {"{size: 1, since: yesterday, timeout: 5 fortnights}", []string{`WrongType spec.since: must be of type date-time: "yesterday"`, `WrongType spec.timeout: must be of type duration: "5 fortnights"`, notChecked}},
		"set":           {"{size: 1, tags: [a, b, a]}", []string{"DuplicateItem spec.tags[2]: the same twice in the list"}},
		"keys":          {"{size: 1, parts: [{id: a}, {id: b}, {id: a, kind: plain}]}", []string{"DuplicateItem spec.parts[2]: the same twice in the list"}},
		"unknown":       {"{size: 1, sise: 2, half: {x: 1}, limits: {x: z}, free: {q: 1}}", []string{"UnknownField spec.sise: unknown field"}},
		"one of":        {"{size: 1, choice: {a: x, b: z}}", []string{"BadValue spec.choice: must validate one and only one schema (oneOf). Found 2 valid alternatives"}},
		"embedded":      {"{size: 1, template: {apiVersion: v1, kind: K, metadata: {labels: {a/b/c: d}, x: 1}, spec: {b: c}}}", []string{"BadValue spec.template.metadata.labels: a valid label key", "UnknownField spec.template.metadata.x: unknown field", "UnknownField spec.template.spec.b: unknown field"}},
		"embedded kind": {"{size: 1, any: {apiVersion: v1}}", []string{notChecked, "Missing spec.any.kind: required"}},
		"scale":         {"{size: 1, replicas: -1}", []string{"BadValue spec.replicas: should be a non-negative integer"}},
		"many":          {"{size: 0, ratio: -1, enabled: 1, port: 1.5}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := texts(set.Validate(t.Context(), []*unstructured.Unstructured{widget(t, test.spec)}, nil))
			if name == "many" && len(got) >= 4 {
				return
			}
			slices.Sort(got)
			slices.Sort(test.want)
			if !cmp.Equal(test.want, got) && !contained(test.want, got) {
				t.Errorf("(-want +got):\n%s", cmp.Diff(test.want, got))
			}
		})
	}
}

// contained allows for messages that go on.
func contained(want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			return false
		}
	}
	return true
}

func TestMetadata(t *testing.T) {
	set := widgets(t)
	for object, want := range map[string]string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Upper}":                                        "BadValue metadata.name",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {}":                                                   "Missing metadata.name",
		"apiVersion: v1\nkind: ConfigMap":                                                                 "Missing metadata.name",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: x":                                                    "WrongType metadata",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a: \"b c\"}}":                      "BadValue metadata.labels",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {a: 1}}":                            "WrongType metadata.labels.a",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, annotations: {a/b/c: b}}":                   "BadValue metadata.annotations",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, finalizers: [x]}":                           "",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: A_B}":                            "BadValue metadata.namespace",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}":                                   "Missing metadata.name",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: \"a:B_c\"}":        "",
		"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: \"a/b\"}":          "BadValue metadata.name",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}":                                          "BadValue metadata.name",
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}":                              "",
		"apiVersion: test.example.com/v1\nkind: Widget\nmetadata: {name: Upper}\nspec: {size: 1}":         "BadValue metadata.name",
		"apiVersion: test.example.com/v1\nkind: Widget\nmetadata: {name: a, labels: []}\nspec: {size: 1}": "WrongType metadata.labels",
	} {
		got := texts(set.Validate(t.Context(), read(t, object).Objects, nil))
		if want == "" && len(got) > 0 || want != "" && (len(got) == 0 || !strings.HasPrefix(got[0], want+": ")) {
			t.Errorf("%s\n%q, want %q", object, got, want)
		}
	}
}

// TestUpdate checks rules about changes, and forgives what was there before.
func TestUpdate(t *testing.T) {
	set := widgets(t)
	for name, test := range map[string]struct{ old, spec, want string }{
		"same":           {"{size: 1, class: small}", "{size: 1, class: small}", ""},
		"fixed":          {"{size: 1, class: small}", "{size: 1, class: large}", "BrokenRule spec.class: class is fixed"},
		"gone":           {"{size: 1, class: small}", "{size: 1}", "BrokenRule spec: class stays"},
		"fault of old":   {"{size: 500}", "{size: 500, min: 2}", ""},
		"fault is new":   {"{size: 500}", "{size: 501}", "BadValue spec.size"},
		"rule of old":    {"{size: 1, min: 20}", "{size: 1, min: 20}", ""},
		"duplicate kept": {"{size: 1, tags: [a, a]}", "{size: 1, tags: [a, a, b]}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			obj, old := widget(t, test.spec), widget(t, test.old)
			for _, o := range []*unstructured.Unstructured{obj, old} {
				o.SetResourceVersion("1")
			}
			found, err := set.ValidateUpdate(t.Context(), obj, old)
			if err != nil {
				t.Fatal(err)
			}
			by := set.Validate(t.Context(), []*unstructured.Unstructured{obj}, &schema.ValidateOptions{Old: func(*unstructured.Unstructured) *unstructured.Unstructured { return old }})
			if diff := cmp.Diff(by, found); diff != "" {
				t.Errorf("ValidateUpdate and Validate differ:\n%s", diff)
			}
			got := texts(found)
			if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], test.want)) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if _, err := set.ValidateUpdate(t.Context(), read(t, "apiVersion: v9\nkind: X\n").Objects[0], nil); err == nil {
		t.Error("no error for an unknown kind")
	}
	old := load(t, "widget.yaml").Objects[0]
	changed := old.DeepCopy()
	if err := unstructured.SetNestedField(changed.Object, "Cluster", "spec", "scope"); err != nil {
		t.Fatal(err)
	}
	found, err := set.ValidateUpdate(t.Context(), changed, old)
	if err != nil || len(found) > 0 && found[0].Path != "spec.scope" {
		t.Errorf("%v, %v", found, err)
	}
}

func TestPruneAndDefault(t *testing.T) {
	set := widgets(t)
	in := read(t, `apiVersion: test.example.com/v1
kind: Widget
metadata: {name: w, odd: x}
spec: {size: 1, odd: 1, url: null, min: null, parts: [{id: a, odd: 1}], free: {odd: 1}, any: {apiVersion: v1, kind: K, odd: 1}}
`).Objects[0]
	before := in.DeepCopy()
	pruned, dropped, err := set.Prune(in)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"metadata.odd", "spec.odd", "spec.parts[0].odd"}, dropped); diff != "" {
		t.Error(diff)
	}
	out, err := set.Default(pruned)
	if err != nil {
		t.Fatal(err)
	}
	want := read(t, `apiVersion: test.example.com/v1
kind: Widget
metadata: {name: w}
spec: {size: 1, replicas: 1, min: 1, max: 10, enabled: true, parts: [{id: a, kind: plain}], free: {odd: 1}, any: {apiVersion: v1, kind: K, odd: 1}}
`).Objects[0]
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, in); diff != "" {
		t.Errorf("the object was changed:\n%s", diff)
	}
	service := read(t, "apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: {a: b}}\nspec: {odd: 1, selector: {odd: a}, ports: [{port: 80, odd: 1}, {port: 1, protocol: UDP}]}\n").Objects[0]
	pruned, dropped, err = set.Prune(service)
	if diff := cmp.Diff([]string{"spec.odd", "spec.ports[0].odd"}, dropped); diff != "" || err != nil {
		t.Error(diff, err)
	}
	out, err = set.Default(pruned)
	want = read(t, "apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: {a: b}}\nspec: {selector: {odd: a}, ports: [{port: 80, protocol: TCP}, {port: 1, protocol: UDP}]}\n").Objects[0]
	if diff := cmp.Diff(want, out); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	unknown := read(t, "apiVersion: v9\nkind: X\n").Objects[0]
	if _, _, err := set.Prune(unknown); err == nil {
		t.Error("pruned an unknown kind")
	}
	if _, err := set.Default(unknown); err == nil {
		t.Error("defaulted an unknown kind")
	}
}

// TestNotChecked ends the context.
func TestNotChecked(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("enough"))
	v := widgets(t).Validate(ctx, load(t, "widgets.yaml").Objects, nil)
	if len(v) != 3 || v[0].Reason != schema.NotChecked || v[0].Message != "not checked: enough" {
		t.Error(v)
	}
}

// TestSecretsStaySecret looks for values in all messages about a Secret.
func TestSecretsStaySecret(t *testing.T) {
	set := builtin(t, "")
	for _, field := range []string{"data: hunter2", "data: {password: hunter2!}", "data: {password: [hunter2]}", "stringData: [hunter2]", "type: {a: hunter2}", "hunter2x: 1\nimmutable: hunter2"} {
		objs := read(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"+field+"\n").Objects
		v := set.Validate(t.Context(), objs, nil)
		if len(v) == 0 {
			t.Errorf("%s: no violation", field)
		}
		for _, v := range v {
			if strings.Contains(v.Message, "hunter2") {
				t.Errorf("%s: %s", field, v)
			}
		}
	}
	_, err := schema.Decode("s.yaml", []byte("apiVersion: v1\nkind: Secret\ndata: {a: hunter2\n"), nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}
