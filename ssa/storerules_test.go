package ssa_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/internal/prooftest"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

// A policy that rewrites what we own costs one apply when it comes and one when
// it goes.
func TestStorePolicy(t *testing.T) {
	f := newFollowed(t, func(s *ssa.Store) { s.Hurry(3 * time.Second) })
	objs := objects(t, configMap("a", "nginx"))
	f.pass(t, objs)
	f.quiet(t, objs)
	name := f.Owner.Namespace
	policy := objects(t, fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: %[1]s}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}]}
  matchConditions: [{name: ours, expression: "object.metadata.namespace == '%[1]s' && object.metadata.name == 'a'"}]
  mutations: [{patchType: JSONPatch, jsonPatch: {expression: "[JSONPatch{op: 'replace', path: '/data/key', value: 'mirror/' + object.data.key.replace('mirror/','')}]"}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: %[1]s}
spec: {policyName: %[1]s}
`, name))
	admin, _ := clientFor(t, f.config, "policy", name)
	must(t)(admin.Apply(t.Context(), policy, nil))
	value := func() string {
		data, _ := get(t, f.Client, configMaps, "a").Object["data"].(map[string]any)
		return fmt.Sprint(data["key"])
	}
	eventually(t, "rewriting by the policy", func() bool {
		f.pass(t, objs)
		return value() == "mirror/nginx"
	})
	set := f.quiet(t, objs)
	if set.Changed() {
		t.Error(set.Summary())
	}
	must(t)(admin.Prune(t.Context(), nil, nil))
	eventually(t, "restoring after the policy", func() bool {
		f.pass(t, objs)
		return value() == "nginx"
	})
	f.quiet(t, objs)
}

// An identity that may no longer apply hears of it though nothing changed.
func TestStoreAccess(t *testing.T) {
	f := newFollowed(t, func(s *ssa.Store) { s.AccessAge = 200 * time.Millisecond })
	admin, _ := clientFor(t, f.config, "rbac", f.Owner.Namespace)
	rbac := objects(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenant}
rules: [{apiGroups: [""], resources: [configmaps], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}
subjects: [{kind: User, name: tenant, apiGroup: rbac.authorization.k8s.io}]
`)
	must(t)(admin.Apply(t.Context(), rbac, nil))
	tenant := rest.CopyConfig(f.config)
	tenant.Impersonate.UserName = "tenant"
	client, w := clientFor(t, tenant, "app", f.Owner.Namespace)
	client.Store, client.Prover, client.Identity = f.store, f.Prover, "tenant"
	client.Mapper = f.Mapper // discovery is not what this is about
	f.Client, f.wire = client, w
	objs := objects(t, configMap("a", "1"))
	eventually(t, "permission", func() bool { _, err := f.Apply(t.Context(), objs, nil); return err == nil })
	f.quiet(t, objs)

	eventually(t, "another review", func() bool {
		_, requests := f.pass(t, objs)
		return len(requests) == 1 && count(requests, "POST") == 1
	})
	must(t)(admin.Prune(t.Context(), nil, nil))
	eventually(t, "refusal", func() bool {
		_, err := f.Apply(t.Context(), objs, nil)
		return errors.Is(err, ssa.ErrForbidden)
	})
}

// What the store knows of an object serves only the owner that its labels name.
func TestStoreOwners(t *testing.T) {
	f := newFollowed(t, nil)
	objs := objects(t, configMap("a", "1"))
	f.pass(t, objs)
	set := f.quiet(t, objs)
	other, w := clientFor(t, f.config, "other", f.Owner.Namespace)
	other.Store, other.Prover = f.store, f.Prover
	w.take()
	diff := must(t)(other.Diff(t.Context(), objs, nil))
	if requests := w.take(); !diff.Changed() || count(requests, "DRYRUN") != 1 {
		t.Errorf("%s, %v", diff.Summary(), requests)
	}
	statuses, err := other.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Timeout: 300 * time.Millisecond})
	if err == nil || statuses[0].State != ssa.NotFound {
		t.Errorf("another owner sees the object: %v", statuses)
	}
	must(t)(other.Apply(t.Context(), objs, nil))
	f.settled(t, configMapsGVR, "a")
	if set, requests := f.pass(t, objs); set.Count(ssa.Configured) != 1 || count(requests, "DRYRUN") == 0 {
		t.Errorf("%s, %v", set.Summary(), requests)
	}
}

