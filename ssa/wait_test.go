package ssa_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

func restConfig(t *testing.T) *rest.Config { return testenv.Start(t).Config() }

// TestWaitReady: a Deployment becomes ready on simulated nodes, and waiting
// for it costs one list and one watch for each kind.
func TestWaitReady(t *testing.T) {
	c, w := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+deployment("web", 3)), nil))
	w.take()
	var states []ssa.State
	got, err := c.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Progress: func(s ssa.Status) {
		if s.Object.Kind == "Deployment" {
			states = append(states, s.State)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range got {
		if s.State != ssa.Current {
			t.Errorf("%s", s)
		}
	}
	if len(states) < 2 || states[0] != ssa.InProgress || states[len(states)-1] != ssa.Current {
		t.Errorf("progress: %v", states)
	}
	requests := w.take()
	if len(requests) != 4 || count(requests, "WATCH") != 2 {
		t.Errorf("waiting took %v", requests)
	}
	if _, err := c.Wait(t.Context(), set.Objects(), nil); err != nil {
		t.Fatal(err)
	}
	if requests = w.take(); count(requests, "WATCH") != 0 {
		t.Errorf("a wait for what is ready watched: %v", requests)
	}
}

func TestWaitTimeout(t *testing.T) {
	c, _ := newClient(t)
	manifest := strings.Replace(deployment("web", 1), "containers:", "nodeSelector: {no: such}, containers:", 1)
	set := must(t)(c.Apply(t.Context(), objects(t, manifest+configMap("a", "1")), nil))
	missing := ssa.ObjectID{Kind: "ConfigMap", Namespace: c.Owner.Namespace, Name: "missing"}
	got, err := c.Wait(t.Context(), append(set.Objects(), missing), &ssa.WaitOptions{Timeout: 300 * time.Millisecond})
	var e *ssa.NotReadyError
	if !errors.Is(err, ssa.ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if len(e.Statuses) != 2 || len(got) != 3 || got[2].State != ssa.NotFound || !strings.Contains(err.Error(), "Deployment/"+c.Owner.Namespace+"/web: InProgress") {
		t.Errorf("got %v: %v", got, err)
	}
}

// TestWaitStuck: an object that says it cannot succeed ends the wait early.
func TestWaitStuck(t *testing.T) {
	c, _ := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, deployment("web", 1)), nil))
	r := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	manifest := strings.Replace(strings.Replace(deployment("web", 1), "replicas: 1", "replicas: 1, progressDeadlineSeconds: 1", 1), "containers:", "nodeSelector: {no: such}, containers:", 1)
	manifest = strings.Replace(manifest, "replicas: 1, progressDeadlineSeconds: 1", "replicas: 1\n  progressDeadlineSeconds: 1", 1)
	must(t)(c.Apply(t.Context(), objects(t, manifest), nil))
	started := time.Now()
	_, err := c.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Timeout: time.Minute})
	if !errors.Is(err, ssa.ErrNotReady) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Failed") {
		t.Errorf("got %v after %s", err, time.Since(started))
	}
	if _, err := r.Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWaitSurvivesGaps: watches that are cut, and a server that is away, delay
// the wait but do not end it.
func TestWaitSurvivesGaps(t *testing.T) {
	c, w := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, deployment("web", 1)), nil))
	failures := 0
	w.tamper(func(r *http.Request) error {
		if failures++; failures <= 3 {
			return errors.New("connection reset by peer")
		}
		return nil
	})
	if _, err := c.Wait(t.Context(), set.Objects(), nil); err != nil {
		t.Fatal(err)
	}
	if failures <= 3 {
		t.Error("nothing was tampered with")
	}
}

// TestWaitForeign: an object of somebody else is found on request only.
func TestWaitForeign(t *testing.T) {
	c, _ := newClient(t)
	if _, err := configMapsOf(c).Create(t.Context(), objects(t, configMap("theirs", "1"))[0], metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	id := []ssa.ObjectID{{Kind: "ConfigMap", Namespace: c.Owner.Namespace, Name: "theirs"}}
	if _, err := c.Wait(t.Context(), id, &ssa.WaitOptions{AnyOwner: true}); err != nil {
		t.Error(err)
	}
	if _, err := c.Wait(t.Context(), id, &ssa.WaitOptions{Timeout: 50 * time.Millisecond}); !errors.Is(err, ssa.ErrNotReady) {
		t.Errorf("got %v", err)
	}
}

// TestWaitDeletedMeanwhile: an object that goes away ends the wait for it.
func TestWaitDeletedMeanwhile(t *testing.T) {
	c, _ := newClient(t)
	manifest := strings.Replace(deployment("web", 1), "containers:", "nodeSelector: {no: such}, containers:", 1)
	set := must(t)(c.Apply(t.Context(), objects(t, manifest), nil))
	deployments := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	var once sync.Once
	_, err := c.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Timeout: time.Minute, Progress: func(ssa.Status) {
		once.Do(func() { go deployments.Delete(t.Context(), "web", metav1.DeleteOptions{}) }) //nolint:errcheck // the wait tells
	}})
	if !errors.Is(err, ssa.ErrNotReady) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "deleted meanwhile") {
		t.Errorf("got %v", err)
	}
}

