package release_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	helmrelease "helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
)

// TestHelmTakesOver: what we install, Helm lists, shows, upgrades, rolls back and uninstalls.
func TestHelmTakesOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "{{ .Values.v }}")}, map[string]any{"v": "one"})
	d.Labels = map[string]string{"team": "shop"}
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	d.Values = map[string]any{"v": "two"}
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	config := c.helm()

	listed := must[[]*helmrelease.Release](t)(action.NewList(config).Run())
	if len(listed) != 1 || listed[0].Name != "shop" || listed[0].Version != 2 || listed[0].Info.Status != helmrelease.StatusDeployed {
		t.Fatalf("listed: %+v", listed)
	}
	if listed[0].Labels["team"] != "shop" || listed[0].Chart.Metadata.AppVersion != "1" || !strings.Contains(listed[0].Manifest, "# Source: web/templates/a.yaml") {
		t.Errorf("listed: %v %v %q", listed[0].Labels, listed[0].Chart.Metadata, listed[0].Manifest)
	}
	history := must[[]*helmrelease.Release](t)(action.NewHistory(config).Run("shop"))
	if len(history) != 2 {
		t.Errorf("%d in the history", len(history))
	}
	values := must[map[string]any](t)(action.NewGetValues(config).Run("shop"))
	if diff := cmp.Diff(map[string]any{"v": "two"}, values); diff != "" {
		t.Errorf("values\n%s", diff)
	}
	rollback := action.NewRollback(config)
	rollback.Version = 1
	if err := rollback.Run("shop"); err != nil {
		t.Fatal(err)
	}
	if data := c.get("ConfigMap", "a").Object["data"]; !cmp.Equal(data, map[string]any{"key": "one"}) {
		t.Errorf("after Helm's rollback: %v", data)
	}
	upgrade := action.NewUpgrade(config)
	upgrade.Namespace = c.namespace
	if _, err := upgrade.Run("shop", helmChart(t, configMap("a", "three")+configMap("b", "new")), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"4 deployed", "3 superseded", "2 superseded", "1 superseded"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// And back to us: what Helm added goes, with its fields.
	record := must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if record.Release.Version != 5 || record.ApplyMethod() != "ssa" || c.get("ConfigMap", "b") != nil {
		t.Errorf("revision %d, %s, %v", record.Release.Version, record.ApplyMethod(), c.names("ConfigMap"))
	}
	if _, err := action.NewUninstall(config).Run("shop"); err != nil {
		t.Fatal(err)
	}
	if names := c.names("ConfigMap"); len(names) > 0 || len(c.history()) > 0 {
		t.Errorf("left: %v %v", names, c.history())
	}
}

func helmChart(t *testing.T, template string) *chart.Chart {
	t.Helper()
	return must[*chart.Chart](t)(loader.LoadFiles([]*loader.BufferedFile{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n")},
		{Name: "templates/a.yaml", Data: []byte(template)},
	}))
}

