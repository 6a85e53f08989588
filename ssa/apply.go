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
)

// ApplyOptions are the optional settings of [Client.Apply].
type ApplyOptions struct {
	// EstablishTimeout bounds the wait for CustomResourceDefinitions of the
	// set to be served; 0 means one minute.
	EstablishTimeout time.Duration
	// DependencyTimeout bounds each wait for objects that others name in their
	// annotation config.kubernetes.io/depends-on; 0 means five minutes.
	DependencyTimeout time.Duration
	// Verify says what suffices as evidence that an object is unchanged.
	Verify Verify
	// Explain fills in the Fields of all changes. Without it they are missing
	// where a [Store] knows that an object differs, but not in what: the live
	// object would have to be read for that.
	Explain bool
}

// Apply makes the cluster hold objs, by server-side apply:
//
//  1. All objects are tried by dry run, but for those that are known to be
//     unchanged; see [Client]. If the server refuses one, nothing is changed and
//     every refusal is reported.
//  2. The inventory is written: what the owner had, and objs. From here on no
//     crash can leave an object behind that nobody knows of.
//  3. The objects that differ are sent, definitions first: CustomResource-
//     Definitions, Namespaces, ClusterRoles and classes; when the definitions
//     are served, the rest, kind by kind, several objects at a time.
//
// Objects that need something the set itself creates or changes, such as their
// definition, namespace or service account, are tried once that is there; if
// the server refuses one then, what came before it stays and the rest is not
// sent. After a failure no further kind is begun; what is left has the action
// Skipped. Applying the same set again continues.
//
// Fields that others set to something else are taken over. Objects that left
// the set stay until [Client.Prune]. With a [Store], an object that the same
// manager changes again and again is left alone for a while, longer each time:
// its change is Contested.
//
// The error joins an *[ObjectError] for each object that failed. The change set
// has every object even then, but is empty if the set cannot be planned at
// all: an object lacks a name, is there twice, or is of an unknown kind.
func (c *Client) Apply(ctx context.Context, objs []*unstructured.Unstructured, opts *ApplyOptions) (*ChangeSet, error) {
	if opts == nil {
		opts = &ApplyOptions{}
	}
	timeout := opts.EstablishTimeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	p, err := c.plan(ctx, objs, planOptions{verify: opts.Verify, explain: opts.Explain, patience: timeout, dependencies: cmp.Or(max(opts.DependencyTimeout, 0), defaultPatience)})
	if err == nil {
		err = p.run(ctx, timeout)
	}
	set := &ChangeSet{}
	if p != nil {
		set = p.changes()
	}
	if err != nil {
		return set, fmt.Errorf("ssa: apply for %s: %w", c.Owner, err)
	}
	set.memo = p.memo()
	return set, nil
}

// run carries the plan out.
func (p *plan) run(ctx context.Context, establish time.Duration) error {
	if err := p.refused(p.items); err != nil {
		return err
	}
	if err := p.remember(ctx); err != nil {
		p.skip("the inventory could not be written")
		return err
	}
	boundary := slices.IndexFunc(p.items, func(it *item) bool { return !it.early() })
	if boundary < 0 {
		boundary = len(p.items)
	}
	definitions := p.items[:boundary]
	if err := p.apply(ctx, definitions); err != nil {
		return err
	}
	if err := p.establish(ctx, definitions, establish); err != nil {
		p.skip("a definition is not served")
		return err
	}
	if err := p.retry(ctx, establish); err != nil {
		return err
	}
	if err := p.apply(ctx, p.items); err != nil {
		return err
	}
	return failures(p.items) // of what failed while the rest was applied
}

// refused returns the errors of items that failed and marks the rest skipped. If
// a part may be applied, it marks what needs them and returns none.
func (p *plan) refused(items []*item) error {
	err := failures(items)
	switch {
	case err == nil:
	case p.client.Policy.Partial:
		p.block()
		return nil
	default:
		p.skip("another object failed")
	}
	return err
}

