package observe

import (
	"context"
	"errors"
	"iter"
	"sync"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// Loop records the passes of an [rt.Loop]. It comes from [Of].
type Loop[K comparable] struct {
	metrics *Metrics
	kind    string
	name    func(K) (namespace, name string)
	counts  sync.Map // K to *Requests, from the end of a call until it is observed
}

// Of returns what records the passes of a loop whose keys are objects of the
// kind, with the names that the function gives them.
func Of[K comparable](m *Metrics, kind string, name func(key K) (namespace, name string)) *Loop[K] {
	return &Loop[K]{metrics: m, kind: kind, name: name}
}

// Reconciler returns a reconciler that counts the requests of each call, see
// [Counting].
func (l *Loop[K]) Reconciler(next rt.Reconciler[K]) rt.Reconciler[K] {
	return rt.Func[K](func(ctx context.Context, pass rt.Pass[K]) rt.Result {
		ctx, count := WithRequests(ctx)
		defer func() {
			if end := context.Cause(ctx); errors.Is(end, rt.ErrDeleted) || errors.Is(end, rt.ErrStopped) {
				return // it may not be observed
			}
			l.counts.Store(pass.Key, count)
		}()
		return next.Reconcile(ctx, pass)
	})
}

// Observe records a pass. It is for rt.Options.Observe.
func (l *Loop[K]) Observe(o rt.Observation[K]) {
	namespace, name := l.name(o.Key)
	if o.Why != 0 {
		p := Pass{
			Kind: l.kind, Namespace: namespace, Name: name, Outcome: o.State.Outcome, Waits: o.State.Phase == rt.PhaseWaiting,
			Took: o.Took, Queued: o.Queued, Why: o.Why,
		}
		if o.Slow {
			p.Lane = "slow"
		}
		if count, ok := l.counts.LoadAndDelete(o.Key); ok {
			p.Requests = count.(*Requests) //nolint:forcetypeassert // nothing else is stored
		}
		l.metrics.Pass(p)
	}
	if o.State.Phase == rt.PhaseGone {
		l.counts.Delete(o.Key)
		l.metrics.Gone(l.kind, namespace, name)
	}
}

// Resources returns the objects of a loop, for [Metrics.Snapshot]: all is its
// method All.
func (l *Loop[K]) Resources(all iter.Seq2[K, rt.State]) iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for key, state := range all {
			namespace, name := l.name(key)
			if !yield(Resource{Namespace: namespace, Name: name, State: state}) {
				return
			}
		}
	}
}
