package schema

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilversion "k8s.io/apimachinery/pkg/version"
)

const definitionGroup = "apiextensions.k8s.io"

// With returns a set that also has the custom resources which the definitions
// among objs define; other objects are passed over, so that a whole deployment
// can be given. A definition replaces an earlier one of the same name. What
// the API server would refuse is refused, by its own rules: the error matches
// [ErrInvalid], names each definition and the path of each fault, and there is
// no set. The objects are not changed.
func (s *Set) With(objs ...*unstructured.Unstructured) (*Set, error) {
	out := s.clone()
	types := s.types()
	var errs []error
	for _, obj := range definitions(objs) {
		if types == nil { // nothing built in: metadata has to be known all the same
			builtin, err := Builtin("")
			if err != nil {
				return nil, err
			}
			types = builtin.types()
		}
		d, err := newDefinition(obj, types)
		if err != nil {
			errs = append(errs, &Error{Op: "definition", Subject: obj.GetName(), Err: err})
			continue
		}
		for gvk, e := range out.kinds {
			if e.Definition == d.crd.Name {
				delete(out.kinds, gvk)
			}
		}
		for _, v := range d.versions {
			out.kinds[v.kind.GroupVersionKind] = &entry{Kind: v.kind, custom: v}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// types returns the library of the set, nil if it has none.
func (s *Set) types() *library {
	for _, e := range s.kinds {
		switch {
		case e.types != nil:
			return e.types
		case e.custom != nil:
			return e.custom.of.types
		}
	}
	return nil
}

// listItems returns the members of a list.
func listItems(obj *unstructured.Unstructured) ([]any, bool) {
	items, ok := obj.Object["items"].([]any)
	return items, ok && strings.HasSuffix(obj.GetKind(), "List")
}

// definitions returns the definitions among objs, those in lists too.
func definitions(objs []*unstructured.Unstructured) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, obj := range objs {
		for _, m := range members(obj) {
			if isDefinition(m.obj) {
				out = append(out, m.obj)
			}
		}
	}
	return out
}

func isDefinition(obj *unstructured.Unstructured) bool {
	gvk := obj.GroupVersionKind()
	return gvk.Group == definitionGroup && gvk.Kind == "CustomResourceDefinition"
}

// definition is one custom resource definition.
type definition struct {
	crd       *apiextensionsv1.CustomResourceDefinition
	types     *library // for the metadata of the objects
	versions  []*version
	converter func() (managedfields.TypeConverter, error)
}

// version is a served version of a definition.
type version struct {
	of         *definition
	kind       Kind
	props      *apiextensions.JSONSchemaProps
	structural *structuralschema.Structural
	embeds     bool // objects inside objects
	status     bool // the sub-resource is there
	scale      *apiextensions.CustomResourceSubresourceScale
	checks     func() (*checks, error)
}

// newDefinition reads a definition and validates it as the API server does.
func newDefinition(obj *unstructured.Unstructured, types *library) (*definition, error) {
	if v := obj.GroupVersionKind().Version; v != "v1" {
		return nil, fmt.Errorf("%w: apiVersion: %s/%s is not served any more, use %s/v1", ErrInvalid, definitionGroup, v, definitionGroup)
	}
	crd, internal, err := readDefinition(obj)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	errs, err := sparing(func() field.ErrorList {
		return validation.ValidateCustomResourceDefinition(context.Background(), internal) //nolint:forbidigo // it waits for nothing, and rules have a cost limit
	})
	if err != nil {
		return nil, err
	}
	if len(errs) > 0 {
		return nil, refused(errs)
	}
	d := &definition{crd: crd, types: types}
	for i := range internal.Spec.Versions {
		if !internal.Spec.Versions[i].Served {
			continue
		}
		v, err := newVersion(d, internal, &internal.Spec.Versions[i])
		if err != nil {
			return nil, err
		}
		d.versions = append(d.versions, v)
	}
	slices.SortFunc(d.versions, func(a, b *version) int {
		return -utilversion.CompareKubeAwareVersionStrings(a.kind.Version, b.kind.Version)
	})
	for i, v := range d.versions {
		v.kind.Priority = i
	}
	d.converter = sync.OnceValues(d.newConverter)
	return d, nil
}

// sparing calls code of the API server, which panics on some input: a
// definition with selectable fields and no schema, for instance.
func sparing(validate func() field.ErrorList) (errs field.ErrorList, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the validation of the API server breaks down over it: %v", ErrInvalid, r)
		}
	}()
	return validate(), nil
}

// readDefinition reads a definition as a creation does: with defaults and
// without a status.
func readDefinition(obj *unstructured.Unstructured) (*apiextensionsv1.CustomResourceDefinition, *apiextensions.CustomResourceDefinition, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.DeepCopy().Object, crd); err != nil {
		return nil, nil, err
	}
	crd.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(crd)
	internal := &apiextensions.CustomResourceDefinition{}
	return crd, internal, apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil)
}

// refused joins what the API server would say.
func refused(errs field.ErrorList) error {
	out := make([]error, 0, len(errs))
	for _, e := range errs {
		out = append(out, fmt.Errorf("%w: %s: %s", ErrInvalid, e.Field, e.ErrorBody()))
	}
	return errors.Join(out...)
}

func newVersion(d *definition, crd *apiextensions.CustomResourceDefinition, in *apiextensions.CustomResourceDefinitionVersion) (*version, error) {
	v := &version{of: d}
	validation, subresources := in.Schema, in.Subresources
	if validation == nil {
		validation = crd.Spec.Validation
	}
	if subresources == nil {
		subresources = crd.Spec.Subresources
	}
	v.props = validation.OpenAPIV3Schema
	s, err := structuralschema.NewStructural(v.props)
	if err != nil {
		return nil, fmt.Errorf("%w: version %s: %w", ErrInvalid, in.Name, err)
	}
	v.structural = s.DeepCopy() // defaults are shared with the definition
	if err := defaulting.PruneDefaults(v.structural); err != nil {
		return nil, fmt.Errorf("%w: version %s: %w", ErrInvalid, in.Name, err)
	}
	v.embeds = embeds(v.structural)
	names := crd.Spec.Names
	v.kind = Kind{
		GroupVersionKind: schema.GroupVersionKind{Group: crd.Spec.Group, Version: in.Name, Kind: names.Kind},
		Resource:         names.Plural, Singular: names.Singular, ShortNames: names.ShortNames, Categories: names.Categories,
		Namespaced: crd.Spec.Scope == apiextensions.NamespaceScoped,
		Verbs:      []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"},
		Definition: crd.Name,
	}
	if subresources == nil {
		subresources = &apiextensions.CustomResourceSubresources{}
	}
	partial := []string{"get", "patch", "update"}
	if v.scale = subresources.Scale; v.scale != nil {
		v.kind.Subresources = append(v.kind.Subresources, Subresource{Name: "scale", Verbs: partial, Kind: schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"}})
	}
	if v.status = subresources.Status != nil; v.status {
		v.kind.Subresources = append(v.kind.Subresources, Subresource{Name: "status", Verbs: partial, Kind: v.kind.GroupVersionKind})
	}
	v.checks = sync.OnceValues(v.newChecks)
	return v, nil
}