// TestTakeOverFromHelm: a release of Helm is upgraded; fields it set and we do not go.
func TestTakeOverFromHelm(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	install := action.NewInstall(c.helm())
	install.ReleaseName, install.Namespace = "shop", c.namespace
	old := strings.Replace(configMap("a", "one"), "{key", "{old: gone, key", 1)
	if _, err := install.Run(helmChart(t, old+configMap("b", "one")), map[string]any{"x": "y"}); err != nil {
		t.Fatal(err)
	}
	d := c.desired("2.0.0", map[string]string{"a.yaml": configMap("a", "two")}, nil)
	var status release.Status
	var did []release.Action
	out, err := c.client.Reconcile(t.Context(), d, &status, func(o release.Outcome) error {
		did = append(did, o.Next)
		return nil
	})
	if err != nil || out.State != release.InSync || !slices.Equal(did, []release.Action{release.Upgrade}) {
		t.Fatalf("%v %+v %v", did, out.Decision, err)
	}
	if data := c.get("ConfigMap", "a").Object["data"]; !cmp.Equal(data, map[string]any{"key": "two"}) {
		t.Errorf("got %v", data)
	}
	if diff := cmp.Diff([]string{"2 deployed", "1 superseded"}, c.history()); diff != "" || c.get("ConfigMap", "b") != nil {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(status.History) != 1 || status.History[0].Revision != 2 {
		t.Errorf("remembered: %+v", status.History)
	}
}

func TestPodinfo(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", nil, map[string]any{"replicaCount": 2.0})
	d.Chart = podinfo(t)
	var status release.Status
	out, err := c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil || out.State != release.InSync {
		t.Fatalf("%+v %v", out.Decision, err)
	}
	deployment := c.get("Deployment", "shop-podinfo")
	if ready, _, _ := unstructured.NestedInt64(deployment.Object, "status", "readyReplicas"); ready != 2 {
		t.Errorf("%d ready", ready)
	}
	if deployment.GetLabels()["app.kubernetes.io/managed-by"] != "Helm" || deployment.GetAnnotations()["meta.helm.sh/release-name"] != "shop" {
		t.Errorf("marks: %v %v", deployment.GetLabels(), deployment.GetAnnotations())
	}
	before := deployment.GetResourceVersion()
	for range 2 { // nothing to do, nothing done
		if out, err = c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync || len(c.history()) != 1 {
			t.Errorf("%+v %v", out.Decision, err)
		}
	}
	if after := c.get("Deployment", "shop-podinfo").GetResourceVersion(); after != before {
		t.Error("an object was written though nothing changed")
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if c.get("Deployment", "shop-podinfo") != nil || len(c.history()) > 0 {
		t.Error("something is left")
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestRollbackRemediation: an upgrade whose objects do not become ready is rolled back.
func TestRollbackRemediation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	stuck := `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      {{- if .Values.stuck }}
      nodeSelector: {no: such}
      {{- end }}
      containers: [{name: main, image: "example.com/web:1"}]
`
	d := c.desired("1.0.0", map[string]string{"a.yaml": stuck}, nil)
	d.Policy.Upgrade = release.Remediation{Retries: 1}
	var status release.Status
	if _, err := c.client.Reconcile(t.Context(), d, &status, nil); err != nil {
		t.Fatal(err)
	}
	d.Values = map[string]any{"stuck": true}
	d.Upgrade.Timeout = 500 * time.Millisecond
	var did []release.Action
	progress := func(o release.Outcome) error { did = append(did, o.Next); return nil }
	_, err := c.client.Reconcile(t.Context(), d, &status, progress)
	if !errors.Is(err, release.ErrNotReady) || !strings.Contains(err.Error(), "Deployment/"+c.namespace+"/web") {
		t.Errorf("got %v", err)
	}
	want := []release.Action{release.Upgrade, release.Rollback}
	if !slices.Equal(did, want) {
		t.Errorf("did %v", did)
	}
	if diff := cmp.Diff([]string{"3 deployed", "2 failed", "1 superseded"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if _, found, _ := unstructured.NestedMap(c.get("Deployment", "web").Object, "spec", "template", "spec", "nodeSelector"); found {
		t.Error("it was not rolled back")
	}
	// One retry, and then no more.
	if _, err := c.client.Reconcile(t.Context(), d, &status, progress); !errors.Is(err, release.ErrNotReady) {
		t.Errorf("got %v", err)
	}
	out, err := c.client.Reconcile(t.Context(), d, &status, progress)
	var typed *release.Error
	if !errors.Is(err, release.ErrRetriesExceeded) || !errors.As(err, &typed) || !typed.Terminal() || out.State != release.OutOfSync {
		t.Errorf("%+v %v", out.Decision, err)
	}
	if want = append(want, want...); !slices.Equal(did, want) || status.Counters.UpgradeFailures != 2 {
		t.Errorf("did %v, counted %+v", did, status.Counters)
	}
	// Other values are another attempt.
	d.Values, d.Upgrade = nil, fast
	if out, err := c.client.Reconcile(t.Context(), d, &status, progress); err != nil || out.State != release.InSync || status.Counters.UpgradeFailures != 0 {
		t.Errorf("%+v %v", out.Decision, err)
	}
}

// TestUninstallRemediation: a failed install is uninstalled and tried again.
func TestUninstallRemediation(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	d.Policy.Install = release.Remediation{Retries: 1}
	fails := 1
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "wait") && fails > 0 {
			fails--
			return errBroken
		}
		return nil
	}}
	var status release.Status
	var did []release.Action
	progress := func(o release.Outcome) error { did = append(did, o.Next); return nil }
	out, err := c.client.Reconcile(t.Context(), d, &status, progress)
	if !errors.Is(err, errBroken) || !slices.Equal(did, []release.Action{release.Install, release.UninstallFailed}) || !out.Again {
		t.Errorf("did %v: %+v %v", did, out, err)
	}
	if c.get("ConfigMap", "a") != nil || len(c.history()) > 0 {
		t.Error("something is left")
	}
	if out, err = c.client.Reconcile(t.Context(), d, &status, progress); err != nil || out.State != release.InSync {
		t.Errorf("%+v %v", out, err)
	}
}

// TestRetryOnFailure: a failed install is upgraded, after a pause, and never removed.
func TestRetryOnFailure(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	d.Policy.Install = release.Remediation{RetryOnFailure: true, RetryInterval: time.Minute}
	d.Policy.Upgrade = d.Policy.Install
	fails := 1
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "wait") && fails > 0 {
			fails--
			return errBroken
		}
		return nil
	}}
	var status release.Status
	out, err := c.client.Reconcile(t.Context(), d, &status, nil)
	if !errors.Is(err, errBroken) || out.After != time.Minute || c.get("ConfigMap", "a") == nil {
		t.Errorf("%+v %v", out, err)
	}
	out, err = c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil || out.State != release.InSync || status.Counters.Failures != 0 {
		t.Errorf("%+v %v %+v", out, err, status.Counters)
	}
	if diff := cmp.Diff([]string{"2 deployed", "1 failed"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestDrift(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ignored := strings.Replace(configMap("c", "1"), "name: c", "name: c, annotations: {helm.toolkit.fluxcd.io/driftDetection: disabled}", 1)
	secret := "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + configMap("b", "1") + ignored + secret}, nil)
	d.Policy.Drift = release.DriftReported
	var status release.Status
	if out, err := c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync {
		t.Fatalf("%+v %v", out, err)
	}
	for kind, patch := range map[string]string{"ConfigMap/a": `{"data":{"key":"edited"}}`, "ConfigMap/c": `{"data":{"key":"edited"}}`, "Secret/s": `{"data":{"password":"c3RvbGVu"}}`} {
		kind, name, _ := strings.Cut(kind, "/")
		if _, err := c.resource(kind).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.resource("ConfigMap").Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	check := func(differences []release.Difference) {
		t.Helper()
		var got []string
		for _, o := range differences {
			got = append(got, o.Object.GetName()+": "+strings.Join(o.Changes, "; "))
		}
		slices.Sort(got)
		want := []string{`a: ~ data.key: "edited" -> "1"`, "b: it does not exist", `s: ~ data.password: "*** (before)" -> "*** (after)"`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	out, err := c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil || out.State != release.Drifted || c.get("ConfigMap", "b") != nil {
		t.Errorf("%+v %v", out, err)
	}
	check(out.Drift)
	d.Policy.Drift = release.DriftCorrected
	out, err = c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil {
		t.Errorf("%+v %v", out, err)
	}
	check(out.Drift)
	if data := c.get("ConfigMap", "a").Object["data"]; !cmp.Equal(data, map[string]any{"key": "1"}) || c.get("ConfigMap", "b") == nil {
		t.Errorf("got %v", data)
	}
	if data := c.get("Secret", "s").Object["data"]; !cmp.Equal(data, map[string]any{"password": "aHVudGVyMg=="}) {
		t.Errorf("got %v", data)
	}
	if out, err = c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync || len(c.history()) != 1 {
		t.Errorf("%+v %v", out, err)
	}
	if differences, err := c.client.Drift(t.Context(), d); err != nil || differences != nil {
		t.Errorf("%v %v", differences, err)
	}
}

// TestHooks: order, delete policies, and what is left of them.
func TestHooks(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	watched := &spy{Applier: c.objects}
	c.client.Applier = watched
	hooks := hookMap("second", `helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-weight: "2"`) +
		hookMap("first-b", "helm.sh/hook: pre-install, helm.sh/hook-weight: \"-1\"") +
		hookMap("first-a", "helm.sh/hook: pre-install, helm.sh/hook-weight: \"-1\", helm.sh/hook-delete-policy: hook-succeeded") +
		job("after", "helm.sh/hook: post-install, helm.sh/hook-delete-policy: \"before-hook-creation,hook-succeeded\"") +
		hookMap("rolling", "helm.sh/hook: pre-rollback") + hookMap("ending", "helm.sh/hook: pre-delete") + hookMap("ended", "helm.sh/hook: post-delete")
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + hooks}, nil)
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	want := []string{"apply first-a", "apply first-b", "apply second", "delete first-a", "apply a", "wait a", "apply after", "delete after"}
	if diff := cmp.Diff(want, watched.calls); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "first-b", "second"}, c.names("ConfigMap")); diff != "" || c.get("Job", "after") != nil {
		t.Errorf("-want +got\n%s", diff)
	}
	watched.calls = nil
	d.Chart = chartOf(t, "1.1.0", map[string]string{"a.yaml": configMap("a", "2") + hooks})
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	must[*release.Record](t)(c.client.Rollback(t.Context(), d, 1))
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	want = []string{"delete second", "apply second", "apply a", "wait a", "apply rolling", "apply a", "wait a", "apply ending", "delete a", "apply ended"}
	if diff := cmp.Diff(want, watched.calls); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestHookFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hooks := hookMap("good", "helm.sh/hook: pre-install, helm.sh/hook-weight: \"1\", helm.sh/hook-delete-policy: hook-succeeded") +
		hookMap("bad", "helm.sh/hook: pre-install, helm.sh/hook-weight: \"2\", helm.sh/hook-delete-policy: hook-failed") +
		hookMap("never", "helm.sh/hook: pre-install, helm.sh/hook-weight: \"3\"")
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if call == "apply bad" {
			return errBroken
		}
		return nil
	}}
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + hooks}, nil)
	record, err := c.client.Install(t.Context(), d)
	var hook *release.HookError
	if !errors.Is(err, release.ErrHook) || !errors.Is(err, errBroken) || !errors.As(err, &hook) || hook.Name != "bad" || hook.Path != "web/templates/a.yaml" {
		t.Errorf("got %v", err)
	}
	if names := c.names("ConfigMap"); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	phases := map[string]helmrelease.HookPhase{}
	stored := must[*release.Record](t)(c.store.Get(t.Context(), "shop", record.Release.Version))
	for _, h := range stored.Release.Hooks {
		phases[h.Name] = h.LastRun.Phase
	}
	want := map[string]helmrelease.HookPhase{"good": "Succeeded", "bad": "Failed", "never": ""}
	if diff := cmp.Diff(want, phases); diff != "" || statusOf(stored) != helmrelease.StatusFailed {
		t.Errorf("-want +got\n%s", diff)
	}
	d.Install.DisableHooks = true
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Install(t.Context(), d); err != nil {
		t.Errorf("without hooks: %v", err)
	}
	// A hook that must not delete what is there says so.
	d.Chart, d.Upgrade = chartOf(t, "1.1.0", map[string]string{"a.yaml": hookMap("a", "helm.sh/hook: pre-upgrade, helm.sh/hook-delete-policy: hook-failed")}), fast
	if _, err := c.client.Upgrade(t.Context(), d); !errors.Is(err, release.ErrHook) || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("got %v", err)
	}
}

