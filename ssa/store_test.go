package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

// followed is a client with a store and a prover, each with a connection of its
// own that records its requests.
type followed struct {
	*ssa.Client
	wire, storeWire *wire
	store           *ssa.Store
	stop            func() // the store
	config          *rest.Config
}

// newFollowed returns a client with a running store. prepare may change the
// store before it runs.
func newFollowed(t testing.TB, prepare func(*ssa.Store)) *followed {
	t.Helper()
	env := testenv.Start(t)
	return follow(t, env.Config(), env.Namespace, prepare)
}

func follow(t testing.TB, config *rest.Config, namespace string, prepare func(*ssa.Store)) *followed {
	t.Helper()
	client, w := clientFor(t, config, "app", namespace)
	owner, storeWire := clientFor(t, config, "store", namespace)
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{Client: client, wire: w, storeWire: storeWire, config: config}
	f.Prover = &proof.Prover{Types: &proof.Server{Client: disco.OpenAPIV3()}}
	f.store = &ssa.Store{Dynamic: owner.Dynamic, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	f.store.Version = func(context.Context) (string, error) { return "one", nil }
	if prepare != nil {
		prepare(f.store)
	}
	f.Store = f.store
	f.run(t)
	return f
}

// run starts the store.
func (f *followed) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f.store.Run(ctx) }()
	stopped := false
	f.stop = func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(func() { f.stop() })
}

// pass is what a controller does in every interval, and returns its requests.
func (f *followed) pass(t testing.TB, objs []*unstructured.Unstructured) (*ssa.ChangeSet, []string) {
	t.Helper()
	f.wire.take()
	set, err := f.Apply(t.Context(), objs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Prune(t.Context(), objs, nil); err != nil {
		t.Fatal(err)
	}
	return set, f.wire.take()
}

// quiet passes until one sends no request, which the store needs a moment for.
func (f *followed) quiet(t testing.TB, objs []*unstructured.Unstructured) *ssa.ChangeSet {
	t.Helper()
	var set *ssa.ChangeSet
	var requests []string
	eventually(t, "a pass without requests", func() bool {
		set, requests = f.pass(t, objs)
		return len(requests) == 0
	}, func() string { return fmt.Sprint(requests, set.Summary()) })
	if set.Count(ssa.Unchanged) != len(objs) {
		t.Fatalf("the quiet pass: %s", set.Summary())
	}
	return set
}

// eventually repeats ok until it is true.
func eventually(t testing.TB, what string, ok func() bool, last ...func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			for _, f := range last {
				what += ": " + f()
			}
			t.Fatalf("no %s", what)
		}
	}
}

// patch changes an object as somebody else.
func (f *followed) patch(t testing.TB, gvr schema.GroupVersionResource, name, patch, by string, sub ...string) {
	t.Helper()
	_, err := f.Dynamic.Resource(gvr).Namespace(f.Owner.Namespace).Patch(context.WithoutCancel(t.Context()), name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{FieldManager: by}, sub...)
	if err != nil {
		t.Fatal(err)
	}
}

