package chaos_test

import (
	"io"
	"net/http"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// TestKubernetes: clients of a real API server take the faults for what they play, whatever form they ask for.
func TestKubernetes(t *testing.T) {
	env := testenv.Start(t)
	f := &chaos.Faults{}
	config := env.Config()
	config.WrapTransport = f.Wrap
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	maps := d.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(env.Namespace)
	object := func(name string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}}}
	}
	for _, c := range []struct {
		fault chaos.Fault
		is    func(error) bool
	}{
		{chaos.Fault{Kind: chaos.Conflict}, apierrors.IsConflict},
		{chaos.Fault{Kind: chaos.Internal}, apierrors.IsInternalError},
		{chaos.Fault{Kind: chaos.Unavailable}, apierrors.IsServiceUnavailable},
		{chaos.Fault{Kind: chaos.Reset}, utilnet.IsConnectionReset},
		{chaos.Fault{Kind: chaos.Refused}, utilnet.IsConnectionRefused},
		{chaos.Fault{Kind: chaos.Lost}, utilnet.IsConnectionReset},
		{chaos.Fault{Kind: chaos.Conflict}, func(err error) bool { return !apierrors.IsAlreadyExists(err) && apierrors.IsConflict(err) }},
	} {
		f.Set(chaos.Rule{Match: chaos.Writes, Faults: []chaos.Fault{c.fault}})
		if _, err := maps.Create(t.Context(), object("a"), metav1.CreateOptions{}); !c.is(err) {
			t.Errorf("%s: %v", c.fault.Kind, err)
		}
	}
	f.Set()
	if _, err := maps.Create(t.Context(), object("a"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("what was lost was not done: %v", err)
	}

	config = env.Config()
	config.WrapTransport, config.ContentType, config.AcceptContentTypes = f.Wrap, "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	f.Set(chaos.Rule{Match: chaos.Watches, Faults: []chaos.Fault{{Kind: chaos.ExpireWatch, N: 1}, {Kind: chaos.EndWatch, N: 1}}})
	for _, expires := range []bool{true, false} {
		w, err := typed.CoreV1().ConfigMaps(env.Namespace).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=a"})
		if err != nil {
			t.Fatal(err)
		}
		if e := <-w.ResultChan(); e.Type != watch.Added {
			t.Errorf("%+v", e)
		}
		e, open := <-w.ResultChan()
		if open != expires || open && !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
			t.Errorf("%v %+v", open, e)
		}
		w.Stop()
	}
}

// TestWrapped: who looks for the transport below, for its dialer or its idle connections, finds it.
func TestWrapped(t *testing.T) {
	base := &idler{}
	wrapped := (&chaos.Faults{}).Wrap(base)
	(&http.Client{Transport: wrapped}).CloseIdleConnections()
	below, ok := wrapped.(utilnet.RoundTripperWrapper)
	if !ok || below.WrappedRoundTripper() != base || base.closed != 1 {
		t.Error("it does not")
	}
}

type idler struct{ closed int }

func (i *idler) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.EOF }
func (i *idler) CloseIdleConnections()                           { i.closed++ }
