package kube

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// Object is a kind that a controller can reconcile.
type Object interface {
	client.Object
	status.Object
}

// Reconciler is what makes one kind of controller different from another.
type Reconciler[T Object] interface {
	// Reconcile brings about what the spec of obj says and sets the fields of
	// its status, but for the conditions Ready, Reconciling and Stalled, which
	// follow from the result. obj belongs to the call.
	Reconcile(ctx context.Context, obj T, pass *Pass) Result
	// Finalize cleans up for an object that is being deleted; after Ready its
	// finalizer is removed. It is not called without Options.Finalizer.
	Finalize(ctx context.Context, obj T, pass *Pass) Result
}

// Schedule says when an object is reconciled.
type Schedule struct {
	// Interval is the time between two passes that succeed; 0 means never
	// without a reason.
	Interval time.Duration
	// Retry is the pause after failures; the zero value means 750 ms, doubling
	// to 15 minutes.
	Retry rt.Backoff
	// Timeout bounds a pass with its waits: then a wait is a failure. It also
	// bounds each call of the Reconciler. 0 means none.
	Timeout time.Duration
	// Suspend keeps passes from beginning; deletion is still seen to.
	Suspend bool
}

// validate returns what is wrong with s.
func (s Schedule) validate() error {
	var errs []error
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"interval", s.Interval}, {"timeout", s.Timeout}, {"retry interval", s.Retry.Min}, {"longest retry interval", s.Retry.Max}} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("the %s is %v, and must not be negative", d.name, d.d))
		}
	}
	if s.Retry.Max > 0 && s.Retry.Max < s.Retry.Min {
		errs = append(errs, fmt.Errorf("the longest retry interval, %v, is shorter than the shortest, %v", s.Retry.Max, s.Retry.Min))
	}
	return errors.Join(errs...)
}

// Options describe a kind to a controller.
type Options[T Object] struct {
	// Schedule reads the schedule of an object from its spec. Required.
	Schedule func(obj T) Schedule
	// Finalizer is put on every object before its first pass; empty means
	// none, so that deletions are not seen to.
	Finalizer string
	// DependsOn lists objects of the same kind that must be ready first; nil
	// means none.
	DependsOn func(obj T) []client.ObjectKey
	// Depends decides whether a dependency that exists is ready; nil means
	// status.IsReady. An error that is terminal, see rt.IsTerminal, stalls obj;
	// any other holds it back until the dependency changes. The message says
	// what is missing, the dependency included; an error with a method
	// "Reason() string" has its own reason for the condition. See
	// runtime/depend for expressions.
	Depends func(ctx context.Context, obj, dependency T) error
	// References lists the objects that obj needs, among those of Watches.
	References func(obj T) []Reference
	// Watches are the kinds of References: an event of an object begins a pass
	// of every object that refers to it.
	Watches []Watch
	// Select chooses the objects that are reconciled; nil means all.
	Select func(obj T) bool
	// Workers is how many passes may run at a time; 0 means 4.
	Workers int
	// Grace is how long running passes may go on when the manager stops; 0
	// means 30 seconds.
	Grace time.Duration
	// Jitter spreads intervals, see rt.Options.Jitter.
	Jitter float64
	// RetryDependency is after what time an object that waits for another is
	// looked at again although no event has come; 0 means 30 seconds.
	RetryDependency time.Duration
	// Patience is for how long an object may wait before its status says so: of a
	// pass that goes on within it, only the end is written. 0 means that every
	// wait is told at once. An object that asks for a pass with [RequestedAt] is
	// answered at once in any case.
	Patience time.Duration
	// FieldOwner is the field manager of writes to the objects; empty means
	// "gitopskit".
	FieldOwner string
	// Event is told what there is to tell about an object; it must not block.
	// nil means nobody. See [EventRecorder].
	Event func(ctx context.Context, obj client.Object, event Event)
	// Wrap, if not nil, is put around the reconciler of the loop: for a span of
	// a trace, or counts, of each pass. See runtime/observe.
	Wrap func(rt.Reconciler[client.ObjectKey]) rt.Reconciler[client.ObjectKey]
	// Observe is told about every pass, see rt.Options.Observe, and, with
	// rt.PhaseGone, when an object does not exist any more.
	Observe func(rt.Observation[client.ObjectKey])
	// Log is told what cannot be told by status; nil is silent.
	Log *slog.Logger
}