func TestTests(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hooks := hookMap("check", "helm.sh/hook: test") + hookMap("slow", "helm.sh/hook: test")
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + hooks}, nil)
	d.Policy.Test, d.Policy.Install.Retries = true, 1
	d.ExcludeTests = []string{"slow"}
	var status release.Status
	var did []release.Action
	progress := func(o release.Outcome) error { did = append(did, o.Next); return nil }
	out, err := c.client.Reconcile(t.Context(), d, &status, progress)
	if err != nil || out.State != release.InSync || !slices.Equal(did, []release.Action{release.Install, release.Test}) {
		t.Fatalf("did %v: %+v %v", did, out, err)
	}
	if tests := status.History[0].Tests; len(tests) != 1 || tests["check"].Phase != "Succeeded" || tests["check"].Completed.IsZero() {
		t.Errorf("got %+v", tests)
	}
	// Helm's own test does not make the release somebody else's.
	if _, err := action.NewReleaseTesting(c.helm()).Run("shop"); err != nil {
		t.Fatal(err)
	}
	if out, err = c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync {
		t.Errorf("%+v %v", out, err)
	}
	// A failed test is a failed upgrade.
	d.Chart = chartOf(t, "1.1.0", map[string]string{"a.yaml": configMap("a", "2") + hooks})
	d.Policy.Upgrade.Retries = 1
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if call == "apply check" {
			return errBroken
		}
		return nil
	}}
	did = nil
	_, err = c.client.Reconcile(t.Context(), d, &status, progress)
	if !errors.Is(err, release.ErrHook) || !slices.Equal(did, []release.Action{release.Upgrade, release.Test, release.Rollback}) {
		t.Errorf("did %v: %v", did, err)
	}
}

