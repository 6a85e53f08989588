package ssa

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// record is what a store keeps of an object.
type record struct {
	uid      types.UID
	version  string
	owner    string // Owner.String of its labels
	deleting bool
	look     look
	digests  digests
	receipt  receipt
	optOut   string // how the object asks not to be touched
	// managers are those who own fields, but for sub-resources, as
	// "operation manager". Objects with the same ones share the list.
	managers []string
}

// receipt is what the server confirmed: that applying body by manager leaves
// the object as it was then.
type receipt struct {
	body    sum
	manager string
	turn    uint64 // of the kind, when the server was asked
	at      int64  // Unix time
	owned   sum    // what manager owns of the object, zero if that cannot be told
	// proven is true if the body was proven to be a part of the object, so that
	// the object may change around it.
	proven bool
	// unasked is true if the server was not asked: nobody knows under which
	// circumstances the object came to be as it is.
	unasked bool
	// broken is true if somebody has written what may matter since.
	broken bool
	// drifted is true if somebody has changed what manager owns since.
	drifted bool
	// ignored are the fields that others may change.
	ignored []fieldpath.Path
}

// take takes in an event of the stream.
func (k *kindStore) take(obj *unstructured.Unstructured, gone bool) {
	obj.SetGroupVersionKind(k.gvk)
	key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
	version := obj.GetResourceVersion()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.listed { // before, others that are older may still come
		k.seen = later(k.seen, version)
	}
	r := k.records[key]
	switch {
	case r != nil && older(version, r.version): // a client wrote it since
	case r == nil && gone:
	case gone:
		delete(k.records, key)
		k.tell(key, r.owner, nil)
	default:
		k.put(key, r, obj)
	}
}

// put brings a record up to date with an object.
func (k *kindStore) put(key types.NamespacedName, r *record, obj *unstructured.Unstructured) *record {
	next := &record{
		uid: obj.GetUID(), version: obj.GetResourceVersion(), owner: k.ownerOf(obj),
		deleting: obj.GetDeletionTimestamp() != nil, look: lookAt(obj), digests: digestsOf(obj), optOut: Owner{Group: k.store.group()}.optedOut(obj),
		managers: k.managersOf(obj),
	}
	if r != nil && r.uid == next.uid {
		next.receipt = r.receipt
		if r.digests.whole != next.digests.whole {
			next.receipt.compare(obj)
		}
	}
	k.records[key] = next
	if r != nil && r.owner != next.owner {
		k.tell(key, r.owner, nil)
	}
	k.tell(key, next.owner, next)
	return next
}

// compare notes what a write means for a receipt.
func (r *receipt) compare(obj *unstructured.Unstructured) {
	if r.manager == "" {
		return
	}
	same := r.owned != sum{} && ownedOf(obj, r.manager, r.ignored...) == r.owned
	r.broken = r.broken || !same || !r.proven
	r.drifted = r.drifted || !same && r.owned != sum{} // else nobody knows before the next dry run
}

// ownerOf returns the owner that the labels of an object name.
func (k *kindStore) ownerOf(obj *unstructured.Unstructured) string {
	group := k.store.group()
	labels := obj.GetLabels()
	owner := Owner{Namespace: labels[group+"/namespace"], Name: labels[group+"/name"]}.String()
	if one, ok := k.owners[owner]; ok {
		return one
	}
	k.owners[owner] = owner
	return owner
}

// managersOf returns who owns fields of an object.
func (k *kindStore) managersOf(obj *unstructured.Unstructured) []string {
	metadata, _ := obj.Object["metadata"].(map[string]any) // a live object has one
	entries, _ := metadata["managedFields"].([]any)        // may be absent
	var names []string
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		if entry["subresource"] == nil {
			names = append(names, fmt.Sprint(entry["operation"], " ", entry["manager"]))
		}
	}
	slices.Sort(names)
	key := strings.Join(names, "\n")
	if one, ok := k.managers[key]; ok {
		return one
	}
	k.managers[key] = names
	return names
}

