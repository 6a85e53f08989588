package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/examples/internal/console"
	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/notify"
	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/ssa"
)

// The two keys of the loop. "source" asks for the revision at every interval
// and makes it the version of "cluster", which brings the cluster there.
const sourceKey, clusterKey = "source", "cluster"

// reconciler assembles source, kustomize, ssa and notify, driven by the loop.
type reconciler struct {
	*flags
	source source.Source
	client *ssa.Client
	out    *console.Printer
	loop   *rt.Loop[string]
	events *notify.Bus
	passed chan error // how each pass went

	// The rest belongs to the passes of clusterKey, which never overlap.
	revision string // of objects
	objects  []*unstructured.Unstructured
	applied  *ssa.ChangeSet
	ready    chan error // the end of the wait for applied
	unwatch  context.CancelFunc
	watching sync.WaitGroup
}

func newReconciler(f *flags, src source.Source, client *ssa.Client, out *console.Printer) (*reconciler, error) {
	r := &reconciler{flags: f, source: src, client: client, out: out, passed: make(chan error, 64), unwatch: func() {}}
	var err error
	if r.events, err = notify.NewBus(nil, notify.Route{Name: "terminal", Sender: out}); err != nil {
		return nil, err
	}
	r.loop, err = rt.New(rt.Func[string](r.reconcile), &rt.Options[string]{Grace: 5 * time.Second, Observe: r.observe})
	return r, err
}

// run runs the loop while main does.
func (r *reconciler) run(ctx context.Context, main func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- r.loop.Run(ctx) }()
	err := r.loop.Set(sourceKey, rt.Spec[string]{Interval: r.interval, Timeout: r.timeout})
	if err == nil {
		err = main(ctx)
	}
	stop()
	err = errors.Join(err, <-done)
	r.unwatch()
	r.watching.Wait()
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, closeErr := r.events.Close(flush)
	return errors.Join(err, closeErr)
}

