package runtime

import (
	"cmp"
	"context"
	"slices"
)

// Drain keeps passes of the keys that match from beginning, and waits until none of them is running; nil matches all.
// When it returns nil no such pass is running, and none begins until [Loop.Undrain]. It returns the cause of ctx
// if that ends first; the drain remains.
//
// Passes that run are left to finish. A pass that waits is taken back: it is made anew, with CauseRestored, after the
// Undrain, as is everything that comes up meanwhile: tickets wait for that. The final pass of a deleted key is
// held back, too.
//
// match is kept and asked about every key that becomes known from now on. It must be quick, must always answer the
// same for the same key, and must not call the loop.
func (l *Loop[K]) Drain(ctx context.Context, match func(K) bool) error {
	for _, left := range l.drain(match) {
		select {
		case <-left:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Undrain lets keys that match begin passes again, those first that were due first; nil matches all. Of several calls
// of Drain and Undrain that match a key the last one holds; Undrain(nil) forgets all before it.
func (l *Loop[K]) Undrain(match func(K) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if match == nil {
		l.drains = nil
	} else if len(l.drains) > 0 {
		l.drains = append(l.drains, drain[K]{match: match})
	}
	var due []*item[K]
	for k, it := range l.items {
		if !it.has(flagDrained) || match != nil && !match(k) {
			continue
		}
		it.put(flagDrained, false)
		if it.has(flagPending) && it.phase == PhaseIdle && (it.suspended() == nil || it.has(flagDeleting)) {
			due = append(due, it)
		}
	}
	if l.stopping {
		return
	}
	slices.SortFunc(due, func(a, b *item[K]) int { return cmp.Compare(a.due, b.due) })
	for _, it := range due {
		l.enqueue(it)
	}
}

// drain is a call of Drain, or of Undrain if it is not to hold back.
type drain[K comparable] struct {
	match func(K) bool
	holds bool
}

// drained reports whether passes of the key may not begin.
func (l *Loop[K]) drained(k K) bool {
	for _, d := range slices.Backward(l.drains) {
		if d.match == nil || d.match(k) {
			return d.holds
		}
	}
	return false
}

// drain marks the keys that match, and returns what is closed when the running ones have ended.
func (l *Loop[K]) drain(match func(K) bool) (running []<-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if match == nil {
		l.drains = nil
	}
	l.drains = append(l.drains, drain[K]{match: match, holds: true})
	for k, it := range l.items {
		if match != nil && !match(k) {
			continue
		}
		it.put(flagDrained, true)
		switch it.phase {
		case PhaseRunning:
			if l.leaving[it] == nil {
				l.leaving[it] = make(chan struct{})
			}
			running = append(running, l.leaving[it])
		case PhaseWaiting:
			l.wake(it)
		case PhaseQueued:
			stamp := l.shares.stampOf(it)
			l.unplan(it)
			l.shelve(it)
			if it.has(flagPending) {
				it.due = stamp
			}
		case PhaseIdle:
			if it.has(flagPending) {
				l.shelve(it)
			}
		}
	}
	return running
}

// shelve leaves a drained key idle until Undrain, with what it has to do.
func (l *Loop[K]) shelve(it *item[K]) {
	if it.underway() {
		it.act.underway, it.act.expired = false, false
		it.causes |= CauseRestored
	}
	if it.suspended() != nil && !it.has(flagDeleting) {
		l.rest(it)
		return
	}
	it.phase = PhaseIdle
	if it.has(flagPending) && it.index < 0 {
		return // it was shelved before
	}
	l.delayed.remove(it)
	it.put(flagPending, true)
	it.due = l.shares.now(l.now())
}
