package runtime

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Run makes the passes until ctx ends, and then stops gracefully: no pass begins any more, waits are dropped, running
// passes may go on for Options.Grace; then their contexts end, with ErrStopped as the cause, and they have the same
// time again to return. The passes' contexts carry the values of ctx but not its end.
//
// Run returns nil, or a [*StuckError] that names the keys whose passes have not returned; ErrRunning if it was called
// before. All tickets are resolved when it returns, the states can still be read.
func (l *Loop[K]) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.started {
		l.mu.Unlock()
		return fmt.Errorf("runtime: run: %w", ErrRunning)
	}
	l.started = true
	l.live = l.opts.Workers
	l.mu.Unlock()
	if l.opts.Store != nil {
		l.load(ctx)
		defer l.startSaving(ctx)()
	}
	passes, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(ErrStopped)
	for range l.opts.Workers {
		go l.worker(passes)
	}
	l.keepTime(ctx)
	return l.stop(cancel)
}

// startSaving starts to save states, and returns what ends that.
func (l *Loop[K]) startSaving(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.keepSaving(ctx, stop)
	}()
	return func() {
		close(stop)
		for range 2 {
			timer := time.NewTimer(l.opts.Grace)
			select {
			case <-done:
			case <-timer.C:
			}
			timer.Stop()
			cancel(ErrStopped)
		}
	}
}

// keepTime queues the keys that are due, until ctx ends. It has the only timer of the loop.
func (l *Loop[K]) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if d, some := l.fire(); some {
			timer.Reset(d)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.kick:
		}
	}
}

// fire queues what is due and returns the time to the next, if there is one.
func (l *Loop[K]) fire() (next time.Duration, some bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	again := l.watchClock(now)
	for len(l.delayed) > 0 {
		it := l.delayed[0]
		if it.due > now {
			next = time.Duration(it.due - now)
			break
		}
		if due, some := l.heeds(it, now); some && due > now {
			l.delayed.set(it, due) // the clock was set, a little
			continue
		}
		l.delayed.remove(it)
		l.fireOne(it, now)
	}
	if again > 0 && (next == 0 || again < next) {
		next = again
	}
	return next, next > 0
}

func (l *Loop[K]) fireOne(it *item[K], now int64) {
	switch {
	case it.phase == PhaseWaiting:
		a := it.act
		a.expired = a.deadline != 0 && a.deadline <= now
		l.wake(it)
	case it.suspended() != nil && !it.has(flagDeleting):
		l.setSuspend(it, nil)
	case it.has(flagPending):
		l.enqueue(it)
	default:
		l.mark(it, nextCause(it.outcome))
	}
}

// nextCause is why a pass follows by time after one with this outcome.
func nextCause(o Outcome) Cause {
	switch o {
	case OutcomeFailed:
		return CauseRetry
	case OutcomeProgressing:
		return CauseAgain
	}
	return CauseInterval
}

// stop ends the loop: first by asking, then by cancelling, at last by reporting.
func (l *Loop[K]) stop(cancel context.CancelCauseFunc) error {
	l.mu.Lock()
	l.stopping = true
	for _, it := range l.items {
		l.abandon(it)
	}
	if l.live == 0 {
		close(l.quiet)
	}
	l.work.Broadcast()
	l.mu.Unlock()

	if l.quietWithin(l.opts.Grace) {
		return nil
	}
	cancel(ErrStopped)
	if l.quietWithin(l.opts.Grace) {
		return nil
	}
	return l.stuck()
}

func (l *Loop[K]) quietWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.quiet:
		return true
	case <-timer.C:
		return false
	}
}

// abandon resolves what the stopped loop will not answer; a running pass still answers its own tickets.
func (l *Loop[K]) abandon(it *item[K]) {
	l.unplan(it)
	switch it.phase {
	case PhaseWaiting:
		l.unpark(it)
		it.put(flagUnfinished, true)
		it.phase = PhaseIdle
	case PhaseQueued, PhaseBlocked:
		it.put(flagUnfinished, true)
		it.phase = PhaseIdle
	}
	if it.has(flagUnfinished) || it.causes != 0 {
		l.touch(it.key)
	}
	a := it.act
	if a == nil {
		return
	}
	l.answer(it, nil, ErrStopped)
	if a.gone != nil && it.phase != PhaseRunning {
		a.gone.resolve(l.snapshot(it), ErrStopped)
		a.gone = nil
	}
}

func (l *Loop[K]) stuck() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := make([]string, 0, l.live)
	for k, it := range l.items {
		if it.phase == PhaseRunning || l.wakers[k] > 0 {
			keys = append(keys, fmt.Sprint(k))
		}
	}
	for k := range l.wakers {
		if l.items[k] == nil {
			keys = append(keys, fmt.Sprint(k))
		}
	}
	slices.Sort(keys)
	return &StuckError{Keys: keys, After: 2 * l.opts.Grace, Stacks: stacks()}
}

// leave is the last thing a goroutine of the loop does.
func (l *Loop[K]) leave() {
	l.live--
	if l.stopping && l.live == 0 {
		close(l.quiet)
	}
}

// worker makes one pass after the other. A pass that calls runtime.Goexit takes the goroutine with it; it is
// replaced.
func (l *Loop[K]) worker(ctx context.Context) {
	replace := true
	defer func() {
		if replace {
			go l.worker(ctx)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leave()
	}()
	for l.serve(ctx) {
	}
	replace = false
}

// serve takes one key from the queue, or waits for one, and deals with it. It reports false when the loop stops.
func (l *Loop[K]) serve(ctx context.Context) bool {
	l.mu.Lock()
	for !l.stopping {
		now := l.now()
		it, share := l.shares.next(now)
		if it == nil {
			l.work.Wait()
			continue
		}
		stamp := l.shares.stampOf(it)
		if l.shutOut(it) {
			l.release(share, it.lane(), now)
			continue
		}
		passCtx, s := l.admit(ctx, it, now, stamp)
		s.share, s.lane, s.began, s.stamp = share, it.lane(), now, stamp
		l.mu.Unlock()
		l.take(ctx, passCtx, it, s)
		return true
	}
	l.mu.Unlock()
	return false
}
