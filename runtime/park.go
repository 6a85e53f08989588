package runtime

import (
	"context"
	"runtime/debug"
	"time"
)

// park is the wait of a pass that has returned Wait.
type park[K comparable] struct {
	reason string
	keys   []K                // watched with WakeKey
	cancel context.CancelFunc // ends the waker goroutines; nil if there are none
	at     time.Time          // when to wake by the wall clock; zero if never
	due    int64              // when to wake by that of the loop; 0 if never
}

// park lets a pass wait without a worker.
func (l *Loop[K]) park(ctx context.Context, it *item[K], r Result) {
	a := it.act
	p := &park[K]{reason: r.message}
	a.park, a.reason = p, r.message
	it.phase = PhaseWaiting
	now := l.now()
	due := a.deadline
	wake := a.woken
	earlier := func(t int64) {
		if due == 0 || t < due {
			due = t
		}
	}
	for _, w := range r.wake {
		switch {
		case w.key != nil:
			wake = l.watch(it, p, w) || wake
		case w.after > 0:
			earlier(later(now, w.after))
		case !w.at.IsZero():
			if w.at == w.at.Round(0) { // a time of the wall clock only
				p.at = first(p.at, w.at)
			} else {
				earlier(later(1, w.at.Sub(l.base)))
			}
		}
	}
	if p.due = due; !p.at.IsZero() {
		l.heed(it, p.at)
		due, _ = l.heeds(it, now)
	}
	l.plan(it, due)
	l.touch(it.key)
	if wake {
		l.wake(it)
		return
	}
	if !l.stopping {
		l.startWakers(ctx, it, p, r.wake)
	}
}

// first is the earlier of two times; zero is none.
func first(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// watch has p woken when the key of w ends a pass, and reports whether it has done so since the pass was called.
func (l *Loop[K]) watch(it *item[K], p *park[K], w Waker) bool {
	k, _ := wakeKey[K](w) // checked in finish
	p.keys = append(p.keys, k)
	if l.watchers[k] == nil {
		l.watchers[k] = make(map[*item[K]]struct{})
	}
	l.watchers[k][it] = struct{}{}
	if other := l.items[k]; other != nil {
		return other.sequence > it.act.sequence
	}
	return l.dropped > it.act.sequence // perhaps this one
}

// startWakers starts the goroutines for wakers that need one.
func (l *Loop[K]) startWakers(ctx context.Context, it *item[K], p *park[K], wakers []Waker) {
	for _, w := range wakers {
		if w.ch == nil && w.fn == nil {
			continue
		}
		if p.cancel == nil {
			ctx, p.cancel = context.WithCancel(ctx)
		}
		l.live++
		l.wakers[it.key]++
		go l.waker(ctx, it, p, w)
	}
}

func (l *Loop[K]) waker(ctx context.Context, it *item[K], p *park[K], w Waker) {
	defer func() {
		if v := recover(); v != nil {
			l.opts.Log.ErrorContext(ctx, "panic in WakeWhen", "key", it.key, "panic", v, "stack", string(debug.Stack()))
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.wakers[it.key]--; l.wakers[it.key] == 0 {
			delete(l.wakers, it.key)
		}
		if it.act != nil && it.act.park == p {
			l.wake(it)
		}
		l.leave()
	}()
	if w.fn != nil {
		w.fn(ctx)
		return
	}
	select {
	case <-w.ch:
	case <-ctx.Done():
	}
}

// wake goes on with a pass that waits.
func (l *Loop[K]) wake(it *item[K]) {
	l.unpark(it)
	l.enqueue(it)
}

// unpark ends the wait and leaves nothing of it behind.
func (l *Loop[K]) unpark(it *item[K]) {
	p := it.act.park
	it.act.park = nil
	l.delayed.remove(it)
	if p.cancel != nil {
		p.cancel()
	}
	for _, k := range p.keys {
		delete(l.watchers[k], it)
		if len(l.watchers[k]) == 0 {
			delete(l.watchers, k)
		}
	}
}
