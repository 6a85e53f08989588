package runtime

import (
	"fmt"
	"time"
)

// State is what the loop knows about a key. It is a snapshot: it does not change and shares nothing.
type State struct {
	// Phase is what the key does at the moment.
	Phase Phase
	// Outcome is how the last ended pass ended.
	Outcome Outcome
	// Ready is what dependents go by: the last ended pass was OK, not marked NotReady, and for the present Version.
	Ready bool
	// Deleting reports whether the key was deleted and its final pass has not been OK yet.
	Deleting bool
	// Version is the Spec.Version that the last ended pass was made for.
	Version string
	// Revision is the newest revision that a pass named with Result.At.
	Revision string
	// Token is the newest TriggerOptions.Token that an ended pass has answered.
	Token string
	// Message is one line for people: the note of the last ended pass, its error, or the reason of Again.
	Message string
	// Err is the error of the last ended pass, nil unless Outcome is Failed or Stalled.
	Err error
	// Interval is that of the Spec.
	Interval time.Duration
	// Failures counts the consecutive failures up to now.
	Failures int
	// Passes counts the passes that have ended.
	Passes int
	// Waiting says what the key waits for, one line each: the reason of Wait, the dependencies that are not ready, or
	// when a window opens.
	Waiting []string
	// Suspended is the suspension in force, nil if there is none.
	Suspended *Suspension
	// Started is when the last pass began, Finished when the last ended pass ended, LastSuccess when the last
	// pass that was OK ended, Due when the next pass is planned by interval, retry or waker. Zero if there is none.
	Started, Finished, LastSuccess, Due time.Time
}

// Phase is what a key does at the moment.
type Phase uint8

// The phases of a key.
const (
	// PhaseIdle: nothing to do before State.Due, a trigger or a change.
	PhaseIdle Phase = iota
	// PhaseQueued: a pass will begin as soon as a worker is free.
	PhaseQueued
	// PhaseRunning: a pass is being made.
	PhaseRunning
	// PhaseWaiting: the pass returned Wait; no worker is held.
	PhaseWaiting
	// PhaseBlocked: a pass is due, but a dependency is not ready or part of a cycle.
	PhaseBlocked
	// PhaseSuspended: no pass begins until the key is resumed.
	PhaseSuspended
	// PhaseGone: the key was dropped; seen by Observe and in answers to Delete only.
	PhaseGone
	// PhaseDrained: no pass begins until Loop.Undrain.
	PhaseDrained
)

func (p Phase) String() string {
	return name(p, "idle", "queued", "running", "waiting", "blocked", "suspended", "gone", "drained")
}

// Outcome is how a pass ended.
type Outcome uint8

// The outcomes of a pass.
const (
	// OutcomeNone: no pass has ended yet.
	OutcomeNone Outcome = iota
	// OutcomeOK: see OK.
	OutcomeOK
	// OutcomeProgressing: see Again.
	OutcomeProgressing
	// OutcomeFailed: see Fail.
	OutcomeFailed
	// OutcomeStalled: see Stall; also keys in a dependency cycle.
	OutcomeStalled
)

func (o Outcome) String() string {
	return name(o, "none", "ok", "progressing", "failed", "stalled")
}

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}

// Observation is what Options.Observe is told.
type Observation[K comparable] struct {
	// Key is the key.
	Key K
	// Why is the set of reasons of the pass; 0 if the key was held back before a pass began.
	Why Cause
	// State is the state after the pass. Its Phase is where the key goes now: PhaseIdle when done, PhaseWaiting
	// or PhaseBlocked when it waits, PhaseQueued when another pass follows at once, PhaseSuspended or PhaseDrained when
	// none begins, PhaseGone when it was dropped.
	State State
	// Took is how long this call of Reconcile took; 0 if there was none.
	Took time.Duration
	// Queued is how long the key waited for a worker before this call, or before it was held back.
	Queued time.Duration
	// Group is the Spec.Group of the key.
	Group string
	// Slow reports whether the key is in the slow lane from now on, see Options.SlowLane.
	Slow bool
}

// snapshot describes it; l.mu is held.
func (l *Loop[K]) snapshot(it *item[K]) State {
	s := State{
		Phase:    it.phase,
		Outcome:  it.outcome,
		Ready:    it.has(flagReady),
		Deleting: it.has(flagDeleting),
		Failures: int(it.failures),
		Passes:   int(it.passes),
		Started:  l.wall(it.started),
		Finished: l.wall(it.finished),
		Interval: it.timing.Value().interval,
	}
	if it.index >= 0 && it.phase != PhaseQueued {
		s.Due = l.wall(it.due)
	}
	if it.outcome == OutcomeOK {
		s.LastSuccess = s.Finished
	}
	if x := it.more; x != nil {
		l.describe(it, x, &s)
	}
	if s.Phase == PhaseIdle && it.has(flagDrained) {
		s.Phase, s.Waiting = PhaseDrained, nil
	}
	if a := it.act; a != nil && a.park != nil {
		s.Waiting = []string{a.park.reason}
	}
	return s
}

// describe adds the rare parts of the state.
func (l *Loop[K]) describe(it *item[K], x *details[K], s *State) {
	s.Version, s.Revision, s.Token, s.Message, s.Err = x.observed, x.revision, x.token, x.message, x.err
	if x.err != nil {
		s.Message = x.err.Error()
	}
	if it.outcome != OutcomeOK {
		s.LastSuccess = l.wall(x.lastSuccess)
	}
	s.Suspended = x.suspend.clone()
	if it.phase == PhaseIdle && x.suspend != nil {
		s.Phase = PhaseSuspended
	}
	if s.Phase == PhaseIdle && it.has(flagPending) && x.windowed {
		s.Waiting = []string{x.closed()}
	}
	if it.phase == PhaseBlocked {
		s.Waiting = l.missing(it)
	}
}
