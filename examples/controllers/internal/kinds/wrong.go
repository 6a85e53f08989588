package kinds

import (
	"errors"
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	"github.com/gitopskit/gitopskit/ssa"
)

// specError is about fields that only a changed object mends.
type specError struct{ error }

func (e specError) Unwrap() error { return e.error }

// Terminal says that only a changed object can help.
func (specError) Terminal() bool { return true }

// wrongFields returns what is wrong with the fields that its definition does not
// check, each with its path.
func wrongFields(o *kustomizev1.Kustomization) error {
	rules, err1 := form[[]ssa.IgnoreRule](o.Spec.Ignore)
	edited, err2 := edits(o.Spec.Patches, nil)
	errs := []error{in("spec.ignore", err1), in("spec.patches", err2)}
	for i, r := range rules {
		errs = append(errs, in(fmt.Sprintf("spec.ignore[%d]", i), r.Validate()))
	}
	for i, p := range edited.Patches {
		errs = append(errs, in(fmt.Sprintf("spec.patches[%d].target", i), p.Target.Validate()))
	}
	if err := errors.Join(errs...); err != nil {
		return specError{err}
	}
	return nil
}