// Confirmations do not last for ever, and are not renewed all at once.
func TestStoreAge(t *testing.T) {
	f := newFollowed(t, nil)
	manifests := ""
	for i := range 30 {
		manifests += configMap(fmt.Sprintf("c%d", i), "1")
	}
	objs := objects(t, manifests)
	f.pass(t, objs)
	f.quiet(t, objs)
	f.store.Age(21 * time.Hour)
	if _, requests := f.pass(t, objs); len(requests) > 0 {
		t.Errorf("after 21 hours: %v", requests)
	}
	f.store.Age(2 * time.Hour)
	if _, requests := f.pass(t, objs); len(requests) == 0 || len(requests) == 30 {
		t.Errorf("after 23 hours: %d requests", len(requests))
	}
	f.store.Age(2 * time.Hour)
	if _, requests := f.pass(t, objs); count(requests, "DRYRUN") == 0 {
		t.Errorf("after 25 hours: %v", requests)
	}
	f.quiet(t, objs)
}

// Kinds that nobody uses are no longer followed.
func TestStoreIdle(t *testing.T) {
	f := newFollowed(t, func(s *ssa.Store) { s.Idle = time.Minute })
	objs := objects(t, configMap("a", "1"))
	f.pass(t, objs)
	f.quiet(t, objs)
	f.store.Drop()
	if n := f.store.Followed(); n != 2 { // with the inventories
		t.Errorf("follows %d kinds", n)
	}
	f.stop()
	f.store.Idle = time.Millisecond
	f.run(t)
	f.pass(t, objs)
	eventually(t, "dropping", func() bool { return f.store.Followed() == 0 })
	if set, _ := f.pass(t, objs); set.Count(ssa.Unchanged) != 1 {
		t.Error(set.Summary())
	}
}

// A changed definition makes what was confirmed of its objects void, and its end
// is the end of them.
func TestStoreDefinition(t *testing.T) {
	f := newFollowed(t, nil)
	definition := func(extra string) string {
		return fmt.Sprintf(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.store.example.com}
spec:
  group: store.example.com
  names: {kind: Gadget, plural: gadgets}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {a: {type: string}%s}}}}}}]
`, extra)
	}
	gadget := "---\napiVersion: store.example.com/v1\nkind: Gadget\nmetadata: {name: g}\nspec: {a: x}\n"
	objs := objects(t, definition("")+gadget)
	f.pass(t, objs)
	f.quiet(t, objs)
	widened := objects(t, definition(", b: {type: string, default: d}")+gadget)
	must(t)(f.Apply(t.Context(), widened[:1], nil))
	eventually(t, "question about the object", func() bool {
		_, requests := f.pass(t, widened)
		return slices.ContainsFunc(requests, func(r string) bool { return strings.HasPrefix(r, "DRYRUN") && strings.Contains(r, "gadgets/g") })
	})
	f.quiet(t, widened)
	must(t)(f.Prune(t.Context(), nil, nil))
	eventually(t, "end of the kind", func() bool {
		statuses, err := f.WaitDeleted(t.Context(), []ssa.ObjectID{{Group: "store.example.com", Kind: "Gadget", Namespace: f.Owner.Namespace, Name: "g"}}, nil)
		return err == nil && statuses[0].State == ssa.NotFound
	})
}

// A server that refuses or fails makes the store silent, never wrong.
func TestStoreRefused(t *testing.T) {
	for _, c := range []struct {
		name, path string
		code       int
		times      int // 0: always
		answers    bool
	}{
		{"throttled", "/configmaps", http.StatusTooManyRequests, 3, true},
		{"failing", "/configmaps", http.StatusInternalServerError, 3, true},
		{"forbidden", "/api/v1/configmaps", http.StatusForbidden, 0, false},
		{"blind for policies", "/mutatingadmissionpolicies", http.StatusForbidden, 0, false},
		{"without policies", "/mutatingadmissionpolicies", http.StatusNotFound, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			refusals := make(chan struct{}, 100)
			env := testenv.Start(t)
			config := rest.CopyConfig(env.Config())
			config.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if n := len(refusals); strings.HasSuffix(r.URL.Path, c.path) && r.Method == http.MethodGet && (c.times == 0 || n < c.times) {
						select {
						case refusals <- struct{}{}:
						default:
						}
						reasons := map[int]string{429: "TooManyRequests", 500: "InternalError", 403: "Forbidden", 404: "NotFound"}
						response := answer(r, c.code, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d}`, reasons[c.code], c.code))
						return response, nil
					}
					return next.RoundTrip(r)
				})
			})
			f := follow(t, env.Config(), env.Namespace, func(s *ssa.Store) {
				refusing, _ := clientFor(t, config, "store", env.Namespace)
				s.Dynamic = refusing.Dynamic
			})
			objs := objects(t, configMap("a", "1"))
			f.pass(t, objs)
			if c.answers {
				f.quiet(t, objs)
				return
			}
			<-refusals
			for range 3 {
				if set, requests := f.pass(t, objs); set.Count(ssa.Unchanged) != 1 || len(requests) == 0 {
					t.Errorf("%s, %v", set.Summary(), requests)
				}
			}
			if statuses, err := f.Wait(t.Context(), []ssa.ObjectID{f.ID(objs[0])}, nil); err != nil {
				t.Error(statuses, err)
			}
		})
	}
}

