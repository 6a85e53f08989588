package ssa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// PruneOptions are the optional settings of [Client.Prune].
type PruneOptions struct {
	// Propagation says what happens to objects that a deleted one owns; empty
	// means metav1.DeletePropagationBackground.
	Propagation metav1.DeletionPropagation
	// Orphan deletes nothing: what left the set leaves the inventory, and stays
	// in the cluster with the labels of its owner.
	Orphan bool
	// HandedOver names objects that another owner is about to have, or has: they
	// leave the inventory and stay, whatever their labels say.
	HandedOver []ObjectID
	// Guard stops the prune if it would delete too much; nil stops nothing.
	Guard *PruneGuard
	// DependencyTimeout bounds each wait for objects to be gone before those are
	// deleted that they named in their annotation config.kubernetes.io/depends-on;
	// 0 means five minutes.
	DependencyTimeout time.Duration
}

// Prune deletes the objects in the owner's inventory that are not in keep, in
// the reverse of the order they are applied in, and then stores what is left.
// With an empty keep it deletes everything the owner has.
//
// An object is deleted only if it is the very one that was read a moment
// before, carries the owner's labels, and does not ask to stay with the
// annotation <Group>/prune: disabled. One whose labels name somebody else has
// been handed over: it is Kept and forgotten. One that asks to stay, or whose
// deletion failed, remains in the inventory.
//
// Prune returns when the API server has accepted the deletions; [Client.WaitDeleted]
// waits for their end. Call it after an [Client.Apply] without error.
func (c *Client) Prune(ctx context.Context, keep []*unstructured.Unstructured, opts *PruneOptions) (*ChangeSet, error) {
	set, err := c.prune(ctx, keep, opts)
	if err != nil {
		return set, fmt.Errorf("ssa: prune for %s: %w", c.Owner, err)
	}
	return set, nil
}

func (c *Client) prune(ctx context.Context, keep []*unstructured.Unstructured, opts *PruneOptions) (*ChangeSet, error) {
	set := &ChangeSet{}
	kept, err := c.keep(keep)
	if err != nil {
		return set, err
	}
	if c.holdsExactly(kept) {
		return set, nil
	}
	inventory, err := c.load(ctx)
	if err != nil {
		return set, err
	}
	stale := inventory.without(kept).reversed()
	if len(stale) == 0 {
		c.noteInventory(inventory, kept)
		return set, nil
	}
	remaining := kept
	victims, guarded := c.remove(ctx, stale, len(inventory.Entries), opts)
	for i, v := range victims {
		if v == nil { // ctx ended before its turn
			err := objectError("delete", stale[i].Object, context.Cause(ctx))
			v = &victim{change: Change{Object: stale[i].Object, Version: stale[i].Version, Action: Failed, Err: err}}
		}
		if v.remember || v.change.Action == Failed {
			remaining = append(remaining, stale[i])
		}
		set.Changes = append(set.Changes, v.change)
	}
	if guarded != nil {
		return set, guarded
	}
	stay := make(map[ObjectID]bool, len(remaining))
	for _, e := range remaining {
		stay[e.Object] = true
	}
	inventory.Entries = slices.DeleteFunc(slices.Clone(inventory.Entries), func(e Entry) bool { return !stay[e.Object] }) // Apply adds, Prune removes
	// A cancelled call has deleted some, which is better noted at once; if it
	// cannot be, the next run finds them gone.
	saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = c.save(saveCtx, inventory)
	return set, errors.Join(set.Err(), err)
}

// remove deletes what is stale, in order. Those whose turn did not come before
// ctx ended are nil. The error says why nothing was deleted.
func (c *Client) remove(ctx context.Context, stale []Entry, total int, opts *PruneOptions) ([]*victim, error) {
	if opts == nil {
		opts = &PruneOptions{}
	}
	victims := make([]*victim, len(stale))
	c.each(ctx, len(stale), func(i int) {
		switch why := ""; {
		case opts.Orphan:
			why = "it is left in the cluster, as asked"
			fallthrough
		case slices.Contains(opts.HandedOver, stale[i].Object):
			why = cmp.Or(why, "it is handed over")
			victims[i] = &victim{change: Change{Object: stale[i].Object, Version: stale[i].Version, Action: Kept, Reason: why}}
		default:
			victims[i] = c.victim(ctx, stale[i])
		}
	})
	if ctx.Err() != nil {
		return make([]*victim, len(stale)), nil //nolint:nilerr // the victims say so
	}
	if err := opts.Guard.check(victims, total); err != nil {
		for _, v := range victims {
			if v.change.Action == Deleted && v.live != nil {
				v.change.Action, v.change.Reason, v.remember = Kept, "the guard of the prune stopped it", true
			}
		}
		return victims, err
	}
	propagation := cmp.Or(opts.Propagation, metav1.DeletePropagationBackground)
	patience := cmp.Or(max(opts.DependencyTimeout, 0), defaultPatience)
	for _, group := range c.sequence(victims) {
		c.awaitDependants(ctx, group, victims, patience)
		if ctx.Err() != nil {
			break
		}
		c.each(ctx, len(group), func(i int) {
			if v := group[i]; v.change.Action == Deleted && v.live != nil {
				v.delete(ctx, propagation)
			}
			group[i].handled = true
		})
	}
	for i, v := range victims {
		if !v.handled {
			victims[i] = nil
		}
	}
	return victims, nil
}

