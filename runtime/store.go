package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"runtime/debug"
	"sync"
	"time"
)

// Store keeps the states of keys where they outlast the process. What it is used for can be repeated, so it may lose
// what was saved last, but must not return what was never saved. Its methods are called by one goroutine at a time,
// never by a worker; they honour ctx.
type Store[K comparable] interface {
	// Load yields all states. An error says what cannot be read; the keys concerned are taken for new ones.
	Load(ctx context.Context) iter.Seq2[Saved[K], error]
	// Save replaces the states of the keys. When it fails it is tried again, with the states of that time.
	Save(ctx context.Context, states []Saved[K]) error
	// Delete drops the states of the keys; those that are not there do not matter.
	Delete(ctx context.Context, keys []K) error
}

// Saved is what a [Store] keeps of a key.
type Saved[K comparable] struct {
	// Key is the key.
	Key K
	// State is its state. Err, Waiting and Suspended need not be kept: Message has the text of the error.
	State State
}

// RestoredError is the State.Err of a key whose last pass failed in an earlier process.
type RestoredError struct {
	// Message is the text of the error.
	Message string
}

func (e *RestoredError) Error() string { return e.Message }

// MemoryStore is a [Store] that keeps states in memory: to hand them from one loop to the next, and for tests. The
// zero value is an empty store. It is safe for concurrent use.
type MemoryStore[K comparable] struct {
	mu     sync.Mutex
	states map[K]State
}

// Load yields the states, in no particular order.
func (m *MemoryStore[K]) Load(context.Context) iter.Seq2[Saved[K], error] {
	return func(yield func(Saved[K], error) bool) {
		m.mu.Lock()
		states := maps.Clone(m.states)
		m.mu.Unlock()
		for k, s := range states {
			if !yield(Saved[K]{k, s}, nil) {
				return
			}
		}
	}
}

// Save keeps the states.
func (m *MemoryStore[K]) Save(_ context.Context, states []Saved[K]) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.states == nil {
		m.states = make(map[K]State)
	}
	for _, s := range states {
		m.states[s.Key] = s.State
	}
	return nil
}

// Delete drops the states of the keys.
func (m *MemoryStore[K]) Delete(_ context.Context, keys []K) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.states, k)
	}
	return nil
}

// touch has the state of the key saved, or deleted when the loop does not know it any more.
func (l *Loop[K]) touch(k K) {
	if l.opts.Store == nil {
		return
	}
	if l.unsaved == nil {
		l.unsaved = make(map[K]struct{})
	}
	l.unsaved[k] = struct{}{}
	select {
	case l.save <- struct{}{}:
	default:
	}
}

