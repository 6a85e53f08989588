package runtime

import (
	"context"
	"fmt"
	"time"
	"unique"
)

// Set makes a key known, which begins a pass with CauseAdded, or replaces its Spec: a new Version begins a pass with
// CauseChanged, a new Interval moves the next pass, a removed Suspend resumes. Setting the same Spec again does
// nothing. A key that is being deleted is set anew when its final pass is OK.
//
// The error is a [*SpecError] if the Spec cannot be (then nothing has changed), a [*CycleError] if the key is now part of
// a dependency cycle (the Spec is kept: the key stalls until the cycle is broken), or ErrStopped.
func (l *Loop[K]) Set(k K, s Spec[K]) error {
	if err := s.validate(); err != nil {
		return &SpecError{Op: "set", Key: fmt.Sprint(k), Err: err}
	}
	s = s.clone()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return ErrStopped
	}
	if it := l.items[k]; it != nil && it.has(flagDeleting) {
		it.details().recreate = &s
		return nil
	}
	l.apply(k, s)
	if c := l.cycles[k]; c != nil {
		return c
	}
	return nil
}

// apply carries out Set for a key that is not being deleted.
func (l *Loop[K]) apply(k K, s Spec[K]) {
	cause := CauseAdded
	it := l.items[k]
	if it == nil {
		it = &item[K]{key: k, index: -1}
		l.items[k] = it
		it.put(flagDrained, l.drained(k))
	} else {
		cause = 0
		it.put(flagKeep, true)
	}
	moved := l.retime(it, s.timing())
	if len(s.Windows) > 0 || it.more != nil {
		it.details().windows = s.Windows
	}
	if s.Version != "" || it.more != nil {
		if x := it.details(); x.version != s.Version {
			x.version = s.Version
			it.put(flagReady, false)
			l.recheckDependents(k)
			if cause == 0 {
				cause = CauseChanged
			}
		}
	}
	it.causes |= cause // before suspending, which keeps them
	l.setDeps(it, s.DependsOn)
	l.setSuspend(it, s.Suspend)
	switch {
	case cause == CauseAdded && l.restore(it):
	case cause != 0:
		l.mark(it, cause)
	case moved:
		l.replan(it)
	}
	if it.has(flagPending) && it.more != nil && it.more.windowed {
		l.enqueue(it) // the windows may have changed
	}
}

// retime replaces the timing of it and reports whether that moves the next pass. A queued key keeps the time it has
// waited.
func (l *Loop[K]) retime(it *item[K], t timing) (moved bool) {
	h := unique.Make(t)
	if h == it.timing {
		return false
	}
	old := it.timing
	moved = it.finished != 0 && old.Value().interval != t.interval
	if it.phase == PhaseQueued {
		stamp := l.shares.stampOf(it)
		l.shares.remove(it)
		it.timing = h
		l.shares.push(it, stamp)
		return moved
	}
	it.timing = h
	return moved
}

// replan moves the next pass of an idle key to where its interval wants it.
func (l *Loop[K]) replan(it *item[K]) {
	if it.phase != PhaseIdle || it.outcome != OutcomeOK || it.suspended() != nil || it.has(flagPending) {
		return
	}
	l.plan(it, l.byInterval(it))
}

// byInterval is when the interval of it is over, 0 for never.
func (l *Loop[K]) byInterval(it *item[K]) int64 {
	interval := it.timing.Value().interval
	if interval == 0 {
		return 0
	}
	return later(it.finished, spread(interval, l.opts.Jitter, l.opts.Seed, it.key, it.passes))
}

