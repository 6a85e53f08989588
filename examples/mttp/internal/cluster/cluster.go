// Package cluster creates, changes, follows and removes the objects of the
// benchmark. It waits by watch.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// RequestedAt is the annotation that asks Flux's controllers for a pass; they
// answer in status.lastHandledReconcileAt.
const RequestedAt = "reconcile.fluxcd.io/requestedAt"

// parallel is how many requests are sent at a time.
const parallel = 16

// Cluster is the namespace that the benchmark has for itself. It is safe for
// concurrent use.
type Cluster struct {
	Dynamic   dynamic.Interface
	Namespace string
}

func namespaces() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
}

// Check reports which of the kinds the cluster does not have.
func (c *Cluster) Check(ctx context.Context, kinds ...schema.GroupVersionResource) error {
	var errs []error
	for _, gvr := range kinds {
		_, err := c.Dynamic.Resource(gvr).List(ctx, metav1.ListOptions{Limit: 1})
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("the cluster has no %s: install Flux, or the definitions of examples/controllers/crds", Name(gvr))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Name is a kind with its group and version.
func Name(gvr schema.GroupVersionResource) string {
	return gvr.Resource + " of " + gvr.GroupVersion().String()
}

// CreateNamespace creates the namespace, which must not exist.
func (c *Cluster) CreateNamespace(ctx context.Context) error {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": c.Namespace}}}
	_, err := c.Dynamic.Resource(namespaces()).Create(ctx, o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("namespace %s exists: it is deleted at the end of a run, so delete it if it is of an earlier one, or choose another by -namespace", c.Namespace)
	}
	return err
}

// DeleteNamespace deletes the namespace and waits until it is gone.
func (c *Cluster) DeleteNamespace(ctx context.Context) error {
	followed := newFollowed()
	defer followed.Stop()
	err := followed.add(ctx, c.Dynamic, namespaces(), "", "metadata.name="+c.Namespace)
	if err != nil {
		return err
	}
	if err := c.Dynamic.Resource(namespaces()).Delete(ctx, c.Namespace, metav1.DeleteOptions{}); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}
	return followed.Until(ctx, []Ref{{namespaces().Resource, c.Namespace}}, Gone)
}

// Create creates objects.
func (c *Cluster) Create(ctx context.Context, gvr schema.GroupVersionResource, objects []*unstructured.Unstructured) error {
	err := each(ctx, objects, func(ctx context.Context, o *unstructured.Unstructured) error {
		_, err := c.Dynamic.Resource(gvr).Namespace(c.Namespace).Create(ctx, o, metav1.CreateOptions{})
		return err
	})
	return wrap(err, "create", gvr)
}

// Request asks for a pass of objects.
func (c *Cluster) Request(ctx context.Context, gvr schema.GroupVersionResource, names []string, token string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, RequestedAt, token)
	err := each(ctx, names, func(ctx context.Context, name string) error {
		_, err := c.Dynamic.Resource(gvr).Namespace(c.Namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "mttp"})
		return err
	})
	return wrap(err, "annotate", gvr)
}

// Remove deletes objects and waits until they are gone.
func (c *Cluster) Remove(ctx context.Context, gvr schema.GroupVersionResource, names []string) error {
	f, err := c.Follow(ctx, gvr)
	if err != nil {
		return err
	}
	defer f.Stop()
	var refs []Ref
	for _, name := range names {
		refs = append(refs, Ref{gvr.Resource, name})
	}
	err = each(ctx, names, func(ctx context.Context, name string) error {
		err := c.Dynamic.Resource(gvr).Namespace(c.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return wrap(err, "delete", gvr)
	}
	return f.Until(ctx, refs, Gone)
}

// wrap says what was done to objects of a kind.
func wrap(err error, op string, gvr schema.GroupVersionResource) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, Name(gvr), err)
}

// each calls f for every item, some at a time, until one fails.
func each[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan T)
	for range min(parallel, len(items)) {
		wg.Go(func() {
			for item := range next {
				if err := f(ctx, item); err != nil {
					cancel(err)
				}
			}
		})
	}
feed:
	for _, item := range items {
		select {
		case next <- item:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}
