package kube_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/depend"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

var (
	scenarioFor  = flag.Duration("kube.scenario", 4*time.Second, "how long the random scenario goes on")
	scenarioSeed = flag.Uint64("kube.seed", 1, "of the random scenario")
	rounds       = flag.Int("kube.rounds", 30, "how often a wait is interrupted")
)

// A new object has its finalizer and its first pass in one go.
func TestFirstPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := make(chan string, 10)
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		first <- fmt.Sprintf("%v with finalizer: %v", p.Why, controllerutil.ContainsFinalizer(k, finalizer))
		return kube.Ready("done")
	})
	w.create("app", nil)
	w.eventually("app", "ready", ready)
	if got := <-first; got != "added with finalizer: true" {
		t.Error(got)
	}
	w.create("marker", nil)
	w.eventually("marker", "ready", ready)
	if n := w.logic.count("app"); n != 1 {
		t.Errorf("%d passes", n)
	}
}

// Passes that change nothing write nothing; conditions of others survive, and ours are put right in one pass.
func TestForeignConditions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	k := w.create("app", nil)
	w.eventually("app", "ready", ready)
	live := w.get("app")
	live.Status.Conditions = append(live.Status.Conditions, metav1.Condition{Type: "Theirs", Status: "True", Reason: "Other", Message: "stays", LastTransitionTime: metav1.Now()})
	if err := w.client.Status().Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	const passes = 1000
	before := len(w.writes("app"))
	for range passes {
		n := w.logic.count("app")
		w.control.Trigger(client.ObjectKeyFromObject(k))
		for w.logic.count("app") == n {
			<-time.After(time.Millisecond)
		}
	}
	if got := w.get("app"); len(w.writes("app")) != before || !status.Is(got, "Theirs", metav1.ConditionTrue) {
		t.Errorf("%d writes in passes that changed nothing; %+v", len(w.writes("app"))-before, got.Status.Conditions)
	}
	live = w.get("app")
	status.Set(live, metav1.Condition{Type: status.Ready, Status: metav1.ConditionFalse, Reason: "Vandal", Message: "broken"})
	status.Set(live, metav1.Condition{Type: status.Reconciling, Status: metav1.ConditionTrue, Reason: "Vandal", Message: "broken"})
	if err := w.client.Status().Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	w.update("app", func(k *kustomizev1.Kustomization) { k.Annotations = map[string]string{kube.RequestedAt: "now"} })
	k = w.eventually("app", "put right", func(k *kustomizev1.Kustomization) bool { return k.Status.LastHandledReconcileAt == "now" })
	if !ready(k) || !status.Is(k, "Theirs", metav1.ConditionTrue) {
		t.Errorf("%+v", k.Status.Conditions)
	}
}

// A message is cut between characters, and stored.
func TestLongMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.logic.set(func(context.Context, *kustomizev1.Kustomization, *kube.Pass) kube.Result {
		return kube.Fail("BuildFailed", errors.New(strings.Repeat("é", 40_000)))
	})
	w.create("app", nil)
	k := w.eventually("app", "failed", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionFalse) })
	if m := status.Get(k, status.Ready).Message; !utf8.ValidString(m) || len(m) > 32768 || !strings.HasSuffix(m, "é...") {
		t.Errorf("%d bytes, ends in %q", len(m), m[len(m)-10:])
	}
}

