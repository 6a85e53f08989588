package runtime

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
	"unique"
)

// Options configure a [Loop]. The zero value of every field has a documented meaning.
type Options[K comparable] struct {
	// Workers is how many passes may run at the same time; 0 means 4.
	Workers int
	// Grace is how long running passes may go on when Run is told to stop; then their contexts end and they
	// have the same time once more to return. 0 means 30 seconds.
	Grace time.Duration
	// Jitter is the fraction by which intervals are spread, ±: 0 means 0.05, negative means none; below 1. The
	// spread of a key depends on Seed, the key's text (as fmt prints it) and its number of passes only.
	Jitter float64
	// Seed makes the jitter of several loops differ.
	Seed uint64
	// Finalizer makes the final pass of a deleted key, with CauseDeleted; the key is dropped when that is OK, and
	// the pass is repeated as Spec.Retry says when it fails. It does not wait for dependencies, and runs for
	// suspended keys too: Pass.Prev.Suspended tells. nil means deleted keys are dropped at once.
	Finalizer Reconciler[K]
	// Weights are the shares of groups, see Spec.Group: while there is not enough for all, a group of weight 2 gets
	// twice the worker time of one of weight 1. Groups that are not in it have weight 1, at least 1 is wanted.
	Weights map[string]int
	// Ageing is the waiting time that one step of Spec.Priority is worth; 0 means 1 minute, 720 hours at most.
	Ageing time.Duration
	// SlowLane keeps keys whose passes are slow from taking all workers.
	SlowLane SlowLane
	// Observe is told when a call of Reconcile has returned or a key is held back by its dependencies. For one key
	// the calls come in order and one at a time, and before the key can begin another pass; it must not block: see [Buffered].
	Observe func(Observation[K])
	// Store keeps the states of keys where they outlast the process; nil keeps them in memory. Run loads it before the
	// first pass: a key that was set with the Version of its last pass goes on where it was, and is due when it
	// was due; with another Version it has a pass with CauseChanged; one whose pass had not ended has it made
	// anew, with CauseRestored. States are saved in batches, after passes, without holding anything up. A
	// store that fails does not stop the loop: Log is told, and all goes on in memory. States of keys that nobody
	// sets stay in the store.
	Store Store[K]
	// Log is told about panics, which are failures of their pass as well, and about a Store that fails. nil is silent.
	Log *slog.Logger
}

// SlowLane bounds the workers for keys whose last pass was slow, so that quick keys find one free. The time of a pass is
// that of its calls; what it waits without a worker does not count. The first pass of a key is not slow.
type SlowLane struct {
	// Share is the part of the workers that slow keys may have at the same time, rounded down, but one at
	// least; 0 means 0.75, and 1 means that there is no slow lane.
	Share float64
	// SlowerThan is what a pass must exceed to be slow; 0 means 10 seconds.
	SlowerThan time.Duration
}

// Loop reconciles keys. It is made by [New] and safe for concurrent use; all methods return at once, but Run.
type Loop[K comparable] struct {
	reconciler Reconciler[K]
	opts       Options[K]
	base       time.Time // origin of all times, which are kept as nanoseconds since
	clock      func() time.Time

	mu         sync.Mutex
	work       sync.Cond     // ready got an item, or the loop stops
	kick       chan struct{} // the first due time may have moved forward
	items      map[K]*item[K]
	delayed    schedule[K]
	heeding    map[*item[K]]struct{} // those that wait for a time of the wall clock, and some that did
	looked     int64                 // when they were looked at
	skewed     time.Duration         // how far the wall clock had moved then
	shares     shares[K]
	drains     []drain[K]
	unclaimed  map[K]State                 // loaded from the store for keys that have not been set
	unsaved    map[K]struct{}              // keys whose state is not in the store
	save       chan struct{}               // there is something in unsaved
	leaving    map[*item[K]]chan struct{}  // closed when the running call has ended: Drain waits
	dependents map[K]map[*item[K]]struct{} // who depends on a key
	watchers   map[K]map[*item[K]]struct{} // who waits with WakeKey for a key
	cycles     map[K]*CycleError           // members of dependency cycles
	spare      []*activity[K]              // to be used again
	sequence   uint64                      // counts ended passes and dropped keys
	dropped    uint64                      // sequence of the last dropped key
	started    bool
	stopping   bool
	live       int           // workers and waker goroutines
	wakers     map[K]int     // waker goroutines, by key
	quiet      chan struct{} // closed when the loop stops and live reaches 0
}

// item is a key in the loop. It is kept small: idle keys come in great numbers.
type item[K comparable] struct {
	key      K
	timing   unique.Handle[timing]
	more     *details[K]  // nil while there is nothing to hold
	act      *activity[K] // nil while nothing is under way
	due      int64        // in Loop.delayed the time, in Loop.shares the rank, of a shelved key since when
	started  int64
	finished int64
	sequence uint64 // Loop.sequence at the end of the last pass
	index    int32  // place in Loop.delayed, or in its queue of Loop.shares while queued, -1 if in neither
	passes   uint32
	failures uint16
	causes   Cause // for the next pass
	backoff  uint8 // failures that count for the back-off
	phase    Phase
	outcome  Outcome
	flags    flag
}

type flag uint8

const (
	flagReady      flag = 1 << iota
	flagDeleting        // Delete was called; only the final pass may begin
	flagKeep            // Set was called since the pass began, so Forget does not hold
	flagSlow            // the last pass was slow
	flagDrained         // no pass may begin before Undrain
	flagUnfinished      // the loop has stopped before its pass
	flagPending         // idle with something to do: it is drained, or waits for its Debounce or a window
)

