package kube

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// Pass is one pass of one object. It is valid during the call only.
type Pass struct {
	// Pass has the reasons of the pass, see package runtime.
	rt.Pass[client.ObjectKey]
	// Began is when the call began.
	Began time.Time
	// Deadline is when the pass, its waits included, must come to an end, by
	// the timeout of the schedule: a call that finds it over must not wait
	// again. The zero time means never.
	Deadline time.Time
	// Suspended reports that the object is suspended, which only a pass that
	// finalizes meets.
	Suspended bool
	// Reset reports that a reset was requested, as Force does for a forced pass:
	// by an annotation, [ResetAt] or [ForceAt], of the same value as
	// [RequestedAt], neither of which was answered before. Both stay set when
	// the pass goes on after a wait.
	Reset bool
	// Interrupted is what the pass before was waiting for, when this one began
	// instead of going on with it; else it is empty.
	Interrupted string

	event  func(Event)
	record func(ctx context.Context) error
	told   bool
	was    *metav1.Condition // Ready before the waits of this pass
	hidden []string          // see Conceal
	mask   *strings.Replacer // made of hidden
}

// Event tells about the object. See [Options.Event].
func (p *Pass) Event(e Event) {
	p.told = true
	e.Message = p.conceal(e.Message)
	p.event(e)
}

// Record writes the status of the object now, as the pass has changed it so
// far, for what must be on record before it is done: an inventory, a release.
// Nothing is sent if nothing has changed.
func (p *Pass) Record(ctx context.Context) error { return p.record(ctx) }

var errNoResult = errors.New("the pass returned the zero Result: this is a bug of the controller")

// pass makes one pass, for the loop.
func (c *Controller[T]) pass(ctx context.Context, p rt.Pass[client.ObjectKey]) (result rt.Result) {
	defer func() {
		if v := recover(); v != nil {
			result = c.panicked(ctx, p, v)
		}
	}()
	unwritten := c.take(p.Key)
	obj, err := c.read(ctx, p.Key)
	switch {
	case apierrors.IsNotFound(err):
		return rt.Forget()
	case err != nil:
		return c.trouble(p, "the object was not read", err)
	}
	if why := obj.GetAnnotations()[unreadable]; why != "" {
		return c.unreadable(ctx, obj, p, why)
	}
	deleting := obj.GetDeletionTimestamp() != nil
	if deleting && !controllerutil.ContainsFinalizer(obj, c.options.Finalizer) {
		return rt.OK() // others have still to clean up
	}
	if !deleting {
		if wait, ok := c.settle(obj, &p); ok {
			return wait
		}
	}
	if obj, err = c.claim(ctx, obj, deleting); err != nil {
		return c.trouble(p, "the finalizer was not written", err)
	}
	before := obj.DeepCopyObject().(T) //nolint:forcetypeassert // a copy has the type
	if err := unwritten.resume(p, obj); err != nil {
		return c.trouble(p, "the status was not put together", err)
	}
	requests := requestsOf(obj)
	w := &writer[T]{c: c, before: before, requests: requests}
	schedule := c.options.Schedule(obj)
	p.Force = requests.force
	pass := &Pass{
		Pass: p, Began: time.Now(), Deadline: c.deadline(p, schedule.Timeout), Suspended: schedule.Suspend,
		Reset: requests.reset,
		event: func(e Event) { c.options.Event(context.WithoutCancel(ctx), obj, e) },
	}
	pass.record = func(ctx context.Context) error {
		pass.concealConditions(obj)
		return w.write(ctx, obj, status.Change{})
	}
	pass.Interrupted, pass.was = c.unpark(p)
	invalid := schedule.validate()
	if deleting && invalid != nil { // that must not be in the way
		schedule, invalid = Schedule{}, nil
	}
	outcome := Stall("InvalidSpec", invalid)
	if invalid == nil {
		outcome = c.call(ctx, obj, pass, deleting, schedule.Timeout)
	}
	if deleting && outcome.outcome.Kind == status.Succeeded {
		return c.free(ctx, p, obj)
	}
	return c.finish(ctx, obj, w, pass, outcome)
}