// At every moment of a random life the status of an object keeps the rules, and in the end it tells the truth.
func TestScenario(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	random := rand.New(rand.NewPCG(*scenarioSeed, 0))
	var mu sync.Mutex
	var wake []chan struct{}
	outcome := func() int { mu.Lock(); defer mu.Unlock(); return random.IntN(6) }
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		switch n := outcome(); {
		case k.Spec.Path == "./last":
			return kube.Ready("the end")
		case n == 0:
			return kube.Fail("BuildFailed", fmt.Errorf("failure of %v", p.Why))
		case n == 1:
			return kube.Stall("InvalidPath", errors.New("nothing helps"))
		case n == 2:
			return kube.NotYet("ArtifactFailed", "no artifact", 50*time.Millisecond)
		case n == 3 && p.Why != rt.CauseWoken:
			mu.Lock()
			defer mu.Unlock()
			ch := make(chan struct{})
			wake = append(wake, ch)
			return kube.Wait("Progressing", "rolling out", rt.WakeOn(ch))
		}
		return kube.Ready("fine").At("v1")
	})
	states, seen := w.judge()
	names := []string{"a", "b", "c", "d"}
	for end, i := time.Now().Add(*scenarioFor), 0; time.Now().Before(end) || states.Load() < 100; i++ {
		mu.Lock()
		name, op := names[random.IntN(len(names))], random.IntN(8)
		mu.Unlock()
		if err := w.disturb(name, op, i); err != nil {
			t.Fatalf("seed %d, step %d: %v", *scenarioSeed, i, err)
		}
		mu.Lock()
		for len(wake) > 0 && random.IntN(2) == 0 {
			close(wake[0])
			wake = wake[1:]
		}
		mu.Unlock()
		<-time.After(5 * time.Millisecond)
	}
	for _, name := range names {
		if w.missing(name) {
			continue
		}
		w.update(name, func(k *kustomizev1.Kustomization) { k.Spec.Suspend, k.Spec.Path = false, "./last" })
		w.eventually(name, "ready in the end", func(k *kustomizev1.Kustomization) bool {
			return ready(k) && k.Status.ObservedGeneration == k.Generation
		})
	}
	wrong := seen()
	t.Logf("seed %d: %d states of objects", *scenarioSeed, states.Load())
	for _, v := range wrong {
		t.Errorf("seed %d: %s", *scenarioSeed, v)
	}
}

// judge checks every state that an object of the namespace is ever in, and counts them.
func (w *world) judge() (*atomic.Int64, func() []string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	watch, err := w.dynamic.Resource(kustomizev1.GroupVersion.WithResource("kustomizations")).Namespace(w.namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	var events atomic.Int64
	var wrong []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range watch.ResultChan() {
			k := &kustomizev1.Kustomization{}
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(e.Object)
			if err == nil {
				err = runtime.DefaultUnstructuredConverter.FromUnstructured(content, k)
			}
			if err != nil || status.Get(k, status.Ready) == nil {
				continue
			}
			events.Add(1)
			for _, v := range status.Check(k) {
				wrong = append(wrong, fmt.Sprintf("%s %d: %s: %+v", k.Name, k.Generation, v, k.Status))
			}
		}
	}()
	return &events, func() []string {
		watch.Stop()
		cancel()
		<-done
		return wrong
	}
}

// disturb does one thing to an object.
func (w *world) disturb(name string, op, i int) error {
	key := client.ObjectKey{Namespace: w.namespace, Name: name}
	k := &kustomizev1.Kustomization{}
	err := w.client.Get(w.t.Context(), key, k)
	if apierrors.IsNotFound(err) {
		w.create(name, func(k *kustomizev1.Kustomization) { k.Spec.RetryInterval.Duration = 30 * time.Millisecond })
		return nil
	}
	if err != nil {
		return err
	}
	base := k.DeepCopy()
	switch op {
	case 0, 1, 2:
		k.Spec.Path = fmt.Sprintf("./%d", i)
	case 3, 4:
		k.Annotations = map[string]string{kube.RequestedAt: fmt.Sprint(i)}
	case 5:
		k.Spec.Suspend = !k.Spec.Suspend
	case 6:
		w.control.Trigger(key)
		return nil
	case 7:
		return client.IgnoreNotFound(w.client.Delete(w.t.Context(), k))
	}
	return client.IgnoreNotFound(w.client.Patch(w.t.Context(), k, client.MergeFrom(base)))
}

