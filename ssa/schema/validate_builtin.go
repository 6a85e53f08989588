package schema

import (
	"context"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateBuiltin checks an object of a kind of Kubernetes.
func (e *entry) validateBuiltin(ctx context.Context, obj, old *unstructured.Unstructured) []Violation {
	n, err := e.types.node(e.types.kinds[e.GroupVersionKind])
	if err != nil {
		return []Violation{{Reason: NotChecked, Message: err.Error()}}
	}
	w := &walker{secret: e.Group == "" && e.Kind.Kind == "Secret"}
	w.value(n, obj.Object, "")
	out := append(w.out, e.metadata(ctx, obj, old)...)
	if isDefinition(obj) && e.Version == "v1" && len(w.out) == 0 {
		out = append(out, validateDefinition(ctx, obj, old)...)
	}
	return out
}

// validateDefinition checks a custom resource definition as the API server does.
func validateDefinition(ctx context.Context, obj, old *unstructured.Unstructured) []Violation {
	_, in, err := readDefinition(obj)
	if err != nil {
		return []Violation{{Reason: WrongType, Message: err.Error()}}
	}
	errs, err := sparing(func() field.ErrorList {
		if old != nil {
			if _, before, err := readDefinition(old); err == nil {
				return validation.ValidateCustomResourceDefinitionUpdate(ctx, in, before)
			}
		}
		return validation.ValidateCustomResourceDefinition(ctx, in)
	})
	if err != nil {
		return []Violation{{Reason: BadValue, Message: err.Error()}}
	}
	var out []Violation
	for _, e := range errs {
		if !strings.HasPrefix(e.Field, "metadata.") || e.Field == "metadata.name" {
			out = append(out, ofField(e))
		}
	}
	return out
}