// panicked tells of a panic as of any other failure.
func (c *Controller[T]) panicked(ctx context.Context, p rt.Pass[client.ObjectKey], v any) rt.Result {
	c.options.Log.ErrorContext(ctx, "panic", "object", describe(c.gvk.Kind, p.Key), "panic", v, "stack", string(debug.Stack()))
	obj, err := c.read(ctx, p.Key)
	if err != nil {
		return c.trouble(p, "the object was not read", err)
	}
	w := &writer[T]{c: c, before: obj.DeepCopyObject().(T), requests: requestsOf(obj)} //nolint:forcetypeassert // a copy has the type
	pass := &Pass{Pass: p, event: func(e Event) { c.options.Event(ctx, obj, e) }}
	return c.finish(ctx, obj, w, pass, Fail("Panic", fmt.Errorf("panic: %v", v)))
}

// trouble ends a pass because the API server could not be asked or told
// something. It is tried again after a pause that doubles, whatever the
// schedule says about failures of the object itself, or when the server says.
func (c *Controller[T]) trouble(p rt.Pass[client.ObjectKey], what string, err error) rt.Result {
	c.options.Log.Error(what, "object", describe(c.gvk.Kind, p.Key), "error", err)
	const longest = 2 * time.Minute
	after := rt.Backoff{Max: longest}.Delay(p.Attempt + 1)
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		after = max(time.Duration(seconds)*time.Second, after)
	}
	return rt.Fail(&troubleError{fmt.Errorf("%s: %s: %w", describe(c.gvk.Kind, p.Key), what, err), after})
}

// troubleError is an error that says when to try again.
type troubleError struct {
	error
	after time.Duration
}

func (e *troubleError) Unwrap() error             { return e.error }
func (e *troubleError) RetryAfter() time.Duration { return e.after }

// Terminal says that it is not the object that has to change.
func (e *troubleError) Terminal() bool { return false }

// unreadable stalls an object whose spec its type cannot hold. What the spec
// says about deletion is not known either, so its finalizer stays.
func (c *Controller[T]) unreadable(ctx context.Context, obj T, p rt.Pass[client.ObjectKey], why string) rt.Result {
	w := &writer[T]{c: c, before: obj.DeepCopyObject().(T)} //nolint:forcetypeassert // a copy has the type
	pass := &Pass{Pass: p, event: func(e Event) { c.options.Event(ctx, obj, e) }}
	return c.finish(ctx, obj, w, pass, Stall("InvalidSpec", errors.New(why)))
}

// parked is a pass that waits: for what, and how ready the object was before.
type parked struct {
	what string
	was  *metav1.Condition
}

// park remembers a pass that waits.
func (c *Controller[T]) park(key client.ObjectKey, result Result, was *metav1.Condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.parked, key); result.outcome.Kind == status.Progressing {
		c.parked[key] = parked{result.outcome.Message, was}
	}
}

// unpark returns what the pass before was waiting for, unless this is it, and
// how ready the object was before that.
func (c *Controller[T]) unpark(p rt.Pass[client.ObjectKey]) (interrupted string, was *metav1.Condition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := c.parked[p.Key]
	delete(c.parked, p.Key)
	if p.Why == rt.CauseWoken {
		return "", waited.was
	}
	return waited.what, waited.was
}

// deadline returns when the pass must come to an end. A pass that goes on
// after a wait has the deadline that it began with.
func (c *Controller[T]) deadline(p rt.Pass[client.ObjectKey], timeout time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.deadlines[p.Key]; ok && p.Why == rt.CauseWoken {
		return d
	}
	delete(c.deadlines, p.Key)
	if timeout <= 0 {
		return time.Time{}
	}
	d := time.Now().Add(timeout)
	c.deadlines[p.Key] = d
	return d
}

// call hands the object to the reconciler, once its dependencies are ready. A
// call may take as long as a whole pass: work is not cut short because a wait
// before it was long.
func (c *Controller[T]) call(ctx context.Context, obj T, pass *Pass, deleting bool, timeout time.Duration) Result {
	if !deleting {
		if held, ok := c.depends(ctx, obj); ok {
			return held
		}
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("timeout of %v is over", timeout))
		defer cancel()
	}
	step := c.logic.Reconcile
	if deleting {
		step = c.logic.Finalize
	}
	result := pass.concealed(step(ctx, obj, pass))
	pass.concealConditions(obj)
	switch {
	case !result.made:
		return Fail(status.ReasonFailed, errNoResult)
	case result.outcome.Kind != status.Progressing || pass.Deadline.IsZero():
		return result
	case !time.Now().Before(pass.Deadline):
		return Fail(result.outcome.Reason, fmt.Errorf("timeout of %v is over: %s", timeout, result.outcome.Message))
	}
	result.wake = append(result.wake, rt.WakeAt(pass.Deadline))
	return result
}

