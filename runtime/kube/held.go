package kube

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// held is the status of an object that waits, which is written when the
// patience is over and dropped when a pass comes before.
type held[T Object] struct {
	before, obj T // as the API server has it, and as it is to be
	timer       *time.Timer

	mu    sync.Mutex
	over  bool // it was written, or is not to be
	write func()
}

// hold keeps the status of an object that waits for later, and reports whether
// it does.
func (c *Controller[T]) hold(ctx context.Context, pass *Pass, obj T, w *writer[T], result Result, was *metav1.Condition, quiet bool) bool {
	waits := result.outcome.Kind == status.Progressing || result.outcome.Kind == status.Waiting
	if !waits || quiet || c.options.Patience <= 0 || w.requests != (requests{}) {
		return false
	}
	h := &held[T]{before: w.before, obj: obj}
	ctx = context.WithoutCancel(ctx)
	h.write = func() {
		c.close(ctx, obj, w, pass, result, was, false, quiet)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.held[pass.Key] == h {
			delete(c.held, pass.Key)
		}
	}
	h.mu.Lock() // until the timer is set
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(c.options.Patience, h.finish)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[pass.Key] = h
	return true
}

// finish writes the status, unless that is over.
func (h *held[T]) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.over = true
		h.write()
	}
}

// take ends the holding of a status, and returns what was never written, nil if
// there is none. It waits for a write that has begun.
func (c *Controller[T]) take(key client.ObjectKey) *held[T] {
	c.mu.Lock()
	h := c.held[key]
	delete(c.held, key)
	c.mu.Unlock()
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer.Stop()
	if h.over {
		return nil
	}
	h.over = true
	return h
}

// flush writes what is held, at the end of the controller.
func (c *Controller[T]) flush() {
	c.mu.Lock()
	left := slices.Collect(maps.Values(c.held))
	c.mu.Unlock()
	for _, h := range left {
		h.timer.Stop()
		h.finish()
	}
}

// resume has a pass that goes on find the status that the wait before it has
// left behind.
func (h *held[T]) resume(p rt.Pass[client.ObjectKey], obj T) error {
	if h == nil || p.Why != rt.CauseWoken || h.obj.GetUID() != obj.GetUID() {
		return nil
	}
	return status.Replay(h.before, h.obj, obj)
}
