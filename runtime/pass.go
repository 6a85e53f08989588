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
	ask     []question[K]      // what to ask of dependencies

	share *share[K] // what the worker's time is charged to
	lane  lane
	began int64
	stamp int64 // when the key counts as queued
}

type stepKind uint8

const (
	stepCall stepKind = iota // call the reconciler
	stepHold                 // hold the key back because of its dependencies, or ask about them
	stepFail                 // the timeout was over while waiting
)

// admit decides what to do with a queued key, and returns the context for it.
func (l *Loop[K]) admit(ctx context.Context, it *item[K], now, stamp int64) (context.Context, step[K]) {
	a := l.activity(it)
	prev := l.snapshot(it)
	it.phase = PhaseRunning
	a.called, a.cancel, a.superseded = now, nil, nil
	a.queued = time.Duration(max(now-stamp, 0))
	switch {
	case a.underway && a.expired:
		a.expired = false
		return ctx, step[K]{kind: stepFail, expired: &TimeoutError{After: it.timing.Value().timeout, Waiting: a.reason}}
	case a.underway:
		a.why = a.why&CauseDeleted | CauseWoken
	case !it.has(flagDeleting) && (l.held(it) || l.unasked(it)):
		return ctx, step[K]{kind: stepHold, ask: l.questions(it)}
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
		for i := range s.ask {
			s.ask[i].ask()
		}
		l.hold(it, s)
	case stepFail:
		l.finish(ctx, it, Fail(s.expired), s)
	}
}

// begin starts a new pass, which answers all triggers so far.
func (l *Loop[K]) begin(it *item[K], a *activity[K], now int64) {
	it.put(flagKeep, false)
	it.started = now
	a.underway = true
	a.busy = 0
	a.why, it.causes = it.causes, 0
	if it.has(flagDeleting) {
		a.why |= CauseDeleted
	}
	a.version = ""
	if it.more != nil {
		a.version = it.more.version
	}
	if a.token == "" {
		a.token = a.passToken // of a pass that this one takes the place of
	}
	a.passToken, a.passForce, a.token, a.force = a.token, a.passForce || a.force, "", false
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
		l.finish(ctx, it, result, s)
	}()
	reconciler := l.reconciler
	if s.pass.Why.Has(CauseDeleted) {
		reconciler = l.opts.Finalizer
	}
	result = reconciler.Reconcile(passCtx, s.pass)
	returned = true
}

// finish records the result of a call, tells the observer, and lets the key go.
func (l *Loop[K]) finish(ctx context.Context, it *item[K], r Result, s step[K]) {
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
	defer l.left(it, s)
	a := it.act
	a.stop(nil)
	l.time(it, a, r, s)
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
	it.put(flagUnfinished, true)
	l.abandon(it)
}