// failures joins the errors of items.
func failures(items []*item) error {
	var errs []error
	for _, it := range items {
		if it.change.Err != nil {
			errs = append(errs, it.change.Err)
		}
	}
	return errors.Join(errs...)
}

// skip marks what was not sent yet.
func (p *plan) skip(why string) {
	for _, it := range p.items {
		if it.due() {
			it.change.Action, it.change.Reason, it.change.Fields = Skipped, why, nil
		}
	}
}

// due reports an object that differs and was not sent yet.
func (it *item) due() bool {
	return !it.sent && (it.change.Action == Created || it.change.Action == Configured || it.change.Action == Recreated)
}

// remember writes the union of the inventory and the set, if it grew.
func (p *plan) remember(ctx context.Context) error {
	entries := p.entries()
	if p.client.holdsExactly(entries) {
		return nil
	}
	inventory, err := p.client.load(ctx)
	if err == nil && (inventory.add(entries) || inventory.unmarked || p.client.Cluster != "" && inventory.Cluster == "") {
		err = p.client.save(ctx, inventory)
	}
	if err != nil {
		return err
	}
	p.client.noteInventory(inventory, entries)
	return nil
}

// nameless reports an item that was rejected before its identity was known: of a
// kind that is not served nobody can tell the namespace.
func (it *item) nameless() bool { return it.dead && it.mapping == nil && it.change.Action == Failed }

// entries are the items as an inventory lists them.
func (p *plan) entries() []Entry {
	out := make([]Entry, 0, len(p.items))
	for _, it := range p.items {
		if !it.nameless() {
			out = append(out, Entry{Object: it.id, Version: it.change.Version})
		}
	}
	return out
}

// apply sends the items that differ, one kind after the other. It begins no
// kind after a failure.
func (p *plan) apply(ctx context.Context, items []*item) error {
	for len(items) > 0 {
		same := slices.IndexFunc(items, func(it *item) bool {
			return rank(it.id.Kind) != rank(items[0].id.Kind) || it.depth != items[0].depth
		})
		if same < 0 {
			same = len(items)
		}
		group := items[:same]
		items = items[same:]
		if err := p.tryLate(ctx, group); err != nil {
			return err
		}
		p.await(ctx, group)
		p.client.each(ctx, len(group), func(i int) {
			if it := group[i]; it.due() && it.waits == "" {
				p.applyOne(ctx, it)
			}
		})
		if err := p.refused(group); err != nil {
			return err
		}
		if ctx.Err() != nil {
			p.skip("interrupted")
			return context.Cause(ctx)
		}
	}
	return nil
}

func (p *plan) applyOne(ctx context.Context, it *item) {
	live, err := p.send(ctx, it)
	if err != nil && isUndeclared(err) { // a definition took effect since it was tried
		if err = p.client.migrate(ctx, it); err == nil {
			live, err = p.send(ctx, it)
		}
	}
	it.sent = true
	p.client.permitted(it, err)
	if err != nil {
		it.change.Action, it.change.Err = Failed, objectError("apply", it.id, err)
		return
	}
	p.repaired(it)
	it.change.UID, it.change.ResourceVersion = live.GetUID(), live.GetResourceVersion()
	if it.change.Action != Recreated && !it.formers {
		it.change.Reason = ""
	}
	p.confirmByServer(ctx, it, live, byWrite)
}

// send makes an object what it should be.
func (p *plan) send(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	if it.change.Action == Recreated {
		return p.recreate(ctx, it)
	}
	if it.formers {
		if err := p.client.takeOver(ctx, it); err != nil {
			return nil, fmt.Errorf("take over fields: %w", err)
		}
	}
	if len(it.ignored) == 0 || it.change.Action == Created {
		return p.client.send(ctx, it)
	}
	return p.sendYielding(ctx, it)
}

