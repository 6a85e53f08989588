package controllers_test

import (
	"fmt"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// commitChart is a commit with another version of a chart, the third after the one before.
func (g *gitServer) commitChart(t *testing.T, namespace string, i int) string {
	t.Helper()
	version := fmt.Sprintf("0.1.%d", i)
	g.commit(t, "app", "Release "+version, map[string]string{
		"chart/Chart.yaml":                              "apiVersion: v2\nname: app\nversion: " + version + "\n",
		"chart/templates/always.yaml":                   configMap("always", namespace) + "  at: v" + version + "\n",
		fmt.Sprintf("chart/templates/only%d.yaml", i):   configMap(fmt.Sprintf("only-%d", i), namespace),
		fmt.Sprintf("chart/templates/only%d.yaml", i-3): "",
	})
	return version
}

const helmFollower = `
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
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: app}
spec:
  interval: 1h
  maxHistory: 0
  chart: {spec: {chart: chart, reconcileStrategy: Revision, interval: 1s, sourceRef: {kind: GitRepository, name: app}}}
  upgrade: {strategy: {name: RetryOnFailure, retryInterval: 1s}}
  install: {strategy: {name: RetryOnFailure, retryInterval: 1s}}
`

// TestHelmKilledAtEveryWrite kills the controllers before or after each write of an install and of upgrades: every
// version of the chart is released once, no release stays pending, and the objects are those of the last.
func TestHelmKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	last := g.commitChart(t, w.namespace, 0)
	w.apply(helmFollower, "URL", g.url+"/app")
	options := w.options()
	options.StorageAddr = freeAddr(t)
	killed, most := 0, 40
	if *kills > 0 {
		most = *kills
	}
	for at := 1; at <= most; at++ {
		began := time.Now()
		cmd := w.start(child{Kubeconfig: env.Kubeconfig(), Options: options, KillAt: at, After: at%2 == 0})
		struck := w.killedOrReady(cmd, "HelmRelease/app", "app@"+last)
		t.Logf("write %d, after it %v: killed %v, %v", at, at%2 == 0, struck, time.Since(began))
		if !struck {
			break // there are no more writes
		}
		killed++
		if at%3 == 0 { // in the others the next process goes on with the same
			last = g.commitChart(t, w.namespace, at)
		}
	}
	if killed < 6 {
		t.Errorf("killed only %d times", killed)
	}
	kill := w.spawn(env.Kubeconfig(), options)
	defer kill()
	w.readyAt("HelmRelease/app", "app@"+last)
	done := map[string]int{}
	releases := w.revisions("app")
	for i, r := range releases {
		version, status := r.Chart.Metadata.Version, r.Info.Status
		if status.IsPending() || status == release.StatusDeployed && r.Version != len(releases) {
			t.Errorf("release %d of %d, of %s, is %s", r.Version, len(releases), version, status)
		}
		if status == release.StatusDeployed || status == release.StatusSuperseded {
			done[version]++
		}
		t.Logf("%d: %s %s", i, version, status)
	}
	for version, n := range done {
		if n > 1 {
			t.Errorf("%s was released %d times", version, n)
		}
	}
	list, err := w.resource(w.kind("ConfigMap"), w.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "helm.toolkit.fluxcd.io/name=app"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 || w.get("ConfigMap/always").Object["data"].(map[string]any)["at"] != "v"+last {
		t.Errorf("%d objects", len(list.Items))
	}
}
