package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// Errors of the loop. A [Ticket] is answered with one of them when no pass will answer it.
var (
	// ErrNotFound: the loop does not know the key; Set it first.
	ErrNotFound = errors.New("key not found")
	// ErrDeleted: the key was deleted before a pass could answer; also the cause of the context of a pass
	// whose key was deleted.
	ErrDeleted = errors.New("key deleted")
	// ErrStopped: the loop has stopped or is about to; also the cause of the context of a pass that outlasts
	// Options.Grace.
	ErrStopped = errors.New("loop stopped")
	// ErrRunning: Run was called before; a loop runs once.
	ErrRunning = errors.New("loop was started before: make a new one")
)

// IsTerminal reports whether only a changed input can help, so that repeating the pass is in vain.
//
// It goes by behaviour: the outermost error in the chain with a method "Terminal() bool" decides. Where several
// errors are joined, one that is worth a retry (Terminal false, RetryAfter positive, or a Timeout method, as network
// errors have) makes the whole worth a retry; else one terminal error makes it terminal.
func IsTerminal(err error) bool { return judge(err) == opinionTerminal }

// RetryAfter returns how long err asks to wait before the next try, and whether it does: the outermost error in the
// chain whose method "RetryAfter() time.Duration" returns a positive time; the longest where errors are joined.
func RetryAfter(err error) (time.Duration, bool) {
	for err != nil {
		if r, ok := err.(interface{ RetryAfter() time.Duration }); ok && r.RetryAfter() > 0 {
			return r.RetryAfter(), true
		}
		if m, ok := err.(interface{ Unwrap() []error }); ok {
			var longest time.Duration
			for _, e := range m.Unwrap() {
				d, _ := RetryAfter(e)
				longest = max(longest, d)
			}
			return longest, longest > 0
		}
		err = errors.Unwrap(err)
	}
	return 0, false
}

type opinion uint8

const (
	opinionNone opinion = iota
	opinionTerminal
	opinionRetry
)

func judge(err error) opinion {
	for err != nil {
		switch e := err.(type) { //nolint:errorlint // each error of the chain in its turn
		case interface{ Terminal() bool }:
			if e.Terminal() {
				return opinionTerminal
			}
			return opinionRetry
		case interface{ RetryAfter() time.Duration }:
			if e.RetryAfter() > 0 {
				return opinionRetry
			}
		case interface{ Timeout() bool }:
			return opinionRetry
		}
		if m, ok := err.(interface{ Unwrap() []error }); ok {
			return judgeAll(m.Unwrap())
		}
		err = errors.Unwrap(err)
	}
	return opinionNone
}

func judgeAll(errs []error) opinion {
	all := opinionNone
	for _, e := range errs {
		all = max(all, judge(e))
	}
	return all
}

// SpecError is returned by [New] and [Loop.Set] for values that cannot be; it lists every problem.
type SpecError struct {
	// Op is "new" or "set".
	Op string
	// Key is the key as text, "" for New.
	Key string
	// Err is what is wrong, joined.
	Err error
}

func (e *SpecError) Error() string {
	subject := e.Op
	if e.Key != "" {
		subject += " " + e.Key
	}
	return "runtime: " + subject + ": " + strings.ReplaceAll(e.Err.Error(), "\n", "; ")
}

// Unwrap returns what is wrong.
func (e *SpecError) Unwrap() error { return e.Err }

// CycleError says that keys depend on each other in a circle. They stall until the circle is broken; no other key is
// affected.
type CycleError struct {
	// Keys is the circle as text; the first key is repeated at the end.
	Keys []string
}

func (e *CycleError) Error() string { return "dependency cycle: " + strings.Join(e.Keys, " → ") }

// Terminal reports true: only a changed Spec can help.
func (e *CycleError) Terminal() bool { return true }

// TimeoutError is the failure of a pass whose Spec.Timeout was over while it waited, and the cause of the context of
// a pass whose timeout is over while it runs. It is a [context.DeadlineExceeded].
type TimeoutError struct {
	// After is the Spec.Timeout.
	After time.Duration
	// Waiting is the reason given to Wait, "" if the pass was not waiting.
	Waiting string
}

func (e *TimeoutError) Error() string {
	s := fmt.Sprintf("timeout after %v", e.After)
	if e.Waiting != "" {
		s += " waiting for " + e.Waiting
	}
	return s
}

// Timeout reports true.
func (e *TimeoutError) Timeout() bool { return true }

// Is reports whether target is context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// PanicError is the failure of a pass that panicked or called runtime.Goexit.
type PanicError struct {
	// Value is what was passed to panic; nil for Goexit.
	Value any
	// Stack is the stack of the panic.
	Stack []byte
}

func (e *PanicError) Error() string {
	if e.Value == nil {
		return "the pass ended its goroutine with runtime.Goexit"
	}
	return fmt.Sprintf("panic in the pass: %v", e.Value)
}

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// SuspendedError answers triggers of a suspended key.
type SuspendedError struct {
	Suspension
}

func (e *SuspendedError) Error() string {
	s := "suspended"
	if e.By != "" {
		s += " by " + e.By
	}
	if !e.Until.IsZero() {
		s += " until " + e.Until.Format(time.RFC3339)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// StuckError is returned by [Loop.Run] when passes ignored the end of their context.
type StuckError struct {
	// Keys are the keys of the passes, as text, sorted.
	Keys []string
	// After is how long Run waited for them.
	After time.Duration
	// Stacks are the stacks of all goroutines, as text, 1 MiB at most: they show where the passes are.
	Stacks []byte
}

func (e *StuckError) Error() string {
	return fmt.Sprintf("runtime: passes still running %v after the stop: %s: they must return when their context ends",
		e.After, strings.Join(e.Keys, ", "))
}

// stacks returns those of all goroutines.
func stacks() []byte {
	const most = 1 << 20
	buf := make([]byte, most)
	return bytes.Clone(buf[:runtime.Stack(buf, true)])
}
