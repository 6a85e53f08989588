package ssa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// plan is what has to be done for a set of objects, found out without
// changing anything: one list for each kind and one dry run for each object,
// less what is known already.
type plan struct {
	client *Client
	items  []*item
	rules  []rule // of Policy.Ignore
	buf    []byte // of bodyOf
	planOptions
}

type planOptions struct {
	verify  Verify
	unmask  bool // show the values of Secrets in the changes
	explain bool // find out which fields differ, also if that takes a request
	diff    bool // nothing will be sent
	// patience bounds the waits for what has to happen before the plan can go on.
	patience     time.Duration
	dependencies time.Duration // bounds the waits for what objects need
}

// item is one object of a plan.
type item struct {
	obj     *unstructured.Unstructured // as it will be sent
	id      ObjectID
	mapping *meta.RESTMapping // nil while the kind is only defined by the set itself
	// waits is why the object cannot be tried yet: something it needs is
	// created or changed by the same set. Empty when it was tried.
	waits string
	// late is true if it was tried and refused, perhaps only because an object
	// of the set that comes before it is missing.
	late bool
	// redefined is true if it was refused, perhaps only because the set
	// changes the definition of its kind.
	redefined bool
	sent      bool // it was really applied, or that was tried
	// yielded is what is sent in place of obj, with ignored fields as others
	// want them; nil if it is obj. ignored are the places of these fields.
	yielded *unstructured.Unstructured
	ignored []fieldpath.Path
	needs   []ObjectID // objects it says it needs, of the set or not
	depth   int        // how many objects of the set come before it by that
	planned sum        // of the live object that is to be recreated
	dead    bool       // it will not be tried again
	formers bool       // there are fields to take over before it is applied
	// outdated is true if its managed fields have to be migrated before it can be tried.
	outdated bool
	change   Change
	evidence
}

// plan prepares objs and tries all that can be tried. The error joins what is
// wrong with the set as a whole; errors of single objects are in the items.
func (c *Client) plan(ctx context.Context, objs []*unstructured.Unstructured, opts planOptions) (*plan, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	prepared, err := c.prepare(objs)
	if err != nil {
		return nil, err
	}
	rules, err := compileRules(c.Policy.Ignore)
	if err != nil {
		return nil, err
	}
	p := &plan{client: c, rules: rules, planOptions: opts}
	if err := p.resolve(prepared); err != nil {
		return nil, err
	}
	if err := p.arrange(); err != nil {
		return nil, err
	}
	p.first(ctx)
	return p, nil
}

// resolve finds the resource and settles the namespace of each object.
func (p *plan) resolve(objs []*unstructured.Unstructured) error {
	r := p.client.resolver(objs)
	var errs []error
	seen := make(map[ObjectID]bool, len(objs))
	items := make([]item, len(objs))
	for i, obj := range objs {
		it := &items[i]
		p.items = append(p.items, it)
		found, err := r.resolve(obj)
		if errors.Is(err, ErrUnavailable) {
			return err // it would be the same for every object
		}
		it.obj, it.id, it.mapping = obj, found.id, found.mapping
		setNamespace(obj, found.id.Namespace)
		if err == nil && found.mapping == nil {
			it.waits = "its kind is defined by the same set"
		}
		it.change = Change{Object: it.id, Version: found.version}
		switch {
		case err != nil:
		case seen[it.id]:
			err = errTwice()
		case p.client.isInventory(it.id):
			err = fmt.Errorf("%w: it is the inventory of %s: give it or the owner another name", ErrInvalid, p.client.Owner)
		}
		seen[it.id] = true
		if err != nil {
			errs = append(errs, p.reject(it, err))
		}
	}
	return errors.Join(errs...)
}

// first tries the whole set: definitions and namespaces, then, knowing which
// of them are new or change, what does not depend on those.
func (p *plan) first(ctx context.Context) {
	var before, after []*item
	for _, it := range p.items {
		if isCRD(it.id) || isNamespace(it.id) {
			before = append(before, it)
		} else {
			after = append(after, it)
		}
	}
	p.try(ctx, before)
	kinds, namespaces := map[schema.GroupKind]Action{}, map[string]bool{}
	for _, it := range before {
		switch {
		case isNamespace(it.id):
			namespaces[it.id.Name] = it.change.Action == Created
		case it.change.Action == Created || it.change.Action == Configured || it.change.Action == Exempt:
			kinds[definedKind(it.obj)] = it.change.Action
		}
	}
	for _, it := range after {
		switch {
		case it.dead:
		case kinds[it.id.GroupKind()] == Created:
			it.waits, it.mapping = "its kind is defined by the same set", nil // a mapping would be of a definition that is gone
		case it.mapping == nil && kinds[it.id.GroupKind()] == Exempt && !p.defined(it):
		case namespaces[it.id.Namespace]:
			it.waits = "its namespace is created by the same set"
		}
	}
	p.try(ctx, after)
	for _, it := range after {
		switch {
		case it.change.Action != Failed || it.dead:
		case kinds[it.id.GroupKind()] == Configured:
			it.redefined = true
			it.postpone("until its definition is changed, which the same set does")
		default:
			p.delay(it)
		}
	}
}