// Reference names an object that another one needs. Without a name it is every
// object of the kind in the namespace.
type Reference struct {
	schema.GroupKind
	client.ObjectKey
}

// Watch is a kind of objects that others refer to. It may be the kind that is
// reconciled, with a Changed that says which changes matter to others of it.
type Watch struct {
	// Object is an empty object of the kind; a metav1.PartialObjectMetadata
	// watches metadata only.
	Object client.Object
	// Changed reports whether a change matters; nil means that every change
	// does. Objects that appear or are deleted always matter.
	Changed func(old, new client.Object) bool
	// ByName watches the metadata of each object that something refers to, and
	// no other object of the kind: for Secrets and ConfigMaps, of which there
	// are many that do not matter. Object is a metav1.PartialObjectMetadata
	// then, and Changed nil. It costs one request for each object that is
	// referred to, a watch that stays open, and nothing for the others. Where
	// more than 32 objects of a namespace are referred to, one watch of the
	// metadata of its objects takes the place of theirs.
	ByName bool
}

// Controller reconciles the objects of one kind. It comes from [Add].
type Controller[T Object] struct {
	client  client.Client
	reader  client.Reader
	gvk     schema.GroupVersionKind
	make    func() T
	logic   Reconciler[T]
	options Options[T]
	loop    *rt.Loop[client.ObjectKey]
	fence   *fence
	leads   atomic.Bool // it runs

	observer *observer
	index    *index
	names    *names
	// referring keeps the index and the watches by name together
	referring sync.Mutex
	mu        sync.Mutex
	written   map[client.ObjectKey]T
	waiting   map[client.ObjectKey]struct{} // hold back for a dependency
	asked     map[client.ObjectKey]string   // newest request token that was passed on
	parked    map[client.ObjectKey]parked
	held      map[client.ObjectKey]*held[T] // statuses that are not written yet
	settling  map[client.ObjectKey]rt.Cause // passes that wait for watches, and why they began
	// deadlines of passes that have begun
	deadlines map[client.ObjectKey]time.Time
}

