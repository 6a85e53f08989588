package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// Ref names an object of the namespace.
type Ref struct{ Resource, Name string }

// String is as kubectl has it.
func (r Ref) String() string { return r.Resource + "/" + r.Name }

// Check says what an object lacks, and nothing when it is as it should be. A
// nil object does not exist. An error ends the wait, because waiting is in vain.
type Check func(r Ref, o *unstructured.Unstructured) (lacks string, err error)

// Followed knows how objects are now. It is safe for concurrent use.
type Followed struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	objects map[Ref]*unstructured.Unstructured
	wait    *wait
	err     error // why the watch was interrupted last
}

type wait struct {
	check   Check
	lacking map[Ref]string
	done    chan struct{}
	err     error
}

// Follow watches kinds in the namespace until Stop.
func (c *Cluster) Follow(ctx context.Context, kinds ...schema.GroupVersionResource) (*Followed, error) {
	f := newFollowed()
	for _, gvr := range kinds {
		if err := f.add(ctx, c.Dynamic, gvr, c.Namespace, ""); err != nil {
			f.Stop()
			return nil, err
		}
	}
	return f, nil
}

func newFollowed() *Followed {
	return &Followed{objects: map[Ref]*unstructured.Unstructured{}, stop: func() {}}
}

// Stop ends the watches.
func (f *Followed) Stop() {
	f.stop()
	f.wg.Wait()
}

// Until waits until every object is as it should be at least once. When ctx
// ends the error names objects that are not, and what they lack.
func (f *Followed) Until(ctx context.Context, refs []Ref, check Check) error {
	w := &wait{check: check, lacking: map[Ref]string{}, done: make(chan struct{})}
	f.mu.Lock()
	for _, r := range refs {
		w.lacking[r] = ""
	}
	f.wait = w
	for _, r := range refs {
		w.look(r, f.objects[r])
	}
	f.mu.Unlock()
	var err error
	select {
	case <-w.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wait = nil
	if w.err != nil || len(w.lacking) == 0 {
		return w.err
	}
	return w.unfinished(err, f.err)
}

// look checks an object that has changed.
func (w *wait) look(r Ref, o *unstructured.Unstructured) {
	if _, of := w.lacking[r]; !of || w.err != nil {
		return
	}
	lacks, err := w.check(r, o)
	switch {
	case err != nil:
		w.err = fmt.Errorf("%s: %w", r, err)
	case lacks != "":
		w.lacking[r] = lacks
		return
	default:
		if delete(w.lacking, r); len(w.lacking) > 0 {
			return
		}
	}
	close(w.done)
}

// shown is how many objects an error names.
const shown = 5

func (w *wait) unfinished(cause, watch error) error {
	refs := slices.SortedFunc(maps.Keys(w.lacking), func(a, b Ref) int {
		return strings.Compare(a.String(), b.String())
	})
	var text strings.Builder
	fmt.Fprintf(&text, "%d objects are not there yet:", len(refs))
	for _, r := range refs[:min(shown, len(refs))] {
		fmt.Fprintf(&text, "\n%s: %s", r, w.lacking[r])
	}
	if len(refs) > shown {
		fmt.Fprintf(&text, "\nand %d more", len(refs)-shown)
	}
	if watch != nil {
		fmt.Fprintf(&text, "\nthe watch was interrupted, last by: %v", watch)
	}
	return fmt.Errorf("%w: %s", cause, text.String())
}

// add follows one kind and returns when its objects are known.
func (f *Followed) add(ctx context.Context, client dynamic.Interface, gvr schema.GroupVersionResource, namespace, selector string) error {
	informer := dynamicinformer.NewFilteredDynamicInformer(client, gvr, namespace, 0, cache.Indexers{}, func(o *metav1.ListOptions) { o.FieldSelector = selector }).Informer()
	tell := func(o any, exists bool) {
		if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = last.Obj
		}
		if u, ok := o.(*unstructured.Unstructured); ok {
			f.changed(Ref{gvr.Resource, u.GetName()}, u, exists)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { tell(o, true) },
		UpdateFunc: func(_, o any) { tell(o, true) },
		DeleteFunc: func(o any) { tell(o, false) },
	})
	err = errors.Join(err, informer.SetTransform(lean), informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}))
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the ctx, for the clean-up
	stop := f.stop
	f.stop = func() {
		cancel()
		stop()
	}
	f.wg.Go(func() { informer.RunWithContext(running) })
	if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Errorf("watch %s: %w", Name(gvr), errors.Join(context.Cause(ctx), f.err))
}

// lean drops what nobody looks at.
func lean(o any) (any, error) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		u.SetManagedFields(nil)
	}
	return o, nil
}

func (f *Followed) changed(r Ref, o *unstructured.Unstructured, exists bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !exists {
		o = nil
		delete(f.objects, r)
	} else {
		f.objects[r] = o
	}
	if f.wait != nil {
		f.wait.look(r, o)
	}
}
