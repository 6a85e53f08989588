package ssa

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Drift is a change that somebody else made to an applied object.
type Drift struct {
	Object ObjectID
	// Deleted is true if the object is gone, or no longer carries the labels
	// of its owner; else a field that was applied has another value.
	Deleted bool
}

// String says what happened to which object.
func (d Drift) String() string {
	if d.Deleted {
		return d.Object.String() + " was deleted by somebody else"
	}
	return d.Object.String() + " was changed by somebody else"
}

// Watch calls drifted for every object of an applied set that somebody else
// deletes or changes in a field that was applied, also if that happened
// between the apply and the start of the watch. Changes of other fields, such
// as status or the replicas that an autoscaler sets, are none of its business.
// Each object is told once; apply again and watch the new set to go on.
//
// drifted is called by one goroutine at a time and must return soon. Watch
// returns when ctx is done, with its error, or when the server refuses.
func (c *Client) Watch(ctx context.Context, set *ChangeSet, drifted func(Drift)) error {
	err := c.validate()
	if err == nil {
		err = c.watch(ctx, set, drifted)
	}
	if err != nil {
		return fmt.Errorf("ssa: watch for %s: %w", c.Owner, err)
	}
	return nil
}

func (c *Client) watch(ctx context.Context, set *ChangeSet, drifted func(Drift)) error {
	d := &detector{drifted: drifted, baselines: map[ObjectID]baseline{}}
	type kind struct {
		mapping   *meta.RESTMapping
		namespace string
		objects   []ObjectID
	}
	var kinds []*kind
	byResource := map[string]*kind{}
	for _, change := range set.Changes {
		if change.baseline.fields == nil {
			continue
		}
		d.baselines[change.Object] = change.baseline
		m, err := c.mapping(change.Object.GroupKind(), change.Version)
		if err != nil {
			return objectError("watch", change.Object, err)
		}
		k := byResource[m.Resource.String()]
		if k == nil {
			k = &kind{mapping: m, namespace: change.Object.Namespace}
			byResource[m.Resource.String()] = k
			kinds = append(kinds, k)
		}
		k.objects = append(k.objects, change.Object)
		if k.namespace != change.Object.Namespace {
			k.namespace = ""
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, k := range kinds {
		wg.Go(func() {
			s := &kindStream{objects: k.objects, stream: stream{
				resource: c.resource(k.mapping, k.namespace),
				options:  metav1.ListOptions{LabelSelector: c.Owner.selector()},
				seen: func(obj *unstructured.Unstructured, gone bool) {
					obj.SetGroupVersionKind(k.mapping.GroupVersionKind)
					d.tell(obj, gone)
				},
			}}
			err := s.first(ctx)
			if err == nil {
				d.absent(k.mapping, s)
				err = objectError("watch", k.objects[0], s.follow(ctx))
			}
			if errors.Is(err, ErrUnknownKind) { // the definition is gone, and all objects with it
				s.known = nil
				d.absent(k.mapping, s)
				return
			}
			cancel(err)
		})
	}
	wg.Wait()
	<-ctx.Done()
	return context.Cause(ctx)
}

// detector compares what is seen with what was applied.
type detector struct {
	drifted   func(Drift)
	mu        sync.Mutex
	baselines map[ObjectID]baseline
}

func (d *detector) tell(obj *unstructured.Unstructured, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := IDOf(obj)
	b, ours := d.baselines[id]
	if !ours || !gone && !b.drifted(obj) {
		return
	}
	delete(d.baselines, id) // once
	d.drifted(Drift{Object: id, Deleted: gone})
}

// absent tells the objects of a kind that the first list did not have.
func (d *detector) absent(m *meta.RESTMapping, s *kindStream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := map[ObjectID]bool{}
	for _, obj := range s.known {
		obj.SetGroupVersionKind(m.GroupVersionKind)
		found[IDOf(obj)] = true
	}
	for _, id := range s.objects {
		if _, open := d.baselines[id]; open && !found[id] {
			delete(d.baselines, id)
			d.drifted(Drift{Object: id, Deleted: true})
		}
	}
}
