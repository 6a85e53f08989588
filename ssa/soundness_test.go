package ssa_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/offline"
)

var webhookConfigurations = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}

// gate is the store's connection, which can be cut for one resource.
type gate struct {
	dynamic.Interface
	resource schema.GroupVersionResource

	mu              sync.Mutex
	onWatch, onList error
	restored        bool // from an old backup: lists have an old version, watches from a newer one are silent
	active          []watch.Interface
}

type gated struct {
	dynamic.NamespaceableResourceInterface
	gate *gate
}

func (g *gate) Resource(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	if r == g.resource {
		return gated{g.Interface.Resource(r), g}
	}
	return g.Interface.Resource(r)
}

func (r gated) List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	r.gate.mu.Lock()
	err, restored := r.gate.onList, r.gate.restored
	r.gate.mu.Unlock()
	if err != nil {
		return nil, err
	}
	list, err := r.NamespaceableResourceInterface.List(ctx, o)
	if err == nil && restored {
		list.SetResourceVersion("1")
		for i := range list.Items {
			list.Items[i].SetResourceVersion("1")
		}
	}
	return list, err
}

func (r gated) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	if r.gate.onWatch != nil {
		return nil, r.gate.onWatch
	}
	if r.gate.restored {
		return watch.NewFake(), nil
	}
	w, err := r.NamespaceableResourceInterface.Watch(ctx, o)
	if err == nil {
		r.gate.active = append(r.gate.active, w)
	}
	return w, err
}

// close ends the watches and has those that follow, and lists, fail; nil opens it.
func (g *gate) close(onWatch, onList error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onWatch, g.onList = onWatch, onList
	if onWatch != nil {
		for _, w := range g.active {
			w.Stop()
		}
		g.active = nil
	}
}

// counted is a client's connection that counts applies, and may do something
// after each.
type counted struct {
	dynamic.Interface
	applies atomic.Int64
	after   func(context.Context, dynamic.ResourceInterface, *unstructured.Unstructured, metav1.ApplyOptions) (*unstructured.Unstructured, error)
}

type countedResource struct {
	dynamic.NamespaceableResourceInterface
	c *counted
}

type countedNamespace struct {
	dynamic.ResourceInterface
	c *counted
}

func (c *counted) Resource(r schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return countedResource{c.Interface.Resource(r), c}
}

func (r countedResource) Namespace(n string) dynamic.ResourceInterface {
	return countedNamespace{r.NamespaceableResourceInterface.Namespace(n), r.c}
}

func (r countedNamespace) Apply(ctx context.Context, name string, obj *unstructured.Unstructured, o metav1.ApplyOptions, sub ...string) (*unstructured.Unstructured, error) {
	r.c.applies.Add(1)
	out, err := r.ResourceInterface.Apply(ctx, name, obj, o, sub...)
	if err == nil && r.c.after != nil {
		return r.c.after(ctx, r.ResourceInterface, out, o)
	}
	return out, err
}

// still is a client of an offline cluster with a running store, in the time of
// a synctest bubble: everything happens at once, and nothing by itself.
type still struct {
	*ssa.Client
	t    *testing.T
	gate *gate
	sent *counted
	stop func() // the store
}

func inStillness(t *testing.T, resource schema.GroupVersionResource, f func(t *testing.T, s *still)) {
	synctest.Test(t, func(t *testing.T) {
		cluster, err := offline.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &still{t: t, gate: &gate{Interface: cluster.Dynamic(), resource: resource}, sent: &counted{Interface: cluster.Dynamic()}}
		store := &ssa.Store{Dynamic: s.gate, Version: func(context.Context) (string, error) { return "one", nil }}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- store.Run(ctx) }()
		s.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		defer s.stop()
		s.Client = &ssa.Client{Dynamic: s.sent, Mapper: cluster.Mapper(), Owner: ssa.Owner{Name: "app", Namespace: "default"}, DefaultNamespace: "default", Store: store}
		time.Sleep(time.Minute)
		f(t, s)
	})
}

// apply applies manifests and returns the change of one object, and how many
// applies it took.
func (s *still) apply(manifests, name string, verify ssa.Verify) (ssa.Change, int) {
	s.t.Helper()
	before := s.sent.applies.Load()
	set, err := s.Apply(s.t.Context(), objects(s.t, manifests), &ssa.ApplyOptions{Verify: verify})
	if err != nil {
		s.t.Fatal(err)
	}
	return set.Changes[slices.IndexFunc(set.Changes, func(c ssa.Change) bool { return c.Object.Name == name })], int(s.sent.applies.Load() - before)
}