// plan sets the due time of it; 0 means none.
func (l *Loop[K]) plan(it *item[K], due int64) {
	if due == 0 {
		l.delayed.remove(it)
		return
	}
	if l.delayed.set(it, due) {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// Suspend keeps passes of the key from beginning, as Spec.Suspend does; a later Set replaces it. The error is
// ErrNotFound or ErrStopped.
func (l *Loop[K]) Suspend(k K, s Suspension) error {
	return l.change(k, func(it *item[K]) { l.setSuspend(it, &s) })
}

// Resume ends a suspension and begins a pass with CauseResumed, joined by the causes that came up meanwhile. It does
// nothing for keys that are not suspended. The error is ErrNotFound or ErrStopped.
func (l *Loop[K]) Resume(k K) error {
	return l.change(k, func(it *item[K]) { l.setSuspend(it, nil) })
}

func (l *Loop[K]) change(k K, f func(*item[K])) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return ErrStopped
	}
	it := l.items[k]
	if it == nil {
		return ErrNotFound
	}
	f(it)
	return nil
}

func (l *Loop[K]) setSuspend(it *item[K], s *Suspension) {
	if s != nil && !s.Until.IsZero() && l.until(s.Until) <= 0 {
		s = nil
	}
	was := it.suspended()
	if s == nil && was == nil {
		return
	}
	it.details().suspend = s
	l.recheckDependents(it.key)
	if s == nil {
		l.mark(it, CauseResumed)
		return
	}
	switch it.phase {
	case PhaseIdle, PhaseQueued, PhaseBlocked:
		if !it.has(flagDeleting) && !it.underway() {
			l.rest(it)
		}
	}
}

// rest leaves a suspended key idle until the end of its suspension.
func (l *Loop[K]) rest(it *item[K]) {
	s := it.suspended()
	l.unplan(it)
	it.phase = PhaseIdle
	it.put(flagPending, false)
	if s.Until.IsZero() {
		l.plan(it, 0)
	} else {
		l.heed(it, s.Until)
	}
	if a := it.act; a != nil {
		l.answer(it, nil, &SuspendedError{*s})
	}
}

// TriggerOptions qualify a trigger; nil means none of this.
type TriggerOptions struct {
	// Token identifies the request, for instance the value of an annotation. The pass gets the newest one, and
	// State.Token has it when the pass has ended.
	Token string
	// Force makes the pass begin without waiting for Spec.Debounce and Spec.Windows, and is handed to it as
	// Pass.Force.
	Force bool
}

// Trigger asks for a pass with CauseRequested. It never blocks and is never lost: during a pass it leads to exactly one
// further pass, however often it is called; while the key waits, backs off or has stalled, it begins a new
// pass at once. Dependencies still hold the pass back. A suspension or a dependency cycle still keeps it from
// beginning, which the ticket then tells; the request itself is kept for the pass that follows.
func (l *Loop[K]) Trigger(k K, o *TriggerOptions) *Ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.items[k]
	switch {
	case l.stopping:
		return answered(State{}, ErrStopped)
	case it == nil:
		return answered(State{}, ErrNotFound)
	}
	a := l.activity(it)
	if o != nil {
		a.force = a.force || o.Force
		if o.Token != "" {
			a.token = o.Token
		}
	}
	if s := it.suspended(); s != nil && !it.has(flagDeleting) {
		l.mark(it, CauseRequested)
		return answered(l.snapshot(it), &SuspendedError{*s})
	}
	if err := l.unable(it); err != nil && it.phase == PhaseBlocked {
		l.mark(it, CauseRequested)
		return answered(l.snapshot(it), err)
	}
	if a.next == nil {
		a.next = newTicket()
	}
	l.mark(it, CauseRequested)
	return a.next
}

// Wake goes on with a pass that returned [Wait], or is about to, and reports whether there is one. Unlike Trigger it
// does not begin a new pass, so Spec.Timeout runs on.
func (l *Loop[K]) Wake(k K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.items[k]
	if it == nil {
		return false
	}
	switch it.phase {
	case PhaseWaiting:
		l.wake(it)
		return true
	case PhaseRunning:
		l.activity(it).woken = true
		return true
	}
	return false
}