func TestWaitDeleted(t *testing.T) {
	c, _ := newClient(t)
	manifest := strings.Replace(configMap("a", "1"), "{name: a}", "{name: a, finalizers: [example.com/wait]}", 1)
	must(t)(c.Apply(t.Context(), objects(t, manifest), nil))
	set := must(t)(c.Prune(t.Context(), nil, nil))
	got, err := c.WaitDeleted(t.Context(), ids(set), &ssa.WaitOptions{Timeout: 100 * time.Millisecond})
	if !errors.Is(err, ssa.ErrNotReady) || got[0].State != ssa.Terminating {
		t.Fatalf("got %v %v", got, err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.WaitDeleted(t.Context(), ids(set), nil)
		done <- err
	}()
	patch(t, configMapsOf(c), "a", `{"metadata":{"finalizers":null}}`)
	if err := soon(t, done, "end of the wait"); err != nil {
		t.Error(err)
	}
	if _, err := c.WaitDeleted(t.Context(), []ssa.ObjectID{{Group: "example.com", Kind: "Gadget", Name: "x"}}, nil); err != nil {
		t.Errorf("kind that is not served: %v", err)
	}
}

func TestWaitForbidden(t *testing.T) {
	c, _ := newClient(t)
	config := rest.CopyConfig(restConfig(t))
	config.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
	weak, _ := clientFor(t, config, "app", c.Owner.Namespace)
	_, err := weak.Wait(t.Context(), []ssa.ObjectID{{Kind: "ConfigMap", Namespace: c.Owner.Namespace, Name: "a"}}, nil)
	if !errors.Is(err, ssa.ErrForbidden) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v", err)
	}
	_, err = weak.Apply(t.Context(), objects(t, configMap("a", "1")), nil)
	if !errors.Is(err, ssa.ErrForbidden) {
		t.Errorf("apply: got %v", err)
	}
}

// TestWithoutList: who may patch and get but not list can apply all the same.
func TestWithoutList(t *testing.T) {
	c, w := newClient(t)
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/configmaps") {
			return errors.New("forbidden")
		}
		return nil
	})
	objs := objects(t, configMap("a", "1"))
	must(t)(c.Apply(t.Context(), objs, nil))
	if set := must(t)(c.Apply(t.Context(), objs, nil)); set.Changed() {
		t.Errorf("got %v", actions(set))
	}
}

// TestWatch: a deletion and a changed field are told, status and foreign
// fields are not.
func TestWatch(t *testing.T) {
	c, _ := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("b", "1")+configMap("early", "1")+deployment("web", 1)), nil))
	patch(t, configMapsOf(c), "early", `{"data":{"key":"changed before the watch"}}`)
	ctx, cancel := contextWithCancel(t)
	drifts := make(chan ssa.Drift, 10)
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx, set, func(d ssa.Drift) { drifts <- d }) }()
	if got := soon(t, drifts, "drift"); got.Object.Name != "early" || got.Deleted {
		t.Errorf("got %+v", got)
	}
	if _, err := c.Wait(ctx, set.Objects(), nil); err != nil { // status changes
		t.Fatal(err)
	}
	patch(t, configMapsOf(c), "a", `{"data":{"foreign":"x"},"metadata":{"annotations":{"x":"y"}}}`)
	patch(t, configMapsOf(c), "a", `{"data":{"key":"2"}}`)
	if got := soon(t, drifts, "drift"); got.Object.Name != "a" || got.Deleted {
		t.Errorf("got %+v", got)
	}
	if err := configMapsOf(c).Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := soon(t, drifts, "drift"); got.Object.Name != "b" || !got.Deleted {
		t.Errorf("got %+v", got)
	}
	deployments := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	patch(t, deployments, "web", `{"spec":{"replicas":2}}`)
	if got := soon(t, drifts, "drift"); got.Object.Name != "web" || got.Deleted {
		t.Errorf("got %+v", got)
	}
	cancel()
	if err := soon(t, done, "end of the watch"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if len(drifts) != 0 {
		t.Errorf("more drift: %+v", <-drifts)
	}
	// Repair: the next pass puts it right, and its set can be watched.
	set = must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("b", "1")+configMap("early", "1")+deployment("web", 1)), nil))
	if diff := cmp.Diff([]string{"ConfigMap/a configured", "ConfigMap/b created", "ConfigMap/early configured", "Deployment/web configured"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestWatchGoneEarly: an object that was deleted before the watch began is told.
func TestWatchGoneEarly(t *testing.T) {
	c, _ := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")), nil))
	if err := configMapsOf(c).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextWithCancel(t)
	err := c.Watch(ctx, set, func(d ssa.Drift) {
		if d.Object.Name != "a" || !d.Deleted {
			t.Errorf("got %+v", d)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestWatchDefinitionGone: a definition that is deleted takes its objects
// along; both are told, and other kinds are still watched.
func TestWatchDefinitionGone(t *testing.T) {
	c, _ := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, group(t, c, configMap("a", "1")+widgets+"---\napiVersion: GROUP/v1\nkind: Widget\nmetadata: {name: w}\n")), nil))
	ctx, cancel := contextWithCancel(t)
	drifts := make(chan ssa.Drift, 10)
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx, set, func(d ssa.Drift) { drifts <- d }) }()
	crds := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if err := crds.Delete(ctx, "widgets."+c.Owner.Namespace+".example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for len(told) < 2 {
		d := soon(t, drifts, "drift")
		told[d.Object.Kind] = d.Deleted
	}
	if !told["Widget"] || !told["CustomResourceDefinition"] {
		t.Errorf("told %v", told)
	}
	patch(t, configMapsOf(c), "a", `{"data":{"key":"2"}}`)
	if d := soon(t, drifts, "drift"); d.Object.Name != "a" {
		t.Errorf("got %+v", d)
	}
	cancel()
	if err := soon(t, done, "end of the watch"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	must(t)(c.Prune(t.Context(), nil, nil))
}