// finish writes the status and tells about a change of readiness.
func (c *Controller[T]) finish(ctx context.Context, obj T, w *writer[T], pass *Pass, result Result) rt.Result {
	if errors.Is(context.Cause(ctx), rt.ErrDeleted) || errors.Is(context.Cause(ctx), rt.ErrStopped) {
		return result.loop() // the next pass, or process, does it again
	}
	was := pass.was
	if was == nil {
		was = status.Get(w.first(), status.Ready)
	}
	quiet := result.quiet && status.IsReady(w.first())
	observed := !quiet && status.Finish(obj, result.outcome)
	c.park(pass.Key, result, was)
	if result.outcome.Kind == status.Progressing {
		w.requests = requests{} // the pass goes on
	}
	if c.hold(ctx, pass, obj, w, result, was, quiet) {
		return result.loop()
	}
	return c.close(ctx, obj, w, pass, result, was, observed, quiet)
}

// close writes the status and tells about it.
func (c *Controller[T]) close(ctx context.Context, obj T, w *writer[T], pass *Pass, result Result, was *metav1.Condition, observed, quiet bool) rt.Result {
	// The time of the pass may be over; that must not keep it from being told.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := w.write(ctx, obj, w.requests.change(observed))
	if client.IgnoreNotFound(err) != nil {
		if refused(err) && pass.Attempt == 0 { // trying again is of no use, so that only an event can tell
			pass.Event(Event{Warning: true, Reason: "StatusRefused", Message: "the API server refuses the status, which says " + result.outcome.Message + ": " + err.Error()})
		}
		return c.trouble(pass.Pass, "the status was not written", err)
	}
	if err == nil && !quiet { // where it is gone there is nobody to tell
		c.tell(pass, was, status.Get(obj, status.Ready), result)
	}
	return result.loop()
}

// claim puts the finalizer on an object.
// It returns the object as it is then.
func (c *Controller[T]) claim(ctx context.Context, obj T, deleting bool) (T, error) {
	if c.options.Finalizer == "" || deleting || controllerutil.ContainsFinalizer(obj, c.options.Finalizer) {
		return obj, nil
	}
	return c.mark(ctx, obj, controllerutil.AddFinalizer)
}

// free takes the finalizer off an object.
func (c *Controller[T]) free(ctx context.Context, p rt.Pass[client.ObjectKey], obj T) rt.Result {
	if _, err := c.mark(ctx, obj, controllerutil.RemoveFinalizer); client.IgnoreNotFound(err) != nil {
		return c.trouble(p, "the finalizer was not removed", err)
	}
	return rt.OK()
}

// depends returns the result for an object that must wait for others.
func (c *Controller[T]) depends(ctx context.Context, obj T) (Result, bool) {
	key := client.ObjectKeyFromObject(obj)
	needs := c.options.DependsOn(obj)
	c.mu.Lock()
	delete(c.waiting, key)
	if len(needs) > 0 {
		c.waiting[key] = struct{}{} // before looking, so that no event is missed
	}
	c.mu.Unlock()
	if len(needs) == 0 {
		return Result{}, false
	}
	if path := c.index.cycle(key, c.gvk.GroupKind()); path != nil {
		return Stall(status.ReasonDependencyNotReady, &rt.CycleError{Keys: path}), true
	}
	for _, need := range needs {
		err := c.met(ctx, obj, need)
		if err == nil {
			continue
		}
		reason := status.ReasonDependencyNotReady
		var own interface {
			error
			Reason() string
		}
		if errors.As(err, &own) {
			reason = own.Reason()
		}
		if rt.IsTerminal(err) {
			return Stall(reason, err), true
		}
		return NotYet(reason, err.Error(), c.options.RetryDependency), true
	}
	c.mu.Lock()
	delete(c.waiting, key)
	c.mu.Unlock()
	return Result{}, false
}

// met returns why a dependency is not ready, nil if it is.
func (c *Controller[T]) met(ctx context.Context, obj T, need client.ObjectKey) error {
	dep, err := c.read(ctx, need)
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("dependency %s does not exist", describe(c.gvk.Kind, need))
	case err != nil:
		return err
	case c.options.Depends != nil:
		return c.options.Depends(ctx, obj, dep)
	case !status.IsReady(dep):
		return fmt.Errorf("dependency %s is not ready", describe(c.gvk.Kind, need))
	}
	return nil
}