// TestInterrupted: whatever call of the cluster fails and takes the context
// with it, another run converges and leaves nothing.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	hooks := hookMap("before", "helm.sh/hook: \"pre-install,pre-upgrade\"") + hookMap("after", "helm.sh/hook: \"post-install,post-upgrade\"")
	first := map[string]string{"a.yaml": configMap("a", "1") + configMap("b", "1") + hooks}
	second := map[string]string{"a.yaml": configMap("a", "2") + configMap("c", "2") + hooks}
	for at := 1; ; at++ {
		c := newCluster(t)
		var status release.Status
		for i, templates := range []map[string]string{first, second} {
			d := c.desired([]string{"1.0.0", "1.1.0"}[i], templates, nil)
			d.Policy.Install, d.Policy.Upgrade = release.Remediation{Retries: -1}, release.Remediation{Retries: -1}
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			c.client.Applier = &spy{Applier: c.objects, fail: func(string) error {
				if n++; n == at {
					cancel()
					return errBroken
				}
				return nil
			}}
			remembered := status // a killed process remembers nothing
			_, err := c.client.Reconcile(ctx, d, &status, nil)
			cancel()
			if i == 1 && n < at {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if n >= at && !errors.Is(err, errBroken) {
				t.Fatalf("call %d: got %v", at, err)
			}
			c.client.Applier = c.objects
			if at%2 == 0 {
				status = remembered
			}
			converge(t, c, d, &status, at)
		}
		if names := c.names("ConfigMap"); !slices.Equal(names, []string{"a", "after", "before", "c"}) {
			t.Errorf("call %d: %v", at, names)
		}
	}
}

