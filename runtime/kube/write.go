package kube

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/status"
)

const (
	// writeTimeout bounds one write of a status.
	writeTimeout = 30 * time.Second
	// tries is how often a write is made when others write at the same time.
	tries = 3
)

// read returns a copy of an object from the cache, or of our own last write if
// the cache is behind.
func (c *Controller[T]) read(ctx context.Context, key client.ObjectKey) (T, error) {
	obj := c.make()
	if err := c.client.Get(ctx, key, obj); err != nil {
		return obj, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.written[key]
	if ok && w.GetUID() == obj.GetUID() && older(obj, w) {
		return w.DeepCopyObject().(T), nil //nolint:forcetypeassert // a copy has the type
	}
	delete(c.written, key)
	return obj, nil
}

// older reports that a is an earlier version of the same object than b.
func older(a, b client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order < 0
}

// wrote remembers what the API server made of a write, until the cache has it.
func (c *Controller[T]) wrote(obj T) {
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 {
		return // it is gone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := client.ObjectKeyFromObject(obj)
	if w, ok := c.written[key]; !ok || w.GetUID() != obj.GetUID() || older(w, obj) {
		c.written[key] = obj.DeepCopyObject().(T) //nolint:forcetypeassert // a copy has the type
	}
}

// caught forgets our last write of an object once the cache has it.
func (c *Controller[T]) caught(obj T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := client.ObjectKeyFromObject(obj)
	if w, ok := c.written[key]; ok && (w.GetUID() != obj.GetUID() || !older(obj, w)) {
		delete(c.written, key)
	}
}

// patch writes the difference of metadata and spec. The status of obj, which
// the API server does not take here, is kept.
func (c *Controller[T]) patch(ctx context.Context, base, obj T) error {
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := c.client.Patch(ctx, obj, patch, client.FieldOwner(c.options.FieldOwner)); err != nil {
		return err
	}
	c.wrote(obj)
	return nil
}

// mark changes the finalizers of an object, if that is still to be done. If the
// object has changed meanwhile, it is done on top of that, and the newer one is
// returned; unless that is being deleted, which makes for another pass.
func (c *Controller[T]) mark(ctx context.Context, obj T, change func(client.Object, string) bool) (T, error) {
	for try := 1; ; try++ {
		base := obj.DeepCopyObject().(T) //nolint:forcetypeassert // a copy has the type
		if !change(obj, c.options.Finalizer) {
			return obj, nil
		}
		err := c.patch(ctx, base, obj)
		if !apierrors.IsConflict(err) || try >= tries {
			return obj, err
		}
		fresh := c.make()
		if err := c.reader.Get(ctx, client.ObjectKeyFromObject(obj), fresh); err != nil {
			return obj, err
		}
		if fresh.GetUID() != obj.GetUID() || (fresh.GetDeletionTimestamp() == nil) != (obj.GetDeletionTimestamp() == nil) {
			return obj, err
		}
		obj = fresh
	}
}

// refused reports whether the API server will never take what was sent.
func refused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// writer writes the status of an object, at most what has changed.
type writer[T Object] struct {
	c        *Controller[T]
	before   T // as the API server has it
	start    T // as the pass found it
	saved    bool
	requests requests // that the pass answers
}

// first returns the object as the pass found it.
func (w *writer[T]) first() T {
	if w.saved {
		return w.start
	}
	return w.before
}

// write sends what differs from the status that the API server has. If the
// object has changed there meanwhile, the write is repeated on top of that.
func (w *writer[T]) write(ctx context.Context, obj T, change status.Change) error {
	base, lock := w.before, w.before.GetResourceVersion()
	for try := 1; ; try++ {
		patch, err := status.Diff(base, obj, change, lock)
		if err != nil || patch == nil {
			return err
		}
		sent := obj.DeepCopyObject().(T) //nolint:forcetypeassert // a copy has the type
		err = w.c.client.Status().Patch(ctx, sent, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(w.c.options.FieldOwner))
		switch {
		case err == nil:
			w.done(obj, sent)
			return nil
		case !apierrors.IsConflict(err) || try >= tries:
			return err
		}
		fresh := w.c.make()
		if err := w.c.reader.Get(ctx, client.ObjectKeyFromObject(obj), fresh); err != nil {
			return err
		}
		if fresh.GetUID() != obj.GetUID() { // another object has the name now
			return apierrors.NewNotFound(schema.GroupResource{Group: w.c.gvk.Group, Resource: w.c.gvk.Kind}, obj.GetName())
		}
		if err := status.Rebase(base, obj, fresh); err != nil {
			return err
		}
		base, lock = fresh, fresh.GetResourceVersion()
	}
}

// done takes over what the API server has returned.
func (w *writer[T]) done(obj, sent T) {
	if !w.saved {
		w.start, w.saved = w.before, true
	}
	w.c.wrote(sent)
	w.before = sent
	obj.SetResourceVersion(sent.GetResourceVersion())
}
