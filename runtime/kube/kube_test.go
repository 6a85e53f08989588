package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/gitopskit/gitopskit/examples/controllers/crds"
	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// Connections that are kept open for the next request, by transports that client-go shares.
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

const finalizer = "finalizers.fluxcd.io"

// world is a running controller for Kustomizations of one namespace.
type world struct {
	t         *testing.T
	client    client.Client
	dynamic   dynamic.Interface
	namespace string
	config    *rest.Config
	logic     *logic
	control   *kube.Controller[*kustomizev1.Kustomization]
	stop      func() // ends the controller before the test is over
	events    chan string

	mu       sync.Mutex
	requests []string
}

// logic calls a function for each pass and tells of it.
type logic struct {
	mu       sync.Mutex
	step     func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result
	finalize func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result
	passes   map[string]int
}

func (l *logic) Reconcile(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
	l.mu.Lock()
	l.passes[k.Name]++
	step := l.step
	l.mu.Unlock()
	return step(ctx, k, p)
}

func (l *logic) Finalize(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
	l.mu.Lock()
	l.passes["finalize "+k.Name]++
	step := l.finalize
	l.mu.Unlock()
	return step(ctx, k, p)
}

func (l *logic) set(step func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.step = step
}

func (l *logic) count(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passes[name]
}

// succeed is a step that has nothing to do.
func succeed(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
	return kube.Ready("all is well").At("main@sha1:abc")
}

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), kustomizev1.AddToScheme(s), apiextensionsv1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

var installing sync.Mutex

// install puts the definitions of Flux's kinds into the cluster.
func install(t *testing.T, config *rest.Config) {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	objects, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	hc, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer hc.CloseIdleConnections()
	dyn, err := dynamic.NewForConfigAndClient(config, hc)
	if err != nil {
		t.Fatal(err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, hc)
	if err != nil {
		t.Fatal(err)
	}
	c := &ssa.Client{Dynamic: dyn, Mapper: mapper, Owner: ssa.Owner{Name: "crds", Namespace: "default"}}
	set, err := c.Apply(t.Context(), objects, nil)
	if err == nil {
		err = set.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	var ids []ssa.ObjectID
	for _, o := range objects {
		ids = append(ids, c.ID(o))
	}
	if _, err := c.Wait(t.Context(), ids, nil); err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, change func(*kube.Options[*kustomizev1.Kustomization]), configure ...func(*rest.Config)) *world {
	t.Helper()
	return newWorldIn(t, testenv.Start(t), change, configure...)
}

// newWorldIn is newWorld in a cluster that is already there.
func newWorldIn(t *testing.T, env *testenv.Env, change func(*kube.Options[*kustomizev1.Kustomization]), configure ...func(*rest.Config)) *world {
	t.Helper()
	config := rest.CopyConfig(env.Config())
	config.QPS = -1
	install(t, config)
	w := &world{t: t, namespace: env.Namespace, logic: &logic{step: succeed, finalize: succeed, passes: map[string]int{}}, events: make(chan string, 1000)}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &recorder{next, w} })
	for _, f := range configure {
		f(config)
	}
	w.config = config
	w.control, w.stop = w.run(w.logic, change)
	w.client = w.newClient(env.Config())
	return w
}

// beside runs another controller in the same process.
func (w *world) beside(change func(*kube.Options[*kustomizev1.Kustomization])) *logic {
	w.t.Helper()
	l := &logic{step: succeed, finalize: succeed, passes: map[string]int{}}
	w.run(l, change)
	return l
}

