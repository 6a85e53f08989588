package controllers_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

var kills = flag.Int("controllers.kills", 0, "at how many writes of a pass the controllers are killed; 0 means at all, before and after")

// commitMap is a commit that has one ConfigMap more than before, one less, and one changed.
func (g *gitServer) commitMap(t *testing.T, namespace string, i int) string {
	t.Helper()
	cm := "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  namespace: " + namespace + "\ndata:\n  at: v%d\n"
	return g.commit(t, "app", fmt.Sprintf("Change %d", i), map[string]string{
		"deploy/always.yaml":                   fmt.Sprintf(cm, "always", i),
		fmt.Sprintf("deploy/only%d.yaml", i):   fmt.Sprintf(cm, fmt.Sprintf("only-%d", i), i),
		fmt.Sprintf("deploy/only%d.yaml", i-1): "",
	})
}

const follower = `
apiVersion: v1
kind: Secret
metadata: {name: git}
stringData: {username: robot, password: pa55word}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: app}
spec: {interval: 500ms, url: URL, ref: {branch: main}, secretRef: {name: git}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app}
spec: {interval: 1h, retryInterval: 1s, prune: true, wait: true, path: ./deploy, sourceRef: {kind: GitRepository, name: app}}
`

// TestStoryKilledAtEveryWrite kills the controllers before and after each write of a pass, has another commit made
// meanwhile, and finds exactly what the last commit says: nothing is lost, and nothing left behind.
func TestStoryKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	last := g.commitMap(t, w.namespace, 0)
	w.apply(follower, "URL", g.url+"/app")
	options := w.options()
	options.StorageAddr = freeAddr(t) // the artifacts stay where they are when the process is another
	killed, commits := 0, 0
	positions := *kills
	for at := 1; ; at++ {
		if positions > 0 && at > positions {
			break
		}
		struck := false
		for _, after := range []bool{false, true} {
			if positions > 0 && after != (at%2 == 0) {
				continue // one of the two
			}
			commits++
			last = g.commitMap(t, w.namespace, commits)
			began := time.Now()
			cmd := w.start(child{Kubeconfig: env.Kubeconfig(), Options: options, KillAt: at, After: after})
			if w.killedOrReady(cmd, "Kustomization/app", last) {
				killed++
				struck = true
			}
			t.Logf("write %d, after it %v: %v", at, after, time.Since(began))
		}
		if !struck {
			break // a pass has no more writes
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 4 {
		t.Errorf("killed only %d times", killed)
	}
	kill := w.spawn(env.Kubeconfig(), options)
	defer kill()
	k := w.readyAt("Kustomization/app", last)
	w.ready("Kustomization/app")
	w.sameAsInventory(k)
}

// freeAddr is an address that nothing listens on, and that no connection gets by chance.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		const first, ports = 20_000, 12_000 // below those that the system gives away
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(ports)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

// killedOrReady waits until a process has killed itself, or has done all there was to do.
func (w *world) killedOrReady(cmd *exec.Cmd, ref, revision string) bool {
	w.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for deadline := time.Now().Add(60 * time.Second); ; {
		select {
		case err := <-ended:
			if !chaos.Killed(err) {
				w.t.Fatalf("the controllers ended by themselves: %v", err)
			}
			return true
		case <-time.After(50 * time.Millisecond):
		}
		k := w.get(ref)
		done := condition(k, "Ready")["status"] == "True" && strings.Contains(condition(k, "Ready")["message"], revision)
		if done || time.Now().After(deadline) {
			cmd.Process.Kill() //nolint:errcheck // it may have ended
			waited := <-ended
			if !done {
				w.t.Fatalf("neither killed nor ready: %v; its status is %v", waited, k.Object["status"])
			}
			return false
		}
	}
}

// sameAsInventory checks that the objects with the labels of a Kustomization are those of its inventory.
func (w *world) sameAsInventory(k *unstructured.Unstructured) {
	w.t.Helper()
	var inventory, labelled []string
	entries, _, _ := unstructured.NestedSlice(k.Object, "status", "inventory", "entries")
	for _, e := range entries {
		data, _ := json.Marshal(e)
		var entry struct{ ID string }
		if err := json.Unmarshal(data, &entry); err != nil {
			w.t.Fatal(err)
		}
		inventory = append(inventory, strings.Split(entry.ID, "_")[1])
	}
	list, err := w.resource(w.kind("ConfigMap"), w.namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "kustomize.toolkit.fluxcd.io/name=app"})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range list.Items {
		labelled = append(labelled, o.GetName())
	}
	slices.Sort(inventory)
	slices.Sort(labelled)
	if !slices.Equal(inventory, labelled) || len(labelled) != 2 {
		w.t.Errorf("the inventory has %v, the cluster %v", inventory, labelled)
	}
}

