package kube

import (
	"context"
	"errors"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// ErrUnfinished: a wait did not end before the pass had to go on, because the
// pass timed out.
var ErrUnfinished = errors.New("the time of the pass is over")

// Waits keeps the waits that go on between two calls of a pass, without a
// worker: for the health of objects, for a job to end. A call begins one, and
// hands its waker to [Wait]; the call that goes on afterwards asks how it
// ended.
//
//	if waited, err := waits.End(pass, revision); waited {
//		return finish(err)
//	}
//	…
//	return kube.Wait("Progressing", "waiting for …", waits.Begin(pass, revision, func(ctx context.Context) error {
//		_, err := cluster.Wait(ctx, ids, nil)
//		return err
//	}))
//
// The zero value is ready for use. It is safe for concurrent use.
type Waits struct {
	mu   sync.Mutex
	open map[client.ObjectKey]*wait
}

// wait is one that was begun.
type wait struct {
	what string
	done bool
	err  error
}

// Begin returns a waker that wakes when f returns. What tells for what was
// waited, such as a revision; a wait that an object had before is forgotten.
// The context of f ends when the pass goes on for another reason.
func (w *Waits) Begin(p *Pass, what string, f func(ctx context.Context) error) rt.Waker {
	begun := &wait{what: what}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[client.ObjectKey]*wait{}
	}
	w.open[p.Key] = begun
	return rt.WakeWhen(func(ctx context.Context) {
		err := f(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		if ctx.Err() == nil {
			begun.done, begun.err = true, err
		}
	})
}

// End returns how the wait ended that this call goes on from: with the error of
// its function, or with [ErrUnfinished]. Waited is false if there was none for
// the same thing, if the call has another cause than a wait, or if something
// else than the end of the wait has woken the pass. A wait ends once.
func (w *Waits) End(p *Pass, what string) (waited bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	begun := w.open[p.Key]
	delete(w.open, p.Key)
	switch {
	case begun == nil || begun.what != what || p.Why != rt.CauseWoken:
		return false, nil
	case !begun.done && !p.Deadline.IsZero() && !time.Now().Before(p.Deadline):
		return true, ErrUnfinished
	case !begun.done:
		return false, nil
	}
	return true, begun.err
}