// run runs a controller until the test is over, or stop is called.
func (w *world) run(l *logic, change func(*kube.Options[*kustomizev1.Kustomization])) (control *kube.Controller[*kustomizev1.Kustomization], stop func()) {
	w.t.Helper()
	mgr, err := kube.NewManager(w.config, manager.Options{
		Scheme: testScheme(w.t), Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{w.namespace: {}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	opts := w.options()
	if change != nil {
		change(&opts)
	}
	control, err = kube.Add(w.t.Context(), mgr, l, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		mgr.GetHTTPClient().CloseIdleConnections()
	})
	w.t.Cleanup(stop)
	return control, stop
}

func (w *world) options() kube.Options[*kustomizev1.Kustomization] {
	return kube.Options[*kustomizev1.Kustomization]{
		Schedule: func(k *kustomizev1.Kustomization) kube.Schedule {
			s := kube.Schedule{Interval: k.GetRequeueAfter(), Retry: rt.Fixed(k.GetRetryInterval()), Suspend: k.Spec.Suspend}
			if k.Spec.Timeout != nil {
				s.Timeout = k.Spec.Timeout.Duration
			}
			return s
		},
		Finalizer: finalizer,
		DependsOn: func(k *kustomizev1.Kustomization) []client.ObjectKey {
			var out []client.ObjectKey
			for _, d := range k.Spec.DependsOn {
				out = append(out, client.ObjectKey{Namespace: k.Namespace, Name: d.Name})
			}
			return out
		},
		References: func(k *kustomizev1.Kustomization) []kube.Reference {
			return []kube.Reference{{schema.GroupKind{Kind: "ConfigMap"}, client.ObjectKey{Namespace: k.Namespace, Name: k.Spec.SourceRef.Name}}}
		},
		Watches: []kube.Watch{{Object: &corev1.ConfigMap{}}},
		Event: func(_ context.Context, o client.Object, e kube.Event) {
			select {
			case w.events <- fmt.Sprintf("%s %v %s: %s", o.GetName(), e.Warning, e.Reason, e.Message):
			default: // nobody reads that many
			}
		},
	}
}

func (w *world) newClient(config *rest.Config) client.Client {
	w.t.Helper()
	hc, err := rest.HTTPClientFor(config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(hc.CloseIdleConnections)
	c, err := client.New(config, client.Options{Scheme: testScheme(w.t), HTTPClient: hc})
	if err != nil {
		w.t.Fatal(err)
	}
	w.dynamic, err = dynamic.NewForConfigAndClient(config, hc)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// recorder notes the writes of the controller.
type recorder struct {
	next http.RoundTripper
	w    *world
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet && strings.Contains(req.URL.Path, "/kustomizations/") {
		r.w.mu.Lock()
		_, name, _ := strings.Cut(req.URL.Path, "/kustomizations/")
		r.w.requests = append(r.w.requests, req.Method+" "+name)
		r.w.mu.Unlock()
	}
	return r.next.RoundTrip(req)
}

func (w *world) writes(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, r := range w.requests {
		if _, of, _ := strings.Cut(r, " "); of == name || strings.HasPrefix(of, name+"/") {
			out = append(out, r)
		}
	}
	return out
}

func (w *world) create(name string, change func(*kustomizev1.Kustomization)) *kustomizev1.Kustomization {
	w.t.Helper()
	k := &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec: kustomizev1.KustomizationSpec{
			Interval: metav1.Duration{Duration: time.Hour}, RetryInterval: &metav1.Duration{Duration: time.Hour},
			SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: "GitRepository", Name: name},
		},
	}
	if change != nil {
		change(k)
	}
	if err := w.client.Create(w.t.Context(), k); err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) get(name string) *kustomizev1.Kustomization {
	w.t.Helper()
	k := &kustomizev1.Kustomization{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, k); err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) update(name string, change func(*kustomizev1.Kustomization)) {
	w.t.Helper()
	k := w.get(name)
	base := k.DeepCopy()
	change(k)
	if err := w.client.Patch(w.t.Context(), k, client.MergeFrom(base)); err != nil {
		w.t.Fatal(err)
	}
}

// eventually watches an object until it is as wanted; its status must follow
// the rules at every moment.
func (w *world) eventually(name, what string, ok func(*kustomizev1.Kustomization) bool) *kustomizev1.Kustomization {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	resource := w.dynamic.Resource(kustomizev1.GroupVersion.WithResource("kustomizations")).Namespace(w.namespace)
	watch, err := resource.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		w.t.Fatal(err)
	}
	defer watch.Stop()
	var last string
	for {
		select {
		case e, open := <-watch.ResultChan():
			if !open {
				w.t.Fatalf("%s: the watch ended; last %s", what, last)
			}
			k := &kustomizev1.Kustomization{}
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(e.Object)
			if err != nil {
				w.t.Fatal(err)
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, k); err != nil {
				w.t.Fatal(err)
			}
			last = fmt.Sprintf("%+v", k.Status)
			if status.Get(k, status.Ready) != nil {
				if wrong := status.Check(k); wrong != nil {
					w.t.Errorf("%s: %s: %v", name, wrong, last)
				}
			}
			if ok(k) {
				return k
			}
		case <-ctx.Done():
			w.t.Fatalf("%s: did not happen; last %s", what, last)
		}
	}
}

func ready(k *kustomizev1.Kustomization) bool { return status.IsReady(k) }

// TestLife follows an object from creation to deletion, and counts the writes.
func TestLife(t *testing.T) {
	w := newWorld(t, nil)
	w.create("app", nil)
	k := w.eventually("app", "ready", ready)
	if !controllerutil.ContainsFinalizer(k, finalizer) || k.Status.ObservedGeneration != k.Generation {
		t.Errorf("finalizers %v, observed %d of %d", k.Finalizers, k.Status.ObservedGeneration, k.Generation)
	}
	if c := status.Get(k, status.Ready); c.Message != "all is well" || c.Reason != "Succeeded" {
		t.Errorf("condition %+v", c)
	}
	if got := w.writes("app"); !slices.Equal(got, []string{"PATCH app", "PATCH app/status"}) {
		t.Errorf("the first pass wrote %v; want the finalizer and the status, once", got)
	}

	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.update("app", func(k *kustomizev1.Kustomization) { k.Annotations = map[string]string{kube.RequestedAt: "one"} })
	k = w.eventually("app", "request answered", func(k *kustomizev1.Kustomization) bool { return k.Status.LastHandledReconcileAt == "one" })
	if n := len(w.writes("app")); n != 3 {
		t.Errorf("%v; want one more write for the token", w.writes("app"))
	}
	before := w.logic.count("app")
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.until("another pass", func() bool { return w.logic.count("app") > before })
	w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
	k = w.eventually("app", "new generation observed", func(k *kustomizev1.Kustomization) bool { return k.Status.ObservedGeneration == 2 })
	if n := len(w.writes("app")); n != 4 {
		t.Errorf("%v; want none for a pass that changes nothing, one for a new generation", w.writes("app"))
	}

	w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Suspend = true })
	before = w.logic.count("app")
	w.update("app", func(k *kustomizev1.Kustomization) { k.Annotations = map[string]string{kube.RequestedAt: "two"} })
	if err := w.client.Delete(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	w.until("gone", func() bool { return w.missing("app") })
	if got := w.logic.count("app"); got != before {
		t.Errorf("%d passes while suspended", got-before)
	}
	if w.logic.count("finalize app") != 1 {
		t.Error("not finalized once")
	}
}

