package runtime

import (
	"context"
	"strings"
)

// Reconciler makes one pass for a key: it compares what is wanted with what is there and closes the gap.
//
// Rules for an implementer: a pass is idempotent, because it may be repeated at any point; it honours ctx,
// which ends at Spec.Timeout, when the key is deleted, and when the loop's Grace is over; it does not sleep or
// poll, it returns [Wait] or [Again]. The loop never makes two passes for one key at a time, but makes passes for
// different keys concurrently.
type Reconciler[K comparable] interface {
	Reconcile(ctx context.Context, pass Pass[K]) Result
}

// Func is a function used as a [Reconciler].
type Func[K comparable] func(ctx context.Context, pass Pass[K]) Result

// Reconcile calls f.
func (f Func[K]) Reconcile(ctx context.Context, pass Pass[K]) Result { return f(ctx, pass) }

// Pass tells a [Reconciler] why it is called and what is known about the key.
type Pass[K comparable] struct {
	// Key is the key to reconcile.
	Key K
	// Why is the set of reasons that led to this pass. When a wait ends, the pass goes on with CauseWoken alone.
	Why Cause
	// Version is Spec.Version as it was when the pass began.
	Version string
	// Attempt counts the consecutive failures before this pass; 0 means the previous pass did not fail.
	Attempt int
	// Token is the newest TriggerOptions.Token that this pass answers, "" if there is none.
	Token string
	// Force reports whether a trigger that this pass answers had TriggerOptions.Force set.
	Force bool
	// Prev is the state of the key just before this pass.
	Prev State
	// Superseded is closed when a trigger arrives during this call: another pass will follow at once, so the
	// pass should stop waiting (but not stop writing half way). It is not closed when the pass ends.
	Superseded <-chan struct{}
}

// Cause is a set of reasons for a pass.
type Cause uint16

// The reasons for a pass.
const (
	// CauseAdded: Set made the key known.
	CauseAdded Cause = 1 << iota
	// CauseChanged: Set changed Spec.Version.
	CauseChanged
	// CauseInterval: Spec.Interval has passed since the last pass.
	CauseInterval
	// CauseRetry: the pause after a failure is over.
	CauseRetry
	// CauseAgain: the pause the pass asked for with Again is over.
	CauseAgain
	// CauseDependency: what the key had to wait for became ready, or a dependency cycle was broken.
	CauseDependency
	// CauseRequested: somebody called Trigger.
	CauseRequested
	// CauseResumed: the suspension ended.
	CauseResumed
	// CauseWoken: the pass returned Wait and one of its wakers fired. It is the same pass, called again.
	CauseWoken
	// CauseDeleted: the key was deleted; this is the final pass, made by Options.Finalizer.
	CauseDeleted
	// CauseRestored: a pass that had begun is made anew, because the key was drained or the process ended.
	CauseRestored
)

//nolint:gochecknoglobals // a table that nothing changes
var causeNames = [...]string{
	"added", "changed", "interval", "retry", "again", "dependency", "requested", "resumed", "woken", "deleted", "restored",
}

// Has reports whether c holds any of the reasons in x.
func (c Cause) Has(x Cause) bool { return c&x != 0 }

// String lists the reasons in a fixed order, joined by "+"; "none" if there are none.
func (c Cause) String() string {
	var names []string
	for i, name := range causeNames {
		if c.Has(1 << i) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "+")
}
