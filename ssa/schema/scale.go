package schema

import (
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// scaleFields checks the fields that the sub-resource scale maps to.
func (v *version) scaleFields(content map[string]any) field.ErrorList {
	if v.scale == nil {
		return nil
	}
	var errs field.ErrorList
	for _, path := range []string{v.scale.SpecReplicasPath, v.scale.StatusReplicasPath} {
		n, _, err := unstructured.NestedInt64(content, strings.Split(strings.TrimPrefix(path, "."), ".")...)
		at := field.NewPath(strings.TrimPrefix(path, "."))
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at, nil, "expected an integer"))
		case n < 0:
			errs = append(errs, field.Invalid(at, n, "should be a non-negative integer"))
		case n > math.MaxInt32:
			errs = append(errs, field.Invalid(at, n, "does not fit in 32 bits"))
		}
	}
	if path := v.scale.LabelSelectorPath; path != nil {
		if _, _, err := unstructured.NestedString(content, strings.Split(strings.TrimPrefix(*path, "."), ".")...); err != nil {
			errs = append(errs, field.Invalid(field.NewPath(strings.TrimPrefix(*path, ".")), nil, "expected a text"))
		}
	}
	return errs
}
