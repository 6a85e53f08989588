package trace

import (
	"context"
	"errors"
	"sync"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// Loop traces the passes of an [rt.Loop]. It comes from [Wrap].
type Loop[K comparable] struct {
	tracer *Tracer
	object func(K) Object
	from   func(K) Object
	next   rt.Reconciler[K]

	mu     sync.Mutex
	passes map[K]*Pass // that run, wait or are about to be observed
}

// Wrap returns a reconciler that traces the passes of another; its method
// Observe must be told of them, see rt.Options.Observe, for that is when a pass
// ends: one that waits goes on when it is woken, with the phase "wait" in
// between. The functions say what the key is, and what its revision comes from;
// from is nil for sources. The revision is that of rt.Result.At.
func Wrap[K comparable](t *Tracer, object, from func(K) Object, next rt.Reconciler[K]) *Loop[K] {
	return &Loop[K]{tracer: t, object: object, from: from, next: next, passes: make(map[K]*Pass)}
}

// Reconcile makes a pass.
func (l *Loop[K]) Reconcile(ctx context.Context, p rt.Pass[K]) rt.Result {
	pass := l.resume(p)
	if pass == nil {
		start := &Start{Revision: p.Prev.Revision, Why: p.Why.String()}
		if l.from != nil {
			start.From = l.from(p.Key)
		}
		_, pass = l.tracer.Begin(ctx, l.object(p.Key), start)
		l.mu.Lock()
		l.passes[p.Key] = pass
		l.mu.Unlock()
	}
	defer func() {
		if end := context.Cause(ctx); errors.Is(end, rt.ErrDeleted) || errors.Is(end, rt.ErrStopped) {
			l.take(p.Key) // it may not be observed
			pass.End(Outcome{Name: "interrupted", Revision: p.Prev.Revision})
		}
	}()
	return l.next.Reconcile(pass.attach(ctx), p)
}

// resume returns the pass that goes on after a wait.
func (l *Loop[K]) resume(p rt.Pass[K]) *Pass {
	if !p.Why.Has(rt.CauseWoken) {
		if old := l.take(p.Key); old != nil { // a trigger came while it waited
			old.End(Outcome{Name: "superseded", Revision: p.Prev.Revision})
		}
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	pass := l.passes[p.Key]
	if pass != nil {
		pass.wake()
	}
	return pass
}

func (l *Loop[K]) take(k K) *Pass {
	l.mu.Lock()
	defer l.mu.Unlock()
	pass := l.passes[k]
	delete(l.passes, k)
	return pass
}

// Observe ends the pass of a key, or lets it wait.
func (l *Loop[K]) Observe(o rt.Observation[K]) {
	if o.Why == 0 {
		return
	}
	if o.State.Phase == rt.PhaseWaiting {
		l.mu.Lock()
		defer l.mu.Unlock()
		if pass := l.passes[o.Key]; pass != nil {
			pass.begin("wait", -1)
		}
		return
	}
	if pass := l.take(o.Key); pass != nil {
		pass.wake()
		pass.End(Outcome{
			Revision: o.State.Revision, Name: o.State.Outcome.String(), Err: o.State.Err, Done: o.State.Outcome == rt.OutcomeOK,
		})
	}
	if o.State.Phase == rt.PhaseGone {
		l.Forget(o.Key)
	}
}

// Forget drops what is known of a key. It is for keys that are deleted while
// they wait, in a loop without a Finalizer: nobody observes that.
func (l *Loop[K]) Forget(k K) {
	l.take(k)
	l.tracer.Gone(l.object(k))
}

// wake ends the phase that the pass waits in.
func (p *Pass) wake() {
	p.mu.Lock()
	i := len(p.phases) - 1
	for ; i >= 0; i-- {
		if f := p.phases[i]; f.name == "wait" && f.parent == -1 && f.end.IsZero() {
			break
		}
	}
	p.mu.Unlock()
	if i >= 0 {
		p.end(i, nil)
	}
}
