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
	passed chan error // the outcomes of passes that are worth telling

	revision string // of objects; like the rest below for the pass of clusterKey alone
	objects  []*unstructured.Unstructured
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
	loopCtx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- r.loop.Run(loopCtx) }()
	err := r.loop.Set(sourceKey, rt.Spec[string]{Interval: r.interval, Timeout: r.timeout})
	if err == nil {
		err = main(loopCtx)
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

// pass waits for a pass that succeeds. With -once and -diff a failure ends it;
// else the loop goes on trying.
func (r *reconciler) pass(ctx context.Context) error {
	for {
		select {
		case err := <-r.passed:
			if err == nil || r.once || r.diff {
				return err
			}
			r.out.Fail(err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *reconciler) observe(o rt.Observation[string]) {
	if o.State.Outcome == rt.OutcomeProgressing || o.Key == sourceKey && o.State.Err == nil {
		return // something newer is to be done first
	}
	err := o.State.Err
	if err != nil && !r.once && !r.diff {
		next := "when the repository or the cluster changes"
		if o.State.Outcome != rt.OutcomeStalled {
			next = "in " + time.Until(o.State.Due).Round(time.Second).String()
		}
		err = fmt.Errorf("%w\nnext try: %s", err, next)
	}
	select {
	case r.passed <- err:
	default: // nobody listens any more
	}
}

func (r *reconciler) reconcile(ctx context.Context, p rt.Pass[string]) rt.Result {
	if p.Key == sourceKey {
		return rt.Of(r.resolve(ctx))
	}
	err := r.sync(ctx, p)
	if err == nil {
		return rt.OK().At(p.Version)
	}
	if superseded(p) {
		return rt.Again(0, "a newer request")
	}
	r.emit(notify.SeverityError, "ReconciliationFailed", p.Version, err.Error())
	return rt.Fail(err)
}

func superseded(p rt.Pass[string]) bool {
	select {
	case <-p.Superseded:
		return true
	default:
		return false
	}
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
func (r *reconciler) load(ctx context.Context, version string) ([]*unstructured.Unstructured, error) {
	if r.revision == version {
		return r.objects, nil
	}
	revision, err := source.ParseRevision(version)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	artifact, err := r.source.Fetch(ctx, revision)
	if err != nil {
		return nil, err
	}
	defer artifact.Close() //nolint:errcheck // it was only read
	r.out.Step("fetch", "%s in %s", version, console.Since(started))
	started = time.Now()
	objects, err := kustomize.Build(ctx, artifact, r.git.Path, nil)
	if err != nil {
		return nil, err
	}
	r.out.Step("build", "%d objects from %s in %s", len(objects), r.git.Path, console.Since(started))
	r.revision, r.objects = version, objects
	return objects, nil
}

// sync brings the cluster to a revision.
func (r *reconciler) sync(ctx context.Context, p rt.Pass[string]) error {
	objects, err := r.load(ctx, p.Version)
	if err != nil {
		return err
	}
	started := time.Now()
	if r.diff {
		changes, err := r.client.Diff(ctx, objects, nil)
		r.out.Changes("diff", changes, console.Since(started))
		return err
	}
	r.unwatch() // our own writes are no drift
	r.watching.Wait()
	set, err := r.client.Apply(ctx, objects, nil)
	if err == nil {
		var pruned *ssa.ChangeSet
		pruned, err = r.client.Prune(ctx, objects, nil)
		set.Changes = append(set.Changes, pruned.Changes...)
	}
	r.out.Changes("apply", set, console.Since(started))
	if err != nil {
		return err
	}
	r.watch(set)
	started = time.Now()
	statuses, err := r.ready(ctx, p, set)
	if err != nil {
		return err
	}
	r.out.Step("ready", "%d of %d objects after %s", len(statuses), len(statuses), console.Since(started))
	if set.Changed() {
		r.emit(notify.SeverityInfo, "ReconciliationSucceeded", p.Version, set.Summary())
	}
	return nil
}

// ready waits for the applied objects, until something newer is to be done.
func (r *reconciler) ready(ctx context.Context, p rt.Pass[string], set *ssa.ChangeSet) ([]ssa.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-p.Superseded:
		case <-ctx.Done():
		}
	}()
	return r.client.Wait(ctx, set.Objects(), &ssa.WaitOptions{Timeout: r.timeout})
}

// watch asks for a pass as soon as somebody else changes or deletes an object.
func (r *reconciler) watch(set *ssa.ChangeSet) {
	ctx, cancel := context.WithCancel(context.Background())
	r.unwatch = cancel
	r.watching.Go(func() {
		err := r.client.Watch(ctx, set, func(d ssa.Drift) {
			what := "was changed by somebody else"
			if d.Deleted {
				what = "was deleted by somebody else"
			}
			r.out.Step("drift", "%s %s", d.Object, what)
			r.emit(notify.SeverityInfo, "DriftDetected", r.revision, d.Object.String()+" "+what)
			r.loop.Trigger(clusterKey, nil)
		})
		if ctx.Err() == nil { // the next interval still finds drift
			r.out.Fail(err)
		}
	})
}

func (r *reconciler) emit(severity notify.Severity, reason, revision, message string) {
	err := r.events.Emit(notify.Event{
		InvolvedObject: notify.Object{Kind: "Repository", Namespace: r.namespace, Name: r.name},
		Severity:       severity, Reason: reason, Message: message, Timestamp: time.Now(),
		Metadata: map[string]string{"revision": revision}, ReportingController: "quickstart",
	})
	if err != nil {
		r.out.Fail(err)
	}
}
