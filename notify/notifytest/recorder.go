package notifytest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/gitopskit/gitopskit/notify"
)

// Recorder is a [notify.Sender] that keeps what it is sent. Its zero value is ready for use, and safe for concurrent
// use.
type Recorder struct {
	// Fail, if not nil, decides the result of each Send; events it returns an error for are not kept.
	Fail func(notify.Event) error

	mu      sync.Mutex
	events  []notify.Event
	changed chan struct{} // closed at the next event
}

var _ notify.Sender = (*Recorder)(nil)

// Send keeps the event, unless ctx has ended or Fail returns an error.
func (r *Recorder) Send(ctx context.Context, e notify.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.Fail != nil {
		if err := r.Fail(e); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	return nil
}

// Events returns what was sent so far, in order.
func (r *Recorder) Events() []notify.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Await returns the first event that matches, those sent before the call included; it waits until there is one or
// ctx ends.
func (r *Recorder) Await(ctx context.Context, match func(notify.Event) bool) (notify.Event, error) {
	seen := 0
	for {
		events, changed := r.since(seen)
		for _, e := range events {
			if match(e) {
				return e, nil
			}
		}
		seen += len(events)
		select {
		case <-changed:
		case <-ctx.Done():
			return notify.Event{}, fmt.Errorf("notifytest: await: none of %d events matches: %w", seen, context.Cause(ctx))
		}
	}
}

// since returns the events from index n on, and a channel that is closed when there are more.
func (r *Recorder) since(n int) ([]notify.Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return slices.Clone(r.events[n:]), r.changed
}
