package tenancy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// The pauses after a cluster could not be reached: the first, doubling to the last.
const (
	minPause = 5 * time.Second
	maxPause = 2 * time.Minute
)

// UnreachableError says that a cluster could not be reached a short while ago and is not tried again yet. It has made
// no request.
type UnreachableError struct {
	// Host is the address of the cluster.
	Host string
	// Since is when it could be reached no more.
	Since time.Time
	// Next is when it is tried again.
	Next time.Time
	// Err is what happened then.
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cluster %s is unreachable since %s: %s", e.Host, e.Since.UTC().Format(time.RFC3339), e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// RetryAfter is the time until the cluster is tried again.
func (e *UnreachableError) RetryAfter() time.Duration {
	return max(time.Until(e.Next), time.Millisecond)
}

// errNoAnswer is the cause of a request's end for which a cluster had time enough.
type noAnswerError struct{ after time.Duration }

func (e *noAnswerError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }
func (e *noAnswerError) Timeout() bool { return true }

// reach is what is known of the way to a cluster. While it is down, one request at a time finds out whether it is up
// again, after a pause; all others fail at once, so that the objects of that cluster do not hold the workers of others.
type reach struct {
	host string

	mu      sync.Mutex
	since   time.Time // when it went down; zero is up
	next    time.Time
	pause   time.Duration
	probing bool
	err     error
}

// enter says whether a request may be sent, and whether it is the one that finds out.
func (r *reach) enter() (probe bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		return false, nil
	}
	if r.probing || time.Now().Before(r.next) {
		next := r.next
		if r.probing {
			next = time.Now().Add(minPause)
		}
		return false, &UnreachableError{Host: r.host, Since: r.since, Next: next, Err: r.err}
	}
	r.probing = true
	return true, nil
}

// leave takes in how a request ended: nil for any answer. Undecided is a caller who left.
func (r *reach) leave(probe bool, err error, undecided bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if probe {
		r.probing = false
	}
	switch {
	case undecided:
	case err == nil:
		r.since, r.next, r.pause, r.err = time.Time{}, time.Time{}, 0, nil
	case r.since.IsZero() || probe:
		now := time.Now()
		if r.since.IsZero() {
			r.since = now
		}
		r.pause = min(max(minPause, 2*r.pause), maxPause)
		r.next, r.err = now.Add(r.pause), err
	}
}

// reaching is a transport that knows whether the cluster can be reached. Patience is how long a request waits for the
// beginning of its answer.
type reaching struct {
	reach    *reach
	base     http.RoundTripper
	patience time.Duration
}

func (t *reaching) WrappedRoundTripper() http.RoundTripper { return t.base }

func (t *reaching) RoundTrip(r *http.Request) (*http.Response, error) {
	probe, err := t.reach.enter()
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	caller, begin := r.Context(), time.Now()
	ctx, cancel := context.WithCancelCause(caller)
	late := &noAnswerError{t.patience}
	timer := time.AfterFunc(t.patience, func() { cancel(late) })
	resp, err := t.base.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), late) {
			err = late
		}
		// A caller who leaves says nothing of the cluster, unless it was long enough, and its time that was over.
		waited := time.Since(begin) >= t.patience/3 && errors.Is(caller.Err(), context.DeadlineExceeded)
		t.reach.leave(probe, err, caller.Err() != nil && !waited)
		cancel(nil)
		return nil, err
	}
	t.reach.leave(probe, nil, false)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = &releasing{resp.Body, func() { cancel(nil) }}
	}
	return resp, nil
}

// releasing gives the context of a request back when its body is closed.
type releasing struct {
	io.ReadCloser
	release func()
}

func (b *releasing) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}

// down reports whether a cluster is unreachable and its pause is not over for long.
func (r *reach) down() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.since.IsZero() && time.Since(r.next) < maxPause
}
