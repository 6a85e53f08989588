package proof_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

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

// manager is ours.
const manager = "gitopskit"

// cluster is a real API server with the corpus's definitions.
type cluster struct {
	dynamic   dynamic.Interface
	mapper    meta.RESTMapper
	discovery *discovery.DiscoveryClient
	types     *proof.Server
	namespace string
}

// start returns a cluster that has the kinds of the corpus.
func start(t *testing.T) *cluster {
	t.Helper()
	env := testenv.Start(t)
	config := rest.CopyConfig(env.Config())
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		dynamic: dyn, discovery: disco, namespace: env.Namespace,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		types:  &proof.Server{Client: disco.OpenAPIV3(), MaxAge: 100 * time.Millisecond},
	}
	for _, obj := range read(t, "testdata/definitions.yaml") {
		if _, err := c.apply(t.Context(), obj, manager); err != nil {
			t.Fatal(err)
		}
	}
	widget := schema.GroupVersionKind{Group: "proof.example.com", Version: "v1", Kind: "Widget"}
	c.eventually(t, "the schema of Widget", func() error {
		meta.MaybeResetRESTMapper(c.mapper)
		if _, err := c.mapper.RESTMapping(widget.GroupKind(), "v1"); err != nil {
			return err
		}
		converter, err := c.types.TypeConverter(t.Context(), widget)
		if err != nil {
			return err
		}
		_, err = converter.ObjectToTyped(object("proof.example.com/v1", "Widget", "x"))
		return err
	})
	return c
}

// eventually repeats f until it succeeds.
func (c *cluster) eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func object(apiVersion, kind, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetAPIVersion(apiVersion)
	obj.SetKind(kind)
	obj.SetName(name)
	return obj
}

// read parses a file of manifests.
func read(t testing.TB, name string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096); ; {
		raw := map[string]any{}
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		data, err := (&unstructured.Unstructured{Object: raw}).MarshalJSON()
		obj := &unstructured.Unstructured{}
		if err == nil {
			err = obj.UnmarshalJSON(data) // numbers as a server reads them
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, obj)
	}
}

// corpus returns the manifests with suffix in the names of the objects.
func (c *cluster) corpus(t testing.TB, suffix string) []*unstructured.Unstructured {
	t.Helper()
	objs := read(t, "testdata/manifests.yaml")
	for _, obj := range objs {
		obj.SetName(obj.GetName() + suffix)
		m, err := c.mapper.RESTMapping(obj.GroupVersionKind().GroupKind(), obj.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		if m.Scope.Name() == meta.RESTScopeNameNamespace {
			obj.SetNamespace(c.namespace)
		}
	}
	return objs
}

func (c *cluster) resource(obj *unstructured.Unstructured) dynamic.ResourceInterface {
	m, err := c.mapper.RESTMapping(obj.GroupVersionKind().GroupKind(), obj.GroupVersionKind().Version)
	if err != nil {
		panic(err)
	}
	if obj.GetNamespace() == "" {
		return c.dynamic.Resource(m.Resource)
	}
	return c.dynamic.Resource(m.Resource).Namespace(obj.GetNamespace())
}

func (c *cluster) get(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return c.resource(obj).Get(ctx, obj.GetName(), metav1.GetOptions{})
}

func (c *cluster) apply(ctx context.Context, obj *unstructured.Unstructured, manager string, dryRun ...string) (*unstructured.Unstructured, error) {
	return c.resource(obj).Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: manager, Force: true, DryRun: dryRun})
}

func (c *cluster) patch(ctx context.Context, obj *unstructured.Unstructured, patch, by string, subresource ...string) (*unstructured.Unstructured, error) {
	return c.resource(obj).Patch(ctx, obj.GetName(), types.JSONPatchType, []byte(patch), metav1.PatchOptions{FieldManager: by}, subresource...)
}

// applyAll applies objects, patiently with those that need another first.
func (c *cluster) applyAll(t *testing.T, objs []*unstructured.Unstructured) {
	t.Helper()
	for _, obj := range objs {
		c.eventually(t, obj.GetKind()+" "+obj.GetName(), func() error {
			_, err := c.apply(t.Context(), obj, manager)
			return err
		})
	}
}

// tally counts the outcomes of many cases.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	why    map[string]int
}

func (y *tally) add(outcome, why string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.counts == nil {
		y.counts, y.why = map[string]int{}, map[string]int{}
	}
	y.counts[outcome]++
	if why != "" {
		why, _, _ = strings.Cut(why, ":")
		y.why[outcome+": "+why]++
	}
}

func (y *tally) String() string {
	var out []string
	for _, m := range []map[string]int{y.counts, y.why} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			out = append(out, fmt.Sprintf("%7d %s", m[k], k))
		}
	}
	return strings.Join(out, "\n")
}

func isRefusal(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < 500 && !apierrors.IsConflict(err) && !apierrors.IsTooManyRequests(err) ||
		err != nil && strings.Contains(err.Error(), "failed to create typed patch object") || apierrors.IsInternalError(err)
}
