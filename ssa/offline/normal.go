package offline

import (
	"fmt"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// read turns the body of a request into an object as the API server has it:
// without unknown fields, with defaults, in canonical form.
func (c *Cluster) read(k *kind, obj *unstructured.Unstructured, validation string) (*unstructured.Unstructured, error) {
	before := obj
	if validation == metav1.FieldValidationStrict {
		before = obj.DeepCopy()
	}
	if err := c.normalize(obj); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", k.gvk.Kind, k.gvk.Version, k.gvk.Kind, err))
	}
	if validation == metav1.FieldValidationStrict {
		if err := c.strict(k, before); err != nil {
			return nil, err
		}
	}
	c.prune(k, obj)
	c.setDefaults(obj)
	c.canonical(k, obj)
	return obj, nil
}

// canonical brings an object into the form in which the API server keeps it.
// What is not of its kind's types was refused before.
func (c *Cluster) canonical(_ *kind, obj *unstructured.Unstructured) {
	if err := c.normalize(obj); err != nil {
		return
	}
}

// normalize brings an object of a built-in kind into canonical form, by way of
// the Go type that the server has for it, too: quantities and times are written
// in one way only, empty fields go or come, unknown ones go.
func (c *Cluster) normalize(obj *unstructured.Unstructured) error {
	alias(obj, obj.GroupVersionKind())
	return retype(obj)
}

// retype takes an object through its Go type and back.
func retype(obj *unstructured.Unstructured) error {
	gvk := obj.GroupVersionKind()
	into := newTyped(gvk)
	if into == nil {
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, into); err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(into)
	if err != nil {
		return err
	}
	if gvk.GroupKind() == crdKind() {
		wholeNumbers(content)
	}
	obj.Object = content
	obj.SetGroupVersionKind(gvk)
	return nil
}

// wholeNumbers makes integers of floats that are some, as reading JSON does:
// schemas in definitions have limits of either kind.
func wholeNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			v[name] = wholeNumbers(value)
		}
	case []any:
		for i, item := range v {
			v[i] = wholeNumbers(item)
		}
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	}
	return v
}

// keep brings an object into the form in which a server reads it back from its
// database: with defaults for what was added, and with no empty lists, which
// the encoding does not know.
func (c *Cluster) keep(k *kind, obj *unstructured.Unstructured) {
	c.setDefaults(obj)
	c.canonical(k, obj)
	if gk := k.gvk.GroupKind(); !k.custom && gk != crdKind() && gk.Kind != "ControllerRevision" {
		dropEmpty(obj.Object)
	}
	for _, name := range []string{"data", "binaryData"} { // of Secrets and ConfigMaps: no bytes are an empty text
		data, _ := obj.Object[name].(map[string]any) // other kinds have none, or something else
		for key, value := range data {
			if value == nil && k.gvk.Group == "" {
				data[key] = ""
			}
		}
	}
}

// dropEmpty makes empty lists null.
func dropEmpty(m map[string]any) {
	for name, value := range m {
		switch value := value.(type) {
		case map[string]any:
			dropEmpty(value)
		case []any:
			if len(value) == 0 {
				m[name] = nil
			}
			for _, item := range value {
				if inner, ok := item.(map[string]any); ok {
					dropEmpty(inner)
				}
			}
		}
	}
}

// newTyped returns an empty value of the Go type of a kind, nil if there is none.
func newTyped(gvk schema.GroupVersionKind) runtime.Object {
	if gvk.GroupKind() == crdKind() {
		return &apiextensions.CustomResourceDefinition{}
	}
	obj, err := scheme.Scheme.New(gvk)
	if err != nil {
		return nil
	}
	return obj
}

// as returns a copy of an object in the version of k.
func (c *Cluster) as(k *kind, obj *unstructured.Unstructured) *unstructured.Unstructured {
	out := obj.DeepCopy()
	if out.GroupVersionKind() != k.gvk {
		out.SetGroupVersionKind(k.gvk)
		c.prune(k, out)
		c.setDefaults(out)
	}
	return out
}

// present returns a copy of a stored object for a client.
func (c *Cluster) present(k *kind, obj *unstructured.Unstructured) *unstructured.Unstructured {
	return c.as(k, obj)
}

// setDefaults fills in what is not set.
func (c *Cluster) setDefaults(obj *unstructured.Unstructured) {
	gk := obj.GroupVersionKind().GroupKind()
	c.schemaDefaults(obj)
	for _, f := range c.defaults[gk] {
		f.apply(obj.Object)
	}
	compute(obj)
}
