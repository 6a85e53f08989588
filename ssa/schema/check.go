package schema

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// checks is what validates a version of a custom resource, compiled once.
type checks struct {
	values validation.SchemaValidator
	rules  *cel.Validator // nil without rules
}

func (v *version) newChecks() (*checks, error) {
	values, _, err := validation.NewSchemaValidator(v.props)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &checks{values: values, rules: cel.NewValidator(v.structural, true, celconfig.PerCallLimit)}, nil
}