// load restores the keys that the store knows. No worker runs yet.
func (l *Loop[K]) load(ctx context.Context) {
	found := make(map[K]State)
	err := guarded(func() error {
		for s, err := range l.opts.Store.Load(ctx) {
			if err != nil {
				l.opts.Log.WarnContext(ctx, "cannot restore the states of all keys: those that are missing begin anew", "error", err)
				continue
			}
			found[s.Key] = s.State
		}
		return nil
	})
	if err != nil {
		l.opts.Log.WarnContext(ctx, "cannot restore the states of all keys: those that are missing begin anew", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.unsaved { // deleted before
		delete(found, k)
	}
	l.unclaimed = found
	for k := range found {
		if it := l.items[k]; it != nil {
			l.restore(it)
		}
	}
}

// restore gives a key that has just been set the state of an earlier process, and reports whether there is one.
func (l *Loop[K]) restore(it *item[K]) bool {
	s, ok := l.unclaimed[it.key]
	delete(l.unclaimed, it.key)
	if !ok || s.Outcome == OutcomeNone || s.Outcome > OutcomeStalled || s.Finished.IsZero() {
		return false
	}
	now := l.now()
	l.unplan(it)
	it.phase = PhaseIdle
	it.put(flagPending, false)
	it.causes &^= CauseAdded
	it.started, it.finished = min(l.since(s.Started), now), min(l.since(s.Finished), now)
	it.passes = uint32(min(max(s.Passes, 1), 1<<31))
	it.failures = uint16(min(max(s.Failures, 0), 1<<15))
	it.backoff = uint8(min(it.failures, 1<<7))
	it.outcome = s.Outcome
	l.sequence++
	it.sequence = l.sequence
	wanted := ""
	if it.more != nil {
		wanted = it.more.version
	}
	if s.Version != "" || s.Revision != "" || s.Token != "" || s.Message != "" || s.Outcome != OutcomeOK {
		l.restoreDetails(it.details(), s, now)
	}
	it.put(flagReady, s.Ready && s.Version == wanted && s.Outcome == OutcomeOK && l.cycles[it.key] == nil)
	if s.Version != wanted {
		it.causes |= CauseChanged
	}
	switch s.Phase {
	case PhaseQueued, PhaseRunning, PhaseWaiting, PhaseBlocked:
		it.causes |= CauseRestored
	}
	l.resume(it, s, now)
	l.recheckDependents(it.key)
	return true
}

func (l *Loop[K]) restoreDetails(x *details[K], s State, now int64) {
	x.observed, x.revision, x.token, x.message = s.Version, s.Revision, s.Token, s.Message
	if s.Outcome == OutcomeFailed || s.Outcome == OutcomeStalled {
		x.err = &RestoredError{s.Message}
	}
	x.lastSuccess = min(l.since(s.LastSuccess), now)
}

// maxAgain bounds how far off a restored key that was in progress may be due.
const maxAgain = 720 * time.Hour

// resume plans the next pass of a restored key.
func (l *Loop[K]) resume(it *item[K], s State, now int64) {
	switch {
	case it.suspended() != nil:
		l.rest(it)
	case it.causes != 0 || l.cycles[it.key] != nil:
		l.enqueue(it)
	case it.outcome == OutcomeOK:
		l.plan(it, l.byInterval(it))
	case it.outcome != OutcomeStalled:
		// Not later than it was to be at first, should the clock have been moved.
		longest := maxRetryAfter
		if it.outcome == OutcomeProgressing {
			longest = maxAgain
		}
		pause := min(max(s.Due.Sub(s.Finished), 0), longest)
		l.plan(it, max(1, min(l.since(s.Due), later(now, pause))))
	}
}

// since is the time of the loop for one of the clock; 0 for the zero time.
func (l *Loop[K]) since(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	d := int64(t.Sub(l.base))
	if d == -1 || d == math.MaxInt64 {
		return max(d, 1)
	}
	return d + 1
}

// maxBatch bounds what is saved at a time, so that the lock is not held for long.
const maxBatch = 1000

// keepSaving saves what has changed until stop is closed, and then what is left. A store that fails is tried again
// later; the states are in memory.
func (l *Loop[K]) keepSaving(ctx context.Context, stop <-chan struct{}) {
	failures := 0
	for stopping := false; !stopping; {
		if failures == 0 {
			select {
			case <-stop:
				stopping = true
			case <-l.save:
			}
		} else {
			timer := time.NewTimer(Backoff{Min: time.Second, Max: time.Minute}.Delay(failures))
			select {
			case <-stop:
				stopping = true
			case <-timer.C:
			}
			timer.Stop()
		}
		err := l.saveAll(ctx)
		switch {
		case err == nil && failures > 0:
			l.opts.Log.InfoContext(ctx, "the states of keys are saved again")
			failures = 0
		case err != nil:
			if failures == 0 || stopping {
				l.opts.Log.WarnContext(ctx, "cannot save the states of keys: they are in memory only", "error", err)
			}
			failures++
		}
	}
}

func (l *Loop[K]) saveAll(ctx context.Context) error {
	for {
		states, gone := l.batch()
		if len(states)+len(gone) == 0 {
			return nil
		}
		err := guarded(func() error {
			var errs []error
			if len(states) > 0 {
				errs = append(errs, l.opts.Store.Save(ctx, states))
			}
			if len(gone) > 0 {
				errs = append(errs, l.opts.Store.Delete(ctx, gone))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			l.putBack(states, gone)
			return err
		}
	}
}

// batch takes out some of what has to be saved.
func (l *Loop[K]) batch() (states []Saved[K], gone []K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := range l.unsaved {
		if len(states)+len(gone) == maxBatch {
			break
		}
		delete(l.unsaved, k)
		if it := l.items[k]; it != nil && it.finished != 0 && !it.has(flagDeleting) {
			states = append(states, Saved[K]{k, l.toSave(it)})
		} else {
			gone = append(gone, k)
		}
	}
	return states, gone
}

// toSave is the state of it with the phase it would have if the loop went on.
func (l *Loop[K]) toSave(it *item[K]) State {
	s := l.snapshot(it)
	stalled := it.more != nil && it.more.unable != nil // what the last pass had said is not known any more
	if it.has(flagUnfinished) || it.has(flagPending) || stalled {
		s.Phase = PhaseQueued
	}
	s.Waiting = nil
	return s
}

func (l *Loop[K]) putBack(states []Saved[K], gone []K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range states {
		l.unsaved[s.Key] = struct{}{}
	}
	for _, k := range gone {
		l.unsaved[k] = struct{}{}
	}
}

// guarded takes a panic of a store for an error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in the Store: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}
