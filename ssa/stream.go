package ssa

import (
	"context"
	"errors"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// stream follows the objects of one kind: a list, then a watch from its
// version, and after a gap another list. It tells every state of every object
// it selects once, and never asks the server in intervals.
type stream struct {
	resource dynamic.ResourceInterface
	options  metav1.ListOptions
	// seen is called for every object state; gone is true if it was deleted,
	// and obj then holds its last state.
	seen func(obj *unstructured.Unstructured, gone bool)

	// listing, if set, is told the version of a list before its objects are, and
	// listed, when all were told, what there is.
	listing func(version string)
	listed  func(found map[types.NamespacedName]struct{}, version string)
	// connected and lost, if set, are told when events begin to come, with the
	// version that is known then, and when they do not come, and why.
	connected func(version string)
	lost      func(err error)

	version string                            // the watch continues from here; empty asks for a list
	known   map[types.NamespacedName]struct{} // what exists as far as told
	resumed bool                              // there was a watch before
}

// page is the number of objects read at a time.
const page = 500

// list reads the present state and tells the differences to what was told.
func (s *stream) list(ctx context.Context) error {
	options := s.options
	options.Limit = page
	found := map[types.NamespacedName]struct{}{}
	for {
		list, err := s.resource.List(ctx, options)
		if err != nil {
			if s.known == nil {
				s.known = map[types.NamespacedName]struct{}{}
			}
			maps.Copy(s.known, found) // all of these were told
			return err
		}
		if s.listing != nil && options.Continue == "" {
			s.listing(list.GetResourceVersion())
		}
		for i := range list.Items {
			obj := &list.Items[i]
			found[types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}] = struct{}{}
			s.seen(obj, false)
		}
		options.Continue = list.GetContinue()
		if options.Continue == "" {
			s.version = list.GetResourceVersion()
			break
		}
	}
	before := s.known
	s.known = found
	for key := range before {
		if _, still := found[key]; !still {
			s.seen(nameOnly(key, s.version), true)
		}
	}
	if s.listed != nil {
		s.listed(found, s.version)
	}
	return nil
}

// resumes reports whether the watch can go on from where it was: not if the
// server's state is older by now, because it was restored from a backup. A server
// does not say so, it would be silent until it has come as far again.
func (s *stream) resumes(ctx context.Context) (bool, error) {
	options := s.options
	options.Limit = 1
	list, err := s.resource.List(ctx, options)
	if err != nil {
		return false, err
	}
	return !older(list.GetResourceVersion(), s.version), nil
}

// nameOnly returns what is needed to tell that an object is gone, at version.
func nameOnly(key types.NamespacedName, version string) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{}}
	out.SetNamespace(key.Namespace)
	out.SetName(key.Name)
	out.SetResourceVersion(version)
	return out
}

// follow watches until ctx is done, or until the server refuses for a reason
// that time does not heal. Its error is never nil.
func (s *stream) follow(ctx context.Context) error {
	const shortest, longest = 200 * time.Millisecond, 10 * time.Second
	pause := shortest
	for {
		started := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s.lost != nil {
			s.lost(err)
		}
		switch {
		case err == nil: // the server ends watches from time to time
		case isGap(err):
			s.version = ""
		case !isTransient(err):
			return err
		}
		if time.Since(started) > longest {
			if pause = shortest; err == nil {
				continue
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, longest)
	}
}

// once lists if there was a gap and watches until the watch ends.
func (s *stream) once(ctx context.Context) error {
	catchUp := time.Duration(0)
	if s.version != "" && s.resumed {
		if on, err := s.resumes(ctx); err != nil {
			return err
		} else if !on {
			s.version = ""
		}
		catchUp = time.Second
	}
	if s.version == "" {
		catchUp = 0
		if err := s.list(ctx); err != nil {
			return err
		}
	}
	s.resumed = true
	options := s.options
	options.ResourceVersion = s.version
	options.AllowWatchBookmarks = true
	events, err := s.resource.Watch(ctx, options)
	if err != nil {
		return err
	}
	defer events.Stop()
	return s.receive(ctx, events, catchUp)
}

// receive tells the events of a watch until it ends. For some time it counts as
// not connected: what happened during a gap is sent first, with nothing to tell
// where that ends.
func (s *stream) receive(ctx context.Context, events watch.Interface, catchUp time.Duration) error {
	online := time.NewTimer(catchUp)
	defer online.Stop()
	connect := func() {
		if s.connected != nil {
			s.connected(s.version)
		}
	}
	if catchUp == 0 {
		online.Stop()
		connect()
	}
	for {
		var event watch.Event
		var more bool
		select {
		case <-online.C:
			connect()
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		case event, more = <-events.ResultChan():
		}
		if !more {
			return nil
		}
		if event.Type == watch.Error {
			return apierrors.FromObject(event.Object)
		}
		obj, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return errors.New("the watch sent something that is not an object")
		}
		s.version = obj.GetResourceVersion()
		key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
		switch event.Type {
		case watch.Added, watch.Modified:
			s.known[key] = struct{}{}
			s.seen(obj, false)
		case watch.Deleted:
			delete(s.known, key)
			s.seen(obj, true)
		case watch.Bookmark, watch.Error:
		}
	}
}