func (w *world) missing(name string) bool {
	err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, &kustomizev1.Kustomization{})
	return apierrors.IsNotFound(err)
}

// until asks again and again; it is for what no watch tells.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: did not happen", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestFailures(t *testing.T) {
	w := newWorld(t, nil)
	w.logic.set(func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
		return kube.Fail("BuildFailed", errors.New("line 3 is wrong"))
	})
	w.create("app", nil)
	k := w.eventually("app", "failed", func(k *kustomizev1.Kustomization) bool {
		return status.Is(k, status.Ready, metav1.ConditionFalse) && status.Is(k, status.Reconciling, metav1.ConditionTrue)
	})
	if k.Status.ObservedGeneration == k.Generation {
		t.Error("a failed generation counts as observed")
	}
	if got := <-w.events; got != "app true BuildFailed: line 3 is wrong" {
		t.Error(got)
	}
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.until("second try", func() bool { return w.logic.count("app") == 2 })

	w.logic.set(func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
		return kube.Fail("Unsupported", &kube.UnsupportedError{Fields: []string{"spec.x"}})
	})
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.eventually("app", "stalled", func(k *kustomizev1.Kustomization) bool {
		return status.Is(k, status.Stalled, metav1.ConditionTrue) && k.Status.ObservedGeneration == k.Generation
	})
	if got := <-w.events; !strings.HasPrefix(got, "app true Unsupported: spec.x") {
		t.Errorf("%s; a failure that repeats itself is told once", got)
	}

	w.logic.set(succeed)
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.eventually("app", "recovered", ready)
	if got := <-w.events; got != "app false Succeeded: all is well" {
		t.Error(got)
	}
	w.logic.set(func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result { return kube.Result{} })
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.eventually("app", "bug reported", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionFalse) })
}

