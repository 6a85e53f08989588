package ssa

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// refuse settles an item that the server refused by dry run. If the object may
// be recreated, and would be accepted as a new one, that is what becomes of it:
// an object that is merely invalid is never deleted.
func (p *plan) refuse(ctx context.Context, it *item, live *unstructured.Unstructured, refusal error) Change {
	change := Change{Object: it.id, Version: it.change.Version, Action: Failed, Err: objectError("validate", it.id, refusal)}
	if !apierrors.IsInvalid(refusal) && !immutable(refusal) {
		return change
	}
	var err error
	if live == nil {
		live, err = p.client.resource(it.mapping, it.id.Namespace).Get(ctx, it.id.Name, metav1.GetOptions{})
	}
	switch {
	case err != nil: // there is nothing to recreate
		return change
	case !p.mayRecreate(it, live):
		if immutable(refusal) {
			change.Err = objectError("validate", it.id, fmt.Errorf("%w: a field cannot be changed: delete the object, or allow to recreate it with the annotation %s/force: enabled: %w", ErrInvalid, p.client.Owner.group(), change.Err))
		}
		return change
	case !p.admit(it, live, &change):
		return change
	}
	created, err := p.client.rehearse(ctx, it)
	if err != nil {
		change.Err = errors.Join(change.Err, objectError("recreate", it.id, fmt.Errorf("it is not deleted, because it could not be created again: %w", err)))
		return change
	}
	change.Action, change.Err, change.Reason = Recreated, nil, "a field cannot be changed"
	change.UID, change.ResourceVersion = live.GetUID(), live.GetResourceVersion()
	change.Fields = differences(live, created, p.unmask)
	it.planned = stateOf(live)
	return change
}

// immutable reports a refusal that says itself that a field cannot be changed.
func immutable(err error) bool {
	text := err.Error()
	for _, sign := range []string{"field is immutable", "immutable field", "is immutable", "updates to statefulset spec for fields other than", "cannot change roleRef", "may not change once set"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// rehearse creates an object by dry run under a name that nobody has, and
// returns it with its own name.
func (c *Client) rehearse(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	var random [5]byte
	rand.Read(random[:])
	obj := it.obj.DeepCopy()
	name := it.id.Name
	const longest = 50 // of a name with its addition: kinds differ, none allows less than 63 but those that are generated from
	obj.SetName(strings.TrimRight(name[:min(len(name), longest)], "-.") + "-" + hex.EncodeToString(random[:]))
	created, err := c.resource(it.mapping, it.id.Namespace).Create(ctx, obj, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldManager: c.manager(), FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		return nil, err
	}
	created.SetName(name)
	return created, nil
}

// recreate deletes the very object that was planned for, waits until it is
// gone, and creates the new one. If that is refused, the old one is put back.
func (p *plan) recreate(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	c := p.client
	old, err := p.removeOld(ctx, it)
	if apierrors.IsNotFound(err) {
		return c.send(ctx, it)
	}
	if err != nil {
		return nil, err
	}
	// From here on the object is on its way out: what follows is finished, or
	// undone, even if the caller gives up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.patience)
	defer cancel()
	if err := c.awaitGone(ctx, it, old); err != nil {
		return nil, err
	}
	live, err := c.send(ctx, it)
	if err == nil {
		return live, nil
	}
	if lost := c.restore(ctx, it, old); lost != nil {
		return nil, fmt.Errorf("it was deleted, could not be created again, and could not be put back (%w): %w", lost, err)
	}
	return nil, fmt.Errorf("it was deleted to be created again, which was refused; it was put back as it was: %w", err)
}

// stateOf tells one desired state of a live object from another: by its
// generation, or, for kinds that have none, by its content.
func stateOf(live *unstructured.Unstructured) sum {
	if n := live.GetGeneration(); n != 0 {
		return sumOf(appendValue(nil, n))
	}
	return digestsOf(live).whole
}

// removeOld deletes the object that was planned for, and returns it, unless
// somebody else changed it since.
func (p *plan) removeOld(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	resource := p.client.resource(it.mapping, it.id.Namespace)
	propagation := metav1.DeletePropagationBackground
	const attempts = 5
	for attempt := 1; ; attempt++ {
		old, err := resource.Get(ctx, it.id.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if old.GetUID() != it.change.UID || stateOf(old) != it.planned {
			return nil, fmt.Errorf("%w: it changed since it was looked at, so it was not deleted", ErrConflict)
		}
		uid, version := old.GetUID(), old.GetResourceVersion()
		err = resource.Delete(ctx, it.id.Name, metav1.DeleteOptions{
			PropagationPolicy: &propagation, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		})
		if err == nil {
			return old, nil
		}
		if !apierrors.IsConflict(err) || attempt == attempts {
			return nil, fmt.Errorf("delete: %w", err)
		}
	}
}

// awaitGone waits until an object that is being deleted is gone.
func (c *Client) awaitGone(ctx context.Context, it *item, old *unstructured.Unstructured) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		live, err := c.resource(it.mapping, it.id.Namespace).Get(ctx, it.id.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && live.GetUID() != old.GetUID():
			return nil
		case err != nil && !isTransient(err):
			return fmt.Errorf("it is being deleted: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if live != nil && len(live.GetFinalizers()) > 0 {
				return fmt.Errorf("%w: it is being deleted, and waits for its finalizers %s: apply again when it is gone", ErrNotReady, strings.Join(live.GetFinalizers(), ", "))
			}
			return fmt.Errorf("%w: it is being deleted, and is not gone yet: apply again when it is", ErrNotReady)
		}
	}
}

// restore creates a deleted object as it was, with its managed fields.
func (c *Client) restore(ctx context.Context, it *item, old *unstructured.Unstructured) error {
	obj := old.DeepCopy()
	for _, field := range []string{"resourceVersion", "uid", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", field)
	}
	delete(obj.Object, "status")
	_, err := c.resource(it.mapping, it.id.Namespace).Create(ctx, obj, metav1.CreateOptions{FieldManager: c.manager()})
	return err
}
