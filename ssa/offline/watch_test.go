package offline_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// next returns the next event as text.
func next(t *testing.T, w watch.Interface) string {
	t.Helper()
	e, ok := <-w.ResultChan()
	if !ok {
		return "closed"
	}
	if obj, isObject := e.Object.(*unstructured.Unstructured); isObject {
		return string(e.Type) + " " + obj.GetName()
	}
	return string(e.Type) + " " + apierrors.FromObject(e.Object).Error()
}

// TestWatch tells what happens from a version on, as its selection sees it.
func TestWatch(t *testing.T) {
	r := configMaps(newCluster(t))
	create(t, r, configMap(t, "a", "x", "y"))
	version := must[*unstructured.UnstructuredList](t)(r.List(t.Context(), metav1.ListOptions{})).GetResourceVersion()
	all := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{ResourceVersion: version}))
	defer all.Stop()
	some := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{LabelSelector: "x=y"}))
	defer some.Stop()
	initial := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{SendInitialEvents: ptr(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}))
	defer initial.Stop()
	create(t, r, configMap(t, "b"))
	for _, data := range []string{`{"metadata":{"labels":{"x":"z"}}}`, `{"metadata":{"labels":{"x":"y"}}}`, `{}`, `{"data":{"k":"w"}}`} {
		must[*unstructured.Unstructured](t)(r.Patch(t.Context(), "a", types.MergePatchType, []byte(data), metav1.PatchOptions{}))
	}
	if err := r.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for w, want := range map[watch.Interface][]string{
		all:     {"ADDED b", "MODIFIED a", "MODIFIED a", "MODIFIED a", "DELETED a"},
		some:    {"ADDED a", "DELETED a", "ADDED a", "MODIFIED a", "DELETED a"},
		initial: {"ADDED a", "BOOKMARK ", "ADDED b"},
	} {
		var got []string
		for range want {
			got = append(got, next(t, w))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	if _, err := r.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "999999"}); !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		t.Errorf("got %v", err)
	}
}

// TestWatchExpires: who is too late is told to list again.
func TestWatchExpires(t *testing.T) {
	r := configMaps(newCluster(t))
	begin := create(t, r, configMap(t, "a")).GetResourceVersion()
	slow := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{ResourceVersion: begin}))
	defer slow.Stop()
	for i := range 2100 {
		must[*unstructured.Unstructured](t)(r.Patch(t.Context(), "a", types.MergePatchType, fmt.Appendf(nil, `{"data":{"k":"%d"}}`, i), metav1.PatchOptions{}))
	}
	if _, err := r.Watch(t.Context(), metav1.ListOptions{ResourceVersion: begin}); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v", err)
	}
	if _, err := r.List(t.Context(), metav1.ListOptions{ResourceVersion: begin, ResourceVersionMatch: metav1.ResourceVersionMatchExact}); !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v", err)
	}
	for {
		switch got := next(t, slow); {
		case strings.HasPrefix(got, "ERROR"):
			if got = next(t, slow); got != "closed" {
				t.Errorf("after the error: %s", got)
			}
			return
		case got == "closed":
			t.Fatal("closed without an error")
		}
	}
}

// TestWatchEnds: with its context, when stopped, after its time; bookmarks come
// while nothing happens.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := configMaps(newCluster(t))
		ctx, cancel := context.WithCancel(t.Context())
		canceled := must[watch.Interface](t)(r.Watch(ctx, metav1.ListOptions{}))
		stopped := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{}))
		timed := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{TimeoutSeconds: ptr(int64(90)), AllowWatchBookmarks: true}))
		begin := time.Now()
		cancel()
		stopped.Stop()
		for _, w := range []watch.Interface{canceled, stopped} {
			if got := next(t, w); got != "closed" {
				t.Errorf("got %s", got)
			}
		}
		if got := next(t, timed); got != "BOOKMARK " || time.Since(begin) != time.Minute {
			t.Errorf("got %s after %v", got, time.Since(begin))
		}
		if got := next(t, timed); got != "closed" || time.Since(begin) != 90*time.Second {
			t.Errorf("got %s after %v", got, time.Since(begin))
		}
	})
}
