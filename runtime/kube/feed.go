package kube

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// feed has the informers tell the loop.
func (c *Controller[T]) feed(ctx context.Context, mgr manager.Manager) error {
	if err := handle(ctx, mgr, c.make(), toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(o any, _ bool) { c.seen(o, nil) },
		UpdateFunc: func(old, o any) { c.seen(o, old) },
		DeleteFunc: c.gone,
	}); err != nil {
		return err
	}
	for _, w := range c.options.Watches {
		gvk, err := apiutil.GVKForObject(w.Object, mgr.GetScheme())
		if err != nil {
			return err
		}
		if gvk == c.gvk && w.Changed == nil {
			return fmt.Errorf("Options.Watches holds %s itself, so that its passes would begin passes: give the watch a Changed, or use Options.DependsOn", gvk.Kind)
		}
		if w.ByName {
			continue
		}
		tell := func(o client.Object) {
			c.referenced(Reference{gvk.GroupKind(), client.ObjectKeyFromObject(o)})
		}
		if err := handle(ctx, mgr, w.Object, watcher(w, tell)); err != nil {
			return err
		}
	}
	return nil
}

// watcher tells of the events that matter. Objects that were there at the
// start do not: every object that could refer to them has a first pass anyway.
func watcher(w Watch, tell func(client.Object)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) {
			if obj, ok := o.(client.Object); ok && !initial {
				tell(obj)
			}
		},
		UpdateFunc: func(old, o any) {
			before, ok1 := old.(client.Object)
			after, ok2 := o.(client.Object)
			if ok1 && ok2 && before.GetResourceVersion() != after.GetResourceVersion() && w.changed(before, after) {
				tell(after)
			}
		},
		DeleteFunc: func(o any) {
			if obj, ok := last(o).(client.Object); ok {
				tell(obj)
			}
		},
	}
}

// changed asks Changed; one that panics has not said no.
func (w Watch) changed(before, after client.Object) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = true
		}
	}()
	return w.Changed == nil || w.Changed(before, after)
}

func handle(ctx context.Context, mgr manager.Manager, o client.Object, h toolscache.ResourceEventHandler) error {
	informer, err := mgr.GetCache().GetInformer(ctx, o, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(h)
	return err
}

// last returns the object of a deletion that may have been missed.
func last(o any) any {
	if lost, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		return lost.Obj
	}
	return o
}

// seen tells the loop about an object that is new or has changed.
func (c *Controller[T]) seen(o, before any) {
	obj, ok := o.(T)
	if !ok {
		return
	}
	defer func() {
		if v := recover(); v != nil { // of a function of the options; the pass meets it again, and tells
			c.set(client.ObjectKeyFromObject(obj), rt.Spec[client.ObjectKey]{Group: obj.GetNamespace(), Version: versionOf(obj)})
		}
	}()
	c.caught(obj)
	if c.options.Select != nil && !c.options.Select(obj) {
		c.gone(obj)
		return
	}
	key := client.ObjectKeyFromObject(obj)
	c.refer(key, slices.Concat(c.options.References(obj), c.dependencies(obj)))
	c.set(key, c.spec(obj))
	if token := obj.GetAnnotations()[RequestedAt]; token != "" && c.newToken(key, token, obj) {
		c.loop.Trigger(key, &rt.TriggerOptions{Token: token})
	}
	if old, ok := before.(T); !ok || c.options.Depends != nil || old.GetGeneration() != obj.GetGeneration() || !reflect.DeepEqual(status.Get(old, status.Ready), status.Get(obj, status.Ready)) {
		c.release(key)
	}
}

func (c *Controller[T]) set(key client.ObjectKey, spec rt.Spec[client.ObjectKey]) {
	if err := c.loop.Set(key, spec); err != nil && !errors.Is(err, rt.ErrStopped) {
		c.options.Log.Error("an object is not reconciled", "object", describe(c.gvk.Kind, key), "error", err)
	}
}

// versionOf changes with the spec of an object, with its deletion, and when
// another object takes its name.
func versionOf(obj client.Object) string {
	return string(obj.GetUID()) + "/" + strconv.FormatInt(obj.GetGeneration(), 10) + "/" + strconv.FormatBool(obj.GetDeletionTimestamp() != nil)
}

// newToken reports whether a request for a pass was not seen before.
func (c *Controller[T]) newToken(key client.ObjectKey, token string, obj T) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[key] == token {
		return false
	}
	c.asked[key] = token
	return handled(obj, "LastHandledReconcileAt") != token
}

// gone tells the loop that an object does not exist any more.
func (c *Controller[T]) gone(o any) {
	obj, ok := last(o).(T)
	if !ok {
		return
	}
	key := client.ObjectKeyFromObject(obj)
	c.refer(key, nil)
	ticket := c.loop.Delete(key)
	c.forget(key)
	c.observer.dropped(key, ticket)
	c.release(key)
}

