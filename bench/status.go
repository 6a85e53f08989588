package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	peercel "github.com/fluxcd/pkg/runtime/cel"
	"github.com/fluxcd/pkg/runtime/conditions"
	peerevents "github.com/fluxcd/pkg/runtime/events"
	"github.com/fluxcd/pkg/runtime/patch"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/examples/controllers/crds"
	"github.com/gitopskit/gitopskit/notify"
	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/depend"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/ssa"
)

// unchangedPasses is how many passes without a change are averaged.
const unchangedPasses = 50

// perPass is what one pass without a change takes.
type perPass struct {
	requests, allocations, bytes float64
}

// measureConventions compares what is around a pass with fluxcd/pkg/runtime.
func measureConventions(ctx context.Context) (*grid, error) {
	g := &grid{sides: []string{"gitopskit", "fluxcd/pkg/runtime"}}
	log.SetLogger(logr.Discard())
	for _, entries := range []int{50, 500} {
		var of [2]perPass
		for i, side := range []func(context.Context, *rest.Config, int) (perPass, error){controllerPasses, patchPasses} {
			err := withServer(ctx, nil, func(config *rest.Config) (err error) {
				of[i], err = side(ctx, config, entries)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		what := fmt.Sprintf("a pass that changes nothing, %d entries in the inventory", entries)
		const times = 20
		g.add("P2", what, "requests", 1, of[0].requests, of[1].requests)
		g.add("P3", what, "allocations", of[1].allocations/times, of[0].allocations, of[1].allocations)
		g.add("P3", what, "KiB allocated", of[1].bytes/times, of[0].bytes, of[1].bytes)
	}
	err := withServer(ctx, nil, func(config *rest.Config) error { return g.addCache(ctx, config) })
	if err != nil {
		return nil, err
	}
	if err := g.addExpressions(ctx); err != nil {
		return nil, err
	}
	return g, g.addSinks(ctx)
}

// kustomizationOf is one that was applied, with an inventory.
func kustomizationOf(entries int) *kustomizev1.Kustomization {
	k := &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: "default", Finalizers: []string{"finalizers.fluxcd.io"}},
		Spec: kustomizev1.KustomizationSpec{
			Interval: metav1.Duration{Duration: time.Hour}, SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: "GitRepository", Name: "app"},
		},
	}
	k.Status.Inventory = &kustomizev1.ResourceInventory{}
	for i := range entries {
		k.Status.Inventory.Entries = append(k.Status.Inventory.Entries, kustomizev1.ResourceRef{ID: fmt.Sprintf("default_app-%d_apps_Deployment", i), Version: "v1"})
	}
	return k
}

func schemeOfFlux() (*k8sruntime.Scheme, error) {
	s := k8sruntime.NewScheme()
	return s, errors.Join(scheme.AddToScheme(s), kustomizev1.AddToScheme(s))
}

// installed has the kinds of Flux, and a Kustomization with an inventory.
func installed(ctx context.Context, config *rest.Config, entries int) (*kustomizev1.Kustomization, error) {
	definitions, err := crds.All()
	if err != nil {
		return nil, err
	}
	hc, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	defer hc.CloseIdleConnections()
	dyn, err1 := dynamic.NewForConfigAndClient(config, hc)
	mapper, err2 := apiutil.NewDynamicRESTMapper(config, hc)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	c := &ssa.Client{Dynamic: dyn, Mapper: mapper, Owner: ssa.Owner{Name: "crds", Namespace: "default"}}
	set, err := c.Apply(ctx, definitions, nil)
	if err == nil {
		err = set.Err()
	}
	if err != nil {
		return nil, err
	}
	if _, err := c.Wait(ctx, set.Objects(), nil); err != nil {
		return nil, err
	}
	s, err := schemeOfFlux()
	if err != nil {
		return nil, err
	}
	direct, err := client.New(config, client.Options{Scheme: s, HTTPClient: hc})
	if err != nil {
		return nil, err
	}
	k := kustomizationOf(entries)
	status := k.Status
	if err := direct.Create(ctx, k); err != nil {
		return nil, err
	}
	k.Status = status
	return k, direct.Status().Update(ctx, k)
}

// counted counts the requests about Kustomizations, but watches.
func counted(config *rest.Config, n *atomic.Int64) *rest.Config {
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/kustomizations/") {
				n.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	return config
}

