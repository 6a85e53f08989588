package ssa

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
)

// Memo is what remains of an apply: which objects it was of, and a digest of
// each. With it [Client.Holds] tells whether the same apply would do nothing,
// so that what the objects come from need not be fetched and built for it. It
// takes about a hundred bytes an object, and their names. It is immutable.
type Memo struct {
	client  sum // what the digests depend on, beside the objects
	kinds   []*meta.RESTMapping
	items   []memoItem
	entries sum // of the inventory
}

type memoItem struct {
	kind int // in Memo.kinds
	id   ObjectID
	body sum
}

// Objects returns the identities of the objects, in order.
func (m *Memo) Objects() []ObjectID {
	if m == nil {
		return nil
	}
	ids := make([]ObjectID, len(m.items))
	for i, it := range m.items {
		ids[i] = it.id
	}
	return ids
}

// Memo returns what there is to remember of an apply, for [Client.Holds]. It is
// nil if the apply failed or was a diff, if it left an object alone, and without
// a [Store].
func (s *ChangeSet) Memo() *Memo { return s.memo }

// Holds reports whether applying the objects of m once more, and pruning all
// others, would change nothing, as far as that is known without them. It is for
// those who know that they would build the same objects again:
//
//	if inputs == last.inputs && client.Holds(ctx, last.memo) {
//		return // nothing to fetch, nothing to build, nothing to apply
//	}
//	... // build
//	set, err := client.Apply(ctx, objects, nil)
//	...
//	last.inputs, last.memo = inputs, set.Memo()
//
// What has to be true for that is what has to be true for Apply to skip a
// request, for every object; see [Store]. The inventory must list just these
// objects. Whenever something is not known, or differs, or the client is not set
// up as the one that applied was, the answer is false, and Apply finds out the
// rest. A nil Memo never holds.
//
// It takes the requests that Apply would take for it: at most one review of
// access for each kind and namespace, and what the inventory takes to be read.
func (c *Client) Holds(ctx context.Context, m *Memo) bool {
	if m == nil || c.validate() != nil || m.client != c.memoSum() || !c.Store.ready(ctx) {
		return false
	}
	kinds := make([]*kindStore, len(m.kinds))
	for i, mapping := range m.kinds {
		if kinds[i] = c.Store.kind(mapping); kinds[i] == nil {
			return false
		}
	}
	c.each(ctx, len(kinds), func(i int) { kinds[i].wait(ctx) })
	owner, manager := c.Owner.String(), c.manager()
	grants := map[grant]*meta.RESTMapping{}
	for _, it := range m.items {
		k := kinds[it.kind]
		k.now() // what was confirmed may just have become void
		key := types.NamespacedName{Namespace: it.id.Namespace, Name: it.id.Name}
		stand, record := k.standing(key, owner, manager, it.body)
		if stand != unchanged || record.optOut != "" || c.succeeds(record.managers) {
			return false
		}
		grants[c.grant(m.kinds[it.kind], it.id.Namespace)] = m.kinds[it.kind]
	}
	return c.mayPatchAll(ctx, grants) && c.lists(ctx, m.entries)
}

// mayPatchAll reports whether all of these may be patched.
func (c *Client) mayPatchAll(ctx context.Context, grants map[grant]*meta.RESTMapping) bool {
	for g, mapping := range grants {
		if ok, err := c.mayPatch(ctx, mapping, g.namespace); err != nil || !ok {
			return false
		}
	}
	return true
}

// lists reports whether the inventory has just these entries.
func (c *Client) lists(ctx context.Context, entries sum) bool {
	if c.holdsSum(entries) {
		return true
	}
	inventory, err := c.load(ctx)
	return err == nil && !inventory.unmarked && (c.Cluster == "" || inventory.Cluster != "") && c.entriesSum(inventory.Entries) == entries
}

// memoSum is the digest of what decides, beside the objects, what an apply sends
// and in whose name.
func (c *Client) memoSum() sum {
	buf := appendText(nil, c.Owner.group())
	for _, part := range []string{c.Owner.String(), c.manager(), string(c.Cluster), c.DefaultNamespace} {
		buf = appendText(buf, part)
	}
	policy, err := json.Marshal(c.Policy)
	if err != nil {
		policy = []byte(err.Error()) // there is nothing in it that has no JSON form
	}
	return sumOf(appendText(buf, string(policy)))
}

// memo is what there is to remember of a plan that was carried out, nil if it
// does not suffice to do without the objects.
func (p *plan) memo() *Memo {
	m := &Memo{client: p.client.memoSum(), items: make([]memoItem, 0, len(p.items)), entries: p.client.entriesSum(p.entries())}
	at := map[*meta.RESTMapping]int{}
	for _, it := range p.items {
		switch it.change.Action {
		case Created, Configured, Recreated, Unchanged:
		default:
			return nil
		}
		if it.kind == nil || it.mapping == nil || it.body == (sum{}) {
			return nil
		}
		kind, known := at[it.mapping]
		if !known {
			kind = len(m.kinds)
			at[it.mapping] = kind
			m.kinds = append(m.kinds, it.mapping)
		}
		m.items = append(m.items, memoItem{kind: kind, id: it.id, body: it.body})
	}
	return m
}
