// Package looprun runs a reconcile loop beside the main function of an example
// program, which can wait for passes.
package looprun

import (
	"context"
	"time"

	"github.com/gitopskit/gitopskit/examples/internal/console"
	rt "github.com/gitopskit/gitopskit/runtime"
)

// Passes tells how passes end. Its Observe is for the options of the loop.
type Passes struct {
	// Key is the key whose passes count; of others only failures do.
	Key string
	// FailFast makes Wait return failures. Else they are printed, and it goes
	// on waiting for the loop to overcome them.
	FailFast bool
	Out      *console.Printer

	ended chan error
}

// NewPasses returns passes of a key.
func NewPasses(key string, failFast bool, out *console.Printer) *Passes {
	return &Passes{Key: key, FailFast: failFast, Out: out, ended: make(chan error, 64)}
}

// Observe takes in what the loop tells.
func (p *Passes) Observe(o rt.Observation[string]) {
	err := o.State.Err
	if o.State.Phase == rt.PhaseWaiting || o.Key != p.Key && err == nil {
		return // there is more to come
	}
	if err != nil && !p.FailFast {
		p.Out.Fail(err)
		if o.State.Outcome == rt.OutcomeStalled {
			p.Out.Detail("next try when the repository or the cluster changes")
		} else {
			p.Out.Detail("next try in %s", time.Until(o.State.Due).Round(time.Second))
		}
	}
	select {
	case p.ended <- err:
	default: // nobody listens any more
	}
}

// Forget drops the outcomes that nobody waited for.
func (p *Passes) Forget() {
	for {
		select {
		case <-p.ended: //nolint:errcheck // nobody waits for it
		default:
			return
		}
	}
}

// Wait returns when the next pass has succeeded, or with its error.
func (p *Passes) Wait(ctx context.Context) error {
	for {
		select {
		case err := <-p.ended:
			if err == nil || p.FailFast {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