func converge(t *testing.T, c *cluster, d release.Desired, status *release.Status, at int) {
	t.Helper()
	var out release.Outcome
	var err error
	for range 4 {
		if out, err = c.client.Reconcile(t.Context(), d, status, nil); err == nil && out.State == release.InSync {
			return
		}
	}
	t.Fatalf("call %d: %+v %v", at, out.Decision, err)
}

// brokenStore fails and, like a killed process, writes nothing any more.
type brokenStore struct {
	release.Store
	saves, at int
}

func (s *brokenStore) Save(ctx context.Context, r *release.Record) error {
	if s.saves++; s.saves >= s.at && s.at > 0 {
		return errBroken
	}
	return s.Store.Save(ctx, r)
}

// TestKilled: records end at any of the writes; the next process recovers.
func TestKilled(t *testing.T) {
	t.Parallel()
	first := map[string]string{"a.yaml": configMap("a", "1") + configMap("b", "1")}
	second := map[string]string{"a.yaml": configMap("a", "2") + configMap("c", "2")}
	for at := 1; at <= 3; at++ {
		c := newCluster(t)
		var status release.Status
		for i, templates := range []map[string]string{first, second} {
			d := c.desired([]string{"1.0.0", "1.1.0"}[i], templates, nil)
			c.client.Store = &brokenStore{Store: c.store, at: at}
			if _, err := c.client.Step(t.Context(), d, &release.Status{}); err == nil && at < 3 {
				t.Fatal("nothing broke")
			}
			c.client.Store = c.store
			converge(t, c, d, &status, at)
		}
		d := c.desired("1.1.0", second, nil)
		c.client.Store = &brokenStore{Store: c.store, at: at}
		if err := c.client.Uninstall(t.Context(), d); err == nil && at < 3 {
			t.Fatal("nothing broke")
		}
		c.client.Store = c.store
		if err := c.client.Uninstall(t.Context(), d); err != nil || len(c.history()) > 0 {
			t.Errorf("%v %v", c.history(), err)
		}
		if names := c.names("ConfigMap"); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
	}
}

