package offline

import (
	"cmp"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// cleanupFinalizer keeps a definition until its objects are gone.
const cleanupFinalizer = "customresourcecleanup.apiextensions.k8s.io"

// settle does at once what the controllers for namespaces, definitions and
// owner references would do after a write, until nothing is left to be done.
func (c *Cluster) settle() {
	s := c.store
	for (s.deleting > 0 || s.owned > 0 && s.lost) && (c.collect() || c.empty() || c.clean() || c.protect()) {
		continue
	}
	s.lost = false
}

// located is an object and where it is.
type located struct {
	gr  schema.GroupResource
	obj *unstructured.Unstructured
}

// kindOf returns the kind an object is stored as; one that is not served any
// more is known by what is left of it.
func (c *Cluster) kindOf(l located) *kind {
	if k := c.stored(l.obj.GroupVersionKind().GroupKind()); k != nil {
		return k
	}
	return kindOf(l)
}

func kindOf(l located) *kind {
	gvk := l.obj.GroupVersionKind()
	return &kind{gvk: gvk, plural: l.gr.Resource, namespaced: l.obj.GetNamespace() != "", storage: gvk.GroupVersion()}
}

// all returns the objects that match, in order.
func (c *Cluster) all(match func(*unstructured.Unstructured) bool) []located {
	var out []located
	for gr, objects := range c.store.objects {
		for _, obj := range objects {
			if match(obj) {
				out = append(out, located{gr, obj})
			}
		}
	}
	slices.SortFunc(out, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.gr.Group, b.gr.Group), cmp.Compare(a.gr.Resource, b.gr.Resource), byName(a.obj, b.obj))
	})
	return out
}

// collect is the garbage collector. It reports whether it did something.
func (c *Cluster) collect() bool {
	if c.store.owned == 0 {
		return c.release(nil)
	}
	owned := c.all(func(obj *unstructured.Unstructured) bool { return len(obj.GetOwnerReferences()) > 0 })
	if c.release(owned) {
		return true
	}
	if !c.store.lost {
		return false
	}
	c.store.lost = false
	alive := map[types.UID]*unstructured.Unstructured{}
	for _, objects := range c.store.objects {
		for _, obj := range objects {
			alive[obj.GetUID()] = obj
		}
	}
	did := false
	for _, d := range owned {
		did = c.abandoned(d, alive) || did
	}
	return did
}

// abandoned deletes an object none of whose owners is left, or takes the
// references to those that are gone.
func (c *Cluster) abandoned(d located, alive map[types.UID]*unstructured.Unstructured) bool {
	var left []metav1.OwnerReference
	for _, ref := range d.obj.GetOwnerReferences() {
		owner := alive[ref.UID]
		if owner != nil && (owner.GetNamespace() == "" || owner.GetNamespace() == d.obj.GetNamespace()) {
			left = append(left, ref)
		}
	}
	switch {
	case len(left) == len(d.obj.GetOwnerReferences()):
		return false
	case len(left) > 0:
		next := d.obj.DeepCopy()
		next.SetOwnerReferences(left)
		c.change(d.gr, d.obj, next)
		return true
	case d.obj.GetDeletionTimestamp() != nil:
		return false
	}
	c.mark(c.kindOf(d), d.obj, propagation(&kind{}, d.obj, metav1.DeleteOptions{}))
	return true
}

// release finishes the deletions that wait for dependents: orphaned ones lose
// the reference, others are deleted first.
func (c *Cluster) release(owned []located) bool {
	waiting := c.all(func(obj *unstructured.Unstructured) bool {
		return obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) > 0
	})
	for _, w := range waiting {
		var dependents []located
		for _, d := range owned {
			if slices.ContainsFunc(d.obj.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == w.obj.GetUID() }) {
				dependents = append(dependents, d)
			}
		}
		switch {
		case slices.Contains(w.obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
			for _, d := range dependents {
				next := d.obj.DeepCopy()
				next.SetOwnerReferences(slices.DeleteFunc(next.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == w.obj.GetUID() }))
				c.change(d.gr, d.obj, next)
			}
			c.unfinalize(w, metav1.FinalizerOrphanDependents)
			return true
		case slices.Contains(w.obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
			if c.foreground(w, dependents) {
				return true
			}
		}
	}
	return false
}

