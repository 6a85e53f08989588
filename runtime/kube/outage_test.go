package kube_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// gone is an answer of the API server that what was asked for has expired.
var gone = chaos.Fault{Kind: chaos.Answer, Status: http.StatusGone, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old"}`}

// statusWrites are the times at which the status of an object was sent.
func statusWrites(faults *chaos.Faults, name string) (at []time.Time) {
	for _, e := range faults.Journal() {
		if path, _, _ := strings.Cut(e.URI, "?"); e.Method == http.MethodPatch && strings.HasSuffix(path, "/kustomizations/"+name+"/status") {
			at = append(at, e.At)
		}
	}
	return at
}

// TestOutages is what TestFaults leaves out because it takes its time: how long is waited between tries, and how many
// there are. The objects are reconciled beside each other.
func TestOutages(t *testing.T) {
	t.Parallel()
	const timeout = 5 * time.Second // of the client
	faults := &chaos.Faults{}
	w := newWorld(t, nil, func(config *rest.Config) { config.Wrap(faults.Wrap); config.Timeout = timeout })
	cases := map[string]struct {
		fault          chaos.Fault
		times          int
		passes, writes int
		pauses         []time.Duration // at least, between the writes
	}{
		// The client waits for as long as it is told, and sends the same again.
		"retry-after": {chaos.Fault{Kind: chaos.Throttled, After: 3 * time.Second}, 1, 1, 2, []time.Duration{3 * time.Second}},
		// Another pass is made after a pause that doubles.
		"five-errors": {
			chaos.Fault{Kind: chaos.Internal}, 5, 6, 6,
			[]time.Duration{750 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 6 * time.Second, 12 * time.Second},
		},
		"gone": {gone, 1, 2, 2, []time.Duration{750 * time.Millisecond}},
		// The object is read again after a conflict, which fails.
		"gone-get": {chaos.Fault{Kind: chaos.Conflict}, 1, 2, 2, []time.Duration{750 * time.Millisecond}},
		// Never answered: the timeout of the client ends it, and another pass writes it.
		"hang": {chaos.Fault{Kind: chaos.Hang}, 1, 2, 2, []time.Duration{timeout}},
	}
	rules := []chaos.Rule{{Match: chaos.On(http.MethodGet, "/kustomizations/gone-get"), Times: 1, Faults: []chaos.Fault{gone}}}
	for name, c := range cases {
		rules = append(rules, chaos.Rule{Match: chaos.On(http.MethodPatch, "/kustomizations/"+name+"/status"), Times: c.times, Faults: []chaos.Fault{c.fault}})
	}
	faults.Set(rules...)
	for name := range cases {
		w.create(name, nil)
	}
	w.create("beside", nil)
	w.eventually("beside", "ready while the others have their troubles", ready)
	for name, c := range cases {
		w.until("all but the last write of "+name, func() bool { return len(statusWrites(faults, name)) >= c.writes-1 })
		w.eventually(name, "ready", ready)
	}
	w.create("marker", nil)
	w.eventually("marker", "ready", ready)
	for name, c := range cases {
		at := statusWrites(faults, name)
		if n := w.logic.count(name); n != c.passes || len(at) != c.writes {
			t.Errorf("%s: %d passes, %d writes of the status; want %d and %d", name, n, len(at), c.passes, c.writes)
			continue
		}
		for i, pause := range c.pauses {
			if got := at[i+1].Sub(at[i]); got < pause {
				t.Errorf("%s: write %d came %v after the one before, want %v", name, i+1, got, pause)
			}
		}
	}
}

// TestHangInAPass has a pass ask for something that is never answered: the timeout of the object ends it, its status
// tells, and the next pass asks again.
func TestHangInAPass(t *testing.T) {
	t.Parallel()
	w, faults := faulty(t, nil)
	hc, err := rest.HTTPClientFor(w.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	c, err := client.New(w.config, client.Options{Scheme: testScheme(t), HTTPClient: hc})
	if err != nil {
		t.Fatal(err)
	}
	faults.Set(chaos.Rule{Match: chaos.On(http.MethodGet, "/configmaps/asked"), Times: 1, Faults: []chaos.Fault{{Kind: chaos.Hang}}})
	w.logic.set(func(ctx context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		err := c.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: "asked"}, &corev1.ConfigMap{})
		if client.IgnoreNotFound(err) != nil {
			return kube.Fail("Unanswered", errors.Join(err, context.Cause(ctx)))
		}
		return kube.Ready("answered")
	})
	w.create("app", func(k *kustomizev1.Kustomization) {
		k.Spec.Timeout, k.Spec.RetryInterval = &metav1.Duration{Duration: 500 * time.Millisecond}, &metav1.Duration{Duration: time.Second}
	})
	w.eventually("app", "failed", func(k *kustomizev1.Kustomization) bool {
		c := status.Get(k, status.Ready)
		return c != nil && c.Status == metav1.ConditionFalse && strings.Contains(c.Message, "timeout of 500ms is over")
	})
	w.eventually("app", "ready", ready)
	if n, asked := w.logic.count("app"), faults.Requests(http.MethodGet, "/configmaps/asked"); n != 2 || asked != 2 {
		t.Errorf("%d passes, asked %d times; want 2 of each", n, asked)
	}
}
