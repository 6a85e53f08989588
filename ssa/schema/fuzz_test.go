package schema_test

import (
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

// FuzzDefinition loads definitions of any form, and validates with them.
func FuzzDefinition(f *testing.F) {
	data, err := os.ReadFile("testdata/widget.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, []byte("{apiVersion: test.example.com/v1, kind: Widget, metadata: {name: a}, spec: {size: 1}}"))
	f.Add([]byte("{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: a.b}, spec: {group: b, versions: [{}]}}"), []byte("{apiVersion: b/v1, kind: A}"))
	set := builtin(f, "")
	limits := &schema.Limits{FileBytes: 20000, Nodes: 2000, Depth: 40}
	f.Fuzz(func(t *testing.T, definition, object []byte) {
		d, err := schema.Decode("definition.yaml", definition, limits)
		if err != nil {
			return
		}
		set.Validate(t.Context(), d.Objects, nil)
		grown, err := set.With(d.Objects...)
		if err != nil {
			return
		}
		for _, k := range grown.Kinds() {
			if k.Definition == "" {
				continue
			}
			if _, err := grown.TypeConverter(t.Context(), k.GroupVersionKind); err != nil {
				t.Error(err)
			}
		}
		o, err := schema.Decode("object.yaml", object, limits)
		if err != nil {
			return
		}
		for _, obj := range o.Objects {
			if pruned, _, err := grown.Prune(obj); err == nil {
				if _, err := grown.Default(pruned); err != nil {
					t.Error(err)
				}
			}
			for _, v := range grown.Validate(t.Context(), []*unstructured.Unstructured{obj}, &schema.ValidateOptions{Manifests: o}) {
				if v.Message == "" || v.Line < 1 {
					t.Errorf("violation %#v", v)
				}
			}
			if _, err := grown.ValidateUpdate(t.Context(), obj, obj); err == nil {
				continue
			}
		}
	})
}