// delay takes back the refusal of an item that may be accepted when its turn comes.
func (p *plan) delay(it *item) {
	switch {
	case it.outdated:
		it.late = true
		it.postpone("until its managed fields are written in version " + it.change.Version)
		it.change.Action, it.change.Fields = Configured, nil
	case p.mayNeedAnother(it):
		it.late = true
		it.postpone("perhaps for want of an object that the same set creates first")
	}
}

// defined looks for the kind of an item whose definition in the set is left
// alone, and rejects the item if there is none.
func (p *plan) defined(it *item) bool {
	meta.MaybeResetRESTMapper(p.client.Mapper)
	m, err := p.client.mapping(it.obj.GroupVersionKind().GroupKind(), it.change.Version)
	if err == nil {
		it.mapping, it.waits = m, ""
		return true
	}
	it.dead, it.waits = true, ""
	it.change.Action, it.change.Err = Failed, objectError("validate", it.id, fmt.Errorf("its definition in the set is left alone: %w", err))
	return false
}

func isCRD(id ObjectID) bool {
	return id.Kind == "CustomResourceDefinition" && id.Group == "apiextensions.k8s.io"
}

func isNamespace(id ObjectID) bool { return id.Kind == "Namespace" && id.Group == "" }

// definedKind returns the kind that a CustomResourceDefinition defines.
func definedKind(crd *unstructured.Unstructured) schema.GroupKind {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")        // an invalid definition is
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind") // refused by the server
	return schema.GroupKind{Group: group, Kind: kind}
}

// mayNeedAnother reports a refusal that an earlier object of the set may end: a
// Pod whose ServiceAccount or PriorityClass, a binding whose role is not there
// yet. What the identity may not do, no other object changes.
func (p *plan) mayNeedAnother(it *item) bool {
	err := it.change.Err
	for _, other := range p.items {
		if slices.Contains(it.needs, other.id) && other.due() && !deniedByRBAC(err) {
			return true // it says so itself
		}
	}
	if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) || deniedByRBAC(err) || isMissingNamespace(err) {
		return false
	}
	for _, other := range p.items {
		if rank(other.id.Kind) < rank(it.id.Kind) && other.due() {
			return true
		}
	}
	return false
}

// postpone takes back a refusal until the item's turn comes.
func (it *item) postpone(why string) {
	it.waits = "it is refused, " + why + ": " + it.change.Err.Error()
	it.change.Err = nil
	it.expect()
}

// expect notes a change that could not be tried.
func (it *item) expect() {
	it.change.Action, it.change.Reason = Created, "not validated yet: "+it.waits
	it.change.Fields = differences(nil, it.obj, false)
}

// try fills in the changes of those items that need not wait, by dry runs.
func (p *plan) try(ctx context.Context, items []*item) {
	p.settle(ctx, items)
	p.exempt(items)
	open := slices.DeleteFunc(slices.Clone(items), func(it *item) bool { return it.settled })
	live := p.live(ctx, open)
	p.prove(ctx, open, live)
	p.client.each(ctx, len(open), func(i int) {
		switch it := open[i]; {
		case it.settled:
		case it.waits == "" && it.mapping != nil:
			it.change = p.dryRun(ctx, it, live[it.id])
		case it.waits != "":
			it.expect()
		}
	})
	for _, it := range items {
		if it.change.Action == "" { // ctx ended before its turn
			it.change.Action, it.change.Err = Failed, objectError("validate", it.id, context.Cause(ctx))
		}
	}
}

// live reads the objects the owner has of the kinds of items, one list a kind,
// unless the store knows enough of them. What cannot be listed is read one by one.
func (p *plan) live(ctx context.Context, items []*item) map[ObjectID]*unstructured.Unstructured {
	byKind := map[schema.GroupVersionResource][]*item{}
	var kinds []schema.GroupVersionResource
	for _, it := range items {
		if it.mapping == nil || it.waits != "" || it.settled || it.stand != unknown {
			continue
		}
		gvr := it.mapping.Resource
		if byKind[gvr] == nil {
			kinds = append(kinds, gvr)
		}
		byKind[gvr] = append(byKind[gvr], it)
	}
	var mu sync.Mutex
	out := map[ObjectID]*unstructured.Unstructured{}
	p.client.each(ctx, len(kinds), func(i int) {
		group := byKind[kinds[i]]
		list, err := p.client.resource(group[0].mapping, commonNamespace(group)).
			List(ctx, metav1.ListOptions{LabelSelector: p.client.Owner.selector()})
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			for j := range list.Items {
				obj := &list.Items[j]
				obj.SetGroupVersionKind(group[0].obj.GroupVersionKind())
				out[IDOf(obj)] = obj
			}
		}
		// After an error the dry run compares with nothing and reads the
		// object itself; it reports the error if it persists.
	})
	return out
}