// answerPass resolves the tickets of the pass that is over.
func (l *Loop[K]) answerPass(it *item[K], err error) {
	a := it.act
	tickets := a.tickets
	a.tickets, a.passToken, a.passForce = nil, "", false
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
		x.observed, x.message, x.err, x.unable = a.version, r.message, r.err, nil
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
	o := Observation[K]{
		Key: it.key, Why: a.why, State: l.snapshot(it), Queued: a.queued, Group: it.timing.Value().group, Slow: it.has(flagSlow),
	}
	if a.superseded != nil {
		o.Took = time.Duration(l.now() - a.called)
	}
	switch {
	case l.drops(it, a, r):
		o.State.Phase = PhaseGone
	case l.again(it, r):
		o.State.Phase = PhaseQueued
	case r.kind == resultWait:
		o.State.Phase, o.State.Waiting = PhaseWaiting, []string{r.message}
	case it.suspended() != nil:
		o.State.Phase = PhaseSuspended
	default:
		o.State.Phase, o.State.Due = PhaseIdle, l.wall(due)
	}
	if it.has(flagDrained) && o.State.Phase <= PhaseWaiting {
		o.State.Phase, o.State.Waiting = PhaseDrained, nil
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

// again reports whether what came up during a call leads to another pass at once.
func (l *Loop[K]) again(it *item[K], r Result) bool {
	if it.causes == 0 || it.suspended() != nil && !it.has(flagDeleting) {
		return false
	}
	if r.kind == resultWait {
		_, barred := l.barred(it)
		return !barred
	}
	return true
}

// land puts the key where it goes after a call: it waits, runs again, rests until it is due, or is dropped.
func (l *Loop[K]) land(ctx context.Context, it *item[K], a *activity[K], r Result, due int64) {
	suspended := it.suspended() != nil && !it.has(flagDeleting)
	again := l.again(it, r)
	if r.kind == resultWait && (again || it.has(flagDrained)) { // its tickets go on to the next pass
		a.underway = !again // a drained pass is repeated
		l.enqueue(it)
		return
	}
	if r.kind == resultWait {
		l.park(ctx, it, r)
		return
	}
	a.underway = false
	tickets := a.tickets
	a.tickets, a.passToken, a.passForce = nil, "", false
	dropped := l.drops(it, a, r)
	switch {
	case dropped:
		it.phase = PhaseGone
	case again:
		it.phase = PhaseIdle
		l.arrange(it)
	case suspended:
		l.rest(it)
	default:
		it.phase = PhaseIdle
		l.plan(it, due)
	}
	l.touch(it.key)
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
	l.recheckDependents(it.key)
}

// left is the last thing that happens to a key for which a worker was used.
func (l *Loop[K]) left(it *item[K], s step[K]) {
	l.release(s.share, s.lane, s.began)
	if c := l.leaving[it]; c != nil {
		delete(l.leaving, it)
		close(c)
	}
}

// release gives the worker back that was used since began.
func (l *Loop[K]) release(share *share[K], lane lane, began int64) {
	if l.shares.release(share, lane, began, l.now()) {
		l.work.Signal()
	}
}

// time finds out whether the key is slow.
func (l *Loop[K]) time(it *item[K], a *activity[K], r Result, s step[K]) {
	a.busy += l.now() - s.began
	slow := a.busy > int64(l.opts.SlowLane.SlowerThan)
	if l.opts.SlowLane.Share < 1 && (slow || r.kind != resultWait) {
		it.put(flagSlow, slow)
	}
}

// hold keeps a key from beginning a pass because of its dependencies, unless they turn out to be ready. Its causes and
// triggers stay.
func (l *Loop[K]) hold(it *item[K], s step[K]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.left(it, s)
	l.answers(it, s.ask)
	unable := l.unable(it)
	if held := l.held(it); held {
		l.holdBack(it, unable)
	}
	switch {
	case it.has(flagDeleting):
		l.remove(it)
	case l.stopping:
		l.settleDown(it)
	case it.suspended() != nil:
		l.rest(it)
	case !l.held(it) || l.unable(it) != unable: //nolint:errorlint // whether it is the same error, not the same kind
		if l.enqueueAt(it, s.stamp) {
			l.work.Signal()
		}
	default:
		it.phase = PhaseBlocked
		if unable != nil {
			l.answer(it, nil, unable)
		}
	}
}

// holdBack records that dependencies hold the key back, and tells the observer.
func (l *Loop[K]) holdBack(it *item[K], unable error) {
	x := it.details()
	switch {
	case unable != nil:
		if it.outcome == OutcomeOK {
			x.lastSuccess = it.finished
		}
		x.unable, x.err, x.message = unable, unable, ""
		it.outcome = OutcomeStalled
	case x.unable != nil: // the cycle is broken, but some dependency is not ready
		x.unable, x.err = nil, nil
		it.outcome = OutcomeNone
	}
	if l.opts.Observe != nil {
		it.phase = PhaseBlocked
		s := l.snapshot(it)
		it.phase = PhaseRunning
		l.tell(Observation[K]{Key: it.key, State: s, Queued: it.act.queued, Group: it.timing.Value().group, Slow: it.has(flagSlow)})
	}
}
