package release_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm/release"
)

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

// TestReinstallIsTestedAgain: what is installed after a remediation is a new
// release, though its revision is the first again: the failed test of the old
// one is not its own.
func TestReinstallIsTestedAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1"), "t.yaml": job("t", `"helm.sh/hook": test`)}, nil)
	d.Policy.Test = true
	d.Policy.Install = release.Remediation{Retries: 3}
	fails := 1
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "apply") && strings.HasSuffix(call, "t") && fails > 0 {
			fails--
			return errBroken
		}
		return nil
	}}
	var status release.Status
	var did []release.Action
	progress := func(o release.Outcome) error { did = append(did, o.Next); return nil }
	for range 3 {
		if out, err := c.client.Reconcile(t.Context(), d, &status, progress); err == nil && out.State == release.InSync {
			break
		}
	}
	want := []release.Action{release.Install, release.Test, release.UninstallFailed, release.Install, release.Test}
	if !slices.Equal(did, want) || len(status.History) != 1 || !status.History[0].Tested() || status.History[0].TestFailed() {
		t.Errorf("did %v, want %v; history %+v", did, want, status.History)
	}
}

// TestStopIsNoFailure: an install that ends because the program does counts as
// nothing, and is made again.
func TestStopIsNoFailure(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	ctx, stop := context.WithCancel(t.Context())
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "wait") && ctx.Err() == nil {
			stop()
			return ctx.Err()
		}
		return nil
	}}
	var status release.Status
	if _, err := c.client.Reconcile(ctx, d, &status, nil); err == nil || status.Counters.Failures != 0 {
		t.Errorf("%v; counters %+v", err, status.Counters)
	}
	if out, err := c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync {
		t.Errorf("after the restart: %+v, %v", out, err)
	}
}