// An event of a source begins passes of all its consumers, of which two in a cycle hold up nobody else.
func TestManyConsumers(t *testing.T) {
	t.Parallel()
	const n = 500
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		o.References = func(k *kustomizev1.Kustomization) []kube.Reference {
			return []kube.Reference{{GroupKind: schema.GroupKind{Kind: "ConfigMap"}, ObjectKey: client.ObjectKey{Namespace: k.Namespace, Name: "source"}}}
		}
	})
	source := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "source", Namespace: w.namespace}}
	if err := w.client.Create(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		w.create(fmt.Sprintf("app-%d", i), func(k *kustomizev1.Kustomization) {
			if i < 2 {
				k.Spec.DependsOn = []kustomizev1.DependencyReference{{Name: fmt.Sprintf("app-%d", 1-i)}}
			}
		})
	}
	passed := func(least int) bool {
		w.logic.mu.Lock()
		defer w.logic.mu.Unlock()
		for i := 2; i < n; i++ {
			if w.logic.passes[fmt.Sprintf("app-%d", i)] < least {
				return false
			}
		}
		return true
	}
	w.until("first passes", func() bool { return passed(1) })
	for i := range 2 {
		w.eventually(fmt.Sprintf("app-%d", i), "stalled", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Stalled, metav1.ConditionTrue) })
	}
	w.logic.mu.Lock()
	clear(w.logic.passes)
	w.logic.mu.Unlock()
	began := time.Now()
	source.Data = map[string]string{"revision": "2"}
	if err := w.client.Update(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	w.until("all consumers", func() bool { return passed(1) })
	took := time.Since(began)
	t.Logf("%d consumers after %v", n-2, took)
	if took > 20*time.Second { // without events they would look every 30 s
		t.Errorf("the consumers of a new revision began after %v", took)
	}
	if w.logic.count("app-0") != 0 || w.logic.count("app-1") != 0 {
		t.Error("a member of the cycle was reconciled")
	}
}

// A new revision interrupts the wait for the last one, every time, however far behind the cache is.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	applied, interrupted := "", 0
	var when time.Time // of applied
	var took []time.Duration
	w := newWorld(t, nil, lag(5*time.Second))
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		cm := &corev1.ConfigMap{}
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(k), cm); client.IgnoreNotFound(err) != nil {
			return kube.Fail("", err)
		}
		mu.Lock()
		defer mu.Unlock()
		if applied != "" && cm.Data["revision"] != applied && p.Interrupted != "health of "+applied {
			return kube.Stall("Bug", fmt.Errorf("interrupted is %q, was waiting for %q", p.Interrupted, applied))
		}
		if p.Interrupted != "" {
			interrupted++
		}
		applied, when = cm.Data["revision"], time.Now()
		k.Status.LastAttemptedRevision = applied
		return kube.Wait("Progressing", "health of "+applied)
	})
	source := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: w.namespace}, Data: map[string]string{"revision": "r0"}}
	if err := w.client.Create(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	w.create("app", nil)
	at := func() string { mu.Lock(); defer mu.Unlock(); return applied }
	for i := range *rounds {
		want := fmt.Sprintf("r%d", i)
		source.Data["revision"] = want
		began := time.Now()
		if err := w.client.Update(t.Context(), source); err != nil {
			t.Fatal(err)
		}
		w.until("revision "+want, func() bool { return at() == want })
		mu.Lock()
		took = append(took, when.Sub(began))
		mu.Unlock()
	}
	slices.Sort(took)
	t.Logf("a new revision is applied after %v, at most %v", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > time.Second {
		t.Errorf("half of the new revisions were applied after more than %v", took[len(took)/2])
	}
	k := w.eventually("app", "last revision", func(k *kustomizev1.Kustomization) bool {
		return k.Status.LastAttemptedRevision == fmt.Sprintf("r%d", *rounds-1)
	})
	if c := status.Get(k, status.Stalled); c != nil {
		t.Error(c.Message)
	}
	mu.Lock()
	defer mu.Unlock()
	if interrupted < *rounds-1 {
		t.Errorf("%d of %d waits were interrupted", interrupted, *rounds)
	}
}

// lag has watches of Kustomizations tell everything late.
func lag(by time.Duration) func(*rest.Config) {
	return func(config *rest.Config) {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return tripper(func(req *http.Request) (*http.Response, error) {
				resp, err := next.RoundTrip(req)
				if err == nil && req.URL.Query().Get("watch") == "true" && strings.HasSuffix(req.URL.Path, "/kustomizations") {
					resp.Body = late(req.Context(), resp.Body, by)
				}
				return resp, err
			})
		})
	}
}