// settle applies until it takes no request.
func (s *still) settle(manifests, name string) {
	s.t.Helper()
	for range 4 {
		s.apply(manifests, name, ssa.VerifyAuto)
		time.Sleep(time.Minute)
	}
	if change, n := s.apply(manifests, name, ssa.VerifyAuto); n != 0 || change.Action != ssa.Unchanged {
		s.t.Fatalf("%s is %s after %d applies", name, change.Action, n)
	}
}

func (s *still) configMaps() dynamic.ResourceInterface {
	return s.gate.Interface.Resource(configMapsGVR).Namespace("default")
}

func (s *still) edit(name, value string) {
	s.t.Helper()
	if _, err := s.configMaps().Patch(s.t.Context(), name, types.MergePatchType, []byte(`{"data":{"key":"`+value+`"}}`), metav1.PatchOptions{FieldManager: "rival"}); err != nil {
		s.t.Fatal(err)
	}
}

// drifts returns what a watch of manifests, just applied, tells while f runs and
// in the hour after.
func (s *still) drifts(manifests string, verify ssa.Verify, f func()) []string {
	s.t.Helper()
	set, err := s.Apply(s.t.Context(), objects(s.t, manifests), &ssa.ApplyOptions{Verify: verify})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	var told []string
	go func() { ended <- s.Watch(ctx, set, func(d ssa.Drift) { told = append(told, d.String()) }) }()
	time.Sleep(10 * time.Second)
	f()
	time.Sleep(time.Hour)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		s.t.Errorf("the watch ended: %v", err)
	}
	return told
}

// TestGhost: what is applied and deleted while the store cannot see it is not
// taken for unchanged afterwards.
func TestGhost(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.Prover = ssa.ProverFunc(func(context.Context, *unstructured.Unstructured, *unstructured.Unstructured, string) (bool, string) {
			return true, ""
		})
		s.settle(configMap("a", "1"), "a")
		s.gate.close(apierrors.NewResourceExpired("too old"), nil)
		time.Sleep(time.Second)
		both := configMap("a", "1") + configMap("b", "1")
		s.apply(both, "b", ssa.VerifyAuto)
		if err := s.configMaps().Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		s.gate.close(nil, nil)
		time.Sleep(2 * time.Minute)
		if change, _ := s.apply(both, "b", ssa.VerifyAuto); change.Action != ssa.Created {
			t.Errorf("the deleted object is %s", change.Action)
		}
	})
}

func webhook() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": map[string]any{"name": "x"},
		"webhooks": []any{map[string]any{
			"name": "x.example.com", "sideEffects": "None", "admissionReviewVersions": []any{"v1"}, "clientConfig": map[string]any{"url": "https://x.example.com"},
			"rules": []any{map[string]any{"apiGroups": []any{"*"}, "apiVersions": []any{"*"}, "operations": []any{"*"}, "resources": []any{"*"}}},
		}},
	}}
}

// TestWebhookGoesUnseen: a webhook that is deleted while the store may not see
// webhooks makes confirmations void all the same.
func TestWebhookGoesUnseen(t *testing.T) {
	inStillness(t, webhookConfigurations, func(t *testing.T, s *still) {
		hooks := s.gate.Interface.Resource(webhookConfigurations)
		if _, err := hooks.Create(t.Context(), webhook(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.settle(configMap("a", "1"), "a")
		s.gate.close(apierrors.NewForbidden(schema.GroupResource{}, "x", nil), nil)
		time.Sleep(5 * time.Second)
		if err := hooks.Delete(t.Context(), "x", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, n := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto); n == 0 {
			t.Error("the server was not asked though nobody sees webhooks")
		}
		s.gate.close(nil, nil)
		time.Sleep(3 * time.Minute)
		if _, n := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto); n == 0 {
			t.Error("the server was not asked after the webhook had gone")
		}
	})
}

// TestProofIsNoCure: what a new webhook made void is not made good by a proof,
// which knows nothing of webhooks, because the watch of the kind has a gap.
func TestProofIsNoCure(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.Prover = ssa.ProverFunc(func(context.Context, *unstructured.Unstructured, *unstructured.Unstructured, string) (bool, string) {
			return true, ""
		})
		s.settle(configMap("a", "1"), "a")
		if _, err := s.gate.Interface.Resource(webhookConfigurations).Create(t.Context(), webhook(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.gate.close(apierrors.NewServiceUnavailable("a moment"), nil)
		time.Sleep(100 * time.Millisecond)
		if _, n := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto); n == 0 {
			t.Error("the server was not asked")
		}
	})
}