// TestUninstallResumed: an uninstall that was interrupted is finished before
// the release is installed again.
func TestUninstallResumed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + configMap("b", "1")}, nil)
	var status release.Status
	if _, err := c.client.Reconcile(t.Context(), d, &status, nil); err != nil {
		t.Fatal(err)
	}
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "delete") {
			return errBroken
		}
		return nil
	}}
	if err := c.client.Uninstall(t.Context(), d); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 uninstalling"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if _, err := c.client.Upgrade(t.Context(), d); !errors.Is(err, release.ErrLocked) {
		t.Errorf("got %v", err)
	}
	c.client.Applier = c.objects
	var did []release.Action
	out, err := c.client.Reconcile(t.Context(), d, &status, func(o release.Outcome) error { did = append(did, o.Next); return nil })
	if err != nil || out.State != release.InSync || !slices.Equal(did, []release.Action{release.ResumeUninstall, release.Install}) {
		t.Errorf("did %v: %+v %v", did, out, err)
	}
}

func TestForeignObjects(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	theirs := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}}}
	if _, err := c.resource("ConfigMap").Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	_, err := c.client.Install(t.Context(), d)
	var typed *release.Error
	if !errors.Is(err, release.ErrForeign) || !strings.Contains(err.Error(), "app.kubernetes.io/managed-by") || !errors.As(err, &typed) || !typed.Terminal() {
		t.Errorf("got %v", err)
	}
	if len(c.history()) > 0 {
		t.Error("a record was written")
	}
	d.TakeOwnership = true
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	// Another release may not take it either, and what is handed over stays.
	other := d
	other.Name, other.TakeOwnership = "other", false
	if _, err := c.client.Install(t.Context(), other); !errors.Is(err, release.ErrForeign) {
		t.Errorf("got %v", err)
	}
	other.TakeOwnership = true
	must[*release.Record](t)(c.client.Install(t.Context(), other))
	if err := c.client.Uninstall(t.Context(), d); err != nil || c.get("ConfigMap", "a") == nil {
		t.Errorf("the object of the other release is gone: %v", err)
	}
}

// TestKeep: the resource policy, objects that changed their group, and several failed revisions.
func TestKeep(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	kept := strings.Replace(configMap("kept", "1"), "name: kept", "name: kept, annotations: {helm.sh/resource-policy: keep}", 1)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + kept}, nil)
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	d.Chart = chartOf(t, "1.1.0", map[string]string{"a.yaml": configMap("b", "1")})
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "wait") {
			return errBroken
		}
		return nil
	}}
	if _, err := c.client.Upgrade(t.Context(), d); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	c.client.Applier = c.objects
	d.Chart = chartOf(t, "1.2.0", map[string]string{"a.yaml": configMap("c", "1")})
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if diff := cmp.Diff([]string{"c", "kept"}, c.names("ConfigMap")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	d.KeepHistory = true
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"3 uninstalled", "2 failed", "1 superseded"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	d.TakeOwnership = true
	if record := must[*release.Record](t)(c.client.Install(t.Context(), d)); record.Release.Version != 4 {
		t.Errorf("revision %d", record.Release.Version)
	}
	if _, err := c.client.Install(t.Context(), d); !errors.Is(err, release.ErrExists) {
		t.Errorf("got %v", err)
	}
}

func TestMaxHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "{{ .Release.Revision }}")}, nil)
	d.MaxHistory = 3
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	watched := &spy{Applier: c.objects}
	c.client.Applier = watched
	for i := range 5 {
		watched.fail = nil
		if i >= 1 {
			watched.fail = func(call string) error {
				if strings.HasPrefix(call, "wait") {
					return errBroken
				}
				return nil
			}
		}
		_, err := c.client.Upgrade(t.Context(), d)
		if (err == nil) != (i < 1) {
			t.Fatal(err)
		}
		if n := len(c.history()); n > 3 {
			t.Errorf("%d records", n)
		}
	}
	if diff := cmp.Diff([]string{"6 failed", "5 failed", "2 deployed"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	group := c.namespace + ".example.com"
	crd := func(description string) map[string]string {
		return map[string]string{"crds/widgets.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets." + group +
			"}\nspec:\n  group: " + group + "\n  scope: Namespaced\n  names: {plural: widgets, singular: widget, kind: Widget}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, description: " + description + "}}\n",
			"widget.yaml": "apiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\n"}
	}
	name := "widgets." + group
	description := func() string {
		versions, _, _ := unstructured.NestedSlice(c.get("CustomResourceDefinition", name).Object, "spec", "versions")
		text, _, _ := unstructured.NestedString(versions[0].(map[string]any), "schema", "openAPIV3Schema", "description")
		return text
	}
	t.Cleanup(func() {
		c.resource("CustomResourceDefinition").Delete(context.Background(), name, metav1.DeleteOptions{}) //nolint:errcheck // may be gone; the test is over
	})
	d := c.desired("1.0.0", crd("one"), nil)
	d.CRDs = release.SkipCRDs
	if _, err := c.client.Install(t.Context(), d); err == nil {
		t.Error("installed without its definition")
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d.CRDs = release.CreateCRDs
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	d.Chart = chartOf(t, "1.1.0", crd("two"))
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if got := description(); got != "one" {
		t.Errorf("Create: %s", got)
	}
	d.CRDs = release.CreateReplaceCRDs
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if got := description(); got != "two" {
		t.Errorf("CreateReplace: %s", got)
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil || c.get("CustomResourceDefinition", name) == nil {
		t.Errorf("the definition was deleted: %v", err)
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": job("work", "")}, nil)
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	if n, _, _ := unstructured.NestedInt64(c.get("Job", "work").Object, "status", "succeeded"); n != 1 {
		t.Errorf("%d succeeded", n)
	}
	// A cancelled wait ends at once and is noted.
	never := strings.Replace(job("never", ""), "restartPolicy", "nodeSelector: {no: such}, restartPolicy", 1)
	d.Chart = chartOf(t, "1.1.0", map[string]string{"a.yaml": never})
	ctx, cancel := context.WithCancel(t.Context())
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if call == "delete work" {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		return nil
	}}
	began := time.Now()
	record, err := c.client.Upgrade(ctx, d)
	if !errors.Is(err, context.Canceled) || statusOf(record) != helmrelease.StatusFailed || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if diff := cmp.Diff([]string{"2 failed", "1 deployed"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	c.client.Applier = c.objects
	d.Upgrade.DisableWaitForJobs = true
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	d.Upgrade = release.ActionOptions{Timeout: 200 * time.Millisecond}
	if _, err := c.client.Upgrade(t.Context(), d); !errors.Is(err, release.ErrNotReady) || !strings.Contains(err.Error(), "Job/") {
		t.Errorf("got %v", err)
	}
}

func TestCreateNamespace(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	d.Namespace = c.namespace + "-target"
	d.CreateNamespace = true
	c.objects.Client.DefaultNamespace = d.Namespace
	must[*release.Record](t)(c.client.Install(t.Context(), d)) // the record stays in the namespace of the store
	namespace := c.get("Namespace", d.Namespace)
	if namespace == nil || namespace.GetLabels()["name"] != d.Namespace {
		t.Errorf("got %v", namespace)
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil || c.get("Namespace", d.Namespace) == nil {
		t.Errorf("the namespace was deleted: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	for name, d := range map[string]release.Desired{
		"no name":  {Namespace: "a", Chart: &helm.Chart{}},
		"no chart": {Name: "a", Namespace: "a"},
		"policy":   {Name: "a", Namespace: "a", CRDs: "x", Chart: &helm.Chart{}},
	} {
		client := &release.Client{Applier: &spy{}, Store: &brokenStore{}}
		if _, err := client.Install(t.Context(), d); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&release.Client{}).Install(t.Context(), release.Desired{}); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
