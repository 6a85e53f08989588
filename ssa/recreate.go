package ssa

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// refuse settles an item that the server refused by dry run. If the object may
// be recreated, and would be accepted as a new one, that is what becomes of it:
// an object that is merely invalid, or that admission wants to stay as it is, is
// never deleted.
func (p *plan) refuse(ctx context.Context, it *item, live *unstructured.Unstructured, refusal error) Change {
	change := Change{Object: it.id, Version: it.change.Version, Action: Failed, Err: objectError("validate", it.id, refusal)}
	if isTransient(refusal) {
		return change // no answer: what else is asked would fare no better
	}
	var err error
	if live == nil {
		live, err = p.client.resource(it.mapping, it.id.Namespace).Get(ctx, it.id.Name, metav1.GetOptions{})
	}
	switch {
	case err != nil: // there is no object that could ask to be left alone, or be recreated
		return change
	case p.exemptLive(it, live):
		return it.change
	case outdated(refusal, live, it.obj.GetAPIVersion()):
		it.outdated = true
		change.UID, change.ResourceVersion = live.GetUID(), live.GetResourceVersion()
		return change
	case !immutable(refusal):
		return change
	case !p.mayRecreate(it, live):
		change.Err = objectError("validate", it.id, fmt.Errorf("%w: a field cannot be changed: delete the object, or allow to recreate it with the annotation %s/force: enabled: %w", ErrInvalid, p.client.Owner.group(), p.client.scrub(it, refusal)))
		return change
	case !p.admit(it, live, &change):
		return change
	}
	created, err := p.client.rehearse(ctx, it)
	if err != nil {
		change.Err = errors.Join(change.Err, objectError("recreate", it.id, fmt.Errorf("it is not deleted, because it could not be created again: %w", p.client.scrub(it, err))))
		return change
	}
	change.Action, change.Err, change.Reason = Recreated, nil, "a field cannot be changed"
	change.UID, change.ResourceVersion = live.GetUID(), live.GetResourceVersion()
	change.Fields = differences(live, created, p.unmask)
	it.planned, it.yielded = stateOf(live), nil
	return change
}

// scrub returns an answer of the API server as it may be wrapped: with its class,
// and for a Secret without its text.
func (c *Client) scrub(it *item, err error) error {
	class := classify(err)
	if it.id.Kind == "Secret" && it.id.Group == "" {
		err = withoutValues(err)
	}
	if class != nil {
		return fmt.Errorf("%w: %w", class, err)
	}
	return err
}

// immutable reports a refusal by the validation of the server, which says itself
// that a field cannot be changed. What admission says does not count: a policy
// that forbids a change does not mean that the object may be deleted.
func immutable(err error) bool {
	text := err.Error()
	if !apierrors.IsInvalid(err) || strings.Contains(text, "denied request") || strings.Contains(text, "ValidatingAdmissionPolicy") || strings.Contains(text, "admission webhook") {
		return false
	}
	for _, sign := range []string{"field is immutable", "immutable field", "is immutable", "updates to statefulset spec for fields other than", "cannot change roleRef", "may not change once set", "may not change fields other than", "updates to parameters are forbidden", "updates to provisioner are forbidden", "may not be changed in an update"} {
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
// From the deletion on it goes on even if the caller gives up: it waits as long as
// ApplyOptions.EstablishTimeout says for the object to be gone, and creates within
// another half minute.
func (p *plan) recreate(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	c := p.client
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	old, err := p.removeOld(ctx, it)
	if apierrors.IsNotFound(err) {
		return c.send(ctx, it)
	}
	if err != nil {
		return nil, err
	}
	if err := p.awaitGone(ctx, it, old); err != nil {
		return nil, err
	}
	var live *unstructured.Unstructured
	err = insist(ctx, func(ctx context.Context) (err error) {
		live, err = c.send(ctx, it)
		return err
	})
	if err == nil {
		return live, nil
	}
	err = c.scrub(it, err)
	if lost := insist(ctx, func(ctx context.Context) error { return c.restore(ctx, it, old) }); lost != nil {
		return nil, fmt.Errorf("it was deleted, could not be created again, and could not be put back (%w): %w", c.scrub(it, lost), err)
	}
	return nil, fmt.Errorf("it was deleted to be created again, which was refused; it was put back as it was: %w", err)
}

// insist calls f until it succeeds, is refused, or half a minute is over.
func insist(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		err := f(ctx)
		if err == nil || !isTransient(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
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
		why := p.client.Owner.optedOut(old)
		switch {
		case why != "" && !p.client.Policy.DistrustLive:
			return nil, fmt.Errorf("%w: it was not deleted: meanwhile %s on it", ErrConflict, why)
		case p.client.foreign(old) != "" && p.client.Policy.Foreign == ForeignFail:
			return nil, fmt.Errorf("%w: it was not deleted: meanwhile it belongs to %s", ErrForeign, p.client.foreign(old))
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
func (p *plan) awaitGone(ctx context.Context, it *item, old *unstructured.Unstructured) error {
	c := p.client
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
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
	if it.id.GroupKind() == (schema.GroupKind{Group: "batch", Kind: "Job"}) {
		forgetController(obj)
	}
	_, err := c.resource(it.mapping, it.id.Namespace).Create(ctx, obj, metav1.CreateOptions{FieldManager: c.manager()})
	return err
}

// forgetController removes what the server generates for a Job from its UID, unless
// the Job says that it chose the selector itself.
func forgetController(job *unstructured.Unstructured) {
	if manual, _, _ := unstructured.NestedBool(job.Object, "spec", "manualSelector"); manual {
		return
	}
	unstructured.RemoveNestedField(job.Object, "spec", "selector")
	for _, labels := range [][]string{{"metadata", "labels"}, {"spec", "template", "metadata", "labels"}} {
		for _, name := range []string{"controller-uid", "batch.kubernetes.io/controller-uid"} {
			unstructured.RemoveNestedField(job.Object, append(slices.Clone(labels), name)...)
		}
	}
	job.SetManagedFields(nil) // they name the selector
}
