package schema

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
)

// ValidateOptions are the choices of [Set.Validate].
type ValidateOptions struct {
	// Manifests is where the objects, or those they were copied from, were
	// read: violations then have files and lines. Nil means that the file is
	// that of the annotation config.kubernetes.io/origin, which kustomize
	// writes, if there is one.
	Manifests *Manifests
	// Old returns the live form of an object, nil if there is none: rules about
	// changes are then checked, and faults that were there before are no
	// faults, as in an API server. Nil means that all objects are new.
	Old func(obj *unstructured.Unstructured) *unstructured.Unstructured
	// AllowUnknownKinds passes over objects whose kind the set does not have.
	AllowUnknownKinds bool
	// AllowOptional is for clusters where alpha and beta versions of Kubernetes
	// are switched on, see [Kind.Optional]. They are checked either way.
	AllowOptional bool
}

// Validate returns all faults of all objects, in the order of the objects and
// then of the lines or paths; none means that the objects fit their schemas.
// Lists are taken apart. Objects are not changed.
//
// The checks are those of an API server with strict field validation: unknown
// fields, types, required fields, allowed values, formats, uniqueness in sets
// and lists with keys, names, labels and annotations; for custom resources
// also everything else a definition says, with its rules in CEL under the cost
// limits of the API server. See the package documentation for what it does not
// know about the kinds of Kubernetes.
//
// An object that was not reached before ctx ended has a violation that says
// so, so that silence always means that all was checked. A namespace need not
// be given.
func (s *Set) Validate(ctx context.Context, objs []*unstructured.Unstructured, opts *ValidateOptions) []Violation {
	if opts == nil {
		opts = &ValidateOptions{}
	}
	var out []Violation
	for _, obj := range objs {
		for _, member := range members(obj) {
			v := s.validate(ctx, member.obj, opts)
			for i := range v {
				v[i].Object = ssa.IDOf(member.obj)
				opts.Manifests.locate(&v[i], obj, member.path)
			}
			out = append(out, sortViolations(v)...)
		}
	}
	return out
}

func (s *Set) validate(ctx context.Context, obj *unstructured.Unstructured, opts *ValidateOptions) []Violation {
	if err := context.Cause(ctx); err != nil {
		return []Violation{{Reason: NotChecked, Message: "not checked: " + err.Error()}}
	}
	if v := envelope(obj); v != nil {
		return v
	}
	gvk := obj.GroupVersionKind()
	e, ok := s.kinds[gvk]
	if !ok {
		if opts.AllowUnknownKinds {
			return nil
		}
		return []Violation{{Reason: UnknownKind, Path: "apiVersion", Message: fmt.Sprintf("unknown kind %s: %s", gvkString(gvk), s.hint(gvk))}}
	}
	var out []Violation
	if e.Optional && !opts.AllowOptional {
		out = append(out, Violation{Reason: NotServed, Path: "apiVersion", Message: gvkString(gvk) + " is served only where it is switched on"})
	}
	var old *unstructured.Unstructured
	if opts.Old != nil {
		old = opts.Old(obj)
	}
	return append(out, e.validate(ctx, obj, old)...)
}

// ValidateUpdate returns the faults of an object that replaces old: those of
// [Set.Validate], without those that old has already where the API server
// forgives them, and the broken rules about the change itself. It is for
// objects as a server stores them, after merging and defaulting. An error
// matches [ErrUnknownKind].
func (s *Set) ValidateUpdate(ctx context.Context, obj, old *unstructured.Unstructured) ([]Violation, error) {
	gvk := obj.GroupVersionKind()
	e, ok := s.kinds[gvk]
	if !ok {
		return nil, unknownKind(gvk, s.hint(gvk))
	}
	v := e.validate(ctx, obj, old)
	for i := range v {
		v[i].Object = ssa.IDOf(obj)
	}
	return sortViolations(v), nil
}

func (e *entry) validate(ctx context.Context, obj, old *unstructured.Unstructured) []Violation {
	if e.custom != nil {
		return e.custom.validate(ctx, obj, old)
	}
	return e.validateBuiltin(ctx, obj, old)
}

// envelope checks what every object has.
func envelope(obj *unstructured.Unstructured) []Violation {
	var out []Violation
	for _, field := range []string{"apiVersion", "kind"} {
		if text, ok := obj.Object[field].(string); !ok || text == "" {
			out = append(out, Violation{Reason: Missing, Path: field, Message: "required: a text"})
		}
	}
	if meta, ok := obj.Object["metadata"]; ok && meta != nil {
		if _, ok := meta.(map[string]any); !ok {
			out = append(out, Violation{Reason: WrongType, Path: "metadata", Message: "expected an object, not " + typeName(meta)})
		}
	}
	return out
}

// member is an object and where in a list it is.
type member struct {
	obj  *unstructured.Unstructured
	path string
}

// members takes a list apart.
func members(obj *unstructured.Unstructured) []member {
	if obj == nil {
		return nil
	}
	items, ok := listItems(obj)
	if !ok {
		return []member{{obj: obj}}
	}
	var out []member
	for i, item := range items {
		content, ok := item.(map[string]any)
		if !ok {
			content = map[string]any{}
		}
		out = append(out, member{obj: &unstructured.Unstructured{Object: content}, path: fmt.Sprintf("items[%d]", i)})
	}
	return out
}
