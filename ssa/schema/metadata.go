package schema

import (
	"context"
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// metadata checks names, labels, annotations, finalizers and owners of any
// object.
func (e *entry) metadata(ctx context.Context, obj, old *unstructured.Unstructured) []Violation {
	meta, v := e.objectMeta(obj)
	if meta == nil {
		return v
	}
	at := field.NewPath("metadata")
	var errs field.ErrorList
	if before, _ := e.objectMeta(old); before != nil {
		if meta.ResourceVersion == "" {
			meta.ResourceVersion = before.ResourceVersion
		}
		errs = validation.ValidateObjectMetaDeclaratively(ctx, operation.Update, meta, before, e.Namespaced, nil, at, true)
	} else {
		errs = validation.ValidateObjectMetaDeclaratively(ctx, operation.Create, meta, nil, e.Namespaced, e.nameRule(), at, true)
	}
	for _, err := range errs {
		v = append(v, ofField(err))
	}
	return v
}

// objectMeta returns the typed metadata, with a namespace where one is needed;
// nil if it cannot be read, which other checks report.
func (e *entry) objectMeta(obj *unstructured.Unstructured) (*metav1.ObjectMeta, []Violation) {
	if obj == nil {
		return nil, nil
	}
	meta := &metav1.ObjectMeta{}
	content, _ := obj.Object["metadata"].(map[string]any)
	data, err := json.Marshal(content)
	if err != nil {
		return nil, []Violation{{Reason: WrongType, Path: "metadata", Message: err.Error()}}
	}
	if err := json.Unmarshal(data, meta); err != nil {
		return nil, []Violation{{Reason: WrongType, Path: "metadata", Message: "labels, annotations or another field are of the wrong type"}}
	}
	meta.ManagedFields = nil
	switch {
	case !e.Namespaced:
		meta.Namespace = "" // the server overlooks it
	case meta.Namespace == "":
		meta.Namespace = metav1.NamespaceDefault
	}
	return meta, nil
}

// nameRule returns what the name of an object of this kind may be.
func (e *entry) nameRule() validation.ValidateNameFunc {
	if e.Definition != "" {
		return validation.NameIsDNSSubdomain
	}
	switch e.Group {
	case "rbac.authorization.k8s.io", "certificates.k8s.io", "internal.apiserver.k8s.io", "apiregistration.k8s.io", "networking.k8s.io":
		if e.Kind.Kind != "Ingress" && e.Kind.Kind != "NetworkPolicy" && e.Kind.Kind != "IngressClass" {
			return path.ValidatePathSegmentName
		}
	case "":
		if e.Kind.Kind == "Namespace" || e.Kind.Kind == "Service" {
			return validation.NameIsDNSLabel
		}
	}
	return validation.NameIsDNSSubdomain
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
	if v.Message == "" {
		v.Message = e.ErrorBody()
	}
	return v
}
