package controllers_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
			if w.killedOrReady(cmd, last) {
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
func (w *world) killedOrReady(cmd *exec.Cmd, revision string) bool {
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
		k := w.get("Kustomization/app")
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

// TestStoryTerminated tells the controllers to end while they are busy: they end soon, with exit code 0, and at once
// when they are told again.
func TestStoryTerminated(t *testing.T) {
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	w.apply(follower, "URL", g.url+"/app")
	addr := freeAddr(t)
	for i, again := range []bool{false, true} {
		commit := g.commitMap(t, w.namespace, i+1)
		o := w.options()
		o.EnableLeaderElection, o.StorageAddr = true, addr
		cmd := w.start(child{Kubeconfig: env.Kubeconfig(), Options: o})
		w.readyAt("Kustomization/app", commit)
		g.commitMap(t, w.namespace, i+2)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if again {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		err := cmd.Wait()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("ended after %v", took)
		}
		if !again && err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

// TestReadyExpr has one Kustomization wait for another by an expression instead of its conditions, and tells what is
// wrong with one that cannot be.
func TestReadyExpr(t *testing.T) {
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

// TestStoryLeadership cuts the controllers off from their lease until it is lost: they begin anew, without a restart.
func TestStoryLeadership(t *testing.T) {
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	faults := &chaos.Faults{}
	w.config.Wrap(faults.Wrap)
	o := w.options()
	o.EnableLeaderElection, o.StorageAddr = true, freeAddr(t)
	o.LeaderElectionLeaseDuration, o.LeaderElectionRenewDeadline, o.LeaderElectionRetryPeriod = 3*time.Second, 2*time.Second, 300*time.Millisecond
	first := g.commitMap(t, w.namespace, 1)
	w.run(all(), o)
	w.apply(follower, "URL", g.url+"/app")
	w.readyAt("Kustomization/app", first)
	faults.Set(chaos.Rule{Match: chaos.On("", "/leases/"), Faults: []chaos.Fault{{Kind: chaos.Refused}}})
	w.logged("leadership lost")
	second := g.commitMap(t, w.namespace, 2)
	faults.Set()
	w.readyAt("Kustomization/app", second)
}

// logged waits until the controllers have logged something.
func (w *world) logged(what string) {
	w.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; <-time.After(25 * time.Millisecond) {
		w.logs.mu.Lock()
		found := strings.Contains(w.logs.buf.String(), what)
		w.logs.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not logged: %s", what)
		}
	}
}
