package ssa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
)

// Objects applies, compares, waits for and deletes single objects, for callers
// who keep their own record of what they have, such as Helm's releases: there
// is no inventory. Its methods have standard types only, so that packages which
// need a cluster can say so without knowing this one.
//
// Objects are those a caller wants; live ones are those the cluster has.
// Namespaced objects that name no namespace are in the client's
// DefaultNamespace. All applied objects carry the labels of the client's Owner.
//
// It is safe for concurrent use.
type Objects struct {
	// Client is the connection. Required; its Inventory is not used.
	Client *Client
	// Managers are others whose fields of an object become ours when it is
	// applied, because they applied it for us before, without server-side
	// apply: "helm". What they set and we do not then goes. They add to
	// Policy.TakeOver of the client.
	Managers []string
}

// forgetful is the inventory of those who keep their own.
type forgetful struct{}

func (forgetful) Load(context.Context) (*Inventory, error) { return &Inventory{}, nil }
func (forgetful) Save(context.Context, *Inventory) error   { return nil }

func (o *Objects) client() (*Client, error) {
	if o.Client == nil {
		return nil, fmt.Errorf("ssa: %w: Objects.Client is nil", ErrInvalid)
	}
	c := *o.Client
	c.Inventory = forgetful{}
	c.Policy.TakeOver = slices.Concat(c.Policy.TakeOver, o.Managers)
	return &c, c.validate()
}

// Apply makes the cluster hold objects, as [Client.Apply] does: all or, if the
// server refuses one beforehand, none.
func (o *Objects) Apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	_, err = c.Apply(ctx, objects, nil)
	return err
}

// Diff returns for each object, in order, what an apply would change, a line
// for each field, or for a missing object one line; nil where nothing would
// change. Values of Secrets are masked. It changes nothing.
func (o *Objects) Diff(ctx context.Context, objects []*unstructured.Unstructured) ([][]string, error) {
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	set, err := c.Diff(ctx, objects, nil)
	if err != nil {
		return nil, err
	}
	lines := map[ObjectID][]string{}
	for _, change := range set.Changes {
		switch change.Action {
		case Created:
			lines[change.Object] = []string{"it does not exist"}
		case Configured, Recreated:
			for _, f := range change.Fields {
				lines[change.Object] = append(lines[change.Object], f.String())
			}
			if len(change.Fields) == 0 {
				lines[change.Object] = []string{change.Reason}
			}
		case Unchanged, Deleted, Kept, Exempt, Skipped, Failed, Contested:
		}
	}
	out := make([][]string, len(objects))
	for i, obj := range objects {
		out[i] = lines[c.ID(obj)]
	}
	return out, nil
}

// Get returns the live objects, in order; nil for one that does not exist, or
// whose kind the cluster does not serve.
func (o *Objects) Get(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	c, err := o.client()
	if err != nil {
		return nil, err
	}
	out := make([]*unstructured.Unstructured, len(objects))
	errs := make([]error, len(objects))
	c.each(ctx, len(objects), func(i int) {
		id := c.ID(objects[i])
		m, err := c.mapping(id.GroupKind(), objects[i].GroupVersionKind().Version)
		if err == nil {
			out[i], err = c.resource(m, id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) || errors.Is(err, ErrUnknownKind) {
			out[i], err = nil, nil
		}
		errs[i] = objectError("read", id, err)
	})
	return out, errors.Join(errors.Join(errs...), context.Cause(ctx))
}

// Delete deletes objects in the reverse of their order, and those that are
// gone count as deleted. One that has a UID is deleted only if it is still the
// same. An empty propagation means background. It does not wait for the end.
func (o *Objects) Delete(ctx context.Context, objects []*unstructured.Unstructured, propagation metav1.DeletionPropagation) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	if propagation == "" {
		propagation = metav1.DeletePropagationBackground
	}
	var errs []error
	for i := len(objects) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		id := c.ID(objects[i])
		m, err := c.mapping(id.GroupKind(), objects[i].GroupVersionKind().Version)
		if err == nil {
			options := metav1.DeleteOptions{PropagationPolicy: &propagation}
			if uid := objects[i].GetUID(); uid != "" {
				options.Preconditions = &metav1.Preconditions{UID: &uid}
			}
			err = c.resource(m, id.Namespace).Delete(ctx, id.Name, options)
		}
		if err != nil && !apierrors.IsNotFound(err) && !errors.Is(err, ErrUnknownKind) {
			errs = append(errs, objectError("delete", id, err))
		}
	}
	return errors.Join(errs...)
}

// WaitReady returns when all objects are ready, as [Client.Wait] does. The end
// of ctx is the timeout, less a tenth of the time, a second at most, in which to
// find out why they are not.
func (o *Objects) WaitReady(ctx context.Context, objects []*unstructured.Unstructured) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	ids := make([]ObjectID, len(objects))
	for i, obj := range objects {
		ids[i] = c.ID(obj)
	}
	timeout := time.Duration(forever)
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		timeout = max(left-min(left/10, time.Second), 1)
	}
	_, err = c.Wait(ctx, ids, &WaitOptions{Timeout: timeout})
	return err
}

// forever is longer than any context that callers bound a wait with.
const forever = 1 << 62

// WaitFor calls done with the live object, nil if it does not exist, now and
// whenever it changes, until done returns true or an error, or ctx ends. It
// sends no requests while it waits.
func (o *Objects) WaitFor(ctx context.Context, object *unstructured.Unstructured, done func(live *unstructured.Unstructured) (bool, error)) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	id := c.ID(object)
	m, err := c.mapping(id.GroupKind(), object.GroupVersionKind().Version)
	if errors.Is(err, ErrUnknownKind) {
		if ok, doneErr := done(nil); ok || doneErr != nil {
			return doneErr
		}
	}
	if err != nil {
		return objectError("wait", id, err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var finished, told bool
	var result error
	tell := func(live *unstructured.Unstructured) {
		if !finished {
			told = true
			if finished, result = done(live); finished || result != nil {
				finished = true
				stop()
			}
		}
	}
	s := &stream{
		resource: c.resource(m, id.Namespace),
		options:  metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", id.Name).String()},
		seen: func(obj *unstructured.Unstructured, gone bool) {
			if gone {
				obj = nil
			}
			tell(obj)
		},
	}
	kind := &kindStream{stream: *s, objects: []ObjectID{id}}
	if err = kind.first(watching); err == nil && !told {
		tell(nil)
	}
	if err == nil && !finished {
		err = kind.follow(watching)
	}
	if !finished && (errors.Is(err, ErrUnknownKind) || apierrors.IsNotFound(err)) {
		tell(nil) // the kind has gone, and the object with it
	}
	if finished {
		return result
	}
	return objectError("wait", id, err)
}
