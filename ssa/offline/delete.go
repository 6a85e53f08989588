package offline

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// delete deletes an object, or marks it if something has to be done first.
func (q *request) delete(options metav1.DeleteOptions) error {
	c, gr := q.cluster, q.kind.groupResource()
	key := types.NamespacedName{Namespace: q.namespace, Name: q.name}
	obj := c.store.get(gr, key)
	if obj == nil {
		return apierrors.NewNotFound(gr, q.name)
	}
	if errs := validation.ValidateDeleteOptions(&options); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	if err := precondition(gr, obj, options.Preconditions); err != nil {
		return err
	}
	if gr.Group == "" && gr.Resource == "namespaces" && slices.Contains([]string{"default", "kube-system", "kube-public"}, q.name) {
		return apierrors.NewForbidden(gr, q.name, fmt.Errorf("this namespace may not be deleted"))
	}
	if q.dryRun {
		return nil
	}
	c.mark(q.kind, obj, propagation(q.kind, obj, options))
	return nil
}

func precondition(gr schema.GroupResource, obj *unstructured.Unstructured, p *metav1.Preconditions) error {
	switch {
	case p == nil:
	case p.UID != nil && *p.UID != obj.GetUID():
		return apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, obj.GetUID()))
	case p.ResourceVersion != nil && *p.ResourceVersion != obj.GetResourceVersion():
		return apierrors.NewConflict(gr, obj.GetName(), fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, obj.GetResourceVersion()))
	}
	return nil
}

// propagation is what happens to the dependents of an object: what the request
// says, else what its finalizers say, else what its kind says.
func propagation(k *kind, obj *unstructured.Unstructured, options metav1.DeleteOptions) metav1.DeletionPropagation {
	switch {
	case options.PropagationPolicy != nil:
		return *options.PropagationPolicy
	case options.OrphanDependents != nil && *options.OrphanDependents: //nolint:staticcheck // clients still send it
		return metav1.DeletePropagationOrphan
	case options.OrphanDependents != nil: //nolint:staticcheck // likewise
		return metav1.DeletePropagationBackground
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	case k.rule.orphans:
		return metav1.DeletePropagationOrphan
	}
	return metav1.DeletePropagationBackground
}

// mark begins a deletion; without finalizers it is also its end.
func (c *Cluster) mark(k *kind, obj *unstructured.Unstructured, policy metav1.DeletionPropagation) {
	next := obj.DeepCopy()
	finalizers := slices.DeleteFunc(next.GetFinalizers(), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	switch policy {
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationBackground:
	}
	if k.gvk.GroupKind() == crdKind() && !slices.Contains(finalizers, cleanupFinalizer) {
		finalizers = append(finalizers, cleanupFinalizer)
	}
	next.SetFinalizers(finalizers)
	if len(finalizers) == 0 && !namespaceFinalizers(next) {
		c.drop(k.groupResource(), keyOf(obj))
		return
	}
	if next.GetDeletionTimestamp() == nil {
		now, period := metav1.NewTime(time.Now().Truncate(time.Second)), int64(0)
		next.SetDeletionTimestamp(&now)
		next.SetDeletionGracePeriodSeconds(&period)
		if g := next.GetGeneration(); g > 0 {
			next.SetGeneration(g + 1)
		}
	}
	if k.gvk.GroupKind() == namespaceKind() {
		next.Object["status"] = map[string]any{"phase": "Terminating"}
	}
	c.change(k.groupResource(), obj, next)
}

// change stores the next state of an object, if it is one.
func (c *Cluster) change(gr schema.GroupResource, obj, next *unstructured.Unstructured) {
	if !equal(obj, next) {
		c.store.put(gr, next)
	}
}

// drop ends an object.
func (c *Cluster) drop(gr schema.GroupResource, key types.NamespacedName) {
	obj := c.store.get(gr, key)
	if obj == nil {
		return
	}
	c.store.remove(gr, key)
	if obj.GroupVersionKind().GroupKind() == crdKind() {
		c.serve()
	}
}

// terminating adds the cause by which clients recognize a namespace that goes.
func terminating(err *apierrors.StatusError, namespace string) error {
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", namespace),
		Field:   field.NewPath("metadata", "namespace").String(),
	})
	return err
}

// namespaceFinalizers reports a namespace that its controller has not let go.
func namespaceFinalizers(obj *unstructured.Unstructured) bool {
	if obj.GroupVersionKind().GroupKind() != namespaceKind() {
		return false
	}
	finalizers, _, _ := unstructured.NestedSlice(obj.Object, "spec", "finalizers")
	return len(finalizers) > 0
}
