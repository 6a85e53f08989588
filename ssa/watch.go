package ssa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
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

// watched is the objects of one kind that are watched.
type watched struct {
	mapping   *meta.RESTMapping
	namespace string // "" if they are in several
	objects   []ObjectID
	followed  bool // the store knows what was applied
}

func (c *Client) watch(ctx context.Context, set *ChangeSet, drifted func(Drift)) error {
	d := &detector{drifted: drifted, baselines: map[ObjectID]baseline{}, wake: make(chan struct{}, 1)}
	kinds, err := c.watchedKinds(set, d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	for _, k := range kinds {
		wg.Go(func() {
			if k.followed && c.watchStore(ctx, k, d) {
				return
			}
			d.unfollowed(k.objects)
			if err := c.watchKind(ctx, k, d); err != nil {
				cancel(err)
			}
		})
	}
	d.tellRested(ctx)
	wg.Wait()
	return context.Cause(ctx)
}

// watchedKinds sorts the objects of a set by kind.
func (c *Client) watchedKinds(set *ChangeSet, d *detector) ([]*watched, error) {
	var kinds []*watched
	byResource := map[string]*watched{}
	for _, change := range set.Changes {
		if change.baseline.fields == nil && !change.followed {
			continue
		}
		d.baselines[change.Object] = change.baseline
		m, err := c.mapping(change.Object.GroupKind(), change.Version)
		if err != nil {
			return nil, objectError("watch", change.Object, err)
		}
		key := fmt.Sprint(m.Resource, change.followed)
		k := byResource[key]
		if k == nil {
			k = &watched{mapping: m, namespace: change.Object.Namespace, followed: change.followed}
			byResource[key] = k
			kinds = append(kinds, k)
		}
		k.objects = append(k.objects, change.Object)
		if k.namespace != change.Object.Namespace {
			k.namespace = ""
		}
	}
	return kinds, nil
}

// watchKind watches the objects of one kind until ctx is done.
func (c *Client) watchKind(ctx context.Context, k *watched, d *detector) error {
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
		return nil
	}
	return err
}

// watchStore has the store tell what drifts until ctx is done. It reports false
// if the store does not follow the kind, or no longer does.
func (c *Client) watchStore(ctx context.Context, k *watched, d *detector) bool {
	kind := c.Store.kind(k.mapping)
	if kind == nil {
		return false
	}
	if listed, _ := kind.wait(ctx); !listed { // what happens while it is not connected it tells later
		return ctx.Err() != nil
	}
	manager := c.manager()
	unsubscribe, refused := kind.subscribe(c.Owner.String(), k.objects, func(id ObjectID, r *record) {
		switch {
		case r == nil:
			d.report(Drift{Object: id, Deleted: true}, time.Time{})
		case r.receipt.manager == "": // it is another object now, or nobody knows
			d.report(Drift{Object: id}, time.Time{})
		case r.receipt.manager == manager && r.receipt.drifted:
			rival, resting := c.Store.contests.resting(contestKey{kind: kind.key, name: types.NamespacedName{Namespace: id.Namespace, Name: id.Name}})
			if !resting {
				rival.Until = time.Time{}
			}
			d.report(Drift{Object: id}, rival.Until)
		}
	})
	defer unsubscribe()
	select {
	case <-ctx.Done():
		return true
	case <-kind.ended:
	case <-kind.dropped:
	case <-refused:
	}
	return ctx.Err() != nil
}

// detector compares what is seen with what was applied.
type detector struct {
	drifted   func(Drift)
	mu        sync.Mutex
	baselines map[ObjectID]baseline // of what was not told yet
	resting   []rested              // in the order of their notice
	wake      chan struct{}         // when something is added to resting
}

// rested is a drift that is told later, because the object was repaired a moment
// ago.
type rested struct {
	drift Drift
	until time.Time
}

func (d *detector) tell(obj *unstructured.Unstructured, gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := IDOf(obj)
	b, ours := d.baselines[id]
	if !ours || b.fields == nil || !gone && !b.drifted(obj) {
		return
	}
	d.add(Drift{Object: id, Deleted: gone}, time.Time{})
}

// add has a drift told, now or at a later time. mu must be held.
func (d *detector) add(drift Drift, at time.Time) {
	r := rested{drift: drift, until: at}
	if i := slices.IndexFunc(d.resting, func(o rested) bool { return o.drift.Object == drift.Object }); i >= 0 {
		d.resting[i] = r
	} else {
		d.resting = append(d.resting, r)
	}
	select {
	case d.wake <- struct{}{}:
	default: // it is awake
	}
}

// report tells a drift that the store noticed, now or at a later time.
func (d *detector) report(drift Drift, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, open := d.baselines[drift.Object]; open {
		d.add(drift, at)
	}
}

// unfollowed tells objects that only the store knew, which does not know them
// any more: they may have drifted.
func (d *detector) unfollowed(ids []ObjectID) {
	for _, id := range ids {
		d.mu.Lock()
		b := d.baselines[id]
		d.mu.Unlock()
		if b.fields == nil {
			d.report(Drift{Object: id}, time.Time{})
		}
	}
}

// tellRested tells what was reported when its time has come, until ctx is done.
func (d *detector) tellRested(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-d.wake:
		}
		due, next := d.due(time.Now())
		for _, drift := range due {
			d.drifted(drift)
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// due returns what is to be told now, each object once, and when the next is.
func (d *detector) due(now time.Time) (due []Drift, next time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var later []rested
	for _, r := range d.resting {
		_, open := d.baselines[r.drift.Object]
		switch {
		case !open:
		case r.until.After(now):
			later = append(later, r)
			if next.IsZero() || r.until.Before(next) {
				next = r.until
			}
		default:
			delete(d.baselines, r.drift.Object) // once
			due = append(due, r.drift)
		}
	}
	d.resting = later
	return due, next
}

// absent tells the objects of a kind that the first list did not have.
func (d *detector) absent(m *meta.RESTMapping, s *kindStream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := map[ObjectID]bool{}
	for key := range s.known {
		found[ObjectID{Group: m.GroupVersionKind.Group, Kind: m.GroupVersionKind.Kind, Namespace: key.Namespace, Name: key.Name}] = true
	}
	for _, id := range s.objects {
		if _, open := d.baselines[id]; open && !found[id] {
			d.add(Drift{Object: id, Deleted: true}, time.Time{})
		}
	}
}
