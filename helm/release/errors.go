package release

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gitopskit/gitopskit/helm"
)

// Classes of failure, for errors.Is.
var (
	// ErrNotFound: there is no such release, or no such revision.
	ErrNotFound = errors.New("release not found")
	// ErrExists: the release, or the revision, is there already.
	ErrExists = errors.New("release exists")
	// ErrConflict: somebody else wrote the record meanwhile. Try again.
	ErrConflict = errors.New("release changed meanwhile")
	// ErrLocked: another action is under way, or was interrupted. [Client.Unlock] ends it.
	ErrLocked = errors.New("release is locked")
	// ErrCorrupt: a stored record cannot be read.
	ErrCorrupt = errors.New("release record is corrupt")
	// ErrLimit: a record is too large.
	ErrLimit = errors.New("release record is too large")
	// ErrForeign: an object exists that another release, or nobody, owns.
	ErrForeign = errors.New("object belongs to somebody else")
	// ErrHook: a hook failed.
	ErrHook = errors.New("hook failed")
	// ErrNotReady: objects did not become ready in time.
	ErrNotReady = errors.New("not ready in time")
	// ErrRetriesExceeded: the action failed more often than its policy allows.
	ErrRetriesExceeded = errors.New("retries exceeded")
	// ErrNoRollbackTarget: a remediation needs a revision that there is not.
	ErrNoRollbackTarget = errors.New("no revision to roll back to")
	// ErrStatus: the record has a status that this package does not know.
	ErrStatus = errors.New("unknown status of release")
	// ErrInvalid: what was asked for cannot work.
	ErrInvalid = errors.New("invalid release")
)

// Error says which action failed on which release.
type Error struct {
	// Op is the action: "install", "upgrade", …, "read", "save", or "decide".
	Op string
	// Namespace and Name are those of the release, Revision that of the
	// record, 0 if there is none.
	Namespace, Name string
	Revision        int
	// Err is the cause: it matches one of the classes of this package or of
	// package helm, or is what the applier returned.
	Err error
	// After is how long to wait before another attempt; 0 means as usual.
	After time.Duration
}

func (e *Error) Error() string {
	text := fmt.Sprintf("helm/release: %s %s/%s", e.Op, e.Namespace, e.Name)
	if e.Revision > 0 {
		text += fmt.Sprintf(" revision %d", e.Revision)
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// RetryAfter is how long to wait before another attempt; 0 means as usual.
func (e *Error) RetryAfter() time.Duration { return e.After }

// Terminal reports whether only another chart, other values or another policy
// can help.
func (e *Error) Terminal() bool {
	if errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
		return false
	}
	for _, class := range []error{ErrRetriesExceeded, ErrNoRollbackTarget, ErrForeign, ErrInvalid} {
		if errors.Is(e.Err, class) {
			return true
		}
	}
	chart := (*helm.Error)(nil)
	return errors.As(e.Err, &chart) && chart.Terminal()
}