// foreground deletes the dependents of an object, and the object when none is
// left that holds it.
func (c *Cluster) foreground(w located, dependents []located) bool {
	held := false
	for _, d := range dependents {
		blocks := slices.ContainsFunc(d.obj.GetOwnerReferences(), func(ref metav1.OwnerReference) bool {
			return ref.UID == w.obj.GetUID() && ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
		})
		shared := slices.ContainsFunc(d.obj.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID != w.obj.GetUID() })
		switch {
		case shared: // another owner keeps it
			next := d.obj.DeepCopy()
			next.SetOwnerReferences(slices.DeleteFunc(next.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == w.obj.GetUID() }))
			c.change(d.gr, d.obj, next)
			return true
		case d.obj.GetDeletionTimestamp() == nil:
			c.mark(c.kindOf(d), d.obj, metav1.DeletePropagationForeground)
			return true
		}
		held = held || blocks
	}
	if held {
		return false
	}
	c.unfinalize(w, metav1.FinalizerDeleteDependents)
	return true
}

// unfinalize takes a finalizer away, and with the last one the object.
func (c *Cluster) unfinalize(l located, finalizer string) {
	next := l.obj.DeepCopy()
	next.SetFinalizers(slices.DeleteFunc(next.GetFinalizers(), func(f string) bool { return f == finalizer }))
	if len(next.GetFinalizers()) == 0 && next.GetDeletionTimestamp() != nil && !namespaceFinalizers(next) {
		c.drop(l.gr, keyOf(l.obj))
		return
	}
	c.change(l.gr, l.obj, next)
}

// empty deletes what is in namespaces that go, and then them.
func (c *Cluster) empty() bool {
	namespaces := schema.GroupResource{Resource: "namespaces"}
	for _, namespace := range c.all(func(obj *unstructured.Unstructured) bool {
		return obj.GroupVersionKind().GroupKind() == namespaceKind() && obj.GetDeletionTimestamp() != nil && namespaceFinalizers(obj)
	}) {
		content := c.all(func(obj *unstructured.Unstructured) bool { return obj.GetNamespace() == namespace.obj.GetName() })
		did := false
		for _, l := range content {
			if l.obj.GetDeletionTimestamp() == nil {
				c.mark(c.kindOf(l), l.obj, metav1.DeletePropagationBackground)
				did = true
			}
		}
		if did {
			return true
		}
		if len(content) == 0 {
			next := namespace.obj.DeepCopy()
			unstructured.RemoveNestedField(next.Object, "spec", "finalizers")
			c.change(namespaces, namespace.obj, next)
			if len(next.GetFinalizers()) == 0 {
				c.drop(namespaces, keyOf(next))
			}
			return true
		}
	}
	return false
}

// clean deletes the objects of definitions that go, and then them.
func (c *Cluster) clean() bool {
	for _, crd := range c.all(func(obj *unstructured.Unstructured) bool {
		return obj.GroupVersionKind().GroupKind() == crdKind() && obj.GetDeletionTimestamp() != nil && slices.Contains(obj.GetFinalizers(), cleanupFinalizer)
	}) {
		gr := definedResource(crd.obj)
		did := false
		for _, l := range c.all(func(obj *unstructured.Unstructured) bool { return obj.GroupVersionKind().Group == gr.Group }) {
			if l.gr == gr && l.obj.GetDeletionTimestamp() == nil {
				c.mark(c.kindOf(l), l.obj, metav1.DeletePropagationBackground)
				did = true
			}
		}
		if did {
			return true
		}
		if len(c.store.objects[gr]) == 0 {
			c.unfinalize(crd, cleanupFinalizer)
			return true
		}
	}
	return false
}

// protect lets volumes and claims go that a server protects while in use: here
// nothing uses them.
func (c *Cluster) protect() bool {
	for _, l := range c.all(func(obj *unstructured.Unstructured) bool {
		return obj.GetDeletionTimestamp() != nil && obj.GroupVersionKind().Group == "" && (obj.GetKind() == "PersistentVolume" || obj.GetKind() == "PersistentVolumeClaim")
	}) {
		for _, finalizer := range []string{"kubernetes.io/pv-protection", "kubernetes.io/pvc-protection"} {
			if slices.Contains(l.obj.GetFinalizers(), finalizer) {
				c.unfinalize(l, finalizer)
				return true
			}
		}
	}
	return false
}

// equal compares two states of an object, but for their versions.
func equal(a, b *unstructured.Unstructured) bool {
	if a.GetResourceVersion() != b.GetResourceVersion() {
		b = b.DeepCopy()
		b.SetResourceVersion(a.GetResourceVersion())
	}
	return reflect.DeepEqual(a.Object, b.Object)
}