// commonNamespace returns the namespace all items share, "" if they do not.
func commonNamespace(items []*item) string {
	ns := items[0].id.Namespace
	for _, it := range items {
		if it.id.Namespace != ns {
			return ""
		}
	}
	return ns
}

// dryRun asks the server what applying would do, and compares that with the
// very version of the object the server tried it on: live, or, if the object
// is not there or moved on since it was read, another read.
func (p *plan) dryRun(ctx context.Context, it *item, live *unstructured.Unstructured) Change {
	change := Change{Object: it.id, Version: it.change.Version}
	read := func() (err error) {
		live, err = p.client.resource(it.mapping, it.id.Namespace).Get(ctx, it.id.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			live, err = nil, nil
		}
		return err
	}
	failed := func(op string, err error) Change {
		change.Action, change.Err = Failed, objectError(op, it.id, err)
		return change
	}
	careful := p.careful(it)
	if careful && live == nil {
		if err := read(); err != nil {
			return failed("read", err)
		}
	}
	const attempts = 5
	for range attempts {
		if p.exemptLive(it, live) {
			return it.change
		}
		it.yielded, it.ignored = p.yield(it, live)
		merged, err := p.client.send(ctx, it, metav1.DryRunAll)
		p.client.permitted(it, err)
		if err != nil {
			return p.refuse(ctx, it, live, err)
		}
		if merged.GetResourceVersion() == "" { // nothing is stored, so a new object has none
			change.Action, change.Fields = Created, differences(nil, it.obj, p.unmask)
			return change
		}
		if live == nil && p.compare(it, merged, &change) {
			it.change = change
			if change.Action == Unchanged {
				p.confirmByServer(ctx, it, merged, byTrial)
			}
			return it.change
		}
		if live != nil && live.GetResourceVersion() == merged.GetResourceVersion() {
			return p.judge(ctx, it, live, merged)
		}
		if err := read(); err != nil {
			return failed("read", err)
		}
		if live != nil && !careful && !p.exemptLive(it, live) && live.GetResourceVersion() == merged.GetResourceVersion() {
			return p.judge(ctx, it, live, merged)
		}
	}
	return failed("validate", fmt.Errorf("%w: it changed at each of %d attempts to compare it", ErrConflict, attempts))
}

// careful reports an item whose live object decides what is sent.
func (p *plan) careful(it *item) bool {
	return p.client.Owner.says(it.obj, "ssa", "IfNotPresent") || len(p.ignored(it.obj)) > 0
}

// judge compares an object with what applying would make of it.
func (p *plan) judge(ctx context.Context, it *item, live, merged *unstructured.Unstructured) Change {
	manager := p.client.manager()
	change := Change{Object: it.id, Version: it.change.Version}
	change.UID, change.ResourceVersion = live.GetUID(), live.GetResourceVersion()
	if !p.admit(it, live, &change) {
		return change
	}
	change.Fields = differences(live, merged, p.unmask)
	if len(change.Fields) == 0 {
		change.Reason = claimsOn(live, manager).difference(claimsOn(merged, manager), it.ignored)
	}
	if names := p.formers(it, live); len(names) > 0 {
		it.formers = true
		change.Reason = "takes over the fields of " + strings.Join(names, ", ")
		change.Fields = append(change.Fields, p.abandoned(live, merged)...)
	}
	if len(change.Fields) > 0 || change.Reason != "" {
		change.Action = Configured
		p.contest(it, live, &change)
		return change
	}
	change.Action, change.Reason = Unchanged, p.distrust(live)
	it.change = change
	p.confirmByServer(ctx, it, merged, byTrial)
	return it.change
}

// send applies an object; dryRun is empty or metav1.DryRunAll.
func (c *Client) send(ctx context.Context, it *item, dryRun ...string) (*unstructured.Unstructured, error) {
	body := it.yielded
	if body == nil {
		body = it.obj
	}
	obj, err := c.resource(it.mapping, it.id.Namespace).Apply(ctx, it.id.Name, body, metav1.ApplyOptions{
		FieldManager: c.manager(),
		Force:        true,
		DryRun:       dryRun,
	})
	if isUnserved(err) { // the mapper knows a kind that is gone
		meta.MaybeResetRESTMapper(c.Mapper)
	}
	return obj, err
}

// changes returns the changes in order.
func (p *plan) changes() *ChangeSet {
	set := &ChangeSet{Changes: make([]Change, 0, len(p.items))}
	for _, it := range p.items {
		it.change.expires = expires(it.obj)
		set.Changes = append(set.Changes, it.change)
	}
	return set
}