// sendYielding applies an object with its ignored fields as others want them at
// this very moment: the apply is of the version that was read.
func (p *plan) sendYielding(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		live, err := p.client.resource(it.mapping, it.id.Namespace).Get(ctx, it.id.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			it.yielded, it.ignored = nil, nil
			return p.client.send(ctx, it)
		case err != nil:
			return nil, err
		}
		body, ignored := p.yield(it, live)
		it.yielded, it.ignored = body.DeepCopy(), ignored
		it.yielded.SetResourceVersion(live.GetResourceVersion())
		applied, err := p.client.send(ctx, it)
		if !apierrors.IsConflict(err) || attempt == attempts {
			return applied, err
		}
	}
}

// establish waits until the definitions that were changed are served.
func (p *plan) establish(ctx context.Context, items []*item, timeout time.Duration) error {
	var ids []ObjectID
	for _, it := range items {
		if it.id.Kind == "CustomResourceDefinition" && it.sent && it.change.Action != Failed {
			ids = append(ids, it.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := p.client.Wait(ctx, ids, &WaitOptions{Timeout: timeout})
	meta.MaybeResetRESTMapper(p.client.Mapper)
	return err
}

// tryLate tries the items of a kind that were refused before what comes ahead
// of them was applied.
func (p *plan) tryLate(ctx context.Context, group []*item) error {
	var late []*item
	for _, it := range group {
		if !it.late || it.sent {
			continue
		}
		it.late, it.waits = false, ""
		if it.outdated {
			if err := p.client.migrate(ctx, it); err != nil {
				it.fail("migrate", err)
				continue
			}
		}
		late = append(late, it)
	}
	if len(late) == 0 {
		return nil
	}
	p.try(ctx, late)
	return p.refused(late)
}

// retry tries the objects that had to wait for a definition. A definition is
// established a moment before discovery lists it, hence the second look.
func (p *plan) retry(ctx context.Context, timeout time.Duration) error {
	var waiting []*item
	deadline := time.Now().Add(timeout)
	for _, it := range p.items {
		if it.waits == "" || it.late || it.dead {
			continue
		}
		it.waits = ""
		waiting = append(waiting, it)
		for pause := 20 * time.Millisecond; it.mapping == nil; pause *= 2 {
			m, err := p.client.mapping(it.obj.GroupVersionKind().GroupKind(), it.change.Version)
			if err == nil {
				it.mapping = m
				break
			}
			if time.Now().Add(pause).After(deadline) {
				it.dead = true
				it.change.Action, it.change.Err = Failed, objectError("validate", it.id, err)
				break
			}
			select {
			case <-time.After(min(pause, time.Second)):
			case <-ctx.Done():
				p.skip("interrupted")
				return context.Cause(ctx)
			}
			meta.MaybeResetRESTMapper(p.client.Mapper)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	if err := p.refused(waiting); err != nil {
		return err
	}
	waiting = slices.DeleteFunc(waiting, func(it *item) bool { return it.dead })
	if err := p.tryRedefined(ctx, waiting); err != nil {
		return err
	}
	for _, it := range waiting {
		if it.change.Action == Failed {
			p.delay(it)
		}
	}
	return p.refused(waiting)
}

// tryRedefined tries items, those of a new or changed definition again for some
// seconds: nothing tells when the server has begun to use it.
func (p *plan) tryRedefined(ctx context.Context, items []*item) error {
	const patience = 5 * time.Second
	begin := time.Now()
	for pause := 50 * time.Millisecond; len(items) > 0; pause *= 2 {
		p.try(ctx, items)
		items = slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
			return it.change.Action != Failed || it.outdated || !it.redefined && !errors.Is(it.change.Err, ErrUnknownKind)
		})
		if len(items) == 0 || time.Since(begin) > patience {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			p.skip("interrupted")
			return context.Cause(ctx)
		}
	}
	return nil
}
