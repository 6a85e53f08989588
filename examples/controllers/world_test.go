package controllers_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/examples/controllers/crds"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		beChild() // does not return
	}
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue { // the tests wait more than they work
		p.Value.Set("4") //nolint:errcheck // it is a number
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
		// A watch of controller-runtime that nobody reads any more when the manager has stopped.
		goleak.IgnoreTopFunction("k8s.io/apimachinery/pkg/watch.(*filteredWatch).loop"),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

// world is a namespace of a real cluster with the controllers at work in it.
type world struct {
	t         *testing.T
	namespace string
	config    *rest.Config
	dynamic   dynamic.Interface
	mapper    meta.RESTMapper
	logs      *logs
}

// logs keeps what the controllers log, to be shown when a test fails.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	env := testenv.Start(t)
	return worldOf(t, env)
}

// installing is held while the definitions are installed: those who share a server have one inventory of them.
var installing sync.Mutex

// worldOf has the definitions of Flux's kinds installed.
func worldOf(t *testing.T, env *testenv.Env) *world {
	t.Helper()
	cluster, err := (&tenancy.Clients{Base: env.Config()}).For(tenancy.Identity{Self: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, namespace: env.Namespace, config: env.Config(), dynamic: cluster.Dynamic, mapper: cluster.Mapper, logs: &logs{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.logs.buf.String())
		}
	})
	objects, err := crds.All()
	if err != nil {
		t.Fatal(err)
	}
	c := &ssa.Client{Dynamic: w.dynamic, Mapper: w.mapper, Owner: ssa.Owner{Name: "crds", Namespace: "default"}}
	installing.Lock()
	defer installing.Unlock()
	set, err := c.Apply(t.Context(), objects, nil)
	if err == nil {
		err = set.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), set.Objects(), nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// options are the flags of a program that works in the namespace only.
func (w *world) options() *app.Options {
	o := &app.Options{}
	o.Bind(flag.NewFlagSet("test", flag.ContinueOnError)) // for the defaults
	o.Namespace, o.MetricsAddr, o.HealthAddr, o.StoragePath, o.StorageAddr = w.namespace, "0", "0", w.t.TempDir(), "127.0.0.1:0"
	o.WatchAllNamespaces, o.MinRetryDelay, o.MaxRetryDelay, o.RequeueDependency = false, 100*time.Millisecond, time.Second, 2*time.Second
	o.ReceiverAddr, o.Out, o.Registry = "", w.logs, prometheus.NewRegistry()
	return o
}