// spec is what the loop must know about an object.
func (c *Controller[T]) spec(obj T) rt.Spec[client.ObjectKey] {
	s := c.options.Schedule(obj)
	deleting := obj.GetDeletionTimestamp() != nil
	if s.validate() != nil {
		s = Schedule{} // its pass tells
	}
	spec := rt.Spec[client.ObjectKey]{
		Interval: s.Interval, Retry: s.Retry, Group: obj.GetNamespace(),
		Version: versionOf(obj),
	}
	if s.Suspend && !deleting {
		spec.Suspend = &rt.Suspension{Reason: "spec.suspend is set"}
	}
	return spec
}

// referenced begins passes of the objects that refer to one that has changed.
func (c *Controller[T]) referenced(ref Reference) {
	all := Reference{ref.GroupKind, client.ObjectKey{Namespace: ref.Namespace}}
	for _, key := range append(c.index.users(ref), c.index.users(all)...) {
		c.loop.Trigger(key, nil)
	}
}

// refer replaces the references of an object.
func (c *Controller[T]) refer(key client.ObjectKey, refs []Reference) {
	c.referring.Lock()
	defer c.referring.Unlock()
	c.names.follow(c.index.set(key, refs))
}

// settle has a pass wait until the watches by name of what it refers to have
// begun, so that no change after it is missed. Afterwards the pass has the
// reasons that it began with.
func (c *Controller[T]) settle(obj T, p *rt.Pass[client.ObjectKey]) (rt.Result, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	why, waited := c.settling[p.Key]
	delete(c.settling, p.Key)
	switch {
	case waited && p.Why == rt.CauseWoken:
		p.Why = why
		return rt.Result{}, false
	case waited: // another reason came up meanwhile
		p.Why |= why
	case p.Why == rt.CauseWoken:
		return rt.Result{}, false
	}
	refs := c.options.References(obj)
	if len(c.names.unsettled(refs)) == 0 {
		return rt.Result{}, false
	}
	c.settling[p.Key] = p.Why
	return rt.Wait("the watches of what it refers to", rt.WakeWhen(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		for open := c.names.unsettled(refs); len(open) > 0 && ctx.Err() == nil; open = c.names.unsettled(refs) {
			select {
			case <-open[0]:
			case <-ctx.Done():
			}
		}
	})), true
}

// dependencies returns the dependencies of an object as references.
func (c *Controller[T]) dependencies(obj T) []Reference {
	var out []Reference
	for _, key := range c.options.DependsOn(obj) {
		out = append(out, Reference{c.gvk.GroupKind(), key})
	}
	return out
}

// release begins passes of the objects that wait for key.
func (c *Controller[T]) release(key client.ObjectKey) {
	for _, user := range c.index.users(Reference{c.gvk.GroupKind(), key}) {
		c.mu.Lock()
		_, waits := c.waiting[user]
		c.mu.Unlock()
		if waits {
			c.loop.Trigger(user, nil)
		}
	}
}

// index knows who refers to what.
type index struct {
	mu   sync.Mutex
	to   map[client.ObjectKey][]Reference
	from map[Reference]map[client.ObjectKey]struct{}
}

func newIndex() *index {
	return &index{to: map[client.ObjectKey][]Reference{}, from: map[Reference]map[client.ObjectKey]struct{}{}}
}

// set replaces the references of key, and returns those that are new to all
// objects, and those that none has any more.
func (x *index) set(key client.ObjectKey, refs []Reference) (added, removed []Reference) {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.to[key]
	delete(x.to, key)
	if len(refs) > 0 {
		x.to[key] = refs
	}
	for _, ref := range refs {
		if x.from[ref] == nil {
			x.from[ref] = map[client.ObjectKey]struct{}{}
			added = append(added, ref)
		}
		x.from[ref][key] = struct{}{}
	}
	for _, ref := range before {
		if slices.Contains(refs, ref) {
			continue
		}
		if delete(x.from[ref], key); len(x.from[ref]) == 0 {
			delete(x.from, ref)
			removed = append(removed, ref)
		}
	}
	return added, removed
}

// cycle returns the way from key back to itself along references of a kind,
// nil if there is none.
func (x *index) cycle(key client.ObjectKey, kind schema.GroupKind) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	from := map[client.ObjectKey]client.ObjectKey{}
	for todo := []client.ObjectKey{key}; len(todo) > 0; todo = todo[1:] {
		for _, ref := range x.to[todo[0]] {
			if ref.GroupKind != kind {
				continue
			}
			if ref.ObjectKey == key {
				path := []string{key.String()}
				for at := todo[0]; at != key; at = from[at] {
					path = append(path, at.String())
				}
				path = append(path, key.String())
				slices.Reverse(path)
				return path
			}
			if _, seen := from[ref.ObjectKey]; !seen {
				from[ref.ObjectKey] = todo[0]
				todo = append(todo, ref.ObjectKey)
			}
		}
	}
	return nil
}

// users returns the objects that refer to ref.
func (x *index) users(ref Reference) []client.ObjectKey {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]client.ObjectKey, 0, len(x.from[ref]))
	for key := range x.from[ref] {
		out = append(out, key)
	}
	return out
}
