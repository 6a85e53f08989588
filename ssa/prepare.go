package ssa

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// prepare returns copies of objs, ready to be sent: lists expanded, fields
// that only a server may set removed, the owner's labels added, in order. It
// reports all that is wrong with them at once and sends nothing.
func (c *Client) prepare(objs []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	var errs []error
	seen := map[ObjectID]bool{}
	for i, obj := range objs {
		if obj == nil || len(obj.Object) == 0 {
			errs = append(errs, fmt.Errorf("%w: object %d is empty", ErrInvalid, i))
			continue
		}
		items, err := expand(obj)
		if err != nil {
			errs = append(errs, &ObjectError{Op: "read", Object: IDOf(obj), Err: err})
		}
		for _, item := range items {
			item, err := c.desired(item)
			id := IDOf(item)
			if err == nil && seen[id] {
				err = fmt.Errorf("%w: the set holds it more than once", ErrInvalid)
			}
			if err != nil {
				errs = append(errs, &ObjectError{Op: "read", Object: id, Err: err})
				continue
			}
			seen[id] = true
			out = append(out, item)
		}
	}
	inOrder(out)
	return out, errors.Join(errs...)
}

// expand returns the items of a list, or obj itself. The objects still share
// their content with obj.
func expand(obj *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	if !strings.HasSuffix(obj.GetKind(), "List") || !obj.IsList() {
		return []*unstructured.Unstructured{obj}, nil
	}
	list, err := obj.ToList()
	if err != nil {
		return nil, fmt.Errorf("%w: items: %w", ErrInvalid, err)
	}
	var out []*unstructured.Unstructured
	for i := range list.Items {
		item := &list.Items[i]
		if item.GetKind() == "" { // typed lists may leave out what their own kind says
			item = item.DeepCopy()
			item.SetAPIVersion(obj.GetAPIVersion())
			item.SetKind(strings.TrimSuffix(obj.GetKind(), "List"))
		}
		out = append(out, item)
	}
	return out, nil
}

// desired returns a copy of obj as it will be sent. What it need not change it
// shares with obj.
func (c *Client) desired(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	obj = &unstructured.Unstructured{Object: maps.Clone(obj.Object)}
	if metadata, ok := obj.Object["metadata"].(map[string]any); ok {
		obj.Object["metadata"] = maps.Clone(metadata)
	}
	if err := check(obj); err != nil {
		return obj, err
	}
	if !strings.EqualFold(obj.GetKind(), "CustomResourceDefinition") || obj.GroupVersionKind().Group != "apiextensions.k8s.io" {
		delete(obj.Object, "status")
	}
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", field)
	}
	labels := maps.Clone(obj.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Owner.Labels())
	if set := c.applySet(); set != "" {
		labels[applySetPartOf] = set
	}
	obj.SetLabels(labels)
	return obj, mergeStringData(obj)
}

// check reports what makes an object impossible to apply.
func check(obj *unstructured.Unstructured) error {
	var errs []error
	for field, value := range map[string]string{"apiVersion": obj.GetAPIVersion(), "kind": obj.GetKind()} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%w: it has no %s", ErrInvalid, field))
		}
	}
	if _, err := schema.ParseGroupVersion(obj.GetAPIVersion()); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrInvalid, err))
	}
	switch {
	case obj.GetName() == "" && obj.GetGenerateName() != "":
		errs = append(errs, fmt.Errorf("%w: it has a generateName: each apply would create another object; give it a name", ErrInvalid))
	case obj.GetName() == "":
		errs = append(errs, fmt.Errorf("%w: it has no metadata.name", ErrInvalid))
	}
	for _, field := range []string{"labels", "annotations"} {
		if _, _, err := unstructured.NestedStringMap(obj.Object, "metadata", field); err != nil {
			errs = append(errs, fmt.Errorf("%w: metadata.%s: every value must be a string: quote numbers and booleans", ErrInvalid, field))
		}
	}
	return errors.Join(errs...)
}

// mergeStringData writes the stringData of a Secret into its data: the server
// never removes a key that was once set through stringData
// (kubernetes/kubernetes#108008).
func mergeStringData(obj *unstructured.Unstructured) error {
	if obj.GetKind() != "Secret" || obj.GetAPIVersion() != "v1" {
		return nil
	}
	text, found, err := unstructured.NestedStringMap(obj.Object, "stringData")
	if err != nil {
		return fmt.Errorf("%w: stringData: every value must be a string: quote numbers and words such as yes", ErrInvalid) // err would repeat a value
	}
	if !found {
		return nil
	}
	data, _, err := unstructured.NestedMap(obj.Object, "data")
	if err != nil {
		return fmt.Errorf("%w: data is not a map", ErrInvalid)
	}
	if data == nil {
		data = map[string]any{}
	}
	for k, v := range text {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	obj.Object["data"] = data
	delete(obj.Object, "stringData")
	return nil
}

// scope settles the namespace of an object once its kind is known.
func (c *Client) scope(obj *unstructured.Unstructured, m *meta.RESTMapping) error {
	namespaced := m.Scope.Name() == meta.RESTScopeNameNamespace
	switch {
	case !namespaced && obj.GetNamespace() != "":
		unstructured.RemoveNestedField(obj.Object, "metadata", "namespace")
	case namespaced && obj.GetNamespace() == "" && c.DefaultNamespace == "":
		return fmt.Errorf("%w: it has no namespace: set metadata.namespace or a default namespace", ErrInvalid)
	case namespaced && obj.GetNamespace() == "":
		obj.SetNamespace(c.DefaultNamespace)
	}
	return nil
}