// sequence groups victims that may be deleted at the same time: dependants
// before what they need, and kind by kind.
func (c *Client) sequence(victims []*victim) [][]*victim {
	g := graph{}
	for _, v := range victims {
		g[v.change.Object] = v.needs
	}
	depths, _ := g.depths() // members of a cycle have no order
	sorted := slices.Clone(victims)
	slices.SortStableFunc(sorted, func(a, b *victim) int { return depths[b.change.Object] - depths[a.change.Object] })
	var groups [][]*victim
	for i, v := range sorted {
		id := v.change.Object
		if i == 0 || rank(sorted[i-1].change.Object.Kind) != rank(id.Kind) || depths[sorted[i-1].change.Object] != depths[id] {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], v)
	}
	return groups
}

// awaitDependants waits until what needs an object of the group is gone, or the
// time is over, after which the deletion goes on as without the annotation.
func (c *Client) awaitDependants(ctx context.Context, group, victims []*victim, patience time.Duration) {
	var ids []ObjectID
	for _, v := range victims {
		if !v.handled || v.live == nil && !v.leaving || v.change.Action != Deleted {
			continue
		}
		if slices.ContainsFunc(group, func(other *victim) bool { return other.live != nil && slices.Contains(v.needs, other.change.Object) }) {
			ids = append(ids, v.change.Object)
		}
	}
	if len(ids) > 0 {
		_, _ = c.WaitDeleted(ctx, ids, &WaitOptions{AnyOwner: true, Timeout: patience}) // documented: it goes on
	}
}

// keep returns the identities of the objects that must stay, in the form that
// the inventory has them.
func (c *Client) keep(objs []*unstructured.Unstructured) ([]Entry, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	all, err := each(objs, func(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) { return obj, nil })
	if err != nil {
		return nil, err
	}
	r := c.resolver(all)
	entries := make([]Entry, 0, len(all))
	seen := make(map[ObjectID]bool, len(all))
	var errs []error
	for _, obj := range all { // who is to stay must be known for all, or nobody may go
		found, err := r.resolve(obj)
		switch {
		case errors.Is(err, ErrUnavailable):
			return nil, err
		case err == nil && seen[found.id]:
			err = errTwice()
		case err == nil && c.isInventory(found.id):
			err = fmt.Errorf("%w: it is the inventory of %s: give it or the owner another name", ErrInvalid, c.Owner)
		}
		if err != nil {
			errs = append(errs, objectError("read", found.id, err))
			continue
		}
		seen[found.id] = true
		entries = append(entries, Entry{Object: found.id, Version: found.version})
	}
	return entries, errors.Join(errs...)
}

// victim is an object that left the set.
type victim struct {
	client   *Client
	mapping  *meta.RESTMapping
	live     *unstructured.Unstructured // nil if it does not exist
	remember bool                       // it stays in the inventory
	change   Change
	needs    []ObjectID // what it said it needs
	leaving  bool       // its deletion is under way
	handled  bool       // its turn has come
}

