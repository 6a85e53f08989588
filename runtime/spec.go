package runtime

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Spec says how a key is to be reconciled. The zero Spec means: one pass now, then only on triggers.
type Spec[K comparable] struct {
	// Interval is the time from the end of a pass to the next one, spread by Options.Jitter; 0 means no passes
	// by interval. It goes by the monotonic clock, so setting the wall clock does not move it.
	Interval time.Duration
	// Retry is the pause after failures; the zero value is 750 ms doubling to 15 minutes.
	Retry Backoff
	// Timeout bounds a whole pass, its waits included; 0 means no bound. It does not count the time before the
	// pass begins, waiting for a worker or for dependencies.
	Timeout time.Duration
	// DependsOn lists what must be ready before a pass may begin. A key is ready when its last ended pass
	// was OK, and for its present Version. A key that is not known is not ready. Keys in a cycle stall.
	DependsOn []Dep[K]
	// Version is an opaque name of the wanted state; a change of it triggers a pass with CauseChanged and
	// takes readiness away until a pass for the new version was OK.
	Version string
	// Suspend, if not nil, keeps passes from beginning. A running pass is left to finish.
	Suspend *Suspension
	// Group is whom the key belongs to, for instance a tenant. Groups share the workers by Options.Weights, as
	// measured by the time of their passes; "" is a group like any other.
	Group string
	// Priority puts the key before others of its Group that wait for a worker: each step is worth the time
	// of Options.Ageing spent waiting, so that no priority can keep a key back for ever.
	Priority int8
	// Debounce is how long a key that rests waits after a trigger or a change of Version for more of them
	// before its pass begins. It counts from the first of them; 0 means none. A forced trigger does not wait.
	Debounce time.Duration
	// Windows, if there are any, keep passes from beginning while none of them is open: their causes, triggers
	// included, are kept for when one opens. A forced trigger and the final pass of a deleted key do not wait. A
	// pass that has begun goes on when the windows close, and triggers do not supersede it then. They go by the wall
	// clock, and follow when that is set, within a minute.
	Windows []Window
}

// Window says when passes may begin. It must be safe for concurrent use, quick, and must not call the loop. Package
// runtime/window has one by cron expressions.
//
// If a Window has a method "Validate() error", [Loop.Set] asks it.
type Window interface {
	// At reports whether the window is open at t, and when that changes next: a time after t, or the zero time if
	// it does not.
	At(t time.Time) (open bool, change time.Time)
}

// Dep is a dependency of a key.
type Dep[K comparable] struct {
	// Key is what must be ready.
	Key K
	// Ready, if not nil, decides whether the dependency is ready, instead of State.Ready: it is, if Ready returns
	// nil. The error says what is missing, for State.Waiting; one whose Terminal method returns true stalls the
	// key until the dependency or the Spec changes. Ready is asked by a worker before a pass of the key begins, with
	// the state of the dependency after its last ended pass, and asked again when there is a newer state. A key that
	// is not known, is being deleted, or has not ended a pass is not ready without being asked.
	Ready func(dep State) error
}

// On lists dependencies on the keys.
func On[K comparable](keys ...K) []Dep[K] {
	deps := make([]Dep[K], len(keys))
	for i, k := range keys {
		deps[i] = Dep[K]{Key: k}
	}
	return deps
}

// Backoff is the pause after consecutive failures: Min after the first, doubling with each, at most Max.
type Backoff struct {
	// Min is the first pause; 0 means 750 ms.
	Min time.Duration
	// Max is the longest pause; 0 means 15 minutes, or Min if that is longer.
	Max time.Duration
}

const (
	defaultRetryMin = 750 * time.Millisecond
	defaultRetryMax = 15 * time.Minute
	// maxRetryAfter bounds what a server may ask for, so that a hostile one cannot silence a key for ever.
	maxRetryAfter = 24 * time.Hour
)

// Fixed is a Backoff with the same pause after every failure.
func Fixed(d time.Duration) Backoff { return Backoff{Min: d, Max: d} }

// Delay returns the pause after the given number of consecutive failures; 0 for none.
func (b Backoff) Delay(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := b.Min
	if d == 0 {
		d = defaultRetryMin
	}
	limit := b.Max
	if limit == 0 {
		limit = max(defaultRetryMax, d)
	}
	for range failures - 1 {
		if d >= limit/2 {
			return limit
		}
		d *= 2
	}
	return min(d, limit)
}

// Suspension says who keeps a key from being reconciled, why, and until when.
type Suspension struct {
	// Reason is one line for people.
	Reason string
	// By names who suspended the key.
	By string
	// Until is when the key resumes by itself; the zero time means not before [Loop.Resume] or a Set without
	// suspension. It goes by the wall clock, and follows when that is set, within a minute.
	Until time.Time
}

// validate returns everything that is wrong with s.
func (s Spec[K]) validate() error {
	var errs []error
	positive := func(name string, d time.Duration) {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is %v, want 0 or more", name, d))
		}
	}
	positive("Interval", s.Interval)
	positive("Timeout", s.Timeout)
	positive("Retry.Min", s.Retry.Min)
	positive("Retry.Max", s.Retry.Max)
	if s.Retry.Max > 0 && s.Retry.Max < s.Retry.Min {
		errs = append(errs, fmt.Errorf("Retry.Max %v is below Retry.Min %v", s.Retry.Max, s.Retry.Min))
	}
	positive("Debounce", s.Debounce)
	for i, w := range s.Windows {
		if w == nil {
			errs = append(errs, fmt.Errorf("Windows[%d] is nil", i))
		} else if v, ok := w.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				errs = append(errs, fmt.Errorf("Windows[%d]: %w", i, err))
			}
		}
	}
	return errors.Join(errs...)
}

// timing is the part of a Spec that many keys share; it is interned so that a key holds one word for it.
type timing struct {
	interval, timeout, debounce time.Duration
	retry                       Backoff
	group                       string
	priority                    int8
}

func (s Spec[K]) timing() timing {
	return timing{
		interval: s.Interval, timeout: s.Timeout, debounce: s.Debounce, retry: s.Retry, group: s.Group, priority: s.Priority,
	}
}

func (s Spec[K]) clone() Spec[K] {
	s.DependsOn = slices.Clone(s.DependsOn)
	s.Windows = slices.Clone(s.Windows)
	s.Suspend = s.Suspend.clone()
	return s
}

func (s *Suspension) clone() *Suspension {
	if s == nil {
		return nil
	}
	c := *s
	return &c
}
