package proof_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/gitopskit/gitopskit/ssa/proof"
)

// deduced are types without a schema: maps merge, lists are atomic.
var deduced = proof.TypesFunc(func(context.Context, schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	return managedfields.NewDeducedTypeConverter(), nil
})

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return obj
}

// liveText is a ConfigMap whose key "k" the manager of the tests applied.
const liveText = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n","uid":"1","resourceVersion":"5",
	"managedFields":[{"manager":"gitopskit","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:k":{}}}}]},
	"data":{"k":"v","foreign":"x"}}`

const desiredText = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n"},"data":{"k":"v"}}`

func TestNoOp(t *testing.T) {
	entry := func(text string) func(live, desired *unstructured.Unstructured) {
		return func(live, _ *unstructured.Unstructured) {
			var entries []any
			if err := json.Unmarshal([]byte(text), &entries); err != nil {
				t.Fatal(err)
			}
			live.Object["metadata"].(map[string]any)["managedFields"] = entries
		}
	}
	set := func(value any, of string, path ...string) func(live, desired *unstructured.Unstructured) {
		return func(live, desired *unstructured.Unstructured) {
			obj := live
			if of == "desired" {
				obj = desired
			}
			if err := unstructured.SetNestedField(obj.Object, value, path...); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		edit func(live, desired *unstructured.Unstructured)
		why  string // empty: unchanged
	}{
		{"the same", func(_, _ *unstructured.Unstructured) {}, ""},
		{"foreign field", set("y", "live", "data", "more"), ""},
		{"value", set("w", "live", "data", "k"), "values or their order differ: +.data.k"},
		{"more desired", set("w", "desired", "data", "l"), "would own other fields: +.data.l"},
		{"less desired", func(_, desired *unstructured.Unstructured) { desired.Object["data"] = map[string]any{} }, "would own other fields"},
		{"other version", set("v2", "live", "apiVersion"), "was read as"},
		{"other name", set("b", "live", "metadata", "name"), "another one"},
		{"other namespace", set("b", "live", "metadata", "namespace"), "another one"},
		{"deleted", set("2026-01-01T00:00:00Z", "live", "metadata", "deletionTimestamp"), "being deleted"},
		{"version wanted", set("5", "desired", "metadata", "resourceVersion"), "preconditions"},
		{"uid wanted", set("1", "desired", "metadata", "uid"), "preconditions"},
		{"managed fields wanted", set([]any{}, "desired", "metadata", "managedFields"), "has metadata.managedFields"},
		{"no entry", entry(`[]`), "would own other fields"},
		{"entry of an update", entry(`[{"manager":"gitopskit","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:k":{}}}}]`), "would own other fields"},
		{"entry of a sub-resource", entry(`[{"manager":"gitopskit","operation":"Apply","subresource":"status","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:k":{}}}}]`), "would own other fields"},
		{"two entries", entry(`[{"manager":"gitopskit","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:k":{}}}},
			{"manager":"gitopskit","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:k":{}}}}]`), "more than one entry"},
		{"entry of another version", entry(`[{"manager":"gitopskit","operation":"Apply","apiVersion":"v1beta1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:k":{}}}}]`), "applied it in v1beta1"},
		{"unknown format", entry(`[{"manager":"gitopskit","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV2","fieldsV1":{"f:data":{".":{},"f:k":{}}}}]`), "unknown format"},
		{"unreadable", entry(`[{"manager":"gitopskit","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"x":{}}}]`), "cannot be read"},
		{"nothing owned, no entry", func(live, desired *unstructured.Unstructured) {
			entry(`[]`)(live, desired)
			delete(desired.Object, "data")
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			live, desired := parse(t, liveText), parse(t, desiredText)
			c.edit(live, desired)
			liveBefore, desiredBefore := text(live), text(desired)
			v := proof.NoOp(t.Context(), live, desired, manager, deduced)
			if v.Unchanged != (c.why == "") || !strings.Contains(v.Why, c.why) || v.Unchanged != (v.Why == "") {
				t.Errorf("%+v, want %q", v, c.why)
			}
			if text(live) != liveBefore || text(desired) != desiredBefore {
				t.Error("an object was modified")
			}
		})
	}
	t.Run("no object", func(t *testing.T) {
		if v := proof.NoOp(t.Context(), nil, parse(t, desiredText), manager, deduced); v.Unchanged {
			t.Error(v)
		}
	})
	t.Run("kubectl", func(t *testing.T) {
		live := parse(t, strings.ReplaceAll(liveText, "gitopskit", "kubectl"))
		live.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"})
		if v := proof.NoOp(t.Context(), live, parse(t, desiredText), "kubectl", deduced); v.Unchanged {
			t.Error("an apply by kubectl writes the annotation")
		}
	})
	t.Run("no schema", func(t *testing.T) {
		none := proof.TypesFunc(func(context.Context, schema.GroupVersionKind) (managedfields.TypeConverter, error) {
			return nil, proof.ErrNoSchema
		})
		prover := &proof.Prover{Types: none}
		if ok, why := prover.Unchanged(t.Context(), parse(t, liveText), parse(t, desiredText), manager); ok || !strings.Contains(why, "no schema") {
			t.Error(ok, why)
		}
	})
	t.Run("panic", func(t *testing.T) {
		var none proof.TypesFunc
		if v := proof.NoOp(t.Context(), parse(t, liveText), parse(t, desiredText), manager, none); v.Unchanged {
			t.Error(v)
		}
	})
}

// Nothing a verdict says repeats a value of a Secret.
func TestNoOpKeepsSecrets(t *testing.T) {
	document, err := os.ReadFile("testdata/secret-openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	server := &proof.Server{Client: documents{"api/v1": document}.client(nil)}
	const canary = "canary-of-a-secret"
	for _, data := range []any{
		map[string]any{"password": canary}, map[string]any{"password": []any{canary}}, canary, []any{canary},
		map[string]any{"password": map[string]any{canary: int64(1)}},
	} {
		live := parse(t, strings.ReplaceAll(liveText, "ConfigMap", "Secret"))
		desired := parse(t, strings.ReplaceAll(desiredText, "ConfigMap", "Secret"))
		desired.Object["data"] = data
		if v := proof.NoOp(t.Context(), live, desired, manager, server); v.Unchanged || strings.Contains(v.Why, canary) {
			t.Errorf("%+v", v)
		}
		live.Object["data"] = data
		if v := proof.NoOp(t.Context(), live, parse(t, strings.ReplaceAll(desiredText, "ConfigMap", "Secret")), manager, server); v.Unchanged || strings.Contains(v.Why, canary) {
			t.Errorf("%+v", v)
		}
	}
}

func FuzzNoOp(f *testing.F) {
	f.Add([]byte(liveText), []byte(desiredText))
	f.Fuzz(func(t *testing.T, liveData, desiredData []byte) {
		live, desired := &unstructured.Unstructured{}, &unstructured.Unstructured{}
		if live.UnmarshalJSON(liveData) != nil || desired.UnmarshalJSON(desiredData) != nil {
			return
		}
		before := text(live)
		first := proof.NoOp(t.Context(), live, desired, manager, deduced)
		if again := proof.NoOp(t.Context(), live, desired, manager, deduced); again.Unchanged != first.Unchanged {
			t.Errorf("%+v, then %+v", first, again)
		}
		if first.Unchanged != (first.Why == "") {
			t.Errorf("%+v", first)
		}
		if text(live) != before {
			t.Error("the live object was modified")
		}
	})
}

var errAway = errors.New("away")
