package offline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

const (
	maxPatch      = 3 << 20 // bytes of a request, as the API server has it
	maxOperations = 10_000  // of a JSON patch, likewise
)

// patch changes an object, or, if it is an apply, makes it.
func (q *request) patch(kind types.PatchType, data []byte) (*unstructured.Unstructured, error) {
	if len(data) > maxPatch {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxPatch))
	}
	if q.kind.namespaced && q.namespace == "" {
		return nil, notServed()
	}
	if kind == types.ApplyYAMLPatchType {
		return q.apply(data)
	}
	old := q.live()
	if old == nil {
		return nil, apierrors.NewNotFound(q.kind.groupResource(), q.name)
	}
	var content map[string]any
	var err error
	switch kind {
	case types.JSONPatchType, types.MergePatchType:
		content, err = documentPatch(kind, old, data)
	case types.StrategicMergePatchType:
		content, err = strategicPatch(q.kind.gvk, old, data)
	default:
		err = apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s, %s",
			types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType), 0, false)
	}
	if err != nil {
		return nil, err
	}
	obj, err := q.cluster.read(q.kind, &unstructured.Unstructured{Object: content}, q.validation)
	if err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), field.OmitValueType{}, err.Error())})
	}
	owners, err := q.owners()
	if err != nil {
		return nil, err
	}
	obj = owners.update(old, obj, q.manager)
	if err := q.matches(obj); err != nil {
		return nil, err
	}
	return q.store(old, obj)
}

// matches refuses a change of what names an object.
func (q *request) matches(obj *unstructured.Unstructured) error {
	if obj.GetName() != q.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), q.name))
	}
	return q.place(obj)
}

// apply is server-side apply.
func (q *request) apply(data []byte) (*unstructured.Unstructured, error) {
	if q.manager == defaultManager {
		return nil, invalidOptions("PatchOptions", "fieldManager", "is required for apply patch")
	}
	want := &unstructured.Unstructured{Object: map[string]any{}}
	var err error
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' {
		data, err = yaml.YAMLToJSON(data)
	}
	if err == nil {
		err = utiljson.Unmarshal(data, &want.Object)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	if len(want.Object) == 0 {
		return nil, apierrors.NewBadRequest("the patch is empty")
	}
	old := q.live()
	if old == nil && q.subresource != "" {
		return nil, apierrors.NewNotFound(q.kind.groupResource(), q.name)
	}
	owners, err := q.owners()
	if err != nil {
		return nil, err
	}
	base := q.cluster.blank(q.kind)
	if old != nil {
		base = old.DeepCopy()
	}
	obj, err := owners.apply(base, want, q.manager, q.force)
	if err != nil {
		return nil, err
	}
	if uid := obj.GetUID(); old == nil && uid != "" {
		return nil, apierrors.NewConflict(q.kind.groupResource(), q.name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	if err := q.place(obj); err != nil {
		return nil, err
	}
	if err := q.matches(obj); err != nil {
		return nil, err
	}
	if old != nil && obj.GetUID() != old.GetUID() {
		return nil, uidMismatch(q.kind.groupResource(), q.name, obj.GetUID(), old.GetUID())
	}
	return q.store(old, obj)
}

// documentPatch applies a JSON patch or a merge patch.
func documentPatch(kind types.PatchType, old *unstructured.Unstructured, data []byte) (map[string]any, error) {
	before, err := json.Marshal(old.Object)
	if err != nil {
		return nil, err
	}
	var after []byte
	if kind == types.MergePatchType {
		after, err = jsonpatch.MergePatch(before, data)
		if errors.Is(err, jsonpatch.ErrBadJSONPatch) || errors.Is(err, jsonpatch.ErrBadJSONDoc) {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	} else {
		operations, decodeErr := jsonpatch.DecodePatch(data)
		switch {
		case decodeErr != nil:
			return nil, apierrors.NewBadRequest(decodeErr.Error())
		case len(operations) > maxOperations:
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(operations)))
		}
		if after, err = operations.Apply(before); err != nil {
			return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
	}
	if err != nil {
		return nil, err
	}
	content := map[string]any{}
	if err := utiljson.Unmarshal(bytes.TrimSpace(after), &content); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return content, nil
}

// strategicPatch merges a patch by the rules in the tags of the Go types.
func strategicPatch(gvk schema.GroupVersionKind, old *unstructured.Unstructured, data []byte) (map[string]any, error) {
	typed := newTyped(gvk)
	if typed == nil {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml", 0, false)
	}
	patch := map[string]any{}
	if err := utiljson.Unmarshal(data, &patch); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	content, err := strategicpatch.StrategicMergeMapPatch(old.DeepCopy().Object, patch, typed)
	switch {
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList), errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList), errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return nil, apierrors.NewBadRequest(err.Error())
	case errors.Is(err, mergepatch.ErrNoListOfLists), errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys):
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	return content, err
}
