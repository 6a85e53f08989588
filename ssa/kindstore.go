package ssa

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// kindStore follows the objects of one kind.
type kindStore struct {
	store *Store
	key   kindKey
	gvk   schema.GroupVersionKind
	epoch *epoch
	used  time.Time // guarded by Store.mu

	settled chan struct{} // closed when the first list was read, or refused
	dropped chan struct{} // closed when the kind is no longer followed
	ended   chan struct{} // closed when the run of the store ends
	refused chan struct{} // closed when the server refuses to go on; guarded by mu, renewed when it does not

	mu       sync.Mutex
	records  map[types.NamespacedName]*record
	owners   map[string]string   // one copy of each owner's name
	managers map[string][]string // one copy of each combination of managers
	listed   bool
	online   bool      // events are coming
	seen     string    // nothing up to this version is missing
	turn     uint64    // counts what made confirmations void
	again    time.Time // when it counts once more; see void
	readers  map[string]map[*reader]struct{}
}

func newKindStore(s *Store, key kindKey, gvk schema.GroupVersionKind) *kindStore {
	return &kindStore{
		store: s, key: key, gvk: gvk, epoch: s.epoch, settled: make(chan struct{}), dropped: make(chan struct{}), ended: s.ended, refused: make(chan struct{}),
		records: map[types.NamespacedName]*record{}, owners: map[string]string{}, managers: map[string][]string{}, readers: map[string]map[*reader]struct{}{},
	}
}

func (k *kindStore) inUse() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.readers) > 0
}

// run lists and watches until ctx ends or the kind is dropped.
func (k *kindStore) run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var done sync.WaitGroup
	defer done.Wait()
	done.Go(func() {
		defer stop()
		select {
		case <-k.dropped:
		case <-ctx.Done():
		}
	})
	defer stop()
	for ctx.Err() == nil {
		s := &kindStream{objects: []ObjectID{{Group: k.gvk.Group, Kind: k.gvk.Kind}}, stream: stream{
			resource:  k.store.Dynamic.Resource(k.key.resource),
			options:   metav1.ListOptions{LabelSelector: k.key.selector},
			seen:      k.take,
			listing:   k.listing,
			listed:    k.found,
			connected: k.connected,
			lost:      func(error) { k.lost() },
			known:     k.names(),
		}}
		err := s.first(ctx)
		if err == nil {
			err = s.follow(ctx) // which tells that it is connected
		}
		k.lost()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrUnknownKind) || errors.Is(classify(err), ErrUnknownKind) {
			k.vanish()
			k.store.forget(k)
			return
		}
		k.refuse()
		k.store.say("cannot follow objects; clients ask the server instead", "kind", k.gvk.String(), "error", err)
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
	}
}

// names returns what exists as far as is known.
func (k *kindStore) names() map[types.NamespacedName]struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[types.NamespacedName]struct{}{}
	for key := range k.records {
		out[key] = struct{}{}
	}
	return out
}

// listing notes that a list begins. If it is older than what was seen, the
// server was restored from a backup: nothing that is known can be compared with
// what comes.
func (k *kindStore) listing(version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !older(version, k.seen) {
		return
	}
	k.seen = version
	for _, r := range k.records {
		r.version, r.receipt = "", receipt{}
	}
}

// found takes in that these were all objects at version. What a client learnt
// meanwhile of newer ones stays.
func (k *kindStore) found(names map[types.NamespacedName]struct{}, version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = later(k.seen, version)
	for key, r := range k.records {
		if _, exists := names[key]; !exists && !older(version, r.version) {
			delete(k.records, key)
			k.tell(key, r.owner, nil)
		}
	}
	k.intern()
}

// intern forgets names of owners and managers that no record has any more.
func (k *kindStore) intern() {
	owners, managers := map[string]string{}, map[string][]string{}
	for _, r := range k.records {
		owners[r.owner] = r.owner
		managers[strings.Join(r.managers, "\n")] = r.managers
	}
	k.owners, k.managers = owners, managers
}

