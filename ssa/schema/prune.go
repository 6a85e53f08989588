package schema

import (
	"maps"
	"slices"
	"strconv"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Prune returns a copy of an object without the fields that its kind does not
// have, and the paths of what it left out, sorted. Nulls that a custom resource
// may not have go too, without a mention. It is what an API server does to an
// object that is created or updated, as opposed to applied, when it reads it.
// The error matches [ErrUnknownKind].
func (s *Set) Prune(obj *unstructured.Unstructured) (*unstructured.Unstructured, []string, error) {
	gvk := obj.GroupVersionKind()
	e, ok := s.kinds[gvk]
	if !ok {
		return nil, nil, unknownKind(gvk, s.hint(gvk))
	}
	out := obj.DeepCopy()
	if e.custom != nil {
		dropped := e.custom.prune(out.Object)
		defaulting.PruneNonNullableNullsWithoutDefaults(out.Object, e.custom.structural)
		return out, dropped, nil
	}
	n, err := e.types.node(e.types.kinds[gvk])
	if err != nil {
		return nil, nil, &Error{Op: "type", Subject: gvkString(gvk), Err: err}
	}
	dropped := n.prune(out.Object, "", nil)
	slices.Sort(dropped)
	return out, dropped, nil
}

// prune removes the fields that the schema of a custom resource does not have.
// Metadata that cannot be read stays: other checks report it.
func (v *version) prune(content map[string]any) []string {
	var dropped []string
	if meta, found, unknown, err := objectmeta.GetObjectMetaWithOptions(content, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true}); err == nil && found && len(unknown) > 0 {
		if err := objectmeta.SetObjectMeta(content, meta); err == nil {
			dropped = append(dropped, unknown...)
		}
	}
	dropped = append(dropped, v.pruneValues(content)...)
	slices.Sort(dropped)
	return dropped
}

// pruneValues is prune without the metadata of the object itself.
func (v *version) pruneValues(content map[string]any) []string {
	var dropped []string
	if !v.of.crd.Spec.PreserveUnknownFields {
		dropped = pruning.PruneWithOptions(content, v.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	}
	if !v.embeds {
		return dropped
	}
	if err, unknown := objectmeta.CoerceWithOptions(nil, content, v.structural, false, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: true}); err == nil {
		dropped = append(dropped, unknown...)
	}
	return dropped
}

// prune removes the fields that the schema of a built-in kind does not have.
func (n *node) prune(v any, path string, dropped []string) []string {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			at := join(path, key)
			switch {
			case n.form == mapping:
				dropped = n.each.prune(v[key], at, dropped)
			case n.form == object && n.fields != nil && n.fields[key] == nil:
				delete(v, key)
				dropped = append(dropped, at)
			case n.form == object && n.fields != nil:
				dropped = n.fields[key].prune(v[key], at, dropped)
			}
		}
	case []any:
		if n.form == list && n.each != nil {
			for i := range v {
				dropped = n.each.prune(v[i], path+"["+strconv.Itoa(i)+"]", dropped)
			}
		}
	}
	return dropped
}

// Default returns a copy of an object with the defaults that its schema
// states. For custom resources these are all. For kinds of Kubernetes they are
// those that the API server publishes, such as TCP for the protocol of a port:
// most defaults of these kinds are code inside the server. The error matches
// [ErrUnknownKind].
func (s *Set) Default(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	gvk := obj.GroupVersionKind()
	e, ok := s.kinds[gvk]
	if !ok {
		return nil, unknownKind(gvk, s.hint(gvk))
	}
	out := obj.DeepCopy()
	if e.custom != nil {
		defaulting.Default(out.Object, e.custom.structural)
		return out, nil
	}
	n, err := e.types.node(e.types.kinds[gvk])
	if err != nil {
		return nil, &Error{Op: "type", Subject: gvkString(gvk), Err: err}
	}
	n.preset(out.Object)
	return out, nil
}

// preset fills in defaults. Those that equal the zero value of their type are
// left out: they are how a schema says that a field of the Go type is no
// pointer.
func (n *node) preset(v any) {
	switch v := v.(type) {
	case map[string]any:
		if n.form == mapping {
			for key := range v {
				n.each.preset(v[key])
			}
			return
		}
		for name, f := range n.fields {
			if value, ok := v[name]; ok && value != nil {
				f.node.preset(value)
			} else if !isZero(f.preset) {
				v[name] = runtime.DeepCopyJSONValue(f.preset)
			}
		}
	case []any:
		if n.form == list && n.each != nil {
			for i := range v {
				n.each.preset(v[i])
			}
		}
	}
}

func isZero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case float64:
		return v == 0
	case int64:
		return v == 0
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}