var (
	deployments   = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	configMapsGVR = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

func TestStoreReceipts(t *testing.T) {
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1")+configMap("b", "1")+deployment("web", 1)+deployment("api", 1))
	if set, _ := f.pass(t, objs); set.Count(ssa.Created) != 4 {
		t.Fatal(set.Summary())
	}
	if _, err := f.Wait(t.Context(), must(t)(f.Apply(t.Context(), objs, nil)).Objects(), nil); err != nil {
		t.Fatal(err)
	}
	f.quiet(t, objs)

	for _, c := range []struct {
		name, object, patch string
		gvr                 schema.GroupVersionResource
		sub                 []string
	}{
		{"status", "web", `[{"op":"add","path":"/status/conditions","value":[{"type":"X","status":"True"}]}]`, deployments, []string{"status"}},
		{"foreign label", "a", `[{"op":"add","path":"/metadata/labels/foreign","value":"x"}]`, configMapsGVR, nil},
		{"foreign key", "a", `[{"op":"add","path":"/data/foreign","value":"x"}]`, configMapsGVR, nil},
		{"sidecar", "web", `[{"op":"add","path":"/spec/template/spec/containers/0","value":{"name":"side","image":"example.com/x"}}]`, deployments, nil},
		{"finalizer", "b", `[{"op":"add","path":"/metadata/finalizers","value":["example.com/none"]}]`, configMapsGVR, nil},
		{"no finalizer", "b", `[{"op":"remove","path":"/metadata/finalizers"}]`, configMapsGVR, nil},
	} {
		f.patch(t, c.gvr, c.object, c.patch, "somebody", c.sub...)
		f.settled(t, c.gvr, c.object)
		if set, requests := f.pass(t, objs); len(requests) > 0 || set.Count(ssa.Unchanged) != 4 {
			t.Errorf("after %s: %s, %v", c.name, set.Summary(), requests)
		}
	}

	changed := objects(t, configMap("a", "2")+configMap("b", "1")+deployment("web", 1)+deployment("api", 1))
	set, requests := f.pass(t, changed)
	if set.Count(ssa.Configured) != 1 || len(requests) != 2 || count(requests, "DRYRUN") != 1 || count(requests, "PATCH") != 1 {
		t.Errorf("one changed: %s, %v", set.Summary(), requests)
	}
	f.quiet(t, changed)

	set, err := f.Apply(t.Context(), objs, &ssa.ApplyOptions{Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	if fields := set.Changes[0].Fields; len(fields) != 1 || fields[0].String() != `~ data.key: "2" -> "1"` {
		t.Errorf("explained: %v", set.Changes[0])
	}
	f.wire.take()
	set = must(t)(f.Apply(t.Context(), objs, &ssa.ApplyOptions{Verify: ssa.VerifyAlways}))
	if requests := f.wire.take(); set.Count(ssa.Unchanged) != 4 || count(requests, "DRYRUN") < 4 { // more if a status was written meanwhile
		t.Errorf("always: %s, %v", set.Summary(), requests)
	}
}

// settled waits until the store has seen the last write of an object. It asks
// by a wait, which takes its states from the same events.
func (f *followed) settled(t testing.TB, gvr schema.GroupVersionResource, name string) {
	t.Helper()
	live, err := f.Dynamic.Resource(gvr).Namespace(f.Owner.Namespace).Get(context.WithoutCancel(t.Context()), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "event of the last write", func() bool { return f.store.Seen(gvr, live.GetResourceVersion()) })
}

// Many owners who begin at once wait for the same first list of a kind, in place of one each.
func TestStoreFirstList(t *testing.T) {
	f := newFollowed(t, nil)
	lists := func(w *wire) (n int) {
		for _, request := range w.take() {
			if strings.HasPrefix(request, "GET ") && strings.HasSuffix(request, "/configmaps") {
				n++
			}
		}
		return n
	}
	var wg sync.WaitGroup
	for i := range 8 {
		c, w := clientFor(t, f.config, fmt.Sprint("owner", i), f.Owner.Namespace)
		c.Store, c.Prover = f.store, f.Prover
		objs := objects(t, configMap(fmt.Sprint("of-", i), "1"))
		wg.Go(func() {
			if _, err := c.Apply(t.Context(), objs, nil); err != nil {
				t.Error(err)
			}
			if n := lists(w); n != 0 {
				t.Errorf("%d lists of a client", n)
			}
		})
	}
	wg.Wait()
	if n := lists(f.storeWire); n != 2 { // of the objects, and of the inventories
		t.Errorf("%d lists of the store", n)
	}
}

func TestStoreDiff(t *testing.T) {
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1")+configMap("b", "1"))
	f.pass(t, objs)
	f.quiet(t, objs)
	set := must(t)(f.Diff(t.Context(), objs, nil))
	if requests := f.wire.take(); set.Changed() || len(requests) > 0 {
		t.Errorf("%s, %v", set.Summary(), requests)
	}
	f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"x"}]`, "rival")
	f.settled(t, configMapsGVR, "a")
	for range 3 { // asking is no repair: it never rests
		set = must(t)(f.Diff(t.Context(), objs, nil))
		if set.Count(ssa.Configured) != 1 || len(set.Changes[0].Fields) != 1 {
			t.Errorf("%v", set.Changes)
		}
	}
}

// A new process knows nothing: one list for each kind and the proof.
func TestStoreColdStart(t *testing.T) {
	f := newFollowed(t, nil)
	manifests := deployment("web", 0)
	for i := range 100 {
		manifests += configMap(fmt.Sprintf("c%d", i), "1")
	}
	objs := objects(t, manifests)
	f.pass(t, objs)

	f.stop()
	again := follow(t, f.config, f.Owner.Namespace, nil)
	set, requests := again.pass(t, objs)
	all := slices.Concat(requests, again.storeWire.take())
	all = slices.DeleteFunc(all, func(r string) bool {
		return strings.Contains(r, "admissionregistration") || strings.Contains(r, "customresource")
	})
	if set.Count(ssa.Unchanged) != 101 || count(requests, "GET") > 4 || count(requests, "POST") != 2 || len(requests) > 6 { // 2 lists, 2 reviews, the inventory once or twice
		t.Errorf("%s, %v", set.Summary(), requests)
	}
	t.Logf("%d requests, what makes confirmations void aside", len(all))
	again.quiet(t, objs)
}

func TestStoreWithoutProver(t *testing.T) {
	f := newFollowed(t, nil)
	f.Prover = nil
	objs := objects(t, configMap("a", "1"))
	f.pass(t, objs)
	f.quiet(t, objs)
	f.patch(t, configMapsGVR, "a", `[{"op":"add","path":"/data/foreign","value":"x"}]`, "somebody")
	f.settled(t, configMapsGVR, "a")
	if set, requests := f.pass(t, objs); set.Count(ssa.Unchanged) != 1 || len(requests) != 1 || count(requests, "DRYRUN") != 1 {
		t.Errorf("what is not proven must be asked: %s, %v", set.Summary(), requests)
	}
	f.quiet(t, objs)
}

func TestProverWithoutStore(t *testing.T) {
	f := newFollowed(t, nil)
	f.Store = nil
	objs := objects(t, configMap("a", "1")+configMap("b", "1"))
	f.pass(t, objs)
	set, requests := f.pass(t, objs)
	if set.Count(ssa.Unchanged) != 2 || count(requests, "DRYRUN") != 0 || len(requests) != 4 { // list, review, inventory twice
		t.Errorf("%s, %v", set.Summary(), requests)
	}
	f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"x"}]`, "rival")
	if set, _ = f.pass(t, objs); set.Count(ssa.Configured) != 1 || set.Changes[0].Fields == nil {
		t.Errorf("%v", set.Changes)
	}
}