// connected notes that all is known up to version and that events are coming.
func (k *kindStore) connected(version string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.online, k.seen = true, later(k.seen, version)
	select {
	case <-k.refused:
		k.refused = make(chan struct{})
	default:
	}
	if k.listed {
		return
	}
	k.listed = true
	k.settle()
	for _, readers := range k.readers {
		for r := range readers {
			r.begin(k)
		}
	}
}

// lost notes that events are not coming.
func (k *kindStore) lost() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.online = false
	k.settle()
}

// following reports whether events are coming.
func (k *kindStore) following() bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listed && k.online
}

// refuse notes that events will not come soon.
func (k *kindStore) refuse() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.refused:
	default:
		close(k.refused)
	}
}

func (k *kindStore) settle() {
	select {
	case <-k.settled:
	default:
		close(k.settled)
	}
}

// drop ends run. Store.mu must be held.
func (k *kindStore) drop() {
	select {
	case <-k.dropped:
	default:
		close(k.dropped)
	}
}

// vanish takes in that the kind is no longer served, and its objects gone.
func (k *kindStore) vanish() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, r := range k.records {
		delete(k.records, key)
		k.tell(key, r.owner, nil)
	}
}

// wait returns when the objects were read, or when that takes long, or the server
// refuses, or ctx or the store ends. It reports whether they were ever read, and
// whether events are coming now.
func (k *kindStore) wait(ctx context.Context) (listed, online bool) {
	const patience = 10 * time.Second
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-k.settled:
	case <-late.C:
	case <-k.dropped:
	case <-k.ended:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listed, k.listed && k.online
}

// reader is told the states of some objects of one owner.
type reader struct {
	keys map[types.NamespacedName]ObjectID
	// seen is called with what is kept of an object now, nil if it does not
	// exist with the owner's labels. It must not call the store.
	seen func(id ObjectID, r *record)
}

// begin tells the present state.
func (r *reader) begin(k *kindStore) {
	for key, id := range r.keys {
		r.seen(id, k.records[key])
	}
}

// subscribe tells a reader the present state of its objects, as soon as it is
// known, and then every change, until the returned function is called. The channel
// is closed when nothing more will be told for a while, as may be those of the
// store's end and of the kind's.
func (k *kindStore) subscribe(owner string, ids []ObjectID, seen func(ObjectID, *record)) (cancel func(), refused <-chan struct{}) {
	r := &reader{keys: map[types.NamespacedName]ObjectID{}}
	r.seen = func(id ObjectID, rec *record) {
		if rec != nil && rec.owner != owner {
			rec = nil
		}
		seen(id, rec)
	}
	for _, id := range ids {
		r.keys[types.NamespacedName{Namespace: id.Namespace, Name: id.Name}] = id
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.readers[owner] == nil {
		k.readers[owner] = map[*reader]struct{}{}
	}
	k.readers[owner][r] = struct{}{}
	if k.listed {
		r.begin(k)
	}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.readers[owner], r)
		if len(k.readers[owner]) == 0 {
			delete(k.readers, owner)
		}
	}, k.refused
}

// tell tells the readers of an owner about one object.
func (k *kindStore) tell(key types.NamespacedName, owner string, rec *record) {
	if !k.listed {
		return
	}
	for r := range k.readers[owner] {
		if id, wanted := r.keys[key]; wanted {
			r.seen(id, rec)
		}
	}
}

// grace is how long a server may take until it acts on a configuration that can
// already be read.
const grace = 15 * time.Second

// expire makes all confirmations so far void, and those of the next seconds, too:
// the server shows a policy or a definition a moment before it acts on it.
func (k *kindStore) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.turn++
	k.again = time.Now().Add(k.store.patience())
}

func (s *Store) patience() time.Duration { return cmp.Or(s.grace, grace) }

// now returns what confirmations from here on have to be made under.
func (k *kindStore) now() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.again.IsZero() && !time.Now().Before(k.again) {
		k.turn++
		k.again = time.Time{}
	}
	return k.turn
}