// Add makes a controller for the kind of T, which must be a pointer to a type
// in the scheme of the manager, and adds it to the manager: it runs while the
// manager is the leader, and ends with it.
func Add[T Object](ctx context.Context, mgr manager.Manager, logic Reconciler[T], opts Options[T]) (*Controller[T], error) {
	typ := reflect.TypeFor[T]()
	if err := opts.validate(typ, logic); err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	c := &Controller[T]{
		client: mgr.GetClient(), reader: mgr.GetAPIReader(), logic: logic, options: opts.withDefaults(), fence: fenceOf(mgr),
		make:     func() T { return reflect.New(typ.Elem()).Interface().(T) }, //nolint:forcetypeassert // by construction
		observer: newObserver(opts.Observe, opts.withDefaults().Log),
		index:    newIndex(), written: map[client.ObjectKey]T{}, waiting: map[client.ObjectKey]struct{}{}, asked: map[client.ObjectKey]string{},
		deadlines: map[client.ObjectKey]time.Time{}, settling: map[client.ObjectKey]rt.Cause{}, parked: map[client.ObjectKey]parked{}, held: map[client.ObjectKey]*held[T]{},
	}
	var err error
	if c.gvk, err = apiutil.GVKForObject(c.make(), mgr.GetScheme()); err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	var passes rt.Reconciler[client.ObjectKey] = rt.Func[client.ObjectKey](c.fenced)
	if opts.Wrap != nil {
		passes = opts.Wrap(passes)
	}
	c.loop, err = rt.New(passes, &rt.Options[client.ObjectKey]{
		Workers: opts.Workers, Grace: opts.Grace, Jitter: opts.Jitter, Observe: c.observer.pass, Log: c.options.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	if c.names, err = newNames(mgr, opts.Watches, c.referenced, c.options.Log); err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	if err := c.feed(ctx, mgr); err != nil {
		return nil, fmt.Errorf("kube: watch %s: %w", c.gvk.Kind, err)
	}
	if err := c.writable(ctx, mgr); err != nil {
		return nil, fmt.Errorf("kube: %w", err)
	}
	return c, mgr.Add(c)
}

// writable returns an error if the API server would drop every status.
func (c *Controller[T]) writable(ctx context.Context, mgr manager.Manager) error {
	mapping, err := mgr.GetRESTMapper().RESTMapping(c.gvk.GroupKind(), c.gvk.Version)
	if err != nil {
		return err
	}
	d, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	resources, err := d.ServerResourcesForGroupVersionWithContext(ctx, c.gvk.GroupVersion().String())
	if err != nil {
		return fmt.Errorf("resources of %s: %w", c.gvk.GroupVersion(), err)
	}
	for _, r := range resources.APIResources {
		if r.Name == mapping.Resource.Resource+"/status" {
			return nil
		}
	}
	return fmt.Errorf("%s of %s has no status subresource, so that its status cannot be written apart: its definition needs \"subresources: {status: {}}\"", c.gvk.Kind, c.gvk.GroupVersion())
}

// validate returns all that is wrong with the parameters of Add.
func (o Options[T]) validate(typ reflect.Type, logic Reconciler[T]) error {
	var errs []error
	if typ.Kind() != reflect.Pointer {
		errs = append(errs, fmt.Errorf("%v is no pointer to a struct", typ))
	}
	if logic == nil {
		errs = append(errs, errors.New("the Reconciler is nil"))
	}
	if o.Schedule == nil {
		errs = append(errs, errors.New("Options.Schedule is required"))
	}
	for i, w := range o.Watches {
		switch _, metadata := w.Object.(*metav1.PartialObjectMetadata); {
		case w.Object == nil:
			errs = append(errs, fmt.Errorf("Options.Watches[%d] has no Object", i))
		case w.ByName && (!metadata || w.Changed != nil):
			errs = append(errs, fmt.Errorf("Options.Watches[%d]: %T is watched by name, so it has to be a metav1.PartialObjectMetadata without Changed", i, w.Object))
		}
	}
	return errors.Join(errs...)
}

func (o Options[T]) withDefaults() Options[T] {
	if o.FieldOwner == "" {
		o.FieldOwner = "gitopskit"
	}
	if o.RetryDependency == 0 {
		o.RetryDependency = 30 * time.Second
	}
	if o.Event == nil {
		o.Event = func(context.Context, client.Object, Event) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DependsOn == nil {
		o.DependsOn = func(T) []client.ObjectKey { return nil }
	}
	if o.References == nil {
		o.References = func(T) []Reference { return nil }
	}
	return o
}

// Start runs the controller until ctx ends. The manager calls it.
func (c *Controller[T]) Start(ctx context.Context) (err error) {
	if !c.fence.enter() {
		return nil
	}
	defer func() { c.fence.leave(err) }()
	c.leads.Store(true)
	defer c.leads.Store(false)
	c.names.run(ctx)
	defer c.names.stop()
	defer c.flush()
	return c.loop.Run(ctx)
}

// NeedLeaderElection says that only the leader reconciles.
func (c *Controller[T]) NeedLeaderElection() bool { return true }

// Trigger begins a pass of an object, as a webhook would. Objects that the
// controller does not know are ignored.
func (c *Controller[T]) Trigger(key client.ObjectKey) { c.loop.Trigger(key, nil) }

// Wake goes on with a pass of an object that waits, if there is one.
func (c *Controller[T]) Wake(key client.ObjectKey) { c.loop.Wake(key) }

// All returns the states of the objects, see rt.Loop.All, and none as long as
// the controller does not run: then another replica may lead, and knows them.
func (c *Controller[T]) All() iter.Seq2[client.ObjectKey, rt.State] {
	return func(yield func(client.ObjectKey, rt.State) bool) {
		if c.leads.Load() {
			c.loop.All()(yield)
		}
	}
}

// forget drops what is known of an object that does not exist any more.
func (c *Controller[T]) forget(key client.ObjectKey) {
	c.mu.Lock()
	delete(c.written, key)
	delete(c.waiting, key)
	delete(c.asked, key)
	delete(c.deadlines, key)
	delete(c.settling, key)
	delete(c.parked, key)
	if h := c.held[key]; h != nil {
		h.timer.Stop()
		delete(c.held, key)
	}
	c.mu.Unlock()
}

// describe names an object in messages.
func describe(kind string, key client.ObjectKey) string {
	return kind + " " + strings.TrimPrefix(key.String(), "/")
}