// measurePasses averages passes once the first ones are over.
func measurePasses(n *atomic.Int64, pass func() error) (perPass, error) {
	for range 3 {
		if err := pass(); err != nil {
			return perPass{}, err
		}
	}
	var before, after runtime.MemStats
	n.Store(0)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range unchangedPasses {
		if err := pass(); err != nil {
			return perPass{}, err
		}
	}
	runtime.ReadMemStats(&after)
	const kib = 1024
	return perPass{
		requests:    float64(n.Load()) / unchangedPasses,
		allocations: float64(after.Mallocs-before.Mallocs) / unchangedPasses,
		bytes:       float64(after.TotalAlloc-before.TotalAlloc) / unchangedPasses / kib,
	}, nil
}

// idle is a reconciler that finds nothing to do.
type idle struct{ passes chan struct{} }

func (i *idle) Reconcile(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
	return kube.Ready("Applied revision: main@sha1:abc").Because("ReconciliationSucceeded")
}

func (i *idle) Finalize(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
	return kube.Ready("")
}

// controllerPasses makes passes with a whole controller of this module.
func controllerPasses(ctx context.Context, config *rest.Config, entries int) (perPass, error) {
	k, err := installed(ctx, config, entries)
	if err != nil {
		return perPass{}, err
	}
	var n atomic.Int64
	mgr, err := kube.NewManager(counted(config, &n), manager.Options{}, kustomizev1.AddToScheme)
	if err != nil {
		return perPass{}, err
	}
	logic := &idle{passes: make(chan struct{}, 1)}
	c, err := kube.Add(ctx, mgr, logic, kube.Options[*kustomizev1.Kustomization]{
		Schedule:  func(*kustomizev1.Kustomization) kube.Schedule { return kube.Schedule{Interval: time.Hour} },
		Finalizer: "finalizers.fluxcd.io",
		Observe:   func(rt.Observation[client.ObjectKey]) { logic.passes <- struct{}{} },
	})
	if err != nil {
		return perPass{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	<-logic.passes
	out, err := measurePasses(&n, func() error {
		c.Trigger(client.ObjectKeyFromObject(k))
		select {
		case <-logic.passes:
			return nil
		case err := <-ended:
			return fmt.Errorf("the manager ended: %w", err)
		}
	})
	cancel()
	return out, errors.Join(err, <-ended)
}

// patchPasses makes the writes of a pass of kustomize-controller: each of its four steps patches the object, and the
// patcher sends conditions and the rest of the status apart. What it reads comes from memory, as from a cache.
func patchPasses(ctx context.Context, config *rest.Config, entries int) (perPass, error) {
	k, err := installed(ctx, config, entries)
	if err != nil {
		return perPass{}, err
	}
	var n atomic.Int64
	s, err := schemeOfFlux()
	if err != nil {
		return perPass{}, err
	}
	direct, err := client.NewWithWatch(counted(config, &n), client.Options{Scheme: s})
	if err != nil {
		return perPass{}, err
	}
	latest := k.DeepCopy()
	c := interceptor.NewClient(direct, interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
			latest.DeepCopyInto(obj.(*kustomizev1.Kustomization)) //nolint:forcetypeassert // the only kind there is
			return nil
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			err := c.SubResource(sub).Patch(ctx, obj, p, opts...)
			if err == nil {
				obj.(*kustomizev1.Kustomization).DeepCopyInto(latest) //nolint:forcetypeassert // the only kind there is
			}
			return err
		},
	})
	const owner = "gotk-kustomize-controller"
	return measurePasses(&n, func() error {
		obj := latest.DeepCopy()
		patcher := patch.NewSerialPatcher(obj, c)
		opts := []patch.Option{
			patch.WithOwnedConditions{Conditions: []string{meta.HealthyCondition, meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition}},
			patch.WithForceOverwriteConditions{}, patch.WithFieldOwner(owner), patch.WithStatusObservedGeneration{},
		}
		for _, step := range []string{"reconciliation in progress", "Building manifests for revision main@sha1:abc", "Detecting drift for revision main@sha1:abc"} {
			conditions.MarkUnknown(obj, meta.ReadyCondition, meta.ProgressingReason, "%s", step)
			conditions.MarkReconciling(obj, meta.ProgressingReason, "%s", step)
			if err := patcher.Patch(ctx, obj, opts...); err != nil {
				return err
			}
		}
		conditions.MarkTrue(obj, meta.ReadyCondition, "ReconciliationSucceeded", "Applied revision: main@sha1:abc")
		conditions.Delete(obj, meta.ReconcilingCondition)
		return patcher.Patch(ctx, obj, opts...)
	})
}

