package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Result says how a pass ended. It is made by [OK], [Wait], [Again], [Fail], [Stall], [Forget] or [Of]; the zero
// Result is a mistake and treated as a failure that says so.
type Result struct {
	kind     resultKind
	notReady bool
	revision string
	message  string
	after    time.Duration
	err      error
	wake     []Waker
}

type resultKind uint8

const (
	resultNone resultKind = iota
	resultOK
	resultWait
	resultAgain
	resultFail
	resultStall
	resultForget
)

var errNoResult = errors.New("the pass returned the zero Result: use OK, Wait, Again, Fail, Stall or Forget")

// OK ends the pass with success. The next pass follows after Spec.Interval or on a trigger.
func OK() Result { return Result{kind: resultOK} }

// Wait parks the pass: no worker is held until a waker fires, [Loop.Wake] is called, a trigger arrives, or
// Spec.Timeout (counted from the first call of this pass) is over; that last case is a failure with a
// [*TimeoutError] that quotes the reason. When woken, Reconcile is called again with CauseWoken. A trigger begins
// a new pass with a new timeout instead.
//
// The reason completes the sentence "waiting for …". Without a waker the pass waits for Wake, a trigger or the
// timeout.
func Wait(reason string, wake ...Waker) Result {
	return Result{kind: resultWait, message: reason, wake: wake}
}

// Again ends a pass that is not done but has not failed either: the next one follows after the given time (at once
// if it is not positive). It does not count as a failure, nor as readiness.
func Again(after time.Duration, reason string) Result {
	return Result{kind: resultAgain, after: max(after, 0), message: reason}
}

// Fail ends the pass with a failure; it is repeated as Spec.Retry says. An error whose RetryAfter method returns a
// positive time is retried after that time (24 hours at most); an error whose Terminal method returns true
// stalls the key as [Stall] does. See [IsTerminal] and [RetryAfter].
func Fail(err error) Result { return Result{kind: resultFail, err: err} }

// Stall ends the pass with a failure that only a changed input can mend: no retry and no interval, until
// Spec.Version changes or a trigger arrives.
func Stall(err error) Result { return Result{kind: resultStall, err: err} }

// Forget drops the key and all that is known about it, without a final pass. If a trigger or a Set arrived during
// the pass, the key is kept and another pass follows.
func Forget() Result { return Result{kind: resultForget} }

// Of is OK for a nil error and Fail for any other.
func Of(err error) Result {
	if err == nil {
		return OK()
	}
	return Fail(err)
}

// At returns r with the revision that the pass brought about, for instance a commit. It is kept in State.Revision
// until a later pass names another one.
func (r Result) At(revision string) Result {
	r.revision = revision
	return r
}

// Note returns r with one line for people, shown in State.Message. A failure shows its error instead, Wait and
// Again have their reason.
func (r Result) Note(message string) Result {
	if r.kind == resultOK {
		r.message = message
	}
	return r
}

// NotReady returns r with the mark that dependents must go on waiting although the pass was successful.
func (r Result) NotReady() Result {
	r.notReady = true
	return r
}

// normal replaces results that cannot be: the zero Result and failures without an error.
func (r Result) normal() Result {
	switch {
	case r.kind == resultNone:
		return Fail(errNoResult)
	case (r.kind == resultFail || r.kind == resultStall) && r.err == nil:
		r.err = errors.New("the pass failed without an error")
	}
	if r.kind == resultFail && IsTerminal(r.err) {
		r.kind = resultStall
	}
	return r
}

// Waker ends the waiting of a pass that returned [Wait]. It is made by [WakeOn], [WakeAt], [WakeAfter], [WakeKey] or
// [WakeWhen]; the zero Waker never fires.
type Waker struct {
	ch    <-chan struct{}
	at    time.Time
	after time.Duration
	key   any
	fn    func(context.Context)
}

// WakeOn wakes when ch is closed or a value can be received from it. It costs one goroutine until the wait is over;
// to wait in great numbers without goroutines, call [Loop.Wake] instead.
func WakeOn(ch <-chan struct{}) Waker { return Waker{ch: ch} }

// WakeAt wakes at a time; one in the past wakes at once. One that comes of time.Now is a point of the monotonic clock; any
// other one, as those that were parsed, is one of the wall clock, and follows when that is set, within a minute.
func WakeAt(t time.Time) Waker { return Waker{at: t} }

// WakeAfter wakes after d, counted from the return of the pass.
func WakeAfter(d time.Duration) Waker { return Waker{after: max(d, 1)} }

// WakeKey wakes when the key ends a pass, whatever its outcome, or is dropped; also when that happened since the
// waiting pass was called, so that nothing is missed between looking and waiting. The key must have the key type of
// the loop.
func WakeKey[K comparable](key K) Waker { return Waker{key: key} }

// WakeWhen calls f in a goroutine of its own and wakes when it returns. Its context ends when the wait is over for
// any other reason, and with the loop; f must return then. A panic in f wakes too. It is the way to leave blocking
// code, for instance a watch, to itself without holding a worker.
func WakeWhen(f func(ctx context.Context)) Waker { return Waker{fn: f} }

// wakeKey returns the key of a WakeKey waker as the key type of this loop.
func wakeKey[K comparable](w Waker) (K, error) {
	k, ok := w.key.(K)
	if !ok {
		return k, fmt.Errorf("wait for key of type %T in a loop with keys of type %T: use the key type of the loop", w.key, k)
	}
	return k, nil
}