// TestWait holds no worker while it waits, and gives up at the timeout.
func TestWait(t *testing.T) {
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) { o.Workers = 1 })
	wake := make(chan struct{})
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		switch {
		case k.Name == "other":
			return kube.Ready("beside")
		case k.Name == "late" || p.Why != rt.CauseWoken:
			return kube.Wait("Progressing", "waiting for the rollout", rt.WakeOn(wake))
		}
		return kube.Ready("rolled out")
	})
	w.create("app", nil)
	w.eventually("app", "progress told", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionUnknown) })
	w.create("other", nil)
	w.eventually("other", "ready beside a wait", ready)
	w.create("late", func(k *kustomizev1.Kustomization) { k.Spec.Timeout = &metav1.Duration{Duration: time.Second} })
	k := w.eventually("late", "given up", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionFalse) })
	if c := status.Get(k, status.Ready); c.Message != "timeout of 1s is over: waiting for the rollout" {
		t.Error(c.Message)
	}
	close(wake)
	w.eventually("app", "ready after the wait", ready)
}

// TestWaits goes on with how a wait ended, once, and only with the one that was begun for the same thing.
func TestWaits(t *testing.T) {
	w := newWorld(t, nil)
	var waits kube.Waits
	release := map[string]chan error{"app": make(chan error), "other": make(chan error)}
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		what := fmt.Sprintf("generation %d", k.Generation)
		if waited, err := waits.End(p, what); waited {
			if again, err := waits.End(p, what); again {
				return kube.Ready(fmt.Sprintf("ended twice: %v", err))
			}
			return kube.Ready(fmt.Sprintf("%s ended: %v", what, err))
		}
		if k.Name == "late" {
			return kube.Wait("Progressing", what, waits.Begin(p, what, func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			}), rt.WakeAfter(10*time.Millisecond)) // something else may wake it before
		}
		return kube.Wait("Progressing", what, waits.Begin(p, what, func(ctx context.Context) error {
			select {
			case err := <-release[k.Name]:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
	})
	says := func(name, message string) {
		t.Helper()
		w.eventually(name, message, func(k *kustomizev1.Kustomization) bool {
			c := status.Get(k, status.Ready)
			return c != nil && c.Message == message
		})
	}
	w.create("app", nil)
	w.create("other", nil)
	says("app", "generation 1")
	says("other", "generation 1")
	w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./elsewhere" })
	says("app", "generation 2")
	release["app"] <- errors.New("no luck")
	says("app", "generation 2 ended: no luck")
	release["other"] <- nil
	says("other", "generation 1 ended: <nil>")
	w.create("late", func(k *kustomizev1.Kustomization) { k.Spec.Timeout = &metav1.Duration{Duration: time.Second} })
	says("late", "generation 1 ended: "+kube.ErrUnfinished.Error())
}

func TestDependencies(t *testing.T) {
	w := newWorld(t, nil)
	hold := make(chan struct{})
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		if k.Name == "base" && p.Why != rt.CauseWoken {
			return kube.Wait("Progressing", "later", rt.WakeOn(hold))
		}
		return kube.Ready("done")
	})
	on := func(names ...string) func(*kustomizev1.Kustomization) {
		return func(k *kustomizev1.Kustomization) {
			for _, n := range names {
				k.Spec.DependsOn = append(k.Spec.DependsOn, kustomizev1.DependencyReference{Name: n})
			}
		}
	}
	blocked := func(says string) func(*kustomizev1.Kustomization) bool {
		return func(k *kustomizev1.Kustomization) bool {
			c := status.Get(k, status.Ready)
			return c != nil && c.Reason == status.ReasonDependencyNotReady && strings.Contains(c.Message, says)
		}
	}
	w.create("app", on("base"))
	w.eventually("app", "missing dependency told", blocked("base does not exist"))
	w.create("base", nil)
	w.eventually("base", "going on", func(k *kustomizev1.Kustomization) bool { return status.Get(k, status.Ready) != nil })
	began := time.Now()
	close(hold)
	w.eventually("app", "released by the dependency", ready)
	if took := time.Since(began); took > 25*time.Second { // without the event it would be 30 s
		t.Errorf("released after %v", took)
	}

	w.create("a", on("b"))
	w.create("b", on("c"))
	w.create("c", on("a"))
	for _, name := range []string{"a", "b", "c"} {
		w.eventually(name, "cycle told", func(k *kustomizev1.Kustomization) bool {
			c := status.Get(k, status.Stalled)
			return c != nil && strings.Contains(c.Message, w.namespace+"/"+name)
		})
	}
	w.update("c", func(k *kustomizev1.Kustomization) { k.Spec.DependsOn = nil })
	w.eventually("a", "ready when the cycle is broken", ready)
}