// TestProofAges: what only a proof confirmed, as after a restart, is asked of the
// server within hours.
func TestProofAges(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.Prover = ssa.ProverFunc(func(context.Context, *unstructured.Unstructured, *unstructured.Unstructured, string) (bool, string) {
			return true, ""
		})
		store := s.Store
		s.Store = nil
		s.apply(configMap("a", "1"), "a", ssa.VerifyAlways)
		s.Store = store
		s.settle(configMap("a", "1"), "a")
		hours := func(n int) (asked int) {
			for range n {
				time.Sleep(time.Hour)
				_, applies := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto)
				asked += applies
			}
			return asked
		}
		same(t, "asked in three hours", hours(3), 1)
		same(t, "asked in the day after", hours(20), 0)
	})
}

// TestWriteIsNoFixpoint: what admission made of a new object may be applied again
// with another outcome, so the server is asked once more.
func TestWriteIsNoFixpoint(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.settle(configMap("z", "1"), "z")
		created := false
		s.sent.after = func(ctx context.Context, r dynamic.ResourceInterface, obj *unstructured.Unstructured, o metav1.ApplyOptions) (*unstructured.Unstructured, error) {
			if created || len(o.DryRun) > 0 || obj.GetName() != "a" {
				return obj, nil
			}
			created = true
			if err := unstructured.SetNestedField(obj.Object, "mirror/1", "data", "key"); err != nil {
				return nil, err
			}
			return r.Update(ctx, obj, metav1.UpdateOptions{FieldManager: "admission"})
		}
		s.apply(configMap("a", "1"), "a", ssa.VerifyAuto)
		time.Sleep(time.Minute)
		if change, _ := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto); change.Action != ssa.Configured {
			t.Errorf("what admission rewrote is %s", change.Action)
		}
	})
}

// TestWatchEverything: a watch tells drift of what was applied without the
// store, nothing of what the client itself wrote, what became another object
// unseen, and goes on when the store ends or is refused.
func TestWatchEverything(t *testing.T) {
	changed := []string{"ConfigMap/default/a was changed by somebody else"}
	t.Run("applied without the store", func(t *testing.T) {
		inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
			same(t, "told", s.drifts(configMap("a", "1"), ssa.VerifyAlways, func() { s.edit("a", "evil") }), changed)
		})
	})
	t.Run("own write", func(t *testing.T) {
		inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
			s.settle(configMap("a", "1"), "a")
			for range 3 {
				same(t, "told", s.drifts(configMap("a", "2"), ssa.VerifyAlways, func() {}), []string(nil))
			}
		})
	})
	t.Run("store stopped", func(t *testing.T) {
		inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
			s.settle(configMap("a", "1"), "a")
			told := s.drifts(configMap("a", "1"), ssa.VerifyAuto, func() {
				s.stop()
				time.Sleep(time.Minute)
			})
			same(t, "told", told, changed) // it may have been, nobody knows
		})
	})
	t.Run("store refused", func(t *testing.T) {
		inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
			s.settle(configMap("a", "1"), "a")
			told := s.drifts(configMap("a", "1"), ssa.VerifyAuto, func() {
				s.gate.close(apierrors.NewForbidden(schema.GroupResource{}, "x", nil), apierrors.NewForbidden(schema.GroupResource{}, "x", nil))
				time.Sleep(time.Minute)
				s.edit("a", "evil")
			})
			same(t, "told", told, changed)
		})
	})
	t.Run("made again in a gap", func(t *testing.T) {
		inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
			s.settle(configMap("a", "1"), "a")
			told := s.drifts(configMap("a", "1"), ssa.VerifyAuto, func() {
				s.gate.close(apierrors.NewResourceExpired("too old"), nil)
				time.Sleep(time.Second)
				obj, err := s.configMaps().Get(t.Context(), "a", metav1.GetOptions{})
				if err == nil {
					err = s.configMaps().Delete(t.Context(), "a", metav1.DeleteOptions{})
				}
				if err != nil {
					t.Fatal(err)
				}
				obj.SetUID("")
				obj.SetResourceVersion("")
				obj.SetManagedFields(nil)
				obj.Object["data"] = map[string]any{"key": "evil"}
				if _, err := s.configMaps().Create(t.Context(), obj, metav1.CreateOptions{FieldManager: "rival"}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20 * time.Second)
				s.gate.close(nil, nil)
			})
			same(t, "told", told, changed)
		})
	})
}