func (it *item[K]) lane() lane {
	if it.has(flagSlow) {
		return laneSlow
	}
	return laneFast
}

func (it *item[K]) has(f flag) bool { return it.flags&f != 0 }

func (it *item[K]) put(f flag, on bool) {
	if on {
		it.flags |= f
	} else {
		it.flags &^= f
	}
}

// details is what not every key has.
type details[K comparable] struct {
	deps        []Dep[K]
	verdicts    []verdict[K] // of Dep.Ready, by index of deps; nil if none has been asked
	windows     []Window
	shut        time.Time // when a window opens for which the key waits; meaningful while windowed
	windowed    bool
	suspend     *Suspension
	version     string // wanted
	observed    string // of the last ended pass
	revision    string
	token       string
	message     string
	err         error
	lastSuccess int64    // while outcome is not OK
	recreate    *Spec[K] // set while deleting
	unable      error    // the cycle or the terminal verdict of a dependency that the key was stalled with
}

func (it *item[K]) details() *details[K] {
	if it.more == nil {
		it.more = new(details[K])
	}
	return it.more
}

func (it *item[K]) suspended() *Suspension {
	if it.more == nil {
		return nil
	}
	return it.more.suspend
}

// New returns a loop that reconciles with r. The error is a [*SpecError] that lists all problems.
func New[K comparable](r Reconciler[K], opts *Options[K]) (*Loop[K], error) {
	var o Options[K]
	if opts != nil {
		o = *opts
	}
	var errs []error
	if r == nil {
		errs = append(errs, errors.New("the Reconciler is nil"))
	}
	if o.Workers < 0 {
		errs = append(errs, fmt.Errorf("Workers is %d, want 0 or more", o.Workers))
	}
	if o.Grace < 0 {
		errs = append(errs, fmt.Errorf("Grace is %v, want 0 or more", o.Grace))
	}
	if !(o.Jitter < 1) {
		errs = append(errs, fmt.Errorf("Jitter is %v, want less than 1", o.Jitter))
	}
	errs = append(errs, o.validateShares()...)
	if len(errs) > 0 {
		return nil, &SpecError{Op: "new", Err: errors.Join(errs...)}
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	if o.Ageing == 0 {
		o.Ageing = time.Minute
	}
	if o.SlowLane.Share == 0 {
		o.SlowLane.Share = 0.75
	}
	if o.SlowLane.SlowerThan == 0 {
		o.SlowLane.SlowerThan = 10 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Jitter == 0 {
		o.Jitter = 0.05
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Loop[K]{
		reconciler: r,
		opts:       o,
		base:       time.Now(),
		clock:      time.Now,
		kick:       make(chan struct{}, 1),
		save:       make(chan struct{}, 1),
		items:      make(map[K]*item[K]),
		shares:     newShares[K](maps.Clone(o.Weights), o.Ageing, max(1, int(o.SlowLane.Share*float64(o.Workers)))),
		leaving:    make(map[*item[K]]chan struct{}),
		dependents: make(map[K]map[*item[K]]struct{}),
		watchers:   make(map[K]map[*item[K]]struct{}),
		wakers:     make(map[K]int),
		quiet:      make(chan struct{}),
	}
	l.work.L = &l.mu
	return l, nil
}

// maxAgeing keeps the worth of a priority far from overflowing.
const maxAgeing = 720 * time.Hour

func (o *Options[K]) validateShares() (errs []error) {
	for _, group := range slices.Sorted(maps.Keys(o.Weights)) {
		if w := o.Weights[group]; w < 1 {
			errs = append(errs, fmt.Errorf("Weights[%q] is %d, want 1 or more", group, w))
		}
	}
	if o.Ageing < 0 || o.Ageing > maxAgeing {
		errs = append(errs, fmt.Errorf("Ageing is %v, want 0 to %v", o.Ageing, maxAgeing))
	}
	if !(o.SlowLane.Share >= 0 && o.SlowLane.Share <= 1) {
		errs = append(errs, fmt.Errorf("SlowLane.Share is %v, want 0 to 1", o.SlowLane.Share))
	}
	if o.SlowLane.SlowerThan < 0 {
		errs = append(errs, fmt.Errorf("SlowLane.SlowerThan is %v, want 0 or more", o.SlowLane.SlowerThan))
	}
	return errs
}

// now returns the nanoseconds since the loop was made, plus one so that 0 means never.
func (l *Loop[K]) now() int64 { return int64(time.Since(l.base)) + 1 }

// later is t plus d: far off rather than overflowing, never "never".
func later(t int64, d time.Duration) int64 {
	if d > 0 && t > math.MaxInt64-int64(d) {
		return math.MaxInt64
	}
	return max(t+int64(d), 1)
}

func (l *Loop[K]) wall(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return l.base.Add(time.Duration(t - 1))
}

// Get returns the state of a key, and whether the loop knows it.
func (l *Loop[K]) Get(k K) (State, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	it, ok := l.items[k]
	if !ok {
		return State{}, false
	}
	return l.snapshot(it), true
}

// All returns a snapshot of all keys, in no particular order. It is taken, consistently, when the iteration begins.
func (l *Loop[K]) All() iter.Seq2[K, State] {
	return func(yield func(K, State) bool) {
		type entry struct {
			key   K
			state State
		}
		l.mu.Lock()
		entries := make([]entry, 0, len(l.items))
		for k, it := range l.items {
			entries = append(entries, entry{k, l.snapshot(it)})
		}
		l.mu.Unlock()
		for i := range entries {
			if !yield(entries[i].key, entries[i].state) {
				return
			}
		}
	}
}

// Len returns the number of keys.
func (l *Loop[K]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.items)
}
