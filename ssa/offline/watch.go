package offline

import (
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

// bookmarkEvery is how often a watch that asked for it is told how far it is.
const bookmarkEvery = time.Minute

// watcher is one watch: a position among the events of the store. It buffers
// nothing, so a reader who is too slow is told so when what comes next for it
// is no longer remembered.
type watcher struct {
	of        resource
	selects   selection
	bookmarks bool
	initial   bool // end the initial events with a bookmark that says so
	version   uint64
	pending   []watch.Event
	events    chan watch.Event
	stop      context.CancelFunc
}

// Stop ends the watch and waits for nothing.
func (w *watcher) Stop() { w.stop() }

// ResultChan returns the events; it is closed at the end.
func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

// watch follows a resource from the version that opts names; none, or "0",
// begins with what is there.
func (r resource) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	c := r.cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	k, err := c.kind(r.gvr)
	if err != nil {
		return nil, err
	}
	w := &watcher{of: r, bookmarks: opts.AllowWatchBookmarks, events: make(chan watch.Event)}
	if w.selects, err = r.selection(opts); err != nil {
		return nil, err
	}
	initial := opts.ResourceVersion == "" || opts.ResourceVersion == "0"
	if opts.SendInitialEvents != nil {
		initial = *opts.SendInitialEvents
		w.initial = initial && opts.AllowWatchBookmarks
	}
	if initial {
		w.version = c.store.version
		for _, obj := range w.selects.sorted(c.store.objects[k.groupResource()]) {
			w.pending = append(w.pending, watch.Event{Type: watch.Added, Object: c.present(k, obj)})
		}
		if w.initial {
			w.pending = append(w.pending, w.bookmark(k, map[string]string{metav1.InitialEventsAnnotationKey: "true"}))
		}
	} else if w.version, err = c.parseVersion(opts.ResourceVersion); err != nil {
		return nil, err
	}
	if _, ok := c.store.since(w.version); !ok {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", w.version, c.store.version-uint64(len(c.store.events))+1))
	}
	if opts.TimeoutSeconds != nil {
		ctx, w.stop = context.WithTimeout(ctx, time.Duration(*opts.TimeoutSeconds)*time.Second)
	} else {
		ctx, w.stop = context.WithCancel(ctx)
	}
	go w.run(ctx)
	return w, nil
}

// run sends events until the watch ends.
func (w *watcher) run(ctx context.Context) {
	defer close(w.events)
	defer w.stop()
	tick := time.NewTicker(bookmarkEvery)
	defer tick.Stop()
	for {
		for _, event := range w.pending {
			select {
			case w.events <- event:
			case <-ctx.Done():
				return
			}
			if event.Type == watch.Error {
				return
			}
		}
		w.pending = nil
		changed := w.next()
		if len(w.pending) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-tick.C:
			w.mark()
		case <-ctx.Done():
			return
		}
	}
}

// next takes what happened since the last call; if nothing did, the channel it
// returns tells when something does.
func (w *watcher) next() <-chan struct{} {
	c := w.of.cluster
	c.mu.RLock()
	defer c.mu.RUnlock()
	events, ok := c.store.since(w.version)
	if !ok {
		w.fail(apierrors.NewResourceExpired("the watch is too far behind: list again"))
		return nil
	}
	k, err := c.kind(w.of.gvr)
	for _, e := range events {
		if e.resource == w.of.gvr.GroupResource() {
			w.take(k, e)
		}
	}
	w.version = c.store.version
	if err != nil { // its definition is gone; the objects went before
		w.fail(apierrors.NewResourceExpired("the resource is no longer served"))
	}
	return c.store.changed
}

// take appends an event as this watch sees it: an object that leaves the
// selection is deleted for it.
func (w *watcher) take(k *kind, e event) {
	before := e.old != nil && w.selects.matches(e.old)
	after := e.kind != watch.Deleted && w.selects.matches(e.new)
	obj, kind := e.new, watch.Modified
	switch {
	case before && !after:
		kind = watch.Deleted
		if e.kind != watch.Deleted {
			obj = e.old.DeepCopy()
			obj.SetResourceVersion(e.new.GetResourceVersion())
		}
	case !before && after:
		kind = watch.Added
	case !before:
		return
	}
	if k == nil { // its definition is gone, and it with it
		k = kindOf(located{e.resource, obj})
	}
	w.pending = append(w.pending, watch.Event{Type: kind, Object: w.of.cluster.present(k, obj)})
}

func (w *watcher) fail(err *apierrors.StatusError) {
	w.pending = append(w.pending, watch.Event{Type: watch.Error, Object: &err.ErrStatus})
}

// mark tells how far the watch is.
func (w *watcher) mark() {
	if !w.bookmarks {
		return
	}
	w.of.cluster.mu.RLock()
	defer w.of.cluster.mu.RUnlock()
	if k, err := w.of.cluster.kind(w.of.gvr); err == nil {
		w.pending = append(w.pending, w.bookmark(k, nil))
	}
}

func (w *watcher) bookmark(k *kind, annotations map[string]string) watch.Event {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(k.gvk)
	obj.SetResourceVersion(strconv.FormatUint(w.version, 10))
	obj.SetAnnotations(annotations)
	return watch.Event{Type: watch.Bookmark, Object: obj}
}

// parseVersion reads a resource version that a client sends.
func (c *Cluster) parseVersion(s string) (uint64, error) {
	version, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest("invalid resource version: " + strconv.Quote(s))
	}
	if version > c.store.version {
		timeout := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", version, c.store.version), 1)
		timeout.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		return 0, timeout
	}
	return version, nil
}

var _ watch.Interface = (*watcher)(nil)
