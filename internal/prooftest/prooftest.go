// Package prooftest makes random cases for tests of what a server-side apply
// would change, and judges them with the API server's own field manager.
package prooftest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Meaning returns what a proof speaks of: all but status, versions and times.
func Meaning(obj *unstructured.Unstructured) map[string]any {
	obj = obj.DeepCopy()
	entries := obj.GetManagedFields()
	entries = slices.DeleteFunc(entries, func(e metav1.ManagedFieldsEntry) bool { return e.Subresource == "status" })
	var lines []any
	for _, e := range entries {
		lines = append(lines, fmt.Sprint(e.Manager, e.Operation, e.APIVersion, e.Subresource, e.FieldsV1.GetRawString()))
	}
	slices.SortFunc(lines, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	delete(obj.Object, "status")
	metadata, _ := obj.Object["metadata"].(map[string]any)
	delete(metadata, "resourceVersion")
	metadata["managedFields"] = lines
	return obj.Object
}

// Mutate changes one thing of an object at random: a value, an entry of a map,
// or an item or the order of a list. It leaves alone what identifies the object
// and what only a server writes.
func Mutate(r *rand.Rand, obj *unstructured.Unstructured) {
	type place struct {
		in   map[string]any
		key  string
		list []any
		at   int
	}
	var places []place
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				places = append(places, place{in: v, key: k})
				walk(v[k])
			}
		case []any:
			for i := range v {
				places = append(places, place{list: v, at: i})
				walk(v[i])
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(obj.Object)) {
		switch k {
		case "apiVersion", "kind", "status":
		case "metadata":
			metadata, _ := obj.Object[k].(map[string]any)
			for _, field := range []string{"labels", "annotations"} {
				m, ok := metadata[field].(map[string]any)
				if !ok {
					m = map[string]any{"random": "x"}
				}
				if r.IntN(4) == 0 {
					metadata[field] = m
				}
				walk(m)
			}
		default:
			places = append(places, place{in: obj.Object, key: k})
			walk(obj.Object[k])
		}
	}
	if len(places) == 0 {
		return
	}
	p := places[r.IntN(len(places))]
	if p.list != nil {
		switch r.IntN(3) {
		case 0:
			j := r.IntN(len(p.list))
			p.list[p.at], p.list[j] = p.list[j], p.list[p.at]
		default:
			p.list[p.at] = tweak(r, p.list[p.at])
		}
		return
	}
	switch r.IntN(8) {
	case 0:
		delete(p.in, p.key)
	case 1:
		p.in[p.key+"x"] = deepCopy(p.in[p.key])
	default:
		p.in[p.key] = tweak(r, p.in[p.key])
	}
}

// tweak returns another value, mostly of the same type.
func tweak(r *rand.Rand, v any) any {
	switch r.IntN(20) {
	case 0:
		return nil
	case 1:
		return map[string]any{}
	case 2:
		return []any{}
	}
	switch v := v.(type) {
	case string:
		return []any{v + "x", "a", "b", "1", "TCP", "UDP", "100m", "1000m", "1", "", v, strings.ToUpper(v), int64(1)}[r.IntN(13)]
	case int64:
		return []any{v + 1, v - 1, int64(80), float64(v), fmt.Sprint(v)}[r.IntN(5)]
	case float64:
		return []any{v + 1, v / 2, int64(v)}[r.IntN(3)]
	case bool:
		return !v
	case []any:
		out, _ := deepCopy(v).([]any)
		switch {
		case len(out) == 0:
			return []any{"a"}
		case r.IntN(2) == 0:
			i := r.IntN(len(out))
			return slices.Delete(out, i, i+1)
		case r.IntN(2) == 0:
			slices.Reverse(out)
			return out
		}
		item := deepCopy(out[r.IntN(len(out))])
		if m, ok := item.(map[string]any); ok {
			for _, k := range slices.Sorted(maps.Keys(m)) {
				if r.IntN(2) == 0 {
					m[k] = tweak(r, m[k])
				}
			}
		} else {
			item = tweak(r, item)
		}
		return slices.Insert(out, r.IntN(len(out)+1), item)
	case map[string]any:
		out, _ := deepCopy(v).(map[string]any)
		out["random"] = "x"
		return out
	}
	return "x"
}

func deepCopy(v any) any {
	return (&unstructured.Unstructured{Object: map[string]any{"v": v}}).DeepCopy().Object["v"]
}

// FieldManager returns what the API server merges a kind with. It does not
// default and does not validate.
func FieldManager(converter managedfields.TypeConverter, gvk schema.GroupVersionKind) (*managedfields.FieldManager, error) {
	s := oneVersion{gvk: gvk}
	return managedfields.NewDefaultCRDFieldManager(converter, s, s, s, gvk, gvk.GroupVersion(), "", nil)
}

// oneVersion converts between the only version there is, and defaults nothing.
type oneVersion struct{ gvk schema.GroupVersionKind }

func (s oneVersion) Convert(in, out, _ any) error { return nil }

func (s oneVersion) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	if _, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{s.gvk}); !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("test", nil, target)
	}
	return in, nil
}

func (s oneVersion) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

func (s oneVersion) Default(runtime.Object) {}

func (s oneVersion) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(gvk)
	return obj, nil
}
