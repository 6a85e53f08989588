package kube

import (
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/status"
)

// writeTimeout bounds one write of a status.
const writeTimeout = 30 * time.Second

// written is an object as the API server has returned it for our last write,
// until the cache has seen it.
type written[T Object] struct {
	obj   T
	older []string // resource versions that we know to be older
}

// read returns a copy of an object from the cache, or of our own last write if
// the cache is behind.
func (c *Controller[T]) read(ctx context.Context, key client.ObjectKey) (T, error) {
	obj := c.make()
	if err := c.client.Get(ctx, key, obj); err != nil {
		return obj, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.written[key]
	switch {
	case w == nil:
	case w.obj.GetUID() == obj.GetUID() && slices.Contains(w.older, obj.GetResourceVersion()):
		return w.obj.DeepCopyObject().(T), nil //nolint:forcetypeassert // a copy has the type
	default:
		delete(c.written, key)
	}
	return obj, nil
}

// wrote remembers what the API server made of a write.
func (c *Controller[T]) wrote(obj T, older string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := client.ObjectKeyFromObject(obj)
	if older == obj.GetResourceVersion() {
		return
	}
	w := &written[T]{obj: obj.DeepCopyObject().(T), older: []string{older}} //nolint:forcetypeassert // a copy has the type
	if old := c.written[key]; old != nil {
		w.older = append(w.older, old.older...)
	}
	c.written[key] = w
}

// patch writes the difference of metadata and spec. The status of obj, which
// the API server does not take here, is kept.
func (c *Controller[T]) patch(ctx context.Context, base, obj T) error {
	older := obj.GetResourceVersion()
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := c.client.Patch(ctx, obj, patch, client.FieldOwner(c.options.FieldOwner)); err != nil {
		return err
	}
	c.wrote(obj, older)
	return nil
}

// writer writes the status of an object, at most what has changed.
type writer[T Object] struct {
	c      *Controller[T]
	before T // as the API server has it
	start  T // as the pass found it
	saved  bool
	token  string
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
	const tries = 3
	for try := 0; ; try++ {
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
		case apierrors.IsNotFound(err):
			return nil // there is nobody to tell
		case !apierrors.IsConflict(err) || try >= tries:
			return err
		}
		fresh := w.c.make()
		if err := w.c.reader.Get(ctx, client.ObjectKeyFromObject(obj), fresh); err != nil {
			return client.IgnoreNotFound(err)
		}
		keep(obj, w.before, fresh)
		base, lock = fresh, fresh.GetResourceVersion()
	}
}

// keep adds the conditions to obj that somebody else has added meanwhile.
func keep(obj, before, fresh status.Object) {
	for _, theirs := range fresh.GetConditions() {
		if status.Get(obj, theirs.Type) == nil && status.Get(before, theirs.Type) == nil {
			obj.SetConditions(append(obj.GetConditions(), theirs))
		}
	}
}

// done takes over what the API server has returned.
func (w *writer[T]) done(obj, sent T) {
	if !w.saved {
		w.start, w.saved = w.before, true
	}
	w.c.wrote(sent, w.before.GetResourceVersion())
	w.before = sent
	obj.SetResourceVersion(sent.GetResourceVersion())
}

// handled returns status.lastHandledReconcileAt.
func handled(obj any) string {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return ""
	}
	token, _, _ := unstructured.NestedString(content, "status", "lastHandledReconcileAt")
	return token
}
