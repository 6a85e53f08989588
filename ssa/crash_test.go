package ssa_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

var (
	crashes = flag.Int("ssa.crashes", 10, "random histories of the crash test")
	seed    = flag.Uint64("ssa.seed", 1, "where the random tests of crashes and faults begin")
)

// crashEnv is the variable that makes this program the one that is killed.
const crashEnv = "SSA_CRASH"

// crashRun is what the process that is killed has to do, and when it dies.
type crashRun struct {
	Kubeconfig, Namespace string
	Seed                  uint64 // of the history; 0 is the fixed one
	From                  int    // the revision it begins with
	Write                 int    // the write it dies at
	// When is "before" the request leaves, "after" the answer has come, or "amid"
	// the two, Delay after the request was written.
	When  string
	Delay time.Duration
}

func (r crashRun) String() string {
	return fmt.Sprintf("killed %s write %d of the run from revision %d", r.When, r.Write, r.From)
}

// history is the one the run plays.
func (r crashRun) history() *crashHistory {
	if r.Seed != 0 {
		return newCrashHistory(r.Seed, r.Namespace)
	}
	return &crashHistory{namespace: r.Namespace, concurrency: 1, revisions: []crashRevision{
		{app: configMap("a", "1") + configMap("b", "1") + "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n"},
		{app: configMap("a", "2") + configMap("c", "1") + "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 80}]}\n"},
	}}
}

// TestKilledAtEveryWrite kills a process with SIGKILL before and after each of
// its writes. Whatever the moment, the next run must own exactly its objects:
// nothing lost, nothing orphaned.
func TestKilledAtEveryWrite(t *testing.T) {
	for k := 1; ; k++ {
		var kills atomic.Int64
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			for _, when := range []string{"before", "after"} {
				t.Run(when, func(t *testing.T) {
					t.Parallel()
					env := testenv.Start(t)
					r := crashRun{Kubeconfig: env.Kubeconfig(), Namespace: env.Namespace, Write: k, When: when}
					if _, killed := r.killed(t); killed {
						kills.Add(1)
					}
					c, _ := clientFor(t, env.Config(), "app", env.Namespace)
					checkInventory(t, c, nil, r.String())
					objs := objects(t, configMap("c", "1"))
					must(t)(c.Apply(t.Context(), objs, nil))
					must(t)(c.Prune(t.Context(), objs, nil))
					checkExactly(t, c, objs, r.String())
				})
			}
		})
		if t.Failed() || kills.Load() == 0 {
			if k < 10 {
				t.Errorf("only %d writes were made", k-1)
			}
			return
		}
	}
}

// TestKilledAtRandom kills processes that play random histories, each up to three
// times in a row, before a write, after it, or while the answer is on its way, and
// lets one run to its end. At each moment the inventory has whatever the owner
// has in the cluster; at the end both are exactly the last revision; what others
// have is as it was; what was handed over is still the same object.
func TestKilledAtRandom(t *testing.T) {
	var kills, ends atomic.Int64
	t.Run("seeds", func(t *testing.T) {
		for s := *seed; s < *seed+uint64(*crashes); s++ {
			t.Run(fmt.Sprint(s), func(t *testing.T) {
				t.Parallel()
				crashOnce(t, s, &kills, &ends)
			})
		}
	})
	t.Logf("%d histories, %d processes killed, %d runs ended before their turn", *crashes, kills.Load(), ends.Load())
	if kills.Load() < int64(*crashes)/2 {
		t.Error("too few were killed")
	}
}