// run runs a program until stop is called, or the test ends.
func (w *world) run(p app.Program, o *app.Options) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- app.Keep(ctx, w.config, p, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("%s: %v", p.Name, err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// apply creates or changes objects, given as YAML; NAMESPACE stands for the
// namespace of the test.
func (w *world) apply(text string, replace ...string) {
	w.t.Helper()
	text = strings.NewReplacer(append(replace, "NAMESPACE", w.namespace)...).Replace(text)
	objects, err := ssa.ReadObjects(strings.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetNamespace() == "" {
			o.SetNamespace(w.namespace)
		}
		data, err := o.MarshalJSON()
		if err != nil {
			w.t.Fatal(err)
		}
		force := true
		if _, err := w.resource(o.GroupVersionKind(), o.GetNamespace()).Patch(w.t.Context(), o.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: "test", Force: &force}); err != nil {
			w.t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

func (w *world) resource(gvk schema.GroupVersionKind, namespace string) dynamic.ResourceInterface {
	w.t.Helper()
	m, err := w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	for tries := 100; meta.IsNoMatchError(err) && tries > 0; tries-- { // a definition is served a moment after it is established
		<-time.After(100 * time.Millisecond)
		meta.MaybeResetRESTMapper(w.mapper)
		m, err = w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return w.dynamic.Resource(m.Resource)
	}
	return w.dynamic.Resource(m.Resource).Namespace(namespace)
}

// kind finds the newest version of a kind by its name.
func (w *world) kind(name string) schema.GroupVersionKind {
	w.t.Helper()
	const toolkit = ".toolkit.fluxcd.io"
	for tries := 100; tries > 0; tries-- { // a definition is served a moment after it is established
		for _, group := range []string{"source" + toolkit, "kustomize" + toolkit, "helm" + toolkit, "notification" + toolkit, "image" + toolkit, "source.extensions.fluxcd.io", "", "apps", "batch"} {
			if m, err := w.mapper.RESTMapping(schema.GroupKind{Group: group, Kind: name}); err == nil {
				return m.GroupVersionKind
			}
		}
		<-time.After(100 * time.Millisecond)
		meta.MaybeResetRESTMapper(w.mapper)
	}
	w.t.Fatalf("there is no kind %s", name)
	return schema.GroupVersionKind{}
}

// get reads an object, named as Kind/name or Kind/namespace/name; nil if it does not exist.
func (w *world) get(ref string) *unstructured.Unstructured {
	w.t.Helper()
	kind, namespace, name := w.split(ref)
	o, err := w.resource(w.kind(kind), namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) split(ref string) (kind, namespace, name string) {
	parts := strings.Split(ref, "/")
	if len(parts) == 2 {
		return parts[0], w.namespace, parts[1]
	}
	return parts[0], parts[1], parts[2]
}

func (w *world) delete(ref string) {
	w.t.Helper()
	kind, namespace, name := w.split(ref)
	if err := w.resource(w.kind(kind), namespace).Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// patch changes an object by a JSON merge patch.
func (w *world) patch(ref, patch string) {
	w.t.Helper()
	kind, namespace, name := w.split(ref)
	if _, err := w.resource(w.kind(kind), namespace).Patch(w.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		w.t.Fatal(err)
	}
}

// until waits until an object is as wanted; a nil object does not exist.
func (w *world) until(ref, what string, ok func(*unstructured.Unstructured) bool) *unstructured.Unstructured {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; {
		o := w.get(ref)
		if ok(o) {
			return o
		}
		if time.Now().After(deadline) {
			var status any
			if o != nil {
				status = o.Object["status"]
			}
			w.t.Fatalf("%s: %s: did not happen; its status is %v", ref, what, status)
		}
		<-time.After(25 * time.Millisecond)
	}
}

// ready waits until an object is ready in its newest generation.
func (w *world) ready(ref string) *unstructured.Unstructured {
	w.t.Helper()
	return w.until(ref, "ready", func(o *unstructured.Unstructured) bool {
		return o != nil && condition(o, "Ready")["status"] == "True" && observed(o)
	})
}

// readyAt waits until an object is ready with a text in the message.
func (w *world) readyAt(ref, says string) *unstructured.Unstructured {
	w.t.Helper()
	return w.until(ref, "ready with "+says, func(o *unstructured.Unstructured) bool {
		return o != nil && condition(o, "Ready")["status"] == "True" && strings.Contains(condition(o, "Ready")["message"], says)
	})
}

// failed waits until an object is not ready for a reason, with a text in the message.
func (w *world) failed(ref, reason, says string) *unstructured.Unstructured {
	w.t.Helper()
	return w.until(ref, "failed with "+reason+" and "+says, func(o *unstructured.Unstructured) bool {
		c := condition(o, "Ready")
		return c["status"] == "False" && c["reason"] == reason && strings.Contains(c["message"], says)
	})
}

func observed(o *unstructured.Unstructured) bool {
	n, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
	return n == o.GetGeneration()
}

// condition returns the fields of a condition, nil if there is none.
func condition(o *unstructured.Unstructured, conditionType string) map[string]string {
	if o == nil {
		return nil
	}
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range list {
		if m, ok := c.(map[string]any); ok && m["type"] == conditionType {
			return map[string]string{"status": fmt.Sprint(m["status"]), "reason": fmt.Sprint(m["reason"]), "message": fmt.Sprint(m["message"])}
		}
	}
	return nil
}

func text(o *unstructured.Unstructured, path ...string) string {
	if o == nil {
		return ""
	}
	s, _, _ := unstructured.NestedString(o.Object, path...)
	return s
}

// gitServer serves repositories over HTTP with basic auth, and over ssh.
type gitServer struct {
	*gitserver.Server
	url string
}

func newGit(t *testing.T) *gitServer {
	t.Helper()
	s, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.Username, s.Password = "robot", "pa55word"
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return &gitServer{s, server.URL}
}

func (g *gitServer) commit(t *testing.T, repo, message string, files map[string]string) string {
	t.Helper()
	id, err := g.Commit(repo, "main", message, files)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// unzip unpacks test data.
func unzip(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		to := filepath.Join(dir, filepath.FromSlash(f.Name))
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// login is a keychain with one password for every registry.
type login struct{ user, password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: l.user, Password: l.password}, nil
}
