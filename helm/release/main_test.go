package release_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"helm.sh/helm/v3/pkg/action"
	helmrelease "helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

var _ release.Applier = (*ssa.Objects)(nil)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2ClientConn).readLoop"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

// cluster is a namespace of a real API server.
type cluster struct {
	t         testing.TB
	namespace string
	dynamic   dynamic.Interface
	store     *release.Secrets
	objects   *ssa.Objects
	client    *release.Client
	config    *rest.Config
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	env := testenv.Start(t)
	config := env.Config()
	config.QPS = -1
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	names, err := metadata.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, namespace: env.Namespace, dynamic: dyn, config: config}
	c.store = &release.Secrets{Dynamic: dyn, Metadata: names, Namespace: env.Namespace}
	c.objects = &ssa.Objects{
		Client: &ssa.Client{
			Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
			Owner: ssa.Owner{Name: "shop", Namespace: env.Namespace}, DefaultNamespace: env.Namespace,
		},
		Managers: []string{"helm", "release.test"}, // Helm's manager is the name of the program
	}
	c.client = &release.Client{Applier: c.objects, Store: c.store}
	return c
}

// desired is the release of a chart made of templates.
func (c *cluster) desired(version string, templates map[string]string, values map[string]any) release.Desired {
	return release.Desired{Name: "shop", Namespace: c.namespace, Chart: chartOf(c.t, version, templates), Values: values,
		Install: fast, Upgrade: fast, Rollback: fast, Uninstall: fast, Test: fast}
}

var fast = release.ActionOptions{Timeout: 20 * time.Second}

func chartOf(t testing.TB, version string, templates map[string]string) *helm.Chart {
	t.Helper()
	tree := fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: web\nversion: " + version + "\nappVersion: '1'\n")}}
	for name, content := range templates {
		if !strings.Contains(name, "/") {
			name = "templates/" + name
		}
		tree[name] = &fstest.MapFile{Data: []byte(content)}
	}
	chart, err := helm.Load(context.Background(), tree, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

// podinfo is a chart of others.
func podinfo(t testing.TB) *helm.Chart {
	t.Helper()
	chart, err := helm.Load(t.Context(), os.DirFS("../testdata/charts"), "podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func (c *cluster) resource(kind string) dynamic.ResourceInterface {
	c.t.Helper()
	for _, gk := range []schema.GroupKind{{Kind: kind}, {Group: "apps", Kind: kind}, {Group: "batch", Kind: kind}, {Group: "apiextensions.k8s.io", Kind: kind}} {
		m, err := c.objects.Client.Mapper.RESTMapping(gk)
		if err != nil {
			continue
		}
		if m.Scope.Name() == meta.RESTScopeNameRoot {
			return c.dynamic.Resource(m.Resource)
		}
		return c.dynamic.Resource(m.Resource).Namespace(c.namespace)
	}
	c.t.Fatalf("no kind %s", kind)
	return nil
}

// get reads an object, nil if it does not exist.
func (c *cluster) get(kind, name string) *unstructured.Unstructured {
	c.t.Helper()
	o, err := c.resource(kind).Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		if strings.Contains(err.Error(), "not found") {
			return nil
		}
		c.t.Fatal(err)
	}
	return o
}

// names lists what the release has of a kind.
func (c *cluster) names(kind string) []string {
	c.t.Helper()
	list, err := c.resource(kind).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, o := range list.Items {
		if o.GetName() != "kube-root-ca.crt" {
			out = append(out, o.GetName())
		}
	}
	slices.Sort(out)
	return out
}

// history returns "revision status" of all records, newest first.
func (c *cluster) history() []string {
	c.t.Helper()
	all, err := c.store.History(c.t.Context(), "shop")
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, m := range all {
		out = append(out, fmt.Sprint(m.Revision, " ", m.Status))
	}
	return out
}

// helm returns the configuration of Helm's own actions in the namespace.
func (c *cluster) helm() *action.Configuration {
	c.t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	flags.WrapConfigFn = func(*rest.Config) *rest.Config { return rest.CopyConfig(c.config) }
	flags.Namespace = &c.namespace
	config := &action.Configuration{}
	if err := config.Init(flags, c.namespace, "secret", func(string, ...any) {}); err != nil {
		c.t.Fatal(err)
	}
	return config
}

func configMap(name, value string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {key: %q}\n", name, value)
}

// job is a hook; nothing runs in the simulated cluster, but its pods complete.
func job(name, annotations string) string {
	return fmt.Sprintf("---\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: %s\n  annotations: {%s}\nspec:\n  backoffLimit: 0\n  template:\n    spec: {restartPolicy: Never, containers: [{name: main, image: example.com/x}]}\n", name, annotations)
}

// hookMap is a hook that needs no controller.
func hookMap(name, annotations string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, annotations: {%s}}\n", name, annotations)
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// spy records and can refuse what a client does with objects.
type spy struct {
	release.Applier
	mu    sync.Mutex
	calls []string
	fail  func(call string) error
}

func (s *spy) note(verb string, objects []*unstructured.Unstructured) error {
	var names []string
	for _, o := range objects {
		names = append(names, o.GetName())
	}
	call := verb + " " + strings.Join(names, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	if s.fail != nil {
		return s.fail(call)
	}
	return nil
}

func (s *spy) Apply(ctx context.Context, objects []*unstructured.Unstructured) error {
	if err := s.note("apply", objects); err != nil {
		return err
	}
	return s.Applier.Apply(ctx, objects)
}

func (s *spy) Delete(ctx context.Context, objects []*unstructured.Unstructured, propagation metav1.DeletionPropagation) error {
	if len(objects) > 0 {
		if err := s.note("delete", objects); err != nil {
			return err
		}
	}
	return s.Applier.Delete(ctx, objects, propagation)
}

func (s *spy) WaitReady(ctx context.Context, objects []*unstructured.Unstructured) error {
	if err := s.note("wait", objects); err != nil {
		return err
	}
	return s.Applier.WaitReady(ctx, objects)
}

var errBroken = errors.New("broken on purpose")

func statusOf(r *release.Record) helmrelease.Status { return r.Release.Info.Status }