// victim reads a stale object and decides what is to become of it.
func (c *Client) victim(ctx context.Context, entry Entry) *victim {
	v := &victim{client: c, change: Change{Object: entry.Object, Version: entry.Version, Action: Deleted}}
	gk := schema.GroupKind{Group: entry.Object.Group, Kind: entry.Object.Kind}
	var err error
	if v.mapping, err = c.served(gk, entry.Version); errors.Is(err, ErrUnknownKind) {
		meta.MaybeResetRESTMapper(c.Mapper) // it may have looked before the kind was defined
		v.mapping, err = c.served(gk, entry.Version)
	}
	if err == nil {
		v.live, err = c.resource(v.mapping, entry.Object.Namespace).Get(ctx, entry.Object.Name, metav1.GetOptions{})
	}
	if err == nil {
		v.needs, _ = dependencies(v.live) // was valid when it was applied; else it has no say
	}
	switch {
	case errors.Is(err, ErrUnknownKind) || isUnserved(err):
		v.live = nil
		v.unserved(ctx, gk)
	case apierrors.IsNotFound(err):
		v.live, v.change.Reason = nil, "it was gone already"
	case err != nil:
		v.live, v.change.Action, v.change.Err = nil, Failed, objectError("read", entry.Object, err)
	case !c.Owner.Owns(v.live):
		v.change.Action, v.change.Reason = Kept, fmt.Sprintf("it no longer carries the labels of %s", c.Owner)
	case c.Owner.pruneDisabled(v.live):
		v.change.Action, v.change.Reason = Kept, c.Owner.group()+"/prune is disabled on it"
		v.remember = true
	case c.Owner.optedOut(v.live) != "" && !c.Policy.DistrustLive:
		v.change.Action, v.change.Reason = Kept, c.Owner.optedOut(v.live)+" on it"
		v.remember = true
	case v.live.GetDeletionTimestamp() != nil:
		v.change.Reason = "its deletion is under way"
		v.change.UID, v.live, v.leaving = v.live.GetUID(), nil, true
	default:
		v.change.UID, v.change.ResourceVersion = v.live.GetUID(), v.live.GetResourceVersion()
	}
	return v
}

// served finds the resource of a kind in a version, or else in another one.
func (c *Client) served(gk schema.GroupKind, version string) (*meta.RESTMapping, error) {
	m, err := c.mapping(gk, version)
	if errors.Is(err, ErrUnknownKind) {
		m, err = c.mapping(gk, "")
	}
	return m, err
}

// unserved decides about an object whose kind the cluster does not serve now.
// It is gone with its definition, but not if there is a definition, which is
// served a moment later, and not if the kind belongs to an extension API server
// that is merely away: then discovery lacks it, too.
func (v *victim) unserved(ctx context.Context, gk schema.GroupKind) {
	meta.MaybeResetRESTMapper(v.client.Mapper)
	name := v.change.Version + "." + gk.Group
	services := v.client.Dynamic.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	service, err := services.Get(ctx, name, metav1.GetOptions{})
	external := false
	if err == nil {
		backend, _, nestedErr := unstructured.NestedMap(service.Object, "spec", "service")
		external = backend != nil || nestedErr != nil
	}
	if (apierrors.IsNotFound(err) || err == nil && !external) && !v.defined(ctx, gk) {
		v.change.Reason = "its kind is no longer defined"
		return
	}
	v.change.Action, v.remember = Kept, true
	v.change.Reason = "its kind is not served at the moment, so nothing is known of it"
}

// defined reports whether there is a definition of a kind, or whether that cannot
// be known.
func (v *victim) defined(ctx context.Context, gk schema.GroupKind) bool {
	list, err := v.client.Dynamic.Resource(definitionsResource()).List(ctx, metav1.ListOptions{})
	if err != nil {
		return !apierrors.IsForbidden(err) // who may not read definitions goes by what is served
	}
	return slices.ContainsFunc(list.Items, func(crd unstructured.Unstructured) bool { return definedKind(&crd) == gk })
}

// delete deletes exactly the object that was read. If only its version moved
// on meanwhile it is read and judged once more.
func (v *victim) delete(ctx context.Context, propagation metav1.DeletionPropagation) {
	err := v.try(ctx, propagation)
	if apierrors.IsConflict(err) {
		again := v.client.victim(ctx, Entry{Object: v.change.Object, Version: v.change.Version})
		sameObject := again.live != nil && again.live.GetUID() == v.live.GetUID()
		*v = *again
		v.handled = true
		if v.change.Action != Deleted || v.live == nil {
			return
		}
		if sameObject {
			err = v.try(ctx, propagation)
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		v.change.Action, v.change.Err = Failed, objectError("delete", v.change.Object, err)
	}
}

func (v *victim) try(ctx context.Context, propagation metav1.DeletionPropagation) error {
	uid, resourceVersion := v.live.GetUID(), v.live.GetResourceVersion()
	return v.client.resource(v.mapping, v.change.Object.Namespace).Delete(ctx, v.change.Object.Name, metav1.DeleteOptions{
		PropagationPolicy: &propagation,
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &resourceVersion},
	})
}
