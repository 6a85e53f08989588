package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http/internal/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

func configMaps() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
}

func TestFollow(t *testing.T) {
	env := testenv.Start(t)
	d, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Dynamic: d, Namespace: env.Namespace}
	f, err := c.Follow(t.Context(), configMaps())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	names := []string{"a", "b"}
	var refs []Ref
	var objects []*unstructured.Unstructured
	for _, n := range names {
		refs = append(refs, Ref{"configmaps", n})
		objects = append(objects, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": n}}})
	}
	if err := c.Create(t.Context(), configMaps(), objects); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), configMaps(), objects); err == nil || !strings.Contains(err.Error(), "create configmaps of v1: ") {
		t.Errorf("a second time: %v", err)
	}
	if err := c.Request(t.Context(), configMaps(), names, "now"); err != nil {
		t.Fatal(err)
	}
	asked := func(_ Ref, o *unstructured.Unstructured) (string, error) {
		if o == nil || o.GetAnnotations()[RequestedAt] != "now" {
			return "it is not asked", nil
		}
		return "", nil
	}
	if err := f.Until(t.Context(), refs, asked); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if err := f.Until(t.Context(), refs, func(Ref, *unstructured.Unstructured) (string, error) { return "", broken }); !errors.Is(err, broken) || !strings.Contains(err.Error(), "configmaps/") {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Until(ended, append(refs, Ref{"configmaps", "c"}), asked); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "configmaps/c: it is not asked") {
		t.Errorf("got %v", err)
	}
	if err := c.Remove(t.Context(), configMaps(), names); err != nil {
		t.Error(err)
	}
	if err := f.Until(t.Context(), refs, Gone); err != nil {
		t.Error(err)
	}
	if err := c.Check(t.Context(), configMaps(), schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "nothings"}); err == nil || !strings.Contains(err.Error(), "no nothings of example.com/v1") {
		t.Errorf("got %v", err)
	}
}

// status is an object with the status of a reconciler.
func status(generation, observed int64, conditions ...[3]string) *unstructured.Unstructured {
	var list []any
	for _, c := range conditions {
		list = append(list, map[string]any{"type": c[0], "status": c[1], "reason": "Because", "message": c[2]})
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"generation": generation},
		"status":   map[string]any{"observedGeneration": observed, "conditions": list, "lastHandledReconcileAt": "earlier"},
	}}
}

func TestReadyAt(t *testing.T) {
	good := func(Ref, *unstructured.Unstructured) string { return "" }
	for _, tt := range []struct {
		name string
		o    *unstructured.Unstructured
		at   func(Ref, *unstructured.Unstructured) string
		want string // "error: " starts an error
	}{
		{"ready", status(2, 2, [3]string{"Ready", "True", "all is well"}), good, ""},
		{"missing", nil, good, "it does not exist"},
		{"untouched", status(1, -1), good, "no controller has looked at it"},
		{"old", status(2, 1, [3]string{"Ready", "True", "all was well"}), good, "generation 1, not 2"},
		{"failed", status(2, 1, [3]string{"Ready", "False", "no such host"}), good, "Ready is False: Because: no such host"},
		{"stalled", status(2, 2, [3]string{"Ready", "False", "bad"}, [3]string{"Stalled", "True", "bad"}), good, "error: stalled: Because: bad"},
		{"stalled before", status(2, 1, [3]string{"Ready", "False", "bad"}, [3]string{"Stalled", "True", "bad"}), good, "Ready is False"},
		{"unanswered", status(2, 2, [3]string{"Ready", "True", "all is well"}), Answered("now"), "has not answered the request for a pass now, but \"earlier\""},
		{"answered", status(2, 2, [3]string{"Ready", "True", "all is well"}), Answered("earlier"), ""},
	} {
		lacks, err := ReadyAt(tt.at)(Ref{}, tt.o)
		if err != nil {
			lacks = "error: " + err.Error()
		}
		if (lacks == "") != (tt.want == "") || !strings.Contains(lacks, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, lacks, tt.want)
		}
	}
}

func TestGone(t *testing.T) {
	deleted := status(1, 1, [3]string{"Ready", "False", "cannot prune"})
	now := metav1.Now()
	deleted.SetDeletionTimestamp(&now)
	held := deleted.DeepCopy()
	held.SetFinalizers([]string{"finalizers.fluxcd.io"})
	for want, o := range map[string]*unstructured.Unstructured{
		"": nil, "it is not deleted": status(1, 1), "it is being deleted; Ready: cannot prune": deleted,
		"waits for the controller that removes its finalizer finalizers.fluxcd.io; Ready: cannot prune": held,
	} {
		got, err := Gone(Ref{}, o)
		if err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestUnfinished(t *testing.T) {
	w := &wait{lacking: map[Ref]string{}}
	for i := range 7 {
		w.lacking[Ref{"things", fmt.Sprint(i)}] = "patience"
	}
	got := w.unfinished(context.Canceled, errors.New("no route")).Error()
	want := "context canceled: 7 objects are not there yet:\nthings/0: patience\nthings/1: patience\nthings/2: patience\nthings/3: patience\nthings/4: patience\nand 2 more\nthe watch was interrupted, last by: no route"
	if got != want {
		t.Errorf("got %s", got)
	}
}