// confirmation is what a client learnt from the server about an object.
type confirmation struct {
	live    *unstructured.Unstructured // after the apply, or as it is without one
	body    sum
	manager string
	turn    uint64
	proven  bool // by the prover
	source  source
	ignored []fieldpath.Path
}

// source is how a client learnt what applying results in.
type source int

const (
	byTrial source = iota // a dry run changed nothing
	byProof               // the prover alone
	byWrite               // it was applied, which need not be all: what admission made of it may be applied again
)

// confirm takes in what a client learnt. It may be older than what is known.
func (k *kindStore) confirm(c confirmation) {
	obj := c.live
	key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
	owned := ownedOf(obj, c.manager, c.ignored...)
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[key]
	switch {
	case r == nil && k.seen != "" && !older(k.seen, obj.GetResourceVersion()):
		return // it has gone since
	case r != nil && r.uid != obj.GetUID() && !older(r.version, obj.GetResourceVersion()):
		return // there is another since
	case r == nil || older(r.version, obj.GetResourceVersion()):
		r = k.put(key, r, obj)
	}
	receipt := receipt{body: c.body, manager: c.manager, turn: c.turn, at: time.Now().Unix(), owned: owned, proven: c.proven, unasked: c.source == byProof, ignored: c.ignored}
	receipt.broken = c.source == byWrite && !c.proven
	if r.version != obj.GetResourceVersion() && r.digests != digestsOf(obj) {
		// Written between the answer and now: nothing of that was compared, and the
		// object is no longer there to do it.
		receipt.broken, receipt.drifted = true, true
	}
	r.receipt = receipt
	k.tell(key, r.owner, r)
}

// outdate takes in that an object was written at a version.
func (k *kindStore) outdate(key types.NamespacedName, version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.records[key]; r != nil && older(r.version, version) {
		r.look = look{state: InProgress, message: "it was applied a moment ago"}
		k.tell(key, r.owner, r)
	}
}

// older reports that version a precedes b. Versions that have no order are not
// older than others.
func older(a, b string) bool {
	if a == "" {
		return b != ""
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

func later(a, b string) string {
	if older(a, b) {
		return b
	}
	return a
}

// standing is what a store can say about an object that is to be applied.
type standing int

const (
	unknown   standing = iota // nothing: it was never confirmed, or the store does not know now
	missing                   // it does not exist with the owner's labels
	unchanged                 // applying would change nothing
	stale                     // it was confirmed, but under other circumstances
	other                     // something else was confirmed: the manifest changed
	drifted                   // somebody changed it since
)

// standing returns what is known of an object, and what is kept of it.
func (k *kindStore) standing(key types.NamespacedName, owner, manager string, body sum) (standing, record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[key]
	switch {
	case !k.listed || !k.online || !k.epoch.online():
		return unknown, record{}
	case r == nil:
		return missing, record{}
	case r.owner != owner || r.deleting || r.receipt.manager != manager:
		return unknown, *r
	case r.receipt.body != body:
		return other, *r
	case r.receipt.broken && r.receipt.drifted:
		return drifted, *r
	case r.receipt.broken, r.receipt.turn != k.turn, r.receipt.expired(r.uid, k.store.maxAge()):
		return stale, *r
	}
	return unchanged, *r
}

// void reports an object whose confirmation, whatever it was of, is of other
// circumstances, or too old.
func (k *kindStore) void(key types.NamespacedName) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.records[key]
	return r != nil && r.receipt.manager != "" && (r.receipt.turn != k.turn || r.receipt.expired(r.uid, k.store.maxAge()))
}

func (s *Store) maxAge() time.Duration {
	if s.MaxAge <= 0 {
		return 24 * time.Hour
	}
	return s.MaxAge
}

// expired reports a receipt older than maxAge, less up to a tenth that depends
// on the object.
func (r *receipt) expired(uid types.UID, maxAge time.Duration) bool {
	spread := sumOf([]byte(uid))[0]
	age := time.Since(time.Unix(r.at, 0))
	if r.unasked {
		return age > maxAge/10-maxAge/20*time.Duration(spread)/256
	}
	return age > maxAge-maxAge/10*time.Duration(spread)/256
}
