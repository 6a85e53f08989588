package schema

import (
	"fmt"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// newConverter builds the types of all versions, as the API server does for
// server-side apply.
func (d *definition) newConverter() (managedfields.TypeConverter, error) {
	models := map[string]*spec.Schema{}
	if err := d.types.models(metaV1+"ObjectMeta", models); err != nil {
		return nil, err
	}
	for i := range d.crd.Spec.Versions {
		in := d.crd.Spec.Versions[i]
		s, err := structuralOf(&in)
		if err != nil {
			return nil, err
		}
		gvk := schema.GroupVersionKind{Group: d.crd.Spec.Group, Version: in.Name, Kind: d.crd.Spec.Names.Kind}
		models[fmt.Sprintf("%s.%s.%s", gvk.Group, gvk.Version, gvk.Kind)] = published(s, gvk)
	}
	c, err := managedfields.NewTypeConverter(models, d.crd.Spec.PreserveUnknownFields)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c, nil
}

// models adds a definition and what it refers to.
func (l *library) models(name string, to map[string]*spec.Schema) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closure(name, to)
}

// published returns a schema as the API server publishes it: with the fields
// that every object has.
func published(s *structuralschema.Structural, gvk schema.GroupVersionKind) *spec.Schema {
	out := s.Unfold().ToKubeOpenAPI()
	embedded(out)
	objectFields(out)
	out.AddExtension(gvkExtension, []any{map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}})
	return out
}

// embedded adds to embedded objects the fields that every object has.
func embedded(s *spec.Schema) {
	if s == nil {
		return
	}
	for name := range s.Properties {
		p := s.Properties[name]
		embedded(&p)
		s.Properties[name] = p
	}
	if s.Items != nil {
		embedded(s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		embedded(s.AdditionalProperties.Schema)
	}
	if is, ok := s.Extensions.GetBool("x-kubernetes-embedded-resource"); ok && is {
		objectFields(s)
	}
}

func objectFields(s *spec.Schema) {
	text := spec.Schema{SchemaProps: spec.SchemaProps{Type: spec.StringOrArray{"string"}}}
	s.SetProperty("apiVersion", text)
	s.SetProperty("kind", text)
	s.SetProperty("metadata", *spec.RefSchema(refPrefix + metaV1 + "ObjectMeta"))
}

// structuralOf returns the schema of a version, defaults included.
func structuralOf(in *apiextensionsv1.CustomResourceDefinitionVersion) (*structuralschema.Structural, error) {
	props := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(in.Schema.OpenAPIV3Schema, props, nil); err != nil {
		return nil, fmt.Errorf("%w: version %s: %w", ErrInvalid, in.Name, err)
	}
	s, err := structuralschema.NewStructural(props)
	if err != nil {
		return nil, fmt.Errorf("%w: version %s: %w", ErrInvalid, in.Name, err)
	}
	return s, nil
}
