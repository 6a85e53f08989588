package kube

import (
	"cmp"
	"maps"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// Result is what a pass came to. It is made by [Ready], [Fail], [Stall],
// [Wait] or [NotYet]; the zero Result is a mistake and counts as a failure.
type Result struct {
	outcome  status.Outcome
	err      error
	after    time.Duration
	wake     []rt.Waker
	revision string
	facts    map[string]string
	made     bool
	quiet    bool
}

// Ready ends the pass with success. The message says what is ready.
func Ready(message string) Result {
	return Result{outcome: status.Outcome{Kind: status.Succeeded, Message: message}, made: true}
}

// Fail ends the pass with a failure, which is the message of the condition
// Ready and therefore must hold no secrets. It is tried again after the pause
// of the schedule, or the time that the error asks for; an error that is
// terminal, see rt.IsTerminal, stalls the object until it changes.
func Fail(reason string, err error) Result {
	kind := status.Failed
	if rt.IsTerminal(err) {
		kind = status.Blocked
	}
	return Result{outcome: status.Outcome{Kind: kind, Reason: reason, Message: text(err)}, err: err, made: true}
}

// Stall ends the pass with a failure that only a change of the object, or of
// what it refers to, can mend.
func Stall(reason string, err error) Result {
	return Result{outcome: status.Outcome{Kind: status.Blocked, Reason: reason, Message: text(err)}, err: err, made: true}
}

// Wait lets the pass wait without a worker until a waker fires, or
// Controller.Wake is called, and goes on with it then: the Reconciler is called
// again, with rt.CauseWoken. The condition Ready is Unknown meanwhile, but for
// [Result.Quiet].
func Wait(reason, message string, wake ...rt.Waker) Result {
	return Result{outcome: status.Outcome{Kind: status.Progressing, Reason: reason, Message: message}, wake: wake, made: true}
}

// NotYet ends the pass because something that the object refers to is missing
// or not ready. It is looked at again after the given time, 30 seconds if that
// is 0, and with every event of a reference. It is no failure.
func NotYet(reason, message string, after time.Duration) Result {
	return Result{outcome: status.Outcome{Kind: status.Waiting, Reason: reason, Message: message}, after: cmp.Or(after, 30*time.Second), made: true}
}

// At returns r with the revision that the pass has brought about.
func (r Result) At(revision string) Result {
	r.revision = revision
	return r
}

// With returns r with one more fact for the metadata of the events that tell of
// it, such as the revision that an artifact was made of. An empty value is none.
func (r Result) With(key, value string) Result {
	if value == "" {
		return r
	}
	facts := maps.Clone(r.facts)
	if facts == nil {
		facts = map[string]string{}
	}
	facts[key], r.facts = value, facts
	return r
}

// Outcome returns what the pass came to, as it goes into the conditions.
func (r Result) Outcome() status.Outcome { return r.outcome }

// Because returns r with a reason for the condition Ready other than the usual.
func (r Result) Because(reason string) Result {
	r.outcome.Reason = reason
	return r
}

// Quiet returns r, made by [Wait], with the wish that an object which is ready
// stays so while the pass waits: for looking again at what was ready before.
// Without it the condition Ready becomes Unknown, which dependents see, and the
// pass writes the status twice.
func (r Result) Quiet() Result {
	r.quiet = r.outcome.Kind == status.Progressing
	return r
}

func text(err error) string {
	if err == nil {
		return "failed without a reason"
	}
	return err.Error()
}

// loop translates r for the loop.
func (r Result) loop() rt.Result {
	switch r.outcome.Kind {
	case status.Succeeded:
		return rt.OK().At(r.revision).Note(r.outcome.Message)
	case status.Blocked:
		return rt.Stall(r.err)
	case status.Waiting:
		return rt.Again(r.after, r.outcome.Message)
	case status.Progressing:
		return rt.Wait(r.outcome.Message, r.wake...)
	case status.Failed:
	}
	return rt.Fail(r.err)
}
