package offline

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// owners is the API server's own field manager for one kind and sub-resource.
type owners struct{ *managedfields.FieldManager }

// owners returns the field manager of a request.
func (q *request) owners() (owners, error) {
	k := q.kind
	if m := k.managers[q.subresource]; m != nil {
		return owners{m}, nil
	}
	create := managedfields.NewDefaultFieldManager
	if k.custom {
		create = managedfields.NewDefaultCRDFieldManager
	}
	w := world{q.cluster}
	m, err := create(w, w, w, w, k.gvk, k.gvk.GroupVersion(), q.subresource, q.cluster.resetFields(k, q.subresource))
	if err != nil {
		return owners{}, err
	}
	if k.managers == nil {
		k.managers = map[string]*managedfields.FieldManager{}
	}
	k.managers[q.subresource] = m
	return owners{m}, nil
}

// update notes who changed what between two states of an object.
func (o owners) update(old, obj *unstructured.Unstructured, manager string) *unstructured.Unstructured {
	before := obj.DeepCopy()
	updated, err := o.Update(old.DeepCopy(), obj, manager)
	if out, ok := updated.(*unstructured.Unstructured); ok && err == nil {
		return out
	}
	before.SetManagedFields(old.GetManagedFields())
	return before
}

// apply merges what a manager wants into an object.
func (o owners) apply(old, want *unstructured.Unstructured, manager string, force bool) (*unstructured.Unstructured, error) {
	out, err := o.Apply(old, want, manager, force)
	if err != nil {
		return nil, err
	}
	obj, ok := out.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("the field manager returned %T", out)
	}
	return obj, nil
}

// resetFields are the paths that requests of a kind cannot set, in all
// versions of it.
func (c *Cluster) resetFields(k *kind, subresource string) map[fieldpath.APIVersion]fieldpath.Filter {
	sets := map[fieldpath.APIVersion]*fieldpath.Set{}
	for _, v := range c.kinds.byKind[k.gvk.GroupKind()] {
		set := &fieldpath.Set{}
		for _, path := range resets(v, subresource) {
			set.Insert(path)
		}
		sets[fieldpath.APIVersion(v.gvk.GroupVersion().String())] = set
	}
	return fieldpath.NewExcludeFilterSetMap(sets)
}

// world tells the field manager about types, conversion and defaults.
type world struct{ cluster *Cluster }

var (
	_ managedfields.TypeConverter = world{}
	_ runtime.ObjectConvertor     = world{}
	_ runtime.ObjectDefaulter     = world{}
	_ runtime.ObjectCreater       = world{}
)

// ObjectToTyped reads an object by the schema of its kind.
func (w world) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	t, err := w.cluster.set.TypeConverter(context.Background(), obj.GetObjectKind().GroupVersionKind()) //nolint:forbidigo // the field manager gives none, and nothing waits
	if err != nil {
		return nil, err
	}
	return t.ObjectToTyped(obj, opts...)
}

// TypedToObject is the reverse.
func (w world) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	content, ok := v.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("an object is a map, not %T", v.AsValue().Unstructured())
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// ConvertToVersion returns an object in another version.
func (w world) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	from := in.GetObjectKind().GroupVersionKind()
	gvk, ok := target.KindForGroupVersionKinds([]schema.GroupVersionKind{from})
	obj, isObject := in.(*unstructured.Unstructured)
	if !ok || !isObject {
		return nil, runtime.NewNotRegisteredErrForTarget("offline", nil, target)
	}
	for _, k := range w.cluster.kinds.byKind[from.GroupKind()] {
		if k.gvk.Version == gvk.Version {
			out := w.cluster.as(k, obj)
			return out, w.cluster.normalize(out)
		}
	}
	return nil, runtime.NewNotRegisteredErrForKind("offline", gvk)
}

// Default sets what is not set, after a merge.
func (w world) Default(in runtime.Object) {
	if obj, ok := in.(*unstructured.Unstructured); ok {
		w.cluster.setDefaults(obj)
	}
}

// New returns an object with nothing in it.
func (w world) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	return (&kind{gvk: gvk}).empty(), nil
}

// Convert is not needed by a field manager.
func (w world) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T to %T: not supported", in, out)
}

// ConvertFieldLabel is not needed by a field manager.
func (w world) ConvertFieldLabel(gvk schema.GroupVersionKind, label, _ string) (string, string, error) {
	return "", "", fmt.Errorf("field label %s of %s: not supported", label, gvk)
}

// blank is an object before it is made, with the fields that cannot be missing.
func (c *Cluster) blank(k *kind) *unstructured.Unstructured {
	obj := k.empty()
	if retype(obj) != nil {
		return k.empty()
	}
	return obj
}

func (k *kind) empty() *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(k.gvk)
	return obj
}