func crashOnce(t *testing.T, seed uint64, kills, ends *atomic.Int64) {
	env := testenv.Start(t)
	h := newCrashHistory(seed, env.Namespace)
	w := newCrashWorld(t, env, h)
	rng := rand.New(rand.NewPCG(seed, 2))
	from := 0
	for range 1 + rng.IntN(3) {
		run := crashRun{
			Kubeconfig: env.Kubeconfig(), Namespace: env.Namespace, Seed: seed, From: from, Write: 1 + rng.IntN(max(h.writes(from)*3/4, 1)),
			When: []string{"before", "after", "amid"}[rng.IntN(3)], Delay: time.Duration(rng.IntN(4000)) * time.Microsecond,
		}
		reached, killed := run.killed(t)
		if killed {
			kills.Add(1)
		} else {
			ends.Add(1)
		}
		w.check(t, run.String())
		if t.Failed() {
			t.Fatalf("reproduce with -run TestKilledAtRandom -ssa.crashes 1 -ssa.seed %d", seed)
		}
		if h.heirFirst || rng.IntN(3) > 0 { // else it is rolled back, also a hand-over, which takes the old owner to come first
			from = reached
		}
		if from < len(h.revisions)-1 && rng.IntN(2) == 0 {
			from++ // somebody committed meanwhile
		}
	}
	w.finish(t)
	if t.Failed() {
		t.Fatalf("reproduce with -run TestKilledAtRandom -ssa.crashes 1 -ssa.seed %d", seed)
	}
}

// crashWorld is the namespace of a history, seen from outside.
type crashWorld struct {
	*crashHistory
	owners  map[string]*ssa.Client
	foreign map[string]string                   // resourceVersions of objects of others
	moved   map[ssa.ObjectID]map[types.UID]bool // what was seen of objects that are handed over
}