// late is a body whose lines come later.
func late(ctx context.Context, body io.ReadCloser, by time.Duration) io.ReadCloser {
	type line struct {
		text []byte
		at   time.Time
	}
	lines := make(chan line, 10_000)
	go func() {
		defer close(lines)
		in := bufio.NewReader(body)
		for first := true; ; {
			text, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			at := time.Now().Add(by)
			if first = first && !strings.Contains(string(text), `"BOOKMARK"`); first {
				at = time.Now() // what is there at the start
			}
			lines <- line{text, at}
		}
	}()
	r, out := io.Pipe()
	go func() {
		for l := range lines {
			select {
			case <-time.After(time.Until(l.at)):
			case <-ctx.Done():
			}
			if _, err := out.Write(l.text); err != nil {
				continue // drained until the body ends
			}
		}
		out.Close()
	}()
	return &lateBody{r, body}
}

type lateBody struct {
	*io.PipeReader
	body io.Closer
}

func (b *lateBody) Close() error { return errors.Join(b.PipeReader.Close(), b.body.Close()) }

// Dependencies by expression: ready or not, invalid for ever, and until the cost is too much.
func TestDependsByExpression(t *testing.T) {
	t.Parallel()
	var expressions depend.Expressions
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		o.Depends = func(ctx context.Context, k, dep *kustomizev1.Kustomization) error {
			err := expressions.Ready(ctx, k.Spec.DependsOn[0].ReadyExpr, k, dep)
			if err != nil {
				return fmt.Errorf("dependency %s: %w", dep.Name, err)
			}
			return nil
		}
	})
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		if k.Name == "base" {
			k.Status.LastAppliedRevision = k.Spec.Path
			return kube.Fail("BuildFailed", errors.New("not ready, and yet good enough"))
		}
		return kube.Ready("done")
	})
	w.create("base", func(k *kustomizev1.Kustomization) { k.Spec.Path = "v1" })
	ten := "[1,2,3,4,5,6,7,8,9,0]"
	for name, c := range map[string]struct{ expression, stalled, waits string }{
		"good":      {expression: "dep.status.lastAppliedRevision == 'v2'", waits: "is not true yet"},
		"invalid":   {expression: "dep.status. ==", stalled: "1:13"},
		"no-bool":   {expression: "dep.metadata.name", stalled: "not bool"},
		"no-field":  {expression: "dep.status.nothing == 1", waits: "no such key: nothing"},
		"expensive": {expression: ten + ".all(a, " + ten + ".all(b, " + ten + ".all(c, " + ten + ".all(d, " + ten + ".all(e, " + ten + ".all(f, true))))))", waits: "cost limit of 1000000"},
	} {
		w.create(name, func(k *kustomizev1.Kustomization) {
			k.Spec.DependsOn = []kustomizev1.DependencyReference{{Name: "base", ReadyExpr: c.expression}}
		})
		w.eventually(name, "told", func(k *kustomizev1.Kustomization) bool {
			stalled, r := status.Get(k, status.Stalled), status.Get(k, status.Ready)
			if c.stalled != "" {
				return stalled != nil && stalled.Reason == "InvalidCELExpression" && strings.Contains(stalled.Message, c.stalled)
			}
			return stalled == nil && r != nil && r.Reason == "DependencyNotReady" && strings.Contains(r.Message, "dependency base: ") && strings.Contains(r.Message, c.waits)
		})
	}
	w.update("base", func(k *kustomizev1.Kustomization) { k.Spec.Path = "v2" })
	w.eventually("good", "released, although its dependency is not ready", ready)
}