// What is repaired: every kind of tampering, within a second and three requests.
func TestStoreRepairs(t *testing.T) {
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1")+configMap("b", "1"))
	f.pass(t, objs)
	set := f.quiet(t, objs)
	live, err := f.Dynamic.Resource(configMapsGVR).Namespace(f.Owner.Namespace).Get(t.Context(), "b", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	entries := live.Object["metadata"].(map[string]any)["managedFields"]
	for _, tamper := range []struct {
		name string
		do   func()
	}{
		{"edited", func() {
			f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"x"}]`, "rival-1")
		}},
		{"forged", func() {
			update := func(edit func(obj map[string]any)) {
				obj, err := f.Dynamic.Resource(configMapsGVR).Namespace(f.Owner.Namespace).Get(t.Context(), "b", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				edit(obj.Object)
				if _, err := f.Dynamic.Resource(configMapsGVR).Namespace(f.Owner.Namespace).Update(t.Context(), obj, metav1.UpdateOptions{FieldManager: "attacker"}); err != nil {
					t.Fatal(err)
				}
			}
			update(func(obj map[string]any) {
				obj["data"].(map[string]any)["key"] = "forged"
				obj["metadata"].(map[string]any)["managedFields"] = entries
			})
		}},
		{"wiped", func() {
			f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"y"}]`, "rival-2")
			f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]`, "rival-2")
		}},
		{"unlabelled", func() {
			f.patch(t, configMapsGVR, "a", `[{"op":"remove","path":"/metadata/labels/gitopskit.github.io~1name"}]`, "rival-3")
		}},
		{"deleted", func() {
			if err := f.Dynamic.Resource(configMapsGVR).Namespace(f.Owner.Namespace).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tamper.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			drifts, ended := make(chan ssa.Drift, 10), make(chan error, 1)
			go func() { ended <- f.Watch(ctx, set, func(d ssa.Drift) { drifts <- d }) }()
			f.wire.take()
			begin := time.Now()
			tamper.do()
			drift := soon(t, drifts, "drift")
			f.wire.take()
			var repair []*unstructured.Unstructured
			for _, obj := range objs {
				if f.ID(obj) == drift.Object {
					repair = append(repair, obj)
				}
			}
			repaired, err := f.Apply(ctx, repair, nil)
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin)
			requests := slices.DeleteFunc(f.wire.take(), func(r string) bool { return strings.HasSuffix(r, "-inventory") })
			if !repaired.Changed() || len(requests) > 3 || took > 2*time.Second {
				t.Errorf("%s after %s: %v", repaired.Summary(), took, requests)
			}
			set.Update(repaired)
			cancel()
			if err := soon(t, ended, "end of the watch"); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	f.quiet(t, objs)
}

// Somebody who changes an object back all the time is named and met ever later.
func TestStoreContest(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1"))
	f.pass(t, objs)
	f.quiet(t, objs)
	var rivals []*ssa.Rival
	var resting int
	begin := time.Now()
	for time.Since(begin) < 8*time.Second { // repairs at 0, 1, 3, 7 seconds
		f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"x"}]`, "fighter")
		f.settled(t, configMapsGVR, "a")
		set, _ := f.pass(t, objs)
		change := set.Changes[0]
		switch change.Action {
		case ssa.Configured:
			rivals = append(rivals, change.Rival)
		case ssa.Contested:
			if resting++; resting == 1 && (!strings.Contains(change.Reason, "fighter changed data.key, repaired 1 times") || set.Objects() == nil) {
				t.Errorf("contested: %v", change)
			}
			again, requests := f.pass(t, objs)
			if len(requests) > 0 && time.Now().Before(change.Rival.Until) {
				t.Fatalf("a rest sends %v", requests)
			}
			if again := again.Changes[0]; again.Action == ssa.Configured { // the rest was over meanwhile
				rivals = append(rivals, again.Rival)
			}
		default:
			t.Fatal(set.Changes)
		}
	}
	if len(rivals) < 3 || len(rivals) > 5 || resting == 0 {
		t.Fatalf("%d repairs, %d rests", len(rivals), resting)
	}
	for i, r := range rivals {
		if r == nil || r.Manager != "fighter" || r.Path != "data.key" || r.Repairs != i+1 {
			t.Errorf("repair %d: %v", i+1, r)
		}
	}
	last := rivals[len(rivals)-1]
	if rest := time.Until(last.Until); rest > 1<<(len(rivals)-1)*time.Second {
		t.Errorf("after %d repairs the next is due in %s", len(rivals), rest)
	}
}

