package notify

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sender delivers events to one destination.
//
// Rules for an implementer: Send is safe for concurrent use; it returns nil only when the destination has taken the
// event; it returns soon after ctx ends; it does not retry, does not modify the event, and does not keep it. An
// error whose method "Terminal() bool" returns true is not retried, one with "RetryAfter() time.Duration" is
// retried after that time, any other is retried with back-off. Errors hold no secrets. Package
// notifytest has a suite that tests these rules.
type Sender interface {
	Send(ctx context.Context, e Event) error
}

// SenderFunc is a function used as a [Sender].
type SenderFunc func(ctx context.Context, e Event) error

// Send calls f.
func (f SenderFunc) Send(ctx context.Context, e Event) error { return f(ctx, e) }

// SendError is the error of the senders of this package.
type SendError struct {
	// Op is what was being done: "send", or "new" for a constructor.
	Op string
	// Destination names where to, without anything secret: the scheme and host of a URL.
	Destination string
	// Status is the HTTP status of the answer, 0 if there was none.
	Status int
	// Err is the cause; secrets are blacked out.
	Err error

	permanent  bool
	retryAfter time.Duration
}

func (e *SendError) Error() string {
	return fmt.Sprintf("notify: %s %s: %v", e.Op, e.Destination, e.Err)
}

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Err }

// Terminal reports whether sending the event again is in vain.
func (e *SendError) Terminal() bool { return e.permanent }

// RetryAfter returns how long the destination asks to wait, 0 if it does not say.
func (e *SendError) RetryAfter() time.Duration { return e.retryAfter }

// terminal reports whether an error of a Sender says that a retry is in vain.
func terminal(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Terminal() bool
	}](err)
	return ok && t.Terminal()
}

// retryAfter returns how long an error of a Sender asks to wait; 0 if it does not.
func retryAfter(err error) time.Duration {
	t, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err)
	if !ok {
		return 0
	}
	return max(t.RetryAfter(), 0)
}
