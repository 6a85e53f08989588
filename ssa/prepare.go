package ssa

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// prepare returns copies of objs, ready to be sent: lists expanded, fields
// that only a server may set removed, the owner's labels added, in order. It
// reports all that is wrong with them at once and sends nothing.
func (c *Client) prepare(objs []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	marks := c.Owner.Labels()
	if set := c.applySet(); set != "" {
		marks[applySetPartOf] = set
	}
	out, err := each(objs, func(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) { return desired(obj, marks) })
	inOrder(out)
	return out, err
}

// each calls f for all objects, those in lists included, and returns its results
// and all errors, of objects that are there twice, too.
func each(objs []*unstructured.Unstructured, f func(*unstructured.Unstructured) (*unstructured.Unstructured, error)) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, len(objs))
	var errs []error
	seen := make(map[ObjectID]bool, len(objs))
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
			id := IDOf(item)
			err := check(item)
			if err == nil {
				item, err = f(item)
			}
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

// desired returns a copy of obj as it will be sent, with labels added. What it
// need not change it shares with obj.
func desired(obj *unstructured.Unstructured, marks map[string]string) (*unstructured.Unstructured, error) {
	obj = &unstructured.Unstructured{Object: maps.Clone(obj.Object)}
	if !isCRD(IDOf(obj)) {
		delete(obj.Object, "status")
	}
	metadata, _ := obj.Object["metadata"].(map[string]any) // checked, it has a name
	metadata = maps.Clone(metadata)
	obj.Object["metadata"] = metadata
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		delete(metadata, field)
	}
	given, _ := metadata["labels"].(map[string]any) // may have none
	labels := make(map[string]any, len(given)+len(marks))
	maps.Copy(labels, given)
	for key, value := range marks {
		labels[key] = value
	}
	metadata["labels"] = labels
	return obj, mergeStringData(obj)
}

// check reports what makes an object impossible to apply.
func check(obj *unstructured.Unstructured) error {
	var errs []error
	for _, field := range []string{"apiVersion", "kind"} {
		if value, _ := obj.Object[field].(string); value == "" {
			errs = append(errs, fmt.Errorf("%w: it has no %s", ErrInvalid, field))
		}
	}
	apiVersion, _ := obj.Object["apiVersion"].(string)
	if _, err := schema.ParseGroupVersion(apiVersion); err != nil {
		errs = append(errs, fmt.Errorf("%w: %w", ErrInvalid, err))
	}
	metadata, _ := obj.Object["metadata"].(map[string]any) // without one it has no name
	name, _ := metadata["name"].(string)
	switch {
	case name == "" && obj.GetGenerateName() != "":
		errs = append(errs, fmt.Errorf("%w: it has a generateName: each apply would create another object; give it a name", ErrInvalid))
	case name == "":
		errs = append(errs, fmt.Errorf("%w: it has no metadata.name", ErrInvalid))
	}
	for _, field := range []string{"labels", "annotations"} {
		if !areTexts(metadata[field]) {
			errs = append(errs, fmt.Errorf("%w: metadata.%s: every value must be a string: quote numbers and booleans", ErrInvalid, field))
		}
	}
	return errors.Join(errs...)
}

// areTexts reports a map of strings, or nothing.
func areTexts(v any) bool {
	m, ok := v.(map[string]any)
	for _, value := range m {
		if _, isText := value.(string); !isText {
			return false
		}
	}
	return ok || v == nil
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
