package runtime

import (
	"context"
	"errors"
	"math"
	"runtime/debug"
	"time"
)

// step is what a worker does with a key, without the lock.
type step[K comparable] struct {
	kind    stepKind
	expired *TimeoutError
	pass    Pass[K]
	cancel  context.CancelFunc // releases the deadline; nil if there is none
}

type stepKind uint8

const (
	stepCall stepKind = iota // call the reconciler
	stepHold                 // hold the key back because of its dependencies
	stepFail                 // the timeout was over while waiting
)

// admit decides what to do with a queued key, and returns the context for it.
func (l *Loop[K]) admit(ctx context.Context, it *item[K]) (context.Context, step[K]) {
	a := l.activity(it)
	now := l.now()
	prev := l.snapshot(it)
	it.phase = PhaseRunning
	a.called, a.cancel, a.superseded = now, nil, nil
	switch {
	case a.underway && a.expired:
		a.expired = false
		return ctx, step[K]{kind: stepFail, expired: &TimeoutError{After: it.timing.Value().timeout, Waiting: a.reason}}
	case a.underway:
		a.why = a.why&CauseDeleted | CauseWoken
	case !it.has(flagDeleting) && l.held(it):
		return ctx, step[K]{kind: stepHold}
	default:
		l.begin(it, a, now)
	}
	a.woken, a.closed = false, false
	a.superseded = make(chan struct{})
	a.sequence = l.sequence
	s := step[K]{pass: Pass[K]{
		Key: it.key, Why: a.why, Version: a.version, Attempt: int(it.failures), Token: a.passToken, Force: a.passForce,
		Prev: prev, Superseded: a.superseded,
	}}
	ctx, a.cancel = context.WithCancelCause(ctx)
	if a.deadline != 0 {
		ctx, s.cancel = context.WithDeadlineCause(ctx, l.wall(a.deadline), &TimeoutError{After: it.timing.Value().timeout})
	}
	return ctx, s
}

// take carries out a step; ctx is that of the loop, passCtx that of the call.
func (l *Loop[K]) take(ctx, passCtx context.Context, it *item[K], s step[K]) {
	switch s.kind {
	case stepCall:
		l.call(ctx, passCtx, it, s)
	case stepHold:
		l.hold(it)
	case stepFail:
		l.finish(ctx, it, Fail(s.expired))
	}
}

// begin starts a new pass, which answers all triggers so far.
func (l *Loop[K]) begin(it *item[K], a *activity[K], now int64) {
	it.put(flagKeep, false)
	it.started = now
	a.underway = true
	a.why, it.causes = it.causes, 0
	if it.has(flagDeleting) {
		a.why |= CauseDeleted
	}
	a.version = ""
	if it.more != nil {
		a.version = it.more.version
	}
	a.passToken, a.passForce, a.token, a.force = a.token, a.force, "", false
	if a.next != nil {
		a.tickets = append(a.tickets, a.next)
		a.next = nil
	}
	a.deadline = 0
	if timeout := it.timing.Value().timeout; timeout > 0 {
		a.deadline = later(now, timeout)
	}
}

// call calls the reconciler and deals with its result, even if it panics or ends the goroutine.
func (l *Loop[K]) call(ctx, passCtx context.Context, it *item[K], s step[K]) {
	returned := false
	var result Result
	defer func() {
		if !returned {
			err := &PanicError{Value: recover(), Stack: debug.Stack()}
			l.opts.Log.ErrorContext(ctx, err.Error(), "key", s.pass.Key, "stack", string(err.Stack))
			result = Fail(err)
		}
		if s.cancel != nil {
			s.cancel()
		}
		l.finish(ctx, it, result)
	}()
	reconciler := l.reconciler
	if s.pass.Why.Has(CauseDeleted) {
		reconciler = l.opts.Finalizer
	}
	result = reconciler.Reconcile(passCtx, s.pass)
	returned = true
}