// gate is a server that can be made to keep requests waiting.
type gate struct {
	http.Handler
	mu     sync.Mutex
	opened chan struct{} // nil while it is open
	held   chan struct{} // gets something when a request waits
}

// shut keeps requests waiting until open is called.
func (g *gate) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	opened := make(chan struct{})
	g.opened, g.held = opened, make(chan struct{}, 1)
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		close(opened)
		g.opened = nil
	})
}

func (g *gate) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	opened, held := g.opened, g.held
	g.mu.Unlock()
	if opened != nil {
		select {
		case held <- struct{}{}:
		default:
		}
		select {
		case <-opened:
		case <-r.Context().Done():
			return
		}
	}
	g.Handler.ServeHTTP(rw, r)
}

// TestStoryTerminated tells the controllers to end while they are busy. What was being done is done and told, the
// lease is given back and the next process leads at once; what does not come to an end is ended after the grace; and
// when they are told again they end at once.
func TestStoryTerminated(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	slow := &gate{Handler: g.Server}
	server := httptest.NewServer(slow)
	t.Cleanup(server.Close)
	w.apply(follower, "URL", server.URL+"/app")
	for i := range 20 {
		w.apply(strings.ReplaceAll(follower[strings.Index(follower, "---"):], "name: app", fmt.Sprintf("name: load-%d", i)), "URL", g.url+"/app", "500ms", "200ms", "prune: true", "prune: true, suspend: true")
	}
	w.patch("Kustomization/app", `{"spec":{"timeout":"2m"}}`)
	addr, told := freeAddr(t), 0
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) //nolint:errcheck // then its end is noticed
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	start := func(grace time.Duration, hold string) *exec.Cmd {
		o := w.options()
		o.EventsAddr = silent.URL // events never arrive, and nobody waits for that
		o.EnableLeaderElection, o.StorageAddr, o.GracefulShutdownTimeout = true, addr, grace
		o.LeaderElectionLeaseDuration, o.LeaderElectionRenewDeadline, o.LeaderElectionRetryPeriod = 3*time.Minute, 2*time.Minute, time.Second
		return w.start(child{Kubeconfig: env.Kubeconfig(), Options: o, Hold: hold})
	}
	terminate := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		told++
		w.loggedTimes("told to end", told)
	}

	first := start(time.Minute, "")
	w.readyAt("Kustomization/app", g.commitMap(t, w.namespace, 1))
	open := slow.shut()
	defer open()
	commit := g.commitMap(t, w.namespace, 2)
	<-slow.held
	began := time.Now()
	terminate(first)
	open()
	if err := first.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	t.Logf("ended after %v; a pass was let finish", time.Since(began))
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("ended after %v, although nothing was left to do", took)
	}
	if holder := w.holder(); holder != "" {
		t.Errorf("%s still has the lease", holder)
	}
	if o := w.get("GitRepository/app"); !strings.Contains(text(o, "status", "artifact", "revision"), commit) {
		t.Errorf("the result of the pass that was running is lost: %v", o.Object["status"])
	}

	const grace = 6 * time.Second
	second := start(grace, "")
	w.readyAt("Kustomization/app", commit) // long before the lease would be over
	lost := w.holder()
	third := start(time.Minute, "/configmaps/")
	open = slow.shut()
	defer open()
	<-slow.held
	began = time.Now()
	terminate(second)
	if err := second.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	t.Logf("ended after %v; a pass was cut off after %v", time.Since(began), grace)
	if took := time.Since(began); took < grace || took > grace*10/6 {
		t.Errorf("ended after %v, with a grace of %v", took, grace)
	}
	open()
	began = time.Now()
	for holder := ""; holder == "" || holder == lost; holder = w.holder() {
		if time.Since(began) > time.Minute {
			t.Fatalf("nobody leads: the lease is held by %q", holder)
		}
		<-time.After(25 * time.Millisecond)
	}
	t.Logf("another one leads after %v", time.Since(began))

	g.commitMap(t, w.namespace, 3)
	w.logged("a write is held")
	terminate(third)
	began = time.Now()
	if err := third.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := third.Wait(); err == nil {
		t.Error("ended as if all was done")
	}
	t.Logf("ended %v after being told again", time.Since(began))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("ended %v after being told again", took)
	}
}