// A watch tells a contested object when its rest is over.
func TestStoreWatchRests(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1"))
	f.pass(t, objs)
	f.quiet(t, objs)
	fight := func() {
		f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"x"}]`, "fighter")
		f.settled(t, configMapsGVR, "a")
	}
	fight()
	set, _ := f.pass(t, objs)
	if set.Changes[0].Rival == nil {
		t.Fatal(set.Changes)
	}
	until := set.Changes[0].Rival.Until
	drifts := make(chan time.Time, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Watch(ctx, set, func(ssa.Drift) { drifts <- time.Now() }) }()
	fight()
	if at := soon(t, drifts, "drift"); at.Before(until) {
		t.Errorf("told %s before the rest was over", until.Sub(at))
	}
	cancel()
	if err := soon(t, ended, "end"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestStoreWait(t *testing.T) {
	f := newFollowed(t, nil)
	manifests := ""
	for i := range 20 {
		manifests += deployment(fmt.Sprintf("d%d", i), 1)
	}
	objs := objects(t, manifests)
	set, _ := f.pass(t, objs)
	statuses, err := f.Wait(t.Context(), set.Objects(), nil)
	if err != nil || len(statuses) != 20 || statuses[0].State != ssa.Current {
		t.Fatal(statuses, err)
	}
	if requests := f.wire.take(); len(requests) > 0 {
		t.Errorf("the wait sent %v", requests)
	}
	missing := append(set.Objects(), ssa.ObjectID{Group: "apps", Kind: "Deployment", Namespace: f.Owner.Namespace, Name: "none"})
	statuses, err = f.Wait(t.Context(), missing, &ssa.WaitOptions{Timeout: 200 * time.Millisecond})
	if !errors.Is(err, ssa.ErrNotReady) || statuses[20].State != ssa.NotFound {
		t.Errorf("%v, %v", statuses[20], err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := f.Wait(ctx, missing, nil)
		ended <- err
	}()
	cancel()
	begin := time.Now()
	if err := soon(t, ended, "end of the wait"); !errors.Is(err, context.Canceled) || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	go func() {
		_, err := f.WaitDeleted(t.Context(), set.Objects(), nil)
		ended <- err
	}()
	must(t)(f.Prune(t.Context(), nil, nil))
	if err := soon(t, ended, "deletion"); err != nil {
		t.Error(err)
	}
}

func TestStoreStops(t *testing.T) {
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1")+deployment("web", 1))
	f.pass(t, objs)
	set := f.quiet(t, objs)
	if err := f.store.Run(t.Context()); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("a second run: %v", err)
	}
	ended, begun := make(chan error, 1), make(chan ssa.Status, 30)
	go func() {
		_, err := f.Wait(t.Context(), append(set.Objects(), ssa.ObjectID{Kind: "ConfigMap", Namespace: f.Owner.Namespace, Name: "none"}), &ssa.WaitOptions{Progress: func(s ssa.Status) { begun <- s }})
		ended <- err
	}()
	soon(t, begun, "first state, which comes from the store")
	f.stop()
	if err := soon(t, ended, "end of the wait"); !errors.Is(err, ssa.ErrUnavailable) && !errors.Is(err, ssa.ErrNotReady) {
		t.Error(err)
	}
	set, requests := f.pass(t, objs)
	if set.Count(ssa.Unchanged) != 2 || count(requests, "GET") == 0 {
		t.Errorf("without the store: %s, %v", set.Summary(), requests)
	}
	f.run(t)
	f.quiet(t, objs)
	if err := (&ssa.Store{}).Run(t.Context()); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("without a connection: %v", err)
	}
	f.Owner.Group = "other.example.com"
	if _, err := f.Apply(t.Context(), objs, nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "other.example.com") {
		t.Errorf("another group: %v", err)
	}
}

var errCut = errors.New("cut by the test")

// The store misses nothing that happens while it has no connection.
func TestStoreGaps(t *testing.T) {
	for _, gap := range []string{"cut", "expired"} {
		t.Run(gap, func(t *testing.T) {
			f := newFollowed(t, nil)
			objs := objects(t, configMap("a", "1")+configMap("b", "1")+configMap("c", "1"))
			f.pass(t, objs)
			f.quiet(t, objs)
			cut := f.storeWire.cutWatches()
			eventually(t, "silence of a store without connection", func() bool {
				_, requests := f.pass(t, objs)
				return len(requests) > 0
			})
			f.patch(t, configMapsGVR, "a", `[{"op":"replace","path":"/data/key","value":"x"}]`, "rival")
			if err := f.Dynamic.Resource(configMapsGVR).Namespace(f.Owner.Namespace).Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if gap == "expired" {
				f.storeWire.expireOnce()
			}
			cut()
			eventually(t, "repair", func() bool {
				set, _ := f.pass(t, objs)
				return set.Count(ssa.Unchanged) == 3
			})
			f.quiet(t, objs)
			if get(t, f.Client, configMaps, "b") == nil || get(t, f.Client, configMaps, "a").Object["data"].(map[string]any)["key"] != "1" {
				t.Error("not repaired")
			}
		})
	}
}
