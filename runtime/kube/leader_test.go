package kube_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// replica is a controller that elects its leader. Each of its passes writes as long as it is let, whatever its context
// says.
type replica struct {
	mgr        manager.Manager
	controller *kube.Controller[*kustomizev1.Kustomization]
	faults     *chaos.Faults
	ended      chan error

	mu       sync.Mutex
	versions []string // of what was written
	refused  int      // writes for want of leadership
}

func (r *replica) wrote() (versions []string, refused int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.versions, r.refused
}

// replicate starts a replica whose passes end when done is closed.
func (w *world) replicate(name string, config *rest.Config, done <-chan struct{}) *replica {
	w.t.Helper()
	r := &replica{faults: &chaos.Faults{}, ended: make(chan error, 1)}
	config = rest.CopyConfig(config)
	config.Wrap(r.faults.Wrap)
	lease, renew, retry := 3*time.Second, 2*time.Second, 300*time.Millisecond
	mgr, err := kube.NewManager(config, manager.Options{
		Scheme: testScheme(w.t), Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{w.namespace: {}}},
		LeaderElection: true, LeaderElectionID: "replicas", LeaderElectionNamespace: w.namespace, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	r.mgr = mgr
	l := &logic{passes: map[string]int{}, finalize: succeed, step: func(_ context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		for {
			select {
			case <-done:
				return kube.Ready("by " + name)
			default:
			}
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-", Namespace: k.Namespace}}
			err := mgr.GetClient().Create(context.Background(), cm)
			r.mu.Lock()
			if err == nil {
				r.versions = append(r.versions, cm.ResourceVersion)
			} else if errors.Is(err, kube.ErrLeadershipLost) {
				r.refused++
			}
			r.mu.Unlock()
			if err != nil {
				<-time.After(time.Millisecond)
			}
		}
	}}
	opts := w.options()
	opts.Finalizer, opts.Watches, opts.References, opts.Event = "", nil, nil, nil
	if r.controller, err = kube.Add(w.t.Context(), mgr, l, opts); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	go func() { r.ended <- mgr.Start(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-r.ended; err != nil && !errors.Is(err, kube.ErrLeadershipLost) {
			w.t.Error(err)
		}
		mgr.GetHTTPClient().CloseIdleConnections()
	})
	return r
}

// role checks what a process is ready as.
func role(t *testing.T, probes *kube.Probes, want string) {
	t.Helper()
	for path, body := range map[string]string{"/readyz": "ok\nrole=" + want + "\n", "/healthz": "ok\n"} {
		rec := httptest.NewRecorder()
		probes.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if rec.Code != http.StatusOK || rec.Body.String() != body {
			t.Errorf("%s: %d %q, want %q", path, rec.Code, rec.Body, body)
		}
	}
}

// TestLeaderPartition cuts the leader off: from the lease alone, so that its other writes would still arrive, and from
// everything, while a write hangs. The API server sees no write of it after the first one of the next leader.
func TestLeaderPartition(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]chaos.Rule{
		"from the lease": {Match: chaos.On("", "/leases/"), Faults: []chaos.Fault{{Kind: chaos.Refused}}},
		"hanging lease":  {Match: chaos.On("", "/leases/"), Faults: []chaos.Fault{{Kind: chaos.Hang}}},
		"altogether":     {Faults: []chaos.Fault{{Kind: chaos.Hang}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) { // keep out of it
				o.Select = func(*kustomizev1.Kustomization) bool { return false }
			})
			w.create("app", nil)
			done := make(chan struct{})
			finish := sync.OnceFunc(func() { close(done) })
			t.Cleanup(finish)
			config := rest.CopyConfig(w.config)
			config.WrapTransport = nil
			first := w.replicate("first", config, done)
			<-first.mgr.Elected()
			w.until("the first writes", func() bool { n, _ := first.wrote(); return len(n) > 2 })
			second := w.replicate("second", config, done)
			if !second.mgr.GetCache().WaitForCacheSync(t.Context()) || len(maps.Collect(second.controller.All())) != 0 {
				t.Error("a replica that does not lead tells of objects")
			}
			probes := &kube.Probes{}
			role(t, probes, "standby")
			probes.Follow(first.mgr)
			role(t, probes, "leader")
			standby := &kube.Probes{}
			standby.Follow(second.mgr)
			role(t, standby, "standby")
			first.faults.Set(rule)
			first.faults.Break()
			w.until("the second writes", func() bool { n, _ := second.wrote(); return len(n) > 2 })
			if len(maps.Collect(second.controller.All())) != 1 {
				t.Error("the leader does not tell of its object")
			}
			w.until("the first is refused", func() bool { _, refused := first.wrote(); return refused > 2 })
			role(t, probes, "standby")
			role(t, standby, "leader")
			first.faults.Set()
			finish()
			err := <-first.ended
			first.ended <- err
			if !errors.Is(err, kube.ErrLeadershipLost) {
				t.Errorf("the first ended with %v", err)
			}
			before, _ := first.wrote()
			after, _ := second.wrote()
			if order, err := resourceversion.CompareResourceVersion(before[len(before)-1], after[0]); err != nil || order >= 0 {
				t.Errorf("the last write of the first is %s, the first of the second %s: %v", before[len(before)-1], after[0], err)
			}
			t.Logf("%d writes of the first, %d of the second", len(before), len(after))
			w.eventually("app", "the status of the second", func(k *kustomizev1.Kustomization) bool {
				c := status.Get(k, status.Ready)
				if c != nil && c.Message == "by first" {
					t.Error("the first has written the status")
				}
				return c != nil && c.Message == "by second"
			})
		})
	}
}
