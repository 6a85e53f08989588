package ssa

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// DefaultGroup is the prefix of the owner labels when [Owner] has none.
const DefaultGroup = "gitopskit.github.io"

// Owner is on whose behalf objects are applied: the unit that prunes its own
// objects and nobody else's. Two owners of one cluster must differ in name or
// namespace. Every applied object carries the labels
//
//	<Group>/name: <Name>
//	<Group>/namespace: <Namespace>
type Owner struct {
	// Name is required: at most 63 characters of a label value.
	Name string
	// Namespace is required: where the owner itself lives, and, by default,
	// its inventory.
	Namespace string
	// Group is the prefix of the labels; empty means [DefaultGroup].
	// Flux's Kustomizations use "kustomize.toolkit.fluxcd.io".
	Group string
}

func (o Owner) group() string {
	if o.Group == "" {
		return DefaultGroup
	}
	return o.Group
}

// Labels returns the labels that mark the owner's objects.
func (o Owner) Labels() map[string]string {
	return map[string]string{o.group() + "/name": o.Name, o.group() + "/namespace": o.Namespace}
}

// Owns reports whether obj carries the owner's labels.
func (o Owner) Owns(obj *unstructured.Unstructured) bool {
	return mark(obj, "labels", o.group()+"/name") == o.Name && mark(obj, "labels", o.group()+"/namespace") == o.Namespace
}

// String returns "namespace/name".
func (o Owner) String() string { return o.Namespace + "/" + o.Name }

func (o Owner) selector() string { return labels.SelectorFromSet(o.Labels()).String() }

// pruneDisabled reports an object that asks to be left alone by prune, by the
// annotation or label <Group>/prune: disabled.
func (o Owner) pruneDisabled(obj *unstructured.Unstructured) bool {
	return o.says(obj, "prune", "disabled")
}

func (o Owner) validate() error {
	var errs []error
	for field, value := range map[string]string{"Name": o.Name, "Namespace": o.Namespace} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%w: Owner.%s is empty", ErrInvalid, field))
		}
		for _, problem := range validation.IsValidLabelValue(value) {
			errs = append(errs, fmt.Errorf("%w: Owner.%s %q: %s", ErrInvalid, field, value, problem))
		}
	}
	for _, problem := range validation.IsQualifiedName(o.group() + "/name") {
		errs = append(errs, fmt.Errorf("%w: Owner.Group %q: %s", ErrInvalid, o.Group, problem))
	}
	return errors.Join(errs...)
}