// pass waits for a pass that succeeds. With -once and -diff a failure is the
// end; else the loop goes on trying.
func (r *reconciler) pass(ctx context.Context) error {
	for {
		select {
		case err := <-r.passed:
			if err == nil || r.once || r.diff {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *reconciler) observe(o rt.Observation[string]) {
	err := o.State.Err
	if o.State.Phase == rt.PhaseWaiting || o.Key == sourceKey && err == nil {
		return // there is more to come
	}
	if err != nil && !r.once && !r.diff {
		r.out.Fail(err)
		if o.State.Outcome == rt.OutcomeStalled {
			r.out.Detail("next try when the repository or the cluster changes")
		} else {
			r.out.Detail("next try in %s", time.Until(o.State.Due).Round(time.Second))
		}
	}
	select {
	case r.passed <- err:
	default: // nobody listens any more
	}
}

func (r *reconciler) reconcile(ctx context.Context, p rt.Pass[string]) rt.Result {
	var err error
	switch {
	case p.Key == sourceKey:
		return rt.Of(r.resolve(ctx))
	case p.Why == rt.CauseWoken:
		if err = <-r.ready; err == nil {
			return r.success(p)
		}
	case r.diff:
		return rt.Of(r.show(ctx, p))
	default:
		if err = r.sync(ctx, p); err == nil {
			return rt.Wait("objects to become ready", rt.WakeWhen(r.wait()))
		}
	}
	r.emit(notify.SeverityError, "ReconciliationFailed", p.Version, err.Error())
	return rt.Fail(err)
}

// resolve asks which revision the repository is at.
func (r *reconciler) resolve(ctx context.Context) error {
	revision, err := r.source.Resolve(ctx)
	if err != nil {
		return err
	}
	return r.loop.Set(clusterKey, rt.Spec[string]{Interval: r.interval, Timeout: r.timeout, Version: revision.String()})
}

// load fetches and builds a revision, unless that was done before.
func (r *reconciler) load(ctx context.Context, version string) error {
	if r.revision == version {
		return nil
	}
	revision, err := source.ParseRevision(version)
	if err != nil {
		return err
	}
	started := time.Now()
	artifact, err := r.source.Fetch(ctx, revision)
	if err != nil {
		return err
	}
	defer artifact.Close() //nolint:errcheck // it was only read
	r.out.Step("fetch", "%s in %s", version, console.Since(started))
	started = time.Now()
	objects, err := kustomize.Build(ctx, artifact, r.git.Path, nil)
	if err != nil {
		return err
	}
	r.out.Step("build", "%d objects from %s in %s", len(objects), r.git.Path, console.Since(started))
	r.revision, r.objects = version, objects
	return nil
}

// show prints what a revision would change.
func (r *reconciler) show(ctx context.Context, p rt.Pass[string]) error {
	if err := r.load(ctx, p.Version); err != nil {
		return err
	}
	started := time.Now()
	changes, err := r.client.Diff(ctx, r.objects, nil)
	r.out.Changes("diff", changes, console.Since(started))
	return err
}

// sync brings the cluster to a revision.
func (r *reconciler) sync(ctx context.Context, p rt.Pass[string]) error {
	if err := r.load(ctx, p.Version); err != nil {
		return err
	}
	r.unwatch() // our own writes are no drift
	r.watching.Wait()
	started := time.Now()
	set, err := r.client.Apply(ctx, r.objects, nil)
	if err == nil {
		var pruned *ssa.ChangeSet
		pruned, err = r.client.Prune(ctx, r.objects, nil)
		set.Changes = append(set.Changes, pruned.Changes...)
	}
	r.out.Changes("apply", set, console.Since(started))
	if err != nil {
		return err
	}
	r.applied = set
	r.watch(set)
	return nil
}

// wait returns what waits for the applied objects, without holding a worker.
func (r *reconciler) wait() func(context.Context) {
	set, ready := r.applied, make(chan error, 1)
	r.ready = ready
	return func(ctx context.Context) {
		started := time.Now()
		statuses, err := r.client.Wait(ctx, set.Objects(), &ssa.WaitOptions{Timeout: r.timeout})
		if err == nil && set.Changed() {
			r.out.Step("ready", "%d of %d objects after %s", len(statuses), len(statuses), console.Since(started))
		}
		ready <- err
	}
}

func (r *reconciler) success(p rt.Pass[string]) rt.Result {
	if r.applied.Changed() {
		r.emit(notify.SeverityInfo, "ReconciliationSucceeded", p.Version, r.applied.Summary())
	}
	return rt.OK().At(p.Version)
}

// watch asks for a pass as soon as somebody else changes or deletes an object.
func (r *reconciler) watch(set *ssa.ChangeSet) {
	ctx, cancel := context.WithCancel(context.Background())
	r.unwatch = cancel
	revision := r.revision
	r.watching.Go(func() {
		err := r.client.Watch(ctx, set, func(d ssa.Drift) {
			what := fmt.Sprintf("%s was %s by somebody else", d.Object, map[bool]string{false: "changed", true: "deleted"}[d.Deleted])
			r.out.Step("drift", "%s", what)
			r.emit(notify.SeverityInfo, "DriftDetected", revision, what)
			r.loop.Trigger(clusterKey, nil)
		})
		if ctx.Err() == nil { // the next interval still finds drift
			r.out.Fail(err)
		}
	})
}

func (r *reconciler) emit(severity notify.Severity, reason, revision, message string) {
	err := r.events.Emit(notify.Event{
		InvolvedObject: notify.Object{Kind: "Repository", Namespace: r.cluster.Namespace, Name: r.cluster.Name},
		Severity:       severity, Reason: reason, Message: message, Timestamp: time.Now(),
		Metadata: map[string]string{"revision": revision}, ReportingController: "quickstart",
	})
	if err != nil {
		r.out.Fail(err)
	}
}