// A schedule that cannot be stalls its object, and no other.
func TestBadSchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		schedule := o.Schedule
		o.Schedule = func(k *kustomizev1.Kustomization) kube.Schedule {
			s := schedule(k)
			if strings.HasPrefix(k.Name, "bad") && k.Spec.Path == "" {
				s.Interval, s.Retry = -5*time.Minute, rt.Backoff{Min: time.Hour, Max: time.Minute}
			}
			return s
		}
	})
	w.create("bad", nil)
	w.create("good", nil)
	k := w.eventually("bad", "stalled", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Stalled, metav1.ConditionTrue) })
	if m := status.Get(k, status.Stalled).Message; !strings.Contains(m, "interval is -5m0s") || !strings.Contains(m, "1m0s, is shorter than the shortest, 1h0m0s") {
		t.Error(m)
	}
	w.eventually("good", "ready beside it", ready)
	w.create("bad-gone", nil)
	w.eventually("bad-gone", "stalled", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Stalled, metav1.ConditionTrue) })
	if err := w.client.Delete(t.Context(), w.get("bad-gone")); err != nil {
		t.Fatal(err)
	}
	w.until("deleted all the same", func() bool { return w.missing("bad-gone") })
	w.update("bad", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./mended" })
	w.eventually("bad", "mended", ready)
}

// Controllers that share a process share nothing else: each writes as itself and reconciles its own shard.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	ofShard := func(shard string) func(*kube.Options[*kustomizev1.Kustomization]) {
		return func(o *kube.Options[*kustomizev1.Kustomization]) {
			o.FieldOwner = "controller-" + shard
			o.Select = func(k *kustomizev1.Kustomization) bool { return k.Labels["sharding.fluxcd.io/key"] == shard }
		}
	}
	w := newWorld(t, ofShard("one"))
	second := w.beside(ofShard("two"))
	label := func(shard string) func(*kustomizev1.Kustomization) {
		return func(k *kustomizev1.Kustomization) { k.Labels = map[string]string{"sharding.fluxcd.io/key": shard} }
	}
	managers := func(k *kustomizev1.Kustomization) (out []string) {
		for _, f := range w.get(k.Name).ManagedFields {
			if strings.HasPrefix(f.Manager, "controller-") && !slices.Contains(out, f.Manager) {
				out = append(out, f.Manager)
			}
		}
		return out
	}
	w.create("a", label("one"))
	w.create("b", label("two"))
	for name, want := range map[string]string{"a": "controller-one", "b": "controller-two"} {
		k := w.eventually(name, "ready", ready)
		if got := managers(k); !slices.Equal(got, []string{want}) {
			t.Errorf("%s was written by %v", name, got)
		}
	}
	w.update("a", func(k *kustomizev1.Kustomization) {
		label("two")(k)
		k.Spec.Path = "./new"
	})
	k := w.eventually("a", "reconciled by the other", func(k *kustomizev1.Kustomization) bool { return k.Status.ObservedGeneration == 2 })
	if w.logic.count("finalize a") != 0 || second.count("finalize a") != 0 || !controllerutil.ContainsFinalizer(k, finalizer) {
		t.Error("an object that moves to another shard is not deleted")
	}
	if second.count("a") == 0 || w.logic.count("b") != 0 {
		t.Error("the shards are mixed up")
	}
}

