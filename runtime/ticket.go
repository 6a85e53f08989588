package runtime

import "context"

// Ticket answers a trigger: it is resolved by the first pass that began after the trigger, when that pass has ended
// (its waits included). Triggers that lead to the same pass share one Ticket. It is safe for concurrent use and
// need not be waited for.
type Ticket struct {
	done  chan struct{}
	state State
	err   error
}

func newTicket() *Ticket { return &Ticket{done: make(chan struct{})} }

func answered(s State, err error) *Ticket {
	t := newTicket()
	t.resolve(s, err)
	return t
}

// resolve is called once.
func (t *Ticket) resolve(s State, err error) {
	t.state, t.err = s, err
	close(t.done)
}

// Done returns a channel that is closed when the ticket is resolved.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// Wait waits until the ticket is resolved or ctx ends. The error is nil only if a pass has answered and did not fail.
// It is State.Err if the pass failed or stalled; a [*SuspendedError] if the key is suspended; ErrNotFound,
// ErrDeleted or ErrStopped if no pass will answer; the error of ctx if that ended first.
func (t *Ticket) Wait(ctx context.Context) (State, error) {
	select {
	case <-t.done:
		return t.state, t.err
	default:
	}
	select {
	case <-t.done:
		return t.state, t.err
	case <-ctx.Done():
		return State{}, context.Cause(ctx)
	}
}