var ownedCases = flag.Int("owned-cases", 1500, "random cases for the digest of owned values")

// TestRandomOwned: where a body was proven to be part of an object, and the
// digest of what we own is the same later, it still is.
func TestRandomOwned(t *testing.T) {
	f := newFollowed(t, nil)
	disco, err := discovery.NewDiscoveryClientForConfig(f.config)
	if err != nil {
		t.Fatal(err)
	}
	types := &proof.Server{Client: disco.OpenAPIV3(), MaxAge: time.Hour}
	data, err := os.ReadFile("proof/testdata/manifests.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type state struct {
		live, manifest *unstructured.Unstructured
		fields         *managedfields.FieldManager
		owned          string
	}
	var states []state
	for _, obj := range objects(t, string(data)) {
		if obj.GetKind() == "Widget" || ssa.ClusterScoped(f.Client, obj) {
			continue
		}
		obj.SetName(obj.GetName() + "-owned")
		obj.SetNamespace(f.Owner.Namespace)
		m, err := f.Mapper.RESTMapping(obj.GroupVersionKind().GroupKind(), obj.GroupVersionKind().Version)
		if err != nil {
			t.Fatal(err)
		}
		live, err := f.Dynamic.Resource(m.Resource).Namespace(f.Owner.Namespace).Apply(t.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "gitopskit"})
		if err != nil {
			t.Fatal(err)
		}
		converter, err := types.TypeConverter(t.Context(), obj.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		fields, err := prooftest.FieldManager(converter, obj.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		if v := proof.NoOp(t.Context(), live, obj, "gitopskit", types); v.Unchanged {
			states = append(states, state{live: live, manifest: obj, fields: fields, owned: ssa.OwnedDigest(live, "gitopskit")})
		}
	}
	if len(states) < 12 {
		t.Fatalf("only %d objects are proven", len(states))
	}
	r := rand.New(rand.NewPCG(1, 2))
	same, proven := 0, 0
	for range *ownedCases {
		s := states[r.IntN(len(states))]
		live := s.live.DeepCopy()
		for range 1 + r.IntN(3) {
			changed := live.DeepCopy()
			prooftest.Mutate(r, changed)
			if updated, err := s.fields.Update(live.DeepCopy(), changed, "rival"); err == nil && r.IntN(10) > 0 {
				live, _ = updated.(*unstructured.Unstructured)
			} else {
				live = changed // as if the managed fields were forged
			}
		}
		if v := proof.NoOp(t.Context(), live, s.manifest, "gitopskit", types); v.Unchanged {
			proven++
		} else if ssa.OwnedDigest(live, "gitopskit") == s.owned && !strings.Contains(v.Why, "does not fit") {
			t.Errorf("the digest misses a change: %s\nbefore: %v\nafter: %v", v.Why, s.live.Object, live.Object)
		}
		if s.owned != "" && ssa.OwnedDigest(live, "gitopskit") == s.owned {
			same++
		}
	}
	t.Logf("of %d cases %d were proven to leave what we own, of which the digest told %d", *ownedCases, proven, same)
	if same < proven/2 {
		t.Error("the digest tells next to nothing")
	}
}

var memoryObjects = flag.Int("memory-objects", 500, "objects of the test of memory")

// Memory that a store takes for each object, everything included.
func TestStoreMemory(t *testing.T) {
	n := *memoryObjects
	f := newFollowed(t, nil)
	f.Concurrency = 16
	manifests := &strings.Builder{}
	for i := range n {
		manifests.WriteString(configMap(fmt.Sprintf("object-%d", i), strings.Repeat("x", 500)))
	}
	objs := objects(t, manifests.String())
	f.pass(t, objs)
	f.quiet(t, objs)
	f.stop()
	before := heap()
	f.run(t)
	f.pass(t, objs) // with a receipt for each
	f.quiet(t, objs)
	each := (int64(heap()) - int64(before)) / int64(n)
	t.Logf("%d bytes of heap for each object", each)
	if each > 800 {
		t.Errorf("an object takes %d bytes, more than 800", each)
	}
	runtime.KeepAlive(objs)
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