// Delete cancels the running pass of the key with ErrDeleted as the cause, makes the final pass if there is an
// Options.Finalizer, and drops the key. The ticket is resolved when the key is gone, at once if it is not known; what
// the Options.Store has of it is deleted in any case.
// Tickets of triggers are answered with ErrDeleted.
func (l *Loop[K]) Delete(k K) *Ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	it := l.items[k]
	switch {
	case l.stopping:
		return answered(State{}, ErrStopped)
	case it == nil:
		delete(l.unclaimed, k)
		l.touch(k)
		return answered(State{Phase: PhaseGone}, nil)
	case it.has(flagDeleting):
		it.details().recreate = nil
		return it.act.gone
	}
	a := l.activity(it)
	a.gone = newTicket()
	gone := a.gone
	it.flags = it.flags&^flagReady | flagDeleting
	it.causes, it.failures, it.backoff = CauseDeleted, 0, 0
	l.touch(k)
	l.setDeps(it, nil)
	l.answer(it, nil, ErrDeleted)
	if it.phase == PhaseRunning {
		a.stop(ErrDeleted)
		return gone
	}
	if it.phase == PhaseWaiting {
		l.unpark(it)
	}
	l.remove(it)
	return gone
}

// remove begins the final pass of a deleted key, or drops it if there is none to make. No pass is running.
func (l *Loop[K]) remove(it *item[K]) {
	it.act.underway = false
	if l.opts.Finalizer == nil {
		l.drop(it)
		return
	}
	l.enqueue(it)
}

// drop forgets a key, and sets it anew if that was asked for meanwhile.
func (l *Loop[K]) drop(it *item[K]) {
	l.setDeps(it, nil)
	l.unplan(it)
	it.phase = PhaseGone
	delete(l.items, it.key)
	l.touch(it.key)
	l.sequence++
	l.dropped = l.sequence
	a := it.act
	it.act = nil
	again := it.more != nil && it.more.recreate != nil && !l.stopping
	if a != nil {
		l.dismiss(it, a, again)
	}
	l.wakeWatchers(it.key)
	if !again {
		return
	}
	l.apply(it.key, *it.more.recreate)
	if fresh := l.items[it.key]; fresh != nil && a != nil && a.next != nil { // triggers are not lost
		b := l.activity(fresh)
		b.next, b.token, b.force = a.next, a.token, a.force
		l.mark(fresh, CauseRequested)
	}
}

// dismiss resolves the tickets of a key that is dropped. Those of triggers since its final pass began are left to the
// pass of the key that is set anew, if it is.
func (l *Loop[K]) dismiss(it *item[K], a *activity[K], again bool) {
	s := l.snapshot(it)
	for _, t := range a.tickets {
		t.resolve(s, ErrDeleted)
	}
	a.tickets = nil
	if a.next != nil && !again {
		a.next.resolve(s, ErrDeleted)
		a.next = nil
	}
	if a.gone != nil {
		a.gone.resolve(s, nil)
	}
}

// mark adds causes for a pass and sees to it that the pass happens.
func (l *Loop[K]) mark(it *item[K], c Cause) {
	it.causes |= c
	if it.suspended() != nil && !it.has(flagDeleting) {
		return
	}
	if _, barred := l.barred(it); barred && it.underway() {
		return // the pass that has begun goes on, and the next one waits for a window
	}
	switch it.phase {
	case PhaseIdle:
		l.arrange(it)
	case PhaseWaiting:
		l.unpark(it)
		it.act.underway = false
		l.enqueue(it)
	case PhaseQueued:
		if it.underway() { // woken but not called yet: a new pass instead
			it.act.underway, it.act.expired = false, false
		}
	case PhaseRunning:
		it.act.supersede()
	}
}

// arrange queues an idle key that has causes, at once or after its Debounce.
func (l *Loop[K]) arrange(it *item[K]) {
	quiet := it.causes&^(CauseRequested|CauseChanged) == 0 && !it.has(flagDeleting) && !it.forced()
	debounce := it.timing.Value().debounce
	switch {
	case quiet && it.has(flagPending):
	case quiet && debounce > 0 && !it.has(flagDrained):
		it.put(flagPending, true)
		l.plan(it, later(l.now(), debounce))
	default:
		l.enqueue(it)
	}
}

