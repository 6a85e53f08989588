package offline

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	kinds "github.com/gitopskit/gitopskit/ssa/schema"
)

// admit refuses what has no place: the namespace of a new object must be there
// and stay.
func (q *request) admit(old, obj *unstructured.Unstructured) error {
	if old != nil || !q.kind.namespaced {
		return nil
	}
	if q.kind.gvk.Group == "" && q.kind.gvk.Kind == "Pod" {
		if err := q.admitPod(obj); err != nil {
			return err
		}
	}
	namespaces := schema.GroupResource{Resource: "namespaces"}
	namespace := q.cluster.store.get(namespaces, types.NamespacedName{Name: obj.GetNamespace()})
	if namespace == nil {
		return apierrors.NewNotFound(namespaces, obj.GetNamespace())
	}
	if namespace.GetDeletionTimestamp() == nil {
		return nil
	}
	err := apierrors.NewForbidden(q.kind.groupResource(), obj.GetName(), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace.GetName()))
	return terminating(err, namespace.GetName())
}

// validate returns what is wrong with a new object.
func (q *request) validate(obj *unstructured.Unstructured) field.ErrorList {
	return q.check(obj, nil)
}

// validateUpdate returns what is wrong with the next state of an object.
func (q *request) validateUpdate(obj, old *unstructured.Unstructured) field.ErrorList {
	path := field.NewPath("metadata")
	errs := validation.ValidateObjectMetaAccessorUpdate(obj, old, path)
	errs = append(errs, q.unfrozen(obj, old)...)
	return append(errs, q.check(obj, old)...)
}

// check compares an object with the schema of its kind.
func (q *request) check(obj, old *unstructured.Unstructured) field.ErrorList {
	checked := obj
	if !q.kind.custom {
		checked = &unstructured.Unstructured{Object: given(obj.Object)}
		if q.subresource == "" {
			delete(checked.Object, "status") // it is the server's
		}
	}
	violations, err := q.cluster.set.ValidateUpdate(context.Background(), checked, old) //nolint:forbidigo // once begun, a request is done as a whole; rules have a cost limit
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	var errs field.ErrorList
	for _, v := range violations {
		if v.Reason == kinds.DuplicateItem && !q.kind.custom {
			continue // only an apply refuses it; updates may
		}
		errs = append(errs, fieldError(v))
	}
	if !q.kind.custom && q.subresource == "" {
		errs = append(errs, q.semantic(obj)...)
	}
	return errs
}

// given is an object without what only says that nothing is given: the Go
// types have texts that are required and empty when nobody set them.
func given(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case nil:
		case string:
			if v != "" {
				out[k] = v
			}
		case map[string]any:
			out[k] = given(v)
		case []any:
			items := make([]any, len(v))
			for i, item := range v {
				items[i] = item
				if inner, ok := item.(map[string]any); ok {
					items[i] = given(inner)
				}
			}
			out[k] = items
		default:
			out[k] = v
		}
	}
	return out
}

// fieldError gives a violation the form in which the API server reports it.
func fieldError(v kinds.Violation) *field.Error {
	err := &field.Error{Type: field.ErrorTypeInvalid, Field: v.Path, BadValue: field.OmitValueType{}, Detail: v.Message}
	switch v.Reason {
	case kinds.Missing:
		err.Type = field.ErrorTypeRequired
	case kinds.WrongType:
		err.Type = field.ErrorTypeTypeInvalid
	case kinds.DuplicateItem:
		err.Type = field.ErrorTypeDuplicate
	default:
	}
	return err
}

// strict refuses fields that a kind does not have.
func (c *Cluster) strict(_ *kind, obj *unstructured.Unstructured) error {
	_, unknown, err := c.set.Prune(obj)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range unknown {
		errs = append(errs, fmt.Errorf("unknown field %q", path))
	}
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewBadRequest(runtime.NewStrictDecodingError(errs).Error())
}

// prune drops the fields that a kind does not have.
func (c *Cluster) prune(_ *kind, obj *unstructured.Unstructured) {
	if out, dropped, err := c.set.Prune(obj); err == nil && len(dropped) > 0 {
		obj.Object = out.Object
	}
}

// schemaDefaults fills in what the schema of a kind says.
func (c *Cluster) schemaDefaults(obj *unstructured.Unstructured) {
	if out, err := c.set.Default(obj); err == nil {
		obj.Object = out.Object
	}
}
