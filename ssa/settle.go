package ssa

import (
	"context"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// evidence is what a plan has on an object before it asks the server.
type evidence struct {
	kind    *kindStore // nil if no store follows it
	body    sum        // digest of what would be applied
	turn    uint64     // when the plan began
	stand   standing
	record  record
	settled bool // no request is needed
	// void is true if a proof does not suffice: what was confirmed may be no longer
	// true for a reason that the object does not show.
	void bool
}

// settle decides which items need no request, because nobody touched them since
// the server last confirmed them, and which have to wait in a contest. It only
// ever decides that nothing has to be sent.
func (p *plan) settle(ctx context.Context, items []*item) {
	for _, it := range items {
		it.evidence = evidence{settled: it.dead}
	}
	decides := p.verify != VerifyAlways && p.client.Store.ready(ctx)
	kinds := p.kinds(items)
	if decides {
		stores := slices.Collect(maps.Values(kinds))
		p.client.each(ctx, len(stores), func(i int) { stores[i].wait(ctx) }) // one list serves all who wait
	}
	owner, manager := p.client.Owner.String(), p.client.manager()
	for _, it := range items {
		if it.mapping == nil || it.waits != "" || it.dead {
			continue
		}
		k := kinds[it.mapping.Resource]
		if k == nil {
			continue
		}
		if it.body == (sum{}) {
			it.body = p.bodyOf(it.obj)
		}
		e := evidence{kind: k, body: it.body, turn: k.now(), void: !decides}
		if !decides { // what is learnt is kept all the same
			it.evidence = e
			continue
		}
		e.void = k.void(it.key())
		e.stand, e.record = k.standing(it.key(), owner, manager, it.body)
		if p.client.succeeds(e.record.managers) && !p.client.Owner.says(it.obj, "ssa", "Merge") {
			e.stand = unknown // there are fields to take over
		}
		it.evidence = e
		if e.record.optOut != "" && !p.client.Policy.DistrustLive {
			it.leave(e.record.optOut + " on the live object")
		} else if e.record.uid != "" && p.client.Owner.says(it.obj, "ssa", "IfNotPresent") {
			it.leave("it exists, and " + p.client.Owner.group() + "/ssa is IfNotPresent")
		}
		if it.settled {
			it.change.UID, it.change.ResourceVersion = e.record.uid, e.record.version
			continue
		}
		if e.stand == drifted && !p.diff {
			p.rest(it)
		}
	}
	p.accept(ctx, items, func(it *item) bool { return it.stand == unchanged })
}

// kinds are what follows the kinds of items.
func (p *plan) kinds(items []*item) map[schema.GroupVersionResource]*kindStore {
	out := map[schema.GroupVersionResource]*kindStore{}
	for _, it := range items {
		if it.mapping == nil || it.waits != "" || it.dead || out[it.mapping.Resource] != nil {
			continue
		}
		if k := p.client.Store.kind(it.mapping); k != nil {
			out[it.mapping.Resource] = k
		}
	}
	return out
}

// bodyOf is the digest of what is asked for: the object, and what of it is left
// to others.
func (p *plan) bodyOf(obj *unstructured.Unstructured) sum {
	buf := appendValue(p.buf[:0], obj.Object)
	for _, name := range p.client.Policy.TakeOver {
		buf = appendText(buf, name)
	}
	buf = append(buf, byte(p.client.Policy.Foreign))
	for _, pointer := range p.ignored(obj) {
		for _, token := range pointer {
			buf = appendText(buf, token)
		}
		buf = append(buf, '/')
	}
	p.buf = buf
	return sumOf(buf)
}

func (it *item) key() types.NamespacedName {
	return types.NamespacedName{Namespace: it.id.Namespace, Name: it.id.Name}
}

// rest leaves an object alone that was repaired a moment ago and changed again.
func (p *plan) rest(it *item) {
	rival, resting := p.client.Store.contests.resting(it.contestKey())
	if !resting {
		return
	}
	it.settled, it.change.followed = true, true
	it.change.Action, it.change.Rival = Contested, &rival
	it.change.Reason = rival.String() + "; the next repair is due at " + rival.Until.UTC().Format(time.RFC3339)
	it.change.UID, it.change.ResourceVersion = it.record.uid, it.record.version
}

func (it *item) contestKey() contestKey { return contestKey{kind: it.kind.key, name: it.key()} }

// accept settles the items that qualify as unchanged, unless the identity may
// no longer apply them: then the server has to say so itself.
func (p *plan) accept(ctx context.Context, items []*item, qualifies func(*item) bool) {
	byGrant := map[grant][]*item{}
	var grants []grant
	for _, it := range items {
		if it.settled || !qualifies(it) {
			continue
		}
		g := p.client.grant(it.mapping, it.id.Namespace)
		if byGrant[g] == nil {
			grants = append(grants, g)
		}
		byGrant[g] = append(byGrant[g], it)
	}
	p.client.each(ctx, len(grants), func(i int) {
		group := byGrant[grants[i]]
		if ok, err := p.client.mayPatch(ctx, group[0].mapping, grants[i].namespace); err != nil || !ok {
			return
		}
		for _, it := range group {
			it.settled = true
			it.change.Action = Unchanged
			if it.stand == unchanged {
				it.change.UID, it.change.ResourceVersion = it.record.uid, it.record.version
				it.change.followed = true
				it.change.Reason = vain(it.record.optOut)
			}
		}
	})
}

// prove settles items of which the live object was read and that are proven to
// be unchanged.
func (p *plan) prove(ctx context.Context, items []*item, live map[ObjectID]*unstructured.Unstructured) {
	if p.verify == VerifyAlways || p.client.Prover == nil {
		return
	}
	proven := make([]bool, len(items))
	p.client.each(ctx, len(items), func(i int) {
		it := items[i]
		if have := live[it.id]; have != nil && !it.settled && len(p.formers(it, have)) == 0 && !p.exemptLive(it, have) && it.mapping != nil && it.waits == "" && it.stand == unknown && !it.void {
			proven[i], _ = p.client.Prover.Unchanged(ctx, have, it.obj, p.client.manager())
		}
	})
	at := map[*item]bool{}
	for i, it := range items {
		at[it] = proven[i]
	}
	p.accept(ctx, items, func(it *item) bool { return at[it] })
	for i, it := range items {
		if proven[i] && it.settled {
			have := live[it.id]
			it.change.UID, it.change.ResourceVersion = have.GetUID(), have.GetResourceVersion()
			it.change.Reason = p.distrust(have)
			p.confirm(it, have, byProof, true)
		}
	}
}

// confirm remembers that live is what applying the item results in.
func (p *plan) confirm(it *item, live *unstructured.Unstructured, by source, proven bool) {
	it.ignored = p.places(it, live)
	if it.change.followed = it.kind.following(); !it.change.followed {
		it.change.baseline = baselineOf(live, p.client.manager(), it.ignored)
	}
	if it.kind == nil {
		return
	}
	p.client.Store.outdate(it.kind, it.key(), live.GetResourceVersion())
	it.kind.confirm(confirmation{live: live, body: it.body, manager: p.client.manager(), turn: it.turn, proven: proven, source: by, ignored: it.ignored})
}

// confirmByServer is confirm for an answer of the server, on which the prover is
// asked whether the object may change around what was applied.
func (p *plan) confirmByServer(ctx context.Context, it *item, live *unstructured.Unstructured, by source) {
	proven := false
	if it.kind != nil && p.client.Prover != nil {
		live.SetGroupVersionKind(it.obj.GroupVersionKind())
		proven, _ = p.client.Prover.Unchanged(ctx, live, it.obj, p.client.manager())
	}
	p.confirm(it, live, by, proven)
}

// compare judges by what the store keeps of the live object, and reports
// whether that suffices: merged is what the server would make of it.
func (p *plan) compare(it *item, merged *unstructured.Unstructured, change *Change) bool {
	if it.kind == nil || it.stand == unknown || it.record.uid != merged.GetUID() || it.record.version != merged.GetResourceVersion() {
		return false
	}
	now := digestsOf(merged)
	switch {
	case now.whole == it.record.digests.whole:
		change.Action = Unchanged
	case now.content != it.record.digests.content && it.stand == other && !p.explain:
		change.Action = Configured
	default:
		return false
	}
	change.UID, change.ResourceVersion = it.record.uid, it.record.version
	return true
}

// contest finds out who made a repair necessary.
func (p *plan) contest(it *item, live *unstructured.Unstructured, change *Change) {
	if it.kind == nil || it.stand != drifted || p.diff || change.Action != Configured {
		return
	}
	rival := rivalOf(live, change.Fields, p.client.manager())
	it.change.Rival, change.Rival = &rival, &rival
}

// repaired notes that an object was repaired.
func (p *plan) repaired(it *item) {
	if it.change.Rival == nil || it.kind == nil {
		return
	}
	rival := p.client.Store.contests.repair(it.contestKey(), *it.change.Rival)
	it.change.Rival = &rival
}