// A kind whose status cannot be written apart is refused when the controller is made.
func TestNoStatusSubresource(t *testing.T) {
	t.Parallel()
	env := testenv.StartServer(t, nil)
	c, err := client.New(env.Config(), client.Options{Scheme: testScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	keep := true
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "kustomizations.kustomize.toolkit.fluxcd.io"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: kustomizev1.GroupVersion.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "kustomizations", Kind: "Kustomization"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &keep}},
			}},
		},
	}
	if err := c.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		mgr, err := kube.NewManager(env.Config(), manager.Options{Scheme: testScheme(t)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = kube.Add(t.Context(), mgr, &logic{}, kube.Options[*kustomizev1.Kustomization]{
			Schedule: func(*kustomizev1.Kustomization) kube.Schedule { return kube.Schedule{} },
		})
		mgr.GetHTTPClient().CloseIdleConnections()
		if err != nil && strings.Contains(err.Error(), "has no status subresource") && strings.Contains(err.Error(), "Kustomization") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Panics of the reconciler and of functions of the options are failures of their object, which tells of them, and of no
// other.
func TestPanics(t *testing.T) {
	t.Parallel()
	panics := func(k *kustomizev1.Kustomization, where string) {
		if k.Spec.Path == where {
			panic("nil is everywhere in " + where)
		}
	}
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		schedule, references, dependsOn := o.Schedule, o.References, o.DependsOn
		o.Schedule = func(k *kustomizev1.Kustomization) kube.Schedule { panics(k, "schedule"); return schedule(k) }
		o.References = func(k *kustomizev1.Kustomization) []kube.Reference { panics(k, "references"); return references(k) }
		o.DependsOn = func(k *kustomizev1.Kustomization) []client.ObjectKey { panics(k, "dependsOn"); return dependsOn(k) }
		o.Select = func(k *kustomizev1.Kustomization) bool { panics(k, "select"); return true }
	})
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		panics(k, "reconcile")
		return kube.Ready("fine")
	})
	w.create("healthy", nil)
	for _, where := range []string{"schedule", "references", "dependsOn", "reconcile"} {
		name := strings.ToLower(where)
		w.create(name, func(k *kustomizev1.Kustomization) {
			k.Spec.Path, k.Spec.RetryInterval.Duration = where, 100*time.Millisecond
		})
		w.eventually(name, "told", func(k *kustomizev1.Kustomization) bool {
			c := status.Get(k, status.Ready)
			return c != nil && c.Status == metav1.ConditionFalse && c.Message == "panic: nil is everywhere in "+where
		})
	}
	w.create("select", func(k *kustomizev1.Kustomization) { k.Spec.Path = "select" })
	w.eventually("healthy", "ready beside them", ready)
	w.update("healthy", func(k *kustomizev1.Kustomization) { k.Spec.Path = "./new" })
	w.eventually("healthy", "still", func(k *kustomizev1.Kustomization) bool { return ready(k) && k.Status.ObservedGeneration == 2 })
	for _, name := range []string{"schedule", "references", "dependson", "reconcile", "select"} {
		w.update(name, func(k *kustomizev1.Kustomization) { k.Spec.Path = "./mended" })
		w.eventually(name, "mended", ready)
	}
}

// A wait that only looks again leaves an object ready, and writes nothing if it still is; a failure at its end is told.
func TestQuietWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var mu sync.Mutex
	wake, fail := make(chan struct{}), false
	w.logic.set(func(_ context.Context, _ *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case p.Why != rt.CauseWoken:
			return kube.Wait("Progressing", "looking again", rt.WakeOn(wake)).Quiet()
		case fail:
			return kube.Fail("HealthCheckFailed", errors.New("not any more"))
		}
		return kube.Ready("healthy")
	})
	k := w.create("app", nil)
	w.eventually("app", "progress told, since it was not ready before", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionUnknown) })
	again := func() {
		mu.Lock()
		defer mu.Unlock()
		close(wake)
		wake = make(chan struct{})
	}
	again()
	w.eventually("app", "ready", ready)
	before, passes := len(w.writes("app")), w.logic.count("app")
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.until("waiting", func() bool { return w.logic.count("app") == passes+1 })
	if !ready(w.get("app")) {
		t.Error("not ready while somebody looks")
	}
	again()
	w.until("looked", func() bool { return w.logic.count("app") == passes+2 })
	mu.Lock()
	fail = true
	mu.Unlock()
	w.control.Trigger(client.ObjectKeyFromObject(k))
	w.until("waiting", func() bool { return w.logic.count("app") == passes+3 })
	if n := len(w.writes("app")) - before; n != 0 {
		t.Errorf("%d writes", n)
	}
	again()
	w.eventually("app", "failed", func(k *kustomizev1.Kustomization) bool { return status.Is(k, status.Ready, metav1.ConditionFalse) })
	if got := <-w.events; got != "app true HealthCheckFailed: not any more" {
		t.Error(got)
	}
}