// TestContestCountsRepairs: a repair that another object of the set prevents is
// none.
func TestContestCountsRepairs(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.settle(configMap("a", "1"), "a")
		s.edit("a", "evil")
		bad := "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\nbogus: x\n"
		for range 7 {
			time.Sleep(65 * time.Second)
			if _, err := s.Apply(t.Context(), objects(t, configMap("a", "1")+bad), nil); err == nil {
				t.Fatal("an unknown field was accepted")
			}
		}
		change, _ := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto)
		if change.Action != ssa.Configured || change.Rival == nil || change.Rival.Repairs != 1 {
			t.Errorf("the first repair: %s, %+v", change.Action, change.Rival)
		}
	})
}

// TestWaitSeesOwnWrites: a wait after an apply is for what was applied, also if
// that was without the store, in another version of the kind, or while the store
// may not see the kind.
func TestWaitSeesOwnWrites(t *testing.T) {
	ready := `{"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,"conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"}]}}`
	ids := []ssa.ObjectID{{Group: "apps", Kind: "Deployment", Namespace: "default", Name: "web"}}
	for _, test := range []struct {
		name   string
		verify ssa.Verify
		shut   error
	}{
		{"as ever", ssa.VerifyAuto, nil},
		{"without the store", ssa.VerifyAlways, nil},
		{"store refused", ssa.VerifyAlways, apierrors.NewForbidden(schema.GroupResource{}, "x", nil)},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 5 {
				inStillness(t, deployments, func(t *testing.T, s *still) {
					s.apply(deployment("web", 1), "web", ssa.VerifyAuto)
					time.Sleep(10 * time.Second)
					if _, err := s.gate.Interface.Resource(deployments).Namespace("default").Patch(t.Context(), "web", types.MergePatchType, []byte(ready), metav1.PatchOptions{}, "status"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second)
					if _, err := s.Wait(t.Context(), ids, &ssa.WaitOptions{Timeout: time.Minute}); err != nil {
						t.Fatal(err)
					}
					if test.shut != nil {
						s.gate.close(test.shut, test.shut)
						time.Sleep(time.Second)
					}
					s.apply(strings.ReplaceAll(deployment("web", 1), "web:1", "web:2"), "web", test.verify)
					if statuses, err := s.Wait(t.Context(), ids, &ssa.WaitOptions{Timeout: time.Minute}); err == nil {
						t.Errorf("ready before anybody has seen it: %v", statuses)
					}
				})
			}
		})
	}
}

// TestRestored: after the server was restored from a backup nothing that was
// known is believed, though it resumes watches as if nothing had been.
func TestRestored(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.settle(configMap("a", "1"), "a")
		s.gate.close(apierrors.NewServiceUnavailable("down"), nil)
		time.Sleep(time.Second)
		s.gate.mu.Lock()
		s.gate.restored = true
		s.gate.mu.Unlock()
		s.gate.close(nil, nil)
		time.Sleep(2 * time.Minute)
		if _, n := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto); n == 0 {
			t.Error("the server was not asked")
		}
	})
}

// TestFirstListExpires: a list that takes the server too long is begun again, and
// not after a minute.
func TestFirstListExpires(t *testing.T) {
	inStillness(t, configMapsGVR, func(t *testing.T, s *still) {
		s.gate.close(nil, apierrors.NewResourceExpired("too old"))
		s.apply(configMap("a", "1"), "a", ssa.VerifyAuto)
		time.Sleep(time.Second)
		s.gate.close(nil, nil)
		for range 3 {
			time.Sleep(5 * time.Second)
			s.apply(configMap("a", "1"), "a", ssa.VerifyAuto)
		}
		if _, n := s.apply(configMap("a", "1"), "a", ssa.VerifyAuto); n != 0 {
			t.Error("the store knows nothing yet")
		}
	})
}
