package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/examples/internal/console"
	"github.com/gitopskit/gitopskit/examples/internal/looprun"
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
	passes *looprun.Passes

	// The rest belongs to the passes of clusterKey, which never overlap.
	revision string // of objects
	objects  []*unstructured.Unstructured
	applied  *ssa.ChangeSet // all objects
	at       string         // the revision they are of
	changes  *ssa.ChangeSet // those of the last pass
	ready    chan error     // the end of the wait for applied
	unwatch  context.CancelFunc
	watching sync.WaitGroup
	drifted  map[ssa.ObjectID]bool // written by the watch, read when it has ended
}

func newReconciler(f *flags, src source.Source, client *ssa.Client, out *console.Printer) (*reconciler, error) {
	r := &reconciler{flags: f, source: src, client: client, out: out, unwatch: func() {}}
	r.passes = looprun.NewPasses(clusterKey, f.once || f.diff, out)
	var busErr, loopErr error
	r.events, busErr = notify.NewBus(nil, notify.Route{Name: "terminal", Sender: out})
	r.loop, loopErr = rt.New(rt.Func[string](r.reconcile), &rt.Options[string]{Grace: 5 * time.Second, Observe: r.passes.Observe})
	return r, errors.Join(busErr, loopErr)
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
		return rt.Of(r.sync(ctx, p))
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
	return r.loop.Set(clusterKey, rt.Spec[string]{Interval: r.interval, Timeout: r.timeout + time.Minute, Version: revision.String()})
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
	defer artifact.Close()
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

// sync brings the cluster to a revision, or shows what that would change. If
// it is there and only has drifted, the objects concerned are applied alone.
func (r *reconciler) sync(ctx context.Context, p rt.Pass[string]) error {
	if err := r.load(ctx, p.Version); err != nil {
		return err
	}
	started := time.Now()
	if r.diff {
		changes, err := r.client.Diff(ctx, r.objects, nil)
		r.out.Changes("diff", changes, console.Since(started))
		return err
	}
	r.unwatch() // our own writes are no drift
	r.watching.Wait()
	repair := p.Why == rt.CauseRequested && len(r.drifted) > 0 && r.at == p.Version
	objects := r.objects
	if repair {
		objects = slices.DeleteFunc(slices.Clone(objects), func(o *unstructured.Unstructured) bool { return !r.drifted[r.client.ID(o)] })
	}
	r.drifted = map[ssa.ObjectID]bool{}
	set, err := r.client.Apply(ctx, objects, nil)
	if err == nil && !repair {
		var pruned *ssa.ChangeSet
		pruned, err = r.client.Prune(ctx, objects, nil)
		set.Update(pruned)
	}
	r.out.Changes("apply", set, console.Since(started))
	if err != nil {
		return err
	}
	if r.changes = set; repair {
		r.applied.Update(set)
	} else {
		r.applied, r.at = set, p.Version
	}
	r.watch()
	return nil
}

// wait returns what waits for the applied objects, without holding a worker.
func (r *reconciler) wait() func(context.Context) {
	set, changed, ready := r.applied.Objects(), r.changes.Changed(), make(chan error, 1)
	r.ready = ready
	return func(ctx context.Context) {
		started := time.Now()
		statuses, err := r.client.Wait(ctx, set, &ssa.WaitOptions{Timeout: r.timeout})
		if err == nil && changed {
			r.out.Step("ready", "%d of %d objects after %s", len(statuses), len(statuses), console.Since(started))
		}
		ready <- err
	}
}

func (r *reconciler) success(p rt.Pass[string]) rt.Result {
	if r.changes.Changed() {
		r.emit(notify.SeverityInfo, "ReconciliationSucceeded", p.Version, r.changes.Summary())
	}
	return rt.OK().At(p.Version)
}

// watch asks for a pass as soon as somebody else changes or deletes an object.
func (r *reconciler) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	r.unwatch = cancel
	set, drifted, revision := r.applied, r.drifted, r.revision
	r.watching.Go(func() {
		err := r.client.Watch(ctx, set, func(d ssa.Drift) {
			drifted[d.Object] = true
			r.out.Step("drift", "%s", d)
			r.emit(notify.SeverityInfo, "DriftDetected", revision, d.String())
			r.loop.Trigger(clusterKey, nil)
		})
		if ctx.Err() == nil { // the next interval still finds drift
			r.out.Fail(err)
		}
	})
}

func (r *reconciler) emit(severity notify.Severity, reason, revision, message string) {
	object := notify.Object{Kind: "Repository", Namespace: r.cluster.Namespace, Name: r.cluster.Name}
	if err := r.events.Emit(notify.Event{
		InvolvedObject: object, Severity: severity, Reason: reason, Message: message, Timestamp: time.Now(),
		Metadata: map[string]string{"revision": revision}, ReportingController: "quickstart",
	}); err != nil {
		r.out.Fail(err)
	}
}