// holder is who has the lease of the controllers.
func (w *world) holder() string {
	w.t.Helper()
	o, err := w.resource(schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}, w.namespace).
		Get(w.t.Context(), "gitopskit-leader-election", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return text(o, "spec", "holderIdentity")
}

// TestReadyExpr has one Kustomization wait for another by an expression instead of its conditions, and tells what is
// wrong with one that cannot be.
func TestReadyExpr(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	commit := g.commitMap(t, w.namespace, 1)
	w.run(all(), w.options())
	w.apply(follower, "URL", g.url+"/app")
	w.apply(`
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: after}
spec:
  interval: 1h
  prune: true
  path: ./deploy
  sourceRef: {kind: GitRepository, name: app}
  dependsOn: [{name: app, readyExpr: "EXPRESSION"}]
`, "EXPRESSION", "dep.metadata.labels.release == 'two' && dep.status.lastAppliedRevision != ''")
	w.readyAt("Kustomization/app", commit)
	w.failed("Kustomization/after", "DependencyNotReady", "no such key: labels")
	w.patch("Kustomization/app", `{"metadata":{"labels":{"release":"one"}}}`)
	w.failed("Kustomization/after", "DependencyNotReady", "is not true yet")
	w.patch("Kustomization/app", `{"metadata":{"labels":{"release":"two"}}}`)
	w.ready("Kustomization/after")
	w.patch("Kustomization/after", `{"spec":{"dependsOn":[{"name":"app","readyExpr":"dep. =="}]}}`)
	w.failed("Kustomization/after", "InvalidCELExpression", "<input>:1:")
}

// asked asks a process what it is ready as, all the time, and returns every change of the answer.
func asked(t *testing.T, addr string) (answers func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	add := func(answer string) {
		mu.Lock()
		defer mu.Unlock()
		if len(all) == 0 || all[len(all)-1] != answer {
			all = append(all, answer)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for ; t.Context().Err() == nil; <-time.After(2 * time.Millisecond) {
			resp, err := client.Get("http://" + addr + "/readyz")
			if err != nil {
				add(err.Error())
				continue
			}
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			add(fmt.Sprint(resp.StatusCode, " ", string(data), err))
		}
	}()
	t.Cleanup(func() { <-ended })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// TestStoryLeadership cuts the controllers off from their lease until it is lost: they begin anew, without a restart,
// and are ready all the time.
func TestStoryLeadership(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	faults := &chaos.Faults{}
	w.config.Wrap(faults.Wrap)
	o := w.options()
	o.EnableLeaderElection, o.StorageAddr, o.HealthAddr = true, freeAddr(t), freeAddr(t)
	o.LeaderElectionLeaseDuration, o.LeaderElectionRenewDeadline, o.LeaderElectionRetryPeriod = 3*time.Second, 2*time.Second, 300*time.Millisecond
	first := g.commitMap(t, w.namespace, 1)
	w.run(all(), o)
	w.apply(follower, "URL", g.url+"/app")
	w.readyAt("Kustomization/app", first)
	answers := asked(t, o.HealthAddr)
	for len(answers()) == 0 {
		<-time.After(time.Millisecond)
	}
	faults.Set(chaos.Rule{Match: chaos.On("", "/leases/"), Faults: []chaos.Fault{{Kind: chaos.Refused}}})
	w.logged("leadership lost")
	second := g.commitMap(t, w.namespace, 2)
	faults.Set()
	w.readyAt("Kustomization/app", second)
	faults.Set(chaos.Rule{Faults: []chaos.Fault{{Kind: chaos.Refused}}}) // everything
	faults.Break()
	w.loggedTimes("begin anew", 4) // which goes wrong, again and again
	third := g.commitMap(t, w.namespace, 3)
	faults.Set()
	w.readyAt("Kustomization/app", third)
	const leader, standby = "200 ok\nrole=leader\n<nil>", "200 ok\nrole=standby\n<nil>"
	if got := answers(); !slices.Equal(got, []string{leader, standby, leader, standby, leader}) {
		t.Errorf("ready as %q", got)
	}
}

// logged waits until the controllers have logged something.
func (w *world) logged(what string) {
	w.t.Helper()
	w.loggedTimes(what, 1)
}

// loggedTimes waits until they have logged it a number of times.
func (w *world) loggedTimes(what string, times int) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; <-time.After(25 * time.Millisecond) {
		w.logs.mu.Lock()
		found := strings.Count(w.logs.buf.String(), what)
		w.logs.mu.Unlock()
		if found >= times {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not logged: %s", what)
		}
	}
}
