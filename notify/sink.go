package notify

import (
	"context"
	"errors"
	"net/http"
)

// ErrDuplicate: the receiver of events has the event already, or takes no more of its kind for now.
var ErrDuplicate = errors.New("duplicate event")

// EventSink is a [Sender] that posts events to where Flux's controllers post theirs (their flag --events-addr): as
// [Webhook], without a signature. The answer 429 says there that the event repeats one that was taken shortly before,
// or comes too often: the error is then an [ErrDuplicate] and terminal. In a [Route] with no Retry.Times, failures
// are repeated at most 4 times. It is made by [NewEventSink].
type EventSink struct {
	*endpoint
}

var _ Sender = (*EventSink)(nil)

// NewEventSink returns a sender to the address of a receiver of events. The error is a [*SendError] that lists all
// problems with the arguments; no connection is made.
func NewEventSink(address string, o *HTTPOptions) (*EventSink, error) {
	if o == nil {
		o = &HTTPOptions{}
	}
	p, err := newEndpoint("event sink", address, *o, []string{headerSender}, nil)
	if err != nil {
		return nil, err
	}
	return &EventSink{endpoint: p}, nil
}

// Send posts the event. The error is a [*SendError].
func (s *EventSink) Send(ctx context.Context, e Event) error {
	err := (&Webhook{endpoint: s.endpoint}).Send(ctx, e)
	if f, ok := errors.AsType[*SendError](err); ok && f.Status == http.StatusTooManyRequests {
		return &SendError{Op: f.Op, Destination: f.Destination, Status: f.Status, Err: ErrDuplicate, permanent: true}
	}
	return err
}

// Retries is the default of Retry.Times: 4, as in Flux's controllers.
func (*EventSink) Retries() int { return 4 }