// finish records the result of a call, tells the observer, and lets the key go.
func (l *Loop[K]) finish(ctx context.Context, it *item[K], r Result) {
	r = r.normal()
	for _, w := range r.wake {
		if w.key == nil {
			continue
		}
		if _, err := wakeKey[K](w); err != nil {
			r = Fail(err)
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := it.act
	a.stop(nil)
	final := a.why.Has(CauseDeleted)
	if l.stopping && interrupted(r) {
		a.underway = false
		l.settleDown(it)
		return
	}
	if it.has(flagDeleting) && !final {
		l.answerPass(it, ErrDeleted)
		l.remove(it)
		return
	}
	due := l.settle(it, a, r)
	l.observe(it, a, r, due)
	if it.has(flagDeleting) && !final { // deleted while it was observed
		l.answerPass(it, ErrDeleted)
		l.remove(it)
		return
	}
	l.land(ctx, it, a, r, due)
	if l.stopping {
		l.abandon(it)
	}
}

// interrupted reports whether the result only says that the context has ended.
func interrupted(r Result) bool {
	return r.err != nil && (errors.Is(r.err, context.Canceled) || errors.Is(r.err, ErrStopped))
}

// settleDown leaves a key idle when the loop has stopped.
func (l *Loop[K]) settleDown(it *item[K]) {
	it.phase = PhaseIdle
	l.abandon(it)
}

// answerPass resolves the tickets of the pass that is over.
func (l *Loop[K]) answerPass(it *item[K], err error) {
	a := it.act
	tickets := a.tickets
	a.tickets = nil
	l.answer(it, tickets, err)
}

// settle records the result of a call in the item and returns when the next pass is due; 0 is never.
func (l *Loop[K]) settle(it *item[K], a *activity[K], r Result) (due int64) {
	if r.revision != "" {
		it.details().revision = r.revision
	}
	if r.kind == resultWait {
		return 0
	}
	now := l.now()
	if r.kind != resultOK && r.kind != resultForget && it.outcome == OutcomeOK {
		it.details().lastSuccess = it.finished
	}
	it.finished = now
	it.passes++
	l.sequence++
	it.sequence = l.sequence
	if a.version != "" || a.passToken != "" || r.message != "" || r.err != nil {
		it.details()
	}
	if x := it.more; x != nil {
		x.observed, x.message, x.err, x.cycle = a.version, r.message, r.err, nil
		if a.passToken != "" {
			x.token = a.passToken
		}
	}
	it.put(flagReady, l.makesReady(it, a, r))
	return l.outcome(it, r, now)
}

func (l *Loop[K]) makesReady(it *item[K], a *activity[K], r Result) bool {
	current := it.more == nil || it.more.version == a.version
	return r.kind == resultOK && !r.notReady && current && l.cycles[it.key] == nil && !it.has(flagDeleting)
}

// outcome sets the outcome of an ended pass and returns when the next one is due.
func (l *Loop[K]) outcome(it *item[K], r Result, now int64) (due int64) {
	switch r.kind {
	case resultAgain:
		it.outcome = OutcomeProgressing
		return later(now, r.after)
	case resultFail:
		it.outcome = OutcomeFailed
		it.failures = min(it.failures, math.MaxUint16-1) + 1
		if after, ok := RetryAfter(r.err); ok {
			return now + int64(min(after, maxRetryAfter))
		}
		it.backoff = min(it.backoff, math.MaxUint8-1) + 1
		return later(now, it.timing.Value().retry.Delay(int(it.backoff)))
	case resultStall:
		it.outcome = OutcomeStalled
		it.failures = min(it.failures, math.MaxUint16-1) + 1
		return 0
	}
	it.outcome = OutcomeOK
	it.failures, it.backoff = 0, 0
	return l.byInterval(it)
}

// observe tells the observer; the lock is released meanwhile, and the key counts as running.
func (l *Loop[K]) observe(it *item[K], a *activity[K], r Result, due int64) {
	if l.opts.Observe == nil {
		return
	}
	o := Observation[K]{Key: it.key, Why: a.why, State: l.snapshot(it)}
	if a.superseded != nil {
		o.Took = time.Duration(l.now() - a.called)
	}
	switch {
	case l.drops(it, a, r):
		o.State.Phase = PhaseGone
	case it.causes != 0 && it.suspended() == nil:
		o.State.Phase = PhaseQueued
	case r.kind == resultWait:
		o.State.Phase, o.State.Waiting = PhaseWaiting, []string{r.message}
	case it.suspended() != nil:
		o.State.Phase = PhaseSuspended
	default:
		o.State.Phase, o.State.Due = PhaseIdle, l.wall(due)
	}
	l.tell(o)
}

// tell calls the observer without the lock.
func (l *Loop[K]) tell(o Observation[K]) {
	l.mu.Unlock()
	defer l.mu.Lock()
	defer func() {
		if v := recover(); v != nil {
			l.opts.Log.Error("panic in Observe", "key", o.Key, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	l.opts.Observe(o)
}

// drops reports whether the result ends the life of the key.
func (l *Loop[K]) drops(it *item[K], a *activity[K], r Result) bool {
	if a.why.Has(CauseDeleted) {
		return r.kind == resultOK || r.kind == resultForget
	}
	return r.kind == resultForget && it.causes == 0 && !it.has(flagKeep)
}

// land puts the key where it goes after a call: it waits, runs again, rests until it is due, or is dropped.
func (l *Loop[K]) land(ctx context.Context, it *item[K], a *activity[K], r Result, due int64) {
	suspended := it.suspended() != nil && !it.has(flagDeleting)
	again := it.causes != 0 && !suspended
	if r.kind == resultWait && !again {
		l.park(ctx, it, r)
		return
	}
	a.underway = false
	if r.kind == resultWait { // superseded: its tickets go on to the next pass
		l.enqueue(it)
		return
	}
	tickets := a.tickets
	a.tickets = nil
	dropped := l.drops(it, a, r)
	switch {
	case dropped:
		it.phase = PhaseGone
	case again:
		l.enqueue(it)
	case suspended:
		l.rest(it)
	default:
		it.phase = PhaseIdle
		l.plan(it, due)
	}
	s := l.snapshot(it)
	for _, t := range tickets {
		t.resolve(s, s.Err)
	}
	if dropped {
		l.drop(it)
		return
	}
	l.rid(it)
	l.wakeWatchers(it.key)
	if it.has(flagReady) {
		l.recheckDependents(it.key)
	}
}

// hold keeps a key from beginning a pass because of its dependencies. Its causes and triggers stay.
func (l *Loop[K]) hold(it *item[K]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cycle := l.cycles[it.key]
	x := it.details()
	switch {
	case cycle != nil:
		if it.outcome == OutcomeOK {
			x.lastSuccess = it.finished
		}
		x.cycle, x.err, x.message = cycle, cycle, ""
		it.outcome = OutcomeStalled
	case x.cycle != nil: // the cycle is broken, but some dependency is not ready
		x.cycle, x.err = nil, nil
		it.outcome = OutcomeNone
	}
	if l.opts.Observe != nil {
		it.phase = PhaseBlocked
		s := l.snapshot(it)
		it.phase = PhaseRunning
		l.tell(Observation[K]{Key: it.key, State: s})
	}
	switch {
	case it.has(flagDeleting):
		l.remove(it)
	case l.stopping:
		l.settleDown(it)
	case it.suspended() != nil:
		l.rest(it)
	case !l.held(it) || l.cycles[it.key] != cycle:
		l.enqueue(it)
	default:
		it.phase = PhaseBlocked
		if cycle != nil {
			l.answer(it, nil, cycle)
		}
	}
}