func (it *item[K]) forced() bool { return it.act != nil && it.act.force }

// enqueue puts it in the queue for a worker, unless it is drained or must wait for a window.
func (l *Loop[K]) enqueue(it *item[K]) {
	if it.phase == PhaseQueued {
		return
	}
	if l.enqueueAt(it, l.shares.stamp+1) {
		l.work.Signal()
	}
}

// enqueueAt puts it in the queue if it may be there, as if it had been queued at the time of the stamp.
func (l *Loop[K]) enqueueAt(it *item[K], stamp int64) bool {
	l.delayed.remove(it)
	if it.has(flagDrained) {
		l.shelve(it)
		return false
	}
	it.put(flagPending, false)
	if l.shutOut(it) {
		return false
	}
	it.phase = PhaseQueued
	if stamp > l.shares.stamp {
		stamp = l.shares.now(l.now())
	}
	l.shares.push(it, stamp)
	return true
}

// unplan takes it out of the queue or the times it is in.
func (l *Loop[K]) unplan(it *item[K]) {
	switch {
	case it.index < 0:
	case it.phase == PhaseQueued:
		l.shares.remove(it)
	default:
		l.delayed.remove(it)
	}
}

// answer resolves the tickets of triggers that no pass has begun for, and with them those of a pass that is over.
func (l *Loop[K]) answer(it *item[K], over []*Ticket, err error) {
	a := it.act
	if a.next != nil {
		over = append(over, a.next)
		a.next = nil
	}
	if it.phase != PhaseRunning && it.phase != PhaseGone {
		over = append(over, a.tickets...)
		a.tickets = nil
	}
	if len(over) == 0 {
		return
	}
	s := l.snapshot(it)
	for _, t := range over {
		t.resolve(s, err)
	}
}

// activity is what belongs to the pass that is under way and the triggers for the next one.
type activity[K comparable] struct {
	next  *Ticket // answers the triggers since the pass began
	gone  *Ticket // answers Delete
	token string  // newest of the triggers since the pass began
	force bool

	underway   bool // a pass has begun and not ended: it runs, waits, or is queued to go on
	woken      bool // Wake was called during the call
	expired    bool // the timeout was over while waiting
	closed     bool // superseded is closed
	why        Cause
	version    string
	passToken  string
	passForce  bool
	reason     string // of the last wait
	tickets    []*Ticket
	deadline   int64
	called     int64
	queued     time.Duration // how long it was queued before the call
	busy       int64         // what the calls of the pass have taken
	sequence   uint64        // Loop.sequence when it was called
	superseded chan struct{}
	cancel     context.CancelCauseFunc
	park       *park[K]
}

// activity returns that of it, which is new or one that another key has no use for any more.
func (l *Loop[K]) activity(it *item[K]) *activity[K] {
	if n := len(l.spare); it.act == nil && n > 0 {
		it.act, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	if it.act == nil {
		it.act = new(activity[K])
	}
	return it.act
}

// rid takes the activity of it away if nothing is in it.
func (l *Loop[K]) rid(it *item[K]) {
	a := it.act
	if a.next != nil || a.token != "" || a.force || a.gone != nil {
		return
	}
	it.act = nil
	if len(l.spare) < 2*l.opts.Workers {
		*a = activity[K]{}
		l.spare = append(l.spare, a)
	}
}

func (it *item[K]) underway() bool { return it.act != nil && it.act.underway }

func (a *activity[K]) supersede() {
	if a.superseded != nil && !a.closed {
		a.closed = true
		close(a.superseded)
	}
}

// stop ends the context of the running call.
func (a *activity[K]) stop(cause error) {
	if a.cancel != nil {
		a.cancel(cause)
	}
}
