package kube_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/runtime/kube"
)

// byName has a world whose objects refer to the Secret of the name of their path, watched by name.
func byName(t *testing.T) (*world, *wiretap) {
	t.Helper()
	tap := &wiretap{}
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		o.Watches = []kube.Watch{{Object: secret, ByName: true}}
		o.References = func(k *kustomizev1.Kustomization) []kube.Reference {
			if k.Spec.Path == "" {
				return nil
			}
			return []kube.Reference{{GroupKind: schema.GroupKind{Kind: "Secret"}, ObjectKey: client.ObjectKey{Namespace: k.Namespace, Name: k.Spec.Path}}}
		}
	}, tap.wrap)
	return w, tap
}

// wiretap notes the requests about Secrets, and how many of their watches are open.
type wiretap struct {
	mu     sync.Mutex
	open   map[string]int
	fail   func(*http.Request) *http.Response
	listed []string
}

func (w *wiretap) wrap(config *rest.Config) {
	w.open = map[string]int{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(req.URL.Path, "/secrets") {
				return next.RoundTrip(req)
			}
			selector := req.URL.Query().Get("fieldSelector")
			w.mu.Lock()
			w.listed = append(w.listed, selector)
			w.open[selector]++
			fail := w.fail
			w.mu.Unlock()
			if fail != nil {
				if resp := fail(req); resp != nil {
					return resp, nil
				}
			}
			context.AfterFunc(req.Context(), func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.open[selector]--
			})
			return next.RoundTrip(req)
		})
	})
}

func (w *wiretap) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for selector, n := range w.open {
		if n > 0 {
			out = append(out, strings.TrimPrefix(selector, "metadata.name="))
		}
	}
	slices.Sort(out)
	return out
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(req *http.Request) (*http.Response, error) { return t(req) }

// What objects refer to is watched by name, and nothing else: changes begin passes, other objects cost nothing.
func TestReferencesByName(t *testing.T) {
	t.Parallel()
	w, tap := byName(t)
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}, StringData: map[string]string{"a": "b"}}
	}
	one := secret("one")
	for _, s := range []*corev1.Secret{one, secret("other")} {
		if err := w.client.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	uses := func(name string) func(*kustomizev1.Kustomization) {
		return func(k *kustomizev1.Kustomization) { k.Spec.Path = name }
	}
	w.create("app", uses("one"))
	w.create("second", uses("one"))
	w.create("none", nil)
	for _, name := range []string{"app", "second", "none"} {
		w.eventually(name, "ready", ready)
	}
	if got := tap.names(); !slices.Equal(got, []string{"one"}) {
		t.Fatalf("watched is %v", got)
	}
	if n := w.logic.count("app"); n != 1 {
		t.Errorf("%d passes for a Secret that has not changed", n)
	}
	for i, act := range []func() error{
		func() error { one.StringData = map[string]string{"a": "c"}; return w.client.Update(t.Context(), one) },
		func() error { return w.client.Delete(t.Context(), one) },
		func() error { return w.client.Create(t.Context(), secret("one")) },
	} {
		if err := act(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"app", "second"} {
			w.until(fmt.Sprintf("%s has a pass for change %d", name, i), func() bool { return w.logic.count(name) == i+2 })
		}
	}
	if n := w.logic.count("none"); n != 1 {
		t.Errorf("%d passes of an object that refers to nothing", n)
	}

	w.update("app", uses("other"))
	w.until("the new name is watched", func() bool { return slices.Equal(tap.names(), []string{"one", "other"}) })
	w.update("second", uses(""))
	w.until("a name that nothing refers to is not", func() bool { return slices.Equal(tap.names(), []string{"other"}) })
	if err := w.client.Delete(t.Context(), w.get("app")); err != nil {
		t.Fatal(err)
	}
	w.until("nor is that of an object that is gone", func() bool { return len(tap.names()) == 0 })
	tap.mu.Lock()
	defer tap.mu.Unlock()
	if slices.Contains(tap.listed, "") {
		t.Error("all Secrets were asked for")
	}
}

// Many names of a namespace share a watch, which tells of those names and no others; few have their own again.
func TestReferencesShareWatch(t *testing.T) {
	t.Parallel()
	w, tap := byName(t)
	secret := func(name, value string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}, StringData: map[string]string{"a": value}}
	}
	const many = 40
	name := func(i int) string { return fmt.Sprintf("s%02d", i) }
	passes := func() (n int) {
		for i := range many {
			n += w.logic.count(name(i))
		}
		return n
	}
	if err := w.client.Create(t.Context(), secret("other", "1")); err != nil {
		t.Fatal(err)
	}
	for i := range many {
		if err := w.client.Create(t.Context(), secret(name(i), "1")); err != nil {
			t.Fatal(err)
		}
		w.create(name(i), func(k *kustomizev1.Kustomization) { k.Spec.Path = name(i) })
	}
	for i := range many {
		w.eventually(name(i), "ready", ready)
	}
	w.until("one watch is open", func() bool { return slices.Equal(tap.names(), []string{""}) })
	before := passes()
	for _, other := range []string{"other", name(3), name(39)} {
		if err := w.client.Update(t.Context(), secret(other, "2")); err != nil {
			t.Fatal(err)
		}
	}
	w.until("those have a pass whose Secret has changed", func() bool { return w.logic.count(name(3)) > 1 && w.logic.count(name(39)) > 1 })
	if got := passes() - before; got != 2 {
		t.Errorf("%d passes for two changes", got)
	}
	for i := 5; i < many; i++ {
		w.update(name(i), func(k *kustomizev1.Kustomization) { k.Spec.Path = "" })
	}
	w.until("each has a watch again", func() bool {
		return slices.Equal(tap.names(), []string{name(0), name(1), name(2), name(3), name(4)})
	})
	if err := w.client.Update(t.Context(), secret(name(4), "2")); err != nil {
		t.Fatal(err)
	}
	w.until("a pass for its Secret", func() bool { return w.logic.count(name(4)) == 2 })
}

// A Secret that cannot be watched keeps nothing from being reconciled, and begins a pass when it can.
func TestReferencesForbidden(t *testing.T) {
	t.Parallel()
	w, tap := byName(t)
	tap.mu.Lock()
	tap.fail = func(req *http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: http.NoBody, Request: req}
	}
	tap.mu.Unlock()
	began := time.Now()
	w.create("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "hidden" })
	w.eventually("app", "ready all the same", ready)
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("held back for %v", took)
	}
	tap.mu.Lock()
	tap.fail = nil
	tap.mu.Unlock()
	w.until("a pass once it is watched", func() bool { return w.logic.count("app") == 2 })
}

func TestWatchByNameRefuses(t *testing.T) {
	t.Parallel()
	mgr, err := kube.NewManager(&rest.Config{Host: "https://127.0.0.1:1"}, manager.Options{Scheme: testScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = kube.Add(t.Context(), mgr, &logic{}, kube.Options[*kustomizev1.Kustomization]{
		Schedule: func(*kustomizev1.Kustomization) kube.Schedule { return kube.Schedule{} },
		Watches:  []kube.Watch{{Object: &corev1.Secret{}, ByName: true}},
	})
	if err == nil || !strings.Contains(err.Error(), "PartialObjectMetadata") {
		t.Error(err)
	}
}