func TestReferences(t *testing.T) {
	w := newWorld(t, nil)
	w.create("app", nil)
	w.eventually("app", "ready", ready)
	before := w.logic.count("app")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: w.namespace}}
	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "other", Namespace: w.namespace}}
	for i, act := range []func() error{
		func() error { return w.client.Create(t.Context(), cm) },
		func() error { cm.Data = map[string]string{"a": "b"}; return w.client.Update(t.Context(), cm) },
		func() error { return w.client.Delete(t.Context(), cm) },
	} {
		if err := errors.Join(act(), client.IgnoreAlreadyExists(w.client.Create(t.Context(), other.DeepCopy()))); err != nil {
			t.Fatal(err)
		}
		w.until("a pass for the event", func() bool { return w.logic.count("app") == before+i+1 })
	}
}

// TestFinalizeFails keeps the object until its cleaning up has worked.
func TestFinalizeFails(t *testing.T) {
	w := newWorld(t, nil)
	w.logic.finalize = func(_ context.Context, _ *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		if p.Attempt == 0 {
			return kube.Fail("PruneFailed", errors.New("not yet"))
		}
		return kube.Ready("")
	}
	k := w.create("app", func(k *kustomizev1.Kustomization) { k.Spec.RetryInterval.Duration = 100 * time.Millisecond })
	w.eventually("app", "ready", ready)
	if err := w.client.Delete(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	w.until("gone", func() bool { return w.missing("app") })
	if got := <-w.events; got != "app true PruneFailed: not yet" {
		t.Error(got)
	}
}

// TestRecord writes what must be on record first, and meets somebody else's write.
func TestRecord(t *testing.T) {
	w := newWorld(t, nil)
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		k.Status.LastAttemptedRevision = "v2"
		if err := p.Record(ctx); err != nil {
			return kube.Fail("", err)
		}
		if err := p.Record(ctx); err != nil { // nothing new
			return kube.Fail("", err)
		}
		live := &kustomizev1.Kustomization{}
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(k), live); err != nil || live.Status.LastAttemptedRevision != "v2" {
			return kube.Fail("", fmt.Errorf("on record is %q: %w", live.Status.LastAttemptedRevision, err))
		}
		live.Status.Conditions = append(live.Status.Conditions, metav1.Condition{Type: "Theirs", Status: "True", Reason: "Other", LastTransitionTime: metav1.Now()})
		if err := w.client.Status().Update(ctx, live); err != nil {
			return kube.Fail("", err)
		}
		k.Status.LastAppliedRevision = "v2"
		return kube.Ready("done")
	})
	w.create("app", nil)
	k := w.eventually("app", "ready", ready)
	if k.Status.LastAppliedRevision != "v2" || !status.Is(k, "Theirs", metav1.ConditionTrue) {
		t.Errorf("%+v", k.Status)
	}
}

