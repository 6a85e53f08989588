package schema

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// metadata checks names, labels, annotations, finalizers and owners of any
// object.
func (e *entry) metadata(ctx context.Context, obj, old *unstructured.Unstructured) []Violation {
	meta := e.objectMeta(obj)
	if meta == nil {
		return nil
	}
	at := field.NewPath("metadata")
	var errs field.ErrorList
	if before := e.objectMeta(old); before != nil {
		meta.ResourceVersion = cmp.Or(meta.ResourceVersion, before.ResourceVersion, "1") // a manifest has none
		errs = validation.ValidateObjectMetaDeclaratively(ctx, operation.Update, meta, before, e.Namespaced, nil, at, true)
	} else {
		errs = validation.ValidateObjectMetaDeclaratively(ctx, operation.Create, meta, nil, e.Namespaced, e.nameRule(), at, true)
	}
	var v []Violation
	for _, err := range errs {
		v = append(v, ofField(err))
	}
	return v
}

// objectMeta returns the typed metadata, with a namespace where one is needed;
// nil if there is none or it has wrong types, which the schema tells.
func (e *entry) objectMeta(obj *unstructured.Unstructured) *metav1.ObjectMeta {
	if obj == nil {
		return nil
	}
	meta := &metav1.ObjectMeta{}
	data, err := json.Marshal(obj.Object["metadata"])
	if err != nil || json.Unmarshal(data, meta) != nil {
		return nil
	}
	meta.ManagedFields = nil
	switch {
	case !e.Namespaced:
		meta.Namespace = "" // the server overlooks it
	case meta.Namespace == "":
		meta.Namespace = metav1.NamespaceDefault
	}
	return meta
}

// nameRule returns what the name of an object of this kind may be.
func (e *entry) nameRule() validation.ValidateNameFunc {
	if e.Definition != "" {
		return validation.NameIsDNSSubdomain
	}
	switch e.Group {
	case "rbac.authorization.k8s.io", "certificates.k8s.io", "internal.apiserver.k8s.io", "apiregistration.k8s.io", "networking.k8s.io":
		if e.Kind.Kind != "Ingress" && e.Kind.Kind != "NetworkPolicy" && e.Kind.Kind != "IngressClass" {
			return pathSegment
		}
	case "":
		if e.Kind.Kind == "Namespace" || e.Kind.Kind == "Service" {
			return validation.NameIsDNSLabel
		}
	}
	return validation.NameIsDNSSubdomain
}

// pathSegment is the rule for names that may be anything that fits in a path.
func pathSegment(name string, _ bool) []string {
	switch {
	case name == "." || name == "..":
		return []string{"may not be '.' or '..'"}
	case strings.ContainsAny(name, "/%"):
		return []string{"may not contain '/' or '%'"}
	}
	return nil
}

// ofField translates a fault that the rules of Kubernetes found. Values are
// left out of the message, where they are not what helps.
func ofField(e *field.Error) Violation {
	v := Violation{Path: e.Field, Reason: BadValue, Message: e.Detail}
	if v.Path == "<nil>" {
		v.Path = ""
	}
	switch e.Type {
	case field.ErrorTypeRequired:
		v.Reason, v.Message = Missing, strings.TrimSuffix("required: "+e.Detail, ": ")
	case field.ErrorTypeTypeInvalid:
		v.Reason = WrongType
	case field.ErrorTypeDuplicate:
		v.Reason, v.Message = DuplicateItem, "the same twice in the list"
	case field.ErrorTypeNotSupported, field.ErrorTypeTooLong, field.ErrorTypeTooMany:
		v.Message = e.ErrorBody()
	case field.ErrorTypeForbidden:
		v.Message = "not allowed: " + e.Detail
	case field.ErrorTypeNotFound, field.ErrorTypeInvalid, field.ErrorTypeInternal:
	}
	if strings.HasPrefix(e.Detail, "some validation rules were not checked") {
		v.Reason = NotChecked
	}
	v.Message = strings.TrimPrefix(v.Message, v.Path+" in body ")
	if at, text, ok := strings.Cut(v.Message, `" must validate `); ok && v.Path == "" && strings.HasPrefix(at, `"`) {
		v.Path, v.Message = at[1:], "must validate "+text // oneOf and the like have their path in the text
	}
	if v.Message == "" {
		v.Message = e.ErrorBody()
	}
	return v
}