// newCrashWorld makes what exists before the history begins.
func newCrashWorld(t *testing.T, env *testenv.Env, h *crashHistory) *crashWorld {
	w := &crashWorld{crashHistory: h, owners: map[string]*ssa.Client{}, foreign: map[string]string{}, moved: map[ssa.ObjectID]map[types.UID]bool{}}
	for _, owner := range []string{"app", "heir", "neighbour"} {
		w.owners[owner], _ = clientFor(t, env.Config(), owner, env.Namespace)
		w.owners[owner].Policy = crashPolicy()
	}
	must(t)(w.owners["neighbour"].Apply(t.Context(), objects(t, configMap("neighbour", "1")), nil))
	cms := w.owners["app"].Dynamic.Resource(configMapsGVR).Namespace(env.Namespace)
	for name, manager := range map[string]string{"plain": "somebody", "taken": "kubectl-client-side-apply"} {
		obj := objects(t, configMap(name, "before"))[0]
		if _, err := cms.Create(t.Context(), obj, metav1.CreateOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"plain", "neighbour"} {
		w.foreign[name] = get(t, w.owners["app"], configMaps, name).GetResourceVersion()
	}
	if h.polluted {
		inv := &ssa.Inventory{}
		for name := range w.foreign {
			inv.Entries = append(inv.Entries, ssa.Entry{Object: ssa.ObjectID{Kind: "ConfigMap", Namespace: env.Namespace, Name: name}, Version: "v1"})
		}
		store := &ssa.ConfigMapInventory{Dynamic: w.owners["app"].Dynamic, Namespace: env.Namespace, Name: "app-inventory"}
		if err := store.Save(t.Context(), inv); err != nil {
			t.Fatal(err)
		}
	}
	if h.definition {
		crds := w.owners["app"].Dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
		t.Cleanup(func() {
			if err := crds.Delete(context.WithoutCancel(t.Context()), "widgets."+env.Namespace+".example.com", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

// check is what has to hold at any moment.
func (w *crashWorld) check(t *testing.T, moment string) {
	t.Helper()
	handed := w.revisions[len(w.revisions)-1].handed
	for _, owner := range []string{"app", "heir"} {
		checkInventory(t, w.owners[owner], handed, moment)
	}
	for _, id := range handed {
		if live := get(t, w.owners["app"], configMaps, id.Name); live != nil {
			if w.moved[id] == nil {
				w.moved[id] = map[types.UID]bool{}
			}
			if w.moved[id][live.GetUID()] = true; len(w.moved[id]) > 1 {
				t.Errorf("%s: %s was made anew though it was only handed over", moment, id)
			}
		}
	}
	for name, version := range w.foreign {
		if live := get(t, w.owners["app"], configMaps, name); live == nil || live.GetResourceVersion() != version {
			t.Errorf("%s: the object %s of somebody else was touched: %v", moment, name, live)
		}
	}
}

// finish plays the last revision to its end and looks at everything.
func (w *crashWorld) finish(t *testing.T) {
	t.Helper()
	steps, err := w.steps(len(w.revisions) - 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		must(t)(w.owners[s.owner].Apply(t.Context(), s.objs, nil))
		must(t)(w.owners[s.owner].Prune(t.Context(), s.objs, s.prune))
	}
	w.check(t, "at the end")
	for _, s := range steps {
		c := w.owners[s.owner]
		checkExactly(t, c, s.objs, "at the end")
		if set := must(t)(c.Apply(t.Context(), s.objs, nil)); set.Changed() {
			t.Errorf("another pass changes %v", actions(set))
		}
		if set := must(t)(c.Prune(t.Context(), s.objs, s.prune)); len(set.Changes) > 0 {
			t.Errorf("another pass prunes %v", actions(set))
		}
	}
}

// owned returns the objects that carry the labels of a client's owner.
func owned(t *testing.T, c *ssa.Client) []ssa.ObjectID {
	t.Helper()
	widget := schema.GroupVersionKind{Group: c.Owner.Namespace + ".example.com", Version: "v1", Kind: "Widget"}
	rbac, apps := schema.GroupVersion{Group: "rbac.authorization.k8s.io", Version: "v1"}, schema.GroupVersion{Group: "apps", Version: "v1"}
	resources := []schema.GroupVersionResource{
		configMapsGVR, configMapsGVR.GroupVersion().WithResource("secrets"), configMapsGVR.GroupVersion().WithResource("services"), configMapsGVR.GroupVersion().WithResource("serviceaccounts"),
		rbac.WithResource("roles"), rbac.WithResource("rolebindings"), apps.WithResource("deployments"),
		widget.GroupVersion().WithResource("widgets"), {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	}
	selector := fmt.Sprintf("gitopskit.github.io/name=%s,gitopskit.github.io/namespace=%s", c.Owner.Name, c.Owner.Namespace)
	var out []ssa.ObjectID
	for _, r := range resources {
		list, err := c.Dynamic.Resource(r).List(t.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil && r.Resource != "widgets" { // those need a definition
			t.Fatal(err)
		}
		if err == nil {
			for i := range list.Items {
				out = append(out, ssa.IDOf(&list.Items[i]))
			}
		}
	}
	slices.SortFunc(out, ssa.ObjectID.Compare)
	return out
}

// inventoried returns what the stored inventory of a client has.
func inventoried(t *testing.T, c *ssa.Client) []ssa.ObjectID {
	t.Helper()
	inv, err := (&ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: c.Owner.Name + "-inventory"}).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []ssa.ObjectID
	for _, e := range inv.Entries {
		out = append(out, e.Object)
	}
	slices.SortFunc(out, ssa.ObjectID.Compare)
	return out
}

// checkInventory fails unless all that the owner has is in its inventory, but for
// what is being handed over.
func checkInventory(t *testing.T, c *ssa.Client, handed []ssa.ObjectID, moment string) {
	t.Helper()
	live := owned(t, c) // before the inventory: an answer may still be on its way, and the inventory never lags behind
	known := inventoried(t, c)
	for _, id := range live {
		if !slices.Contains(known, id) && !slices.Contains(handed, id) {
			t.Errorf("%s: %s belongs to %s and is not in its inventory", moment, id, c.Owner)
		}
	}
}

// checkExactly fails unless the owner has these objects and no others, and its
// inventory says so.
func checkExactly(t *testing.T, c *ssa.Client, objs []*unstructured.Unstructured, moment string) {
	t.Helper()
	var want []ssa.ObjectID
	for _, obj := range objs {
		want = append(want, c.ID(obj))
	}
	slices.SortFunc(want, ssa.ObjectID.Compare)
	same(t, moment+": objects of "+c.Owner.String(), owned(t, c), want)
	same(t, moment+": inventory of "+c.Owner.String(), inventoried(t, c), want)
}

// killed runs a process, and returns which revision it reached and whether it was
// killed before it ended.
func (r crashRun) killed(t *testing.T) (reached int, killed bool) {
	t.Helper()
	order, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+string(order))
	var diagnostics strings.Builder
	cmd.Stderr = &diagnostics
	out, err := cmd.Output()
	lines := strings.Fields(string(out))
	if len(lines) > 0 {
		if reached, err = strconv.Atoi(lines[len(lines)-1]); err != nil {
			t.Fatal(err)
		}
	}
	state := cmd.ProcessState
	switch {
	case state != nil && state.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL: // on unix
		return reached, true
	case state == nil || !state.Success():
		t.Fatalf("%s: %v\n%s", r, err, diagnostics.String())
	}
	return reached, false
}

// crashChild is the process that is killed.
func crashChild() {
	var r crashRun
	err := json.Unmarshal([]byte(os.Getenv(crashEnv)), &r)
	if err == nil {
		err = r.play(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// play plays the history, up to the moment of death.
func (r crashRun) play(ctx context.Context) error {
	h := r.history()
	clients, err := r.clients(ctx, h)
	if err != nil {
		return err
	}
	for n := r.From; n < len(h.revisions); n++ {
		fmt.Println(n)
		steps, err := h.steps(n)
		if err != nil {
			return err
		}
		for _, s := range steps {
			if _, err := clients[s.owner].Apply(ctx, s.objs, nil); err != nil {
				return fmt.Errorf("revision %d: %w", n, err)
			}
			if _, err := clients[s.owner].Prune(ctx, s.objs, s.prune); err != nil {
				return fmt.Errorf("revision %d: %w", n, err)
			}
		}
	}
	return nil
}

// clients makes the clients of the two owners, of which the first to come to the
// fatal write ends the process.
func (r crashRun) clients(ctx context.Context, h *crashHistory) (map[string]*ssa.Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", r.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.Wrap(r.fatal)
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	var store *ssa.Store
	var prover ssa.Prover
	if h.followed {
		store = &ssa.Store{Dynamic: dyn}
		prover = &proof.Prover{Types: &proof.Server{Client: disco.OpenAPIV3()}}
		go func() {
			if err := store.Run(ctx); err != nil {
				panic(err)
			}
		}()
	}
	clients := map[string]*ssa.Client{}
	for _, owner := range []string{"app", "heir"} {
		clients[owner] = &ssa.Client{
			Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
			Owner: ssa.Owner{Name: owner, Namespace: r.Namespace}, DefaultNamespace: r.Namespace, Concurrency: h.concurrency, Policy: crashPolicy(),
			Store: store, Prover: prover,
		}
	}
	return clients, nil
}

// fatal ends the process at one of its writes.
func (r crashRun) fatal(next http.RoundTripper) http.RoundTripper {
	die := func() { syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} } //nolint:errcheck // there is no after
	var writes atomic.Int64
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodGet || req.URL.Query().Get("dryRun") != "" || strings.HasSuffix(req.URL.Path, "accessreviews") || writes.Add(1) != int64(r.Write) {
			return next.RoundTrip(req)
		}
		switch r.When {
		case "before":
			die()
		case "amid":
			req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
				WroteRequest: func(httptrace.WroteRequestInfo) { time.AfterFunc(r.Delay, die) },
			}))
		}
		resp, err := next.RoundTrip(req)
		if r.When == "after" {
			die()
		}
		return resp, err
	})
}