// addCache measures objects as a cache keeps them: trimmed, and as they come.
func (g *grid) addCache(ctx context.Context, config *rest.Config) error {
	const objects, entries = 10_000, 20
	k, err := installed(ctx, config, entries)
	if err != nil {
		return err
	}
	data, err := json.Marshal(k)
	if err != nil {
		return err
	}
	var of [2]float64
	for i, trim := range []bool{true, false} {
		kept := make([]*kustomizev1.Kustomization, objects)
		before := heapInUse()
		for j := range kept {
			kept[j] = &kustomizev1.Kustomization{}
			if err := json.Unmarshal(data, kept[j]); err != nil {
				return err
			}
			if trim {
				if _, err := kube.Trim(kept[j]); err != nil {
					return err
				}
			}
		}
		const kib = 1024
		of[i] = float64(heapInUse()-before) / objects / kib
		runtime.KeepAlive(kept)
	}
	const share = 0.6
	g.add("", fmt.Sprintf("a Kustomization with %d entries in the cache", entries), "KiB of heap", share*of[1], of[:]...)
	return nil
}

// addExpressions measures the readiness of a dependency by an expression, again and again.
func (g *grid) addExpressions(ctx context.Context) error {
	labels := map[string]any{"app/version": "v1"}
	self := map[string]any{"metadata": map[string]any{"name": "app", "labels": labels}}
	dep := map[string]any{
		"metadata": map[string]any{"generation": int64(3), "labels": labels},
		"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "observedGeneration": int64(3)},
	}
	// As in the documentation of dependsOn.
	const expression = "dep.metadata.labels['app/version'] == self.metadata.labels['app/version'] && " +
		"dep.status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True') && dep.metadata.generation == dep.status.observedGeneration"
	var expressions depend.Expressions
	var of [2]float64
	for i, evaluate := range []func() error{
		func() error { return expressions.Ready(ctx, expression, self, dep) },
		func() error {
			e, err := peercel.NewExpression(expression, peercel.WithCompile(), peercel.WithStructVariables("self", "dep"))
			if err != nil {
				return err
			}
			ready, err := e.EvaluateBoolean(ctx, map[string]any{"self": self, "dep": dep})
			if err == nil && !ready {
				err = errors.New("not ready")
			}
			return err
		},
	} {
		var n atomic.Int64
		cost, err := measurePasses(&n, evaluate)
		if err != nil {
			return err
		}
		of[i] = cost.allocations
	}
	const times = 100
	g.add("P8", "readyExpr, evaluated again", "allocations", of[1]/times, of[:]...)
	return nil
}

// addSinks measures how long a pass is held up by an event whose receiver does not listen.
func (g *grid) addSinks(context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := "http://" + l.Addr().String() + "/"
	l.Close()
	var of [2]float64
	hook, err := notify.NewEventSink(address, nil)
	if err != nil {
		return err
	}
	bus, err := notify.NewBus(nil, notify.Route{Name: "events", Sender: hook})
	if err != nil {
		return err
	}
	began := time.Now()
	if err := bus.Emit(notify.Event{InvolvedObject: notify.Object{Kind: "Kustomization", Name: "app", Namespace: "default"}, Severity: notify.SeverityInfo, Reason: "Applied", Message: "done", Timestamp: time.Now()}); err != nil {
		return err
	}
	of[0] = milliseconds(time.Since(began))
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	bus.Close(closing) //nolint:errcheck // the event cannot be delivered
	hook.Close()       //nolint:errcheck // only idle connections are released
	s, err := schemeOfFlux()
	if err != nil {
		return err
	}
	recorder, err := peerevents.NewRecorderForScheme(s, record.NewFakeRecorder(1), logr.Discard().WithSink(nopSink{}), address, "kustomize-controller")
	if err != nil {
		return err
	}
	k := kustomizationOf(0)
	k.SetGroupVersionKind(kustomizev1.GroupVersion.WithKind("Kustomization"))
	began = time.Now()
	recorder.Eventf(k, corev1.EventTypeNormal, "Applied", "done")
	of[1] = milliseconds(time.Since(began))
	g.add("P10", "an event whose receiver is down holds up a pass", "ms", 1, of[:]...)
	return nil
}

// nopSink is a log that is there: the recorder needs one.
type nopSink struct{}

func (nopSink) Init(logr.RuntimeInfo)            {}
func (nopSink) Enabled(int) bool                 { return false }
func (nopSink) Info(int, string, ...any)         {}
func (nopSink) Error(error, string, ...any)      {}
func (s nopSink) WithValues(...any) logr.LogSink { return s }
func (s nopSink) WithName(string) logr.LogSink   { return s }