// TestReadsWhatItWrote has somebody else change the object in every pass, so
// that the write of its status meets a conflict and another pass follows at
// once: that one must see what the last one wrote, however old the cache is.
func TestReadsWhatItWrote(t *testing.T) {
	w := newWorld(t, nil)
	const rounds = 20
	at := 0
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		if want := fmt.Sprintf("v%d", at); at > 0 && k.Status.LastAppliedRevision != want {
			return kube.Stall("Stale", fmt.Errorf("pass %d reads %q, written was %q", at, k.Status.LastAppliedRevision, want))
		}
		if at < rounds {
			live := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Name: k.Name, Namespace: k.Namespace}}
			base := live.DeepCopy()
			live.Annotations = map[string]string{kube.RequestedAt: fmt.Sprint(at)}
			if err := w.client.Patch(ctx, live, client.MergeFrom(base)); err != nil {
				return kube.Fail("", err)
			}
		}
		at++
		k.Status.LastAppliedRevision = fmt.Sprintf("v%d", at)
		return kube.Ready("done")
	})
	w.create("app", nil)
	k := w.eventually("app", "all passes", func(k *kustomizev1.Kustomization) bool {
		return status.Is(k, status.Stalled, metav1.ConditionTrue) || k.Status.LastAppliedRevision == fmt.Sprintf("v%d", rounds+1)
	})
	if c := status.Get(k, status.Stalled); c != nil {
		t.Error(c.Message)
	}
}

func TestUnsupported(t *testing.T) {
	k := &kustomizev1.Kustomization{Spec: kustomizev1.KustomizationSpec{
		Force: true, Prune: false, Images: nil, SourceRef: kustomizev1.CrossNamespaceSourceReference{Kind: "Bucket"},
		Decryption:   &kustomizev1.Decryption{Provider: "sops", SecretRef: &meta.LocalObjectReference{Name: "x"}},
		HealthChecks: []meta.NamespacedObjectKindReference{{Kind: "Deployment", Name: "a"}},
	}}
	for paths, want := range map[string]string{
		"spec.force": "spec.force", "spec.prune": "", "spec.images": "", "spec.timeout": "", "spec.none.deeper": "",
		"spec.decryption.provider=sops": "spec.decryption.provider: sops", "spec.decryption.provider=age": "",
		"spec.sourceRef.kind!=GitRepository|OCIRepository": "spec.sourceRef.kind: Bucket", "spec.sourceRef.kind!=GitRepository|Bucket": "",
		"spec.healthChecks.kind": "spec.healthChecks.kind", "spec.healthChecks.kind=Pod": "",
		"spec.force spec.healthChecks": "spec.force, spec.healthChecks",
	} {
		err := kube.Unsupported(k, strings.Fields(paths)...)
		var of *kube.UnsupportedError
		switch {
		case want == "" && err != nil, want != "" && !errors.As(err, &of):
			t.Errorf("%s: %v", paths, err)
		case want != "" && (strings.Join(of.Fields, ", ") != want || !rt.IsTerminal(err)):
			t.Errorf("%s: %v", paths, of.Fields)
		}
	}
}
