package fluxrelease_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	helmrelease "helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/helm/release/fluxrelease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// object reads a HelmRelease; a field that there is not is an error.
func object(t *testing.T, spec string) *helmv2.HelmRelease {
	t.Helper()
	o := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "apps", Generation: 3}}
	if err := yaml.UnmarshalStrict([]byte(spec), &o.Spec); err != nil {
		t.Fatal(err)
	}
	return o
}

func testChart(t *testing.T) *helm.Chart {
	t.Helper()
	chart, err := helm.Load(t.Context(), fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: c\nversion: 1.2.3\n")}}, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

// TestDefaults: an empty spec is what Flux makes of it.
func TestDefaults(t *testing.T) {
	five := release.ActionOptions{Timeout: 5 * time.Minute}
	want := &release.Desired{
		Name: "shop", Namespace: "apps", Generation: "3/", Install: five, Upgrade: five, Rollback: five, Uninstall: five, Test: five,
		TakeOwnership: true, MaxHistory: 5, CRDs: release.CreateCRDs, Propagation: metav1.DeletePropagationBackground,
	}
	o := object(t, "")
	got := fluxrelease.Desired(o, nil, nil)
	if got.Propagation == "" {
		got.Propagation = metav1.DeletePropagationBackground // the default of the package
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if d := fluxrelease.Timeout(o); d != 77*time.Minute {
		t.Errorf("a pass may take %v", d)
	}
	o.Status.History = helmv2.Snapshots{{Version: 1}}
	if got := fluxrelease.Desired(o, nil, nil); got.CRDs != release.SkipCRDs {
		t.Errorf("an upgrade handles definitions by %q", got.CRDs)
	}
}

// TestEveryField: each field of a spec that shapes a release has its effect.
func TestEveryField(t *testing.T) {
	tests := []struct {
		spec string
		want func(d *release.Desired) bool
	}{
		{"releaseName: r", func(d *release.Desired) bool { return d.Name == "r" }},
		{"targetNamespace: there", func(d *release.Desired) bool { return d.Namespace == "there" && d.Name == "there-shop" }},
		{"maxHistory: 0", func(d *release.Desired) bool { return d.MaxHistory == -1 }},
		{"maxHistory: 9", func(d *release.Desired) bool { return d.MaxHistory == 9 }},
		{"timeout: 1m", func(d *release.Desired) bool {
			return d.Install.Timeout == time.Minute && d.Test.Timeout == time.Minute
		}},
		{"install: {timeout: 1m}", func(d *release.Desired) bool {
			return d.Install.Timeout == time.Minute && d.Upgrade.Timeout == 5*time.Minute
		}},
		{"upgrade: {timeout: 1m}", func(d *release.Desired) bool { return d.Upgrade.Timeout == time.Minute }},
		{"rollback: {timeout: 1m}", func(d *release.Desired) bool { return d.Rollback.Timeout == time.Minute }},
		{"uninstall: {timeout: 1m}", func(d *release.Desired) bool { return d.Uninstall.Timeout == time.Minute }},
		{"test: {timeout: 1m}", func(d *release.Desired) bool { return d.Test.Timeout == time.Minute }},
		{"install: {disableWait: true}", func(d *release.Desired) bool { return d.Install.DisableWait && !d.Upgrade.DisableWait }},
		{"install: {disableWaitForJobs: true}", func(d *release.Desired) bool { return d.Install.DisableWaitForJobs }},
		{"install: {disableHooks: true}", func(d *release.Desired) bool { return d.Install.DisableHooks }},
		{"upgrade: {disableWait: true}", func(d *release.Desired) bool { return d.Upgrade.DisableWait }},
		{"upgrade: {disableWaitForJobs: true}", func(d *release.Desired) bool { return d.Upgrade.DisableWaitForJobs }},
		{"upgrade: {disableHooks: true}", func(d *release.Desired) bool { return d.Upgrade.DisableHooks }},
		{"rollback: {disableWait: true}", func(d *release.Desired) bool { return d.Rollback.DisableWait }},
		{"rollback: {disableWaitForJobs: true}", func(d *release.Desired) bool { return d.Rollback.DisableWaitForJobs }},
		{"rollback: {disableHooks: true}", func(d *release.Desired) bool { return d.Rollback.DisableHooks }},
		{"uninstall: {disableWait: true}", func(d *release.Desired) bool { return d.Uninstall.DisableWait }},
		{"uninstall: {disableHooks: true}", func(d *release.Desired) bool { return d.Uninstall.DisableHooks }},
		{"uninstall: {keepHistory: true}", func(d *release.Desired) bool { return d.KeepHistory }},
		{"uninstall: {deletionPropagation: foreground}", func(d *release.Desired) bool { return d.Propagation == metav1.DeletePropagationForeground }},
		{"uninstall: {deletionPropagation: orphan}", func(d *release.Desired) bool { return d.Propagation == metav1.DeletePropagationOrphan }},
		{"install: {createNamespace: true}", func(d *release.Desired) bool { return d.CreateNamespace }},
		{"install: {disableTakeOwnership: true}", func(d *release.Desired) bool { return !d.TakeOwnership }},
		{"upgrade: {disableTakeOwnership: true}", func(d *release.Desired) bool { return !d.TakeOwnership }},
		{"install: {disableSchemaValidation: true}", func(d *release.Desired) bool { return d.Render.SkipSchema }},
		{"install: {crds: Skip}", func(d *release.Desired) bool { return d.CRDs == release.SkipCRDs }},
		{"install: {skipCRDs: true}", func(d *release.Desired) bool { return d.CRDs == release.SkipCRDs }},
		{"install: {crds: CreateReplace}", func(d *release.Desired) bool { return d.CRDs == release.CreateReplaceCRDs }},
		{"upgrade: {crds: CreateReplace}", func(d *release.Desired) bool { return d.CRDs == release.CreateCRDs }},
		{"test: {enable: true, ignoreFailures: true}", func(d *release.Desired) bool { return d.Policy.Test && d.Policy.IgnoreTestFailures }},
		{"test: {filters: [{name: a}, {name: b, exclude: true}]}", func(d *release.Desired) bool {
			return reflect.DeepEqual(d.IncludeTests, []string{"a"}) && reflect.DeepEqual(d.ExcludeTests, []string{"b"})
		}},
		{"driftDetection: {mode: enabled}", func(d *release.Desired) bool { return d.Policy.Drift == release.DriftCorrected }},
		{"driftDetection: {mode: warn}", func(d *release.Desired) bool { return d.Policy.Drift == release.DriftReported }},
		{"driftDetection: {mode: disabled}", func(d *release.Desired) bool { return d.Policy.Drift == release.DriftIgnored }},
		{"install: {remediation: {retries: 2, ignoreTestFailures: true, remediateLastFailure: true}}", func(d *release.Desired) bool {
			return d.Policy.Install.Retries == 2 && d.Policy.Install.IgnoreTestFailures && *d.Policy.Install.RemediateLast
		}},
		{"{test: {ignoreFailures: true}, upgrade: {remediation: {retries: -1, strategy: uninstall}}}", func(d *release.Desired) bool {
			p := d.Policy.Upgrade
			return p.Retries == -1 && p.Uninstall && p.IgnoreTestFailures && p.RemediateLast == nil && !d.Policy.Install.Uninstall
		}},
		{"install: {strategy: {name: RetryOnFailure, retryInterval: 1m}}", func(d *release.Desired) bool {
			return d.Policy.Install.RetryOnFailure && d.Policy.Install.RetryInterval == time.Minute
		}},
		{"upgrade: {strategy: {name: RetryOnFailure}}", func(d *release.Desired) bool {
			return d.Policy.Upgrade.RetryOnFailure && d.Policy.Upgrade.RetryInterval == 5*time.Minute && !d.Policy.Install.RetryOnFailure
		}},
		{"upgrade: {strategy: {name: RemediateOnFailure}}", func(d *release.Desired) bool { return !d.Policy.Upgrade.RetryOnFailure }},
	}
	plain := fluxrelease.Desired(object(t, ""), nil, nil)
	for _, tt := range tests {
		if !tt.want(fluxrelease.Desired(object(t, tt.spec), nil, nil)) {
			t.Errorf("%s has no effect", tt.spec)
		}
		if strings.Contains(tt.spec, "mode: disabled") || strings.Contains(tt.spec, "RemediateOnFailure") || strings.HasPrefix(tt.spec, "upgrade: {crds") {
			continue
		}
		if tt.want(plain) {
			t.Errorf("%s: the check holds without it", tt.spec)
		}
	}
	installed := object(t, "{install: {disableSchemaValidation: true}, upgrade: {crds: CreateReplace}}")
	installed.Status.History = helmv2.Snapshots{{Version: 1}}
	if d := fluxrelease.Desired(installed, nil, nil); d.Render.SkipSchema || d.CRDs != release.CreateReplaceCRDs {
		t.Errorf("an upgrade has the options of an install: %+v", d)
	}
}

// TestUnsupported: what is said to be unsupported is a field, and one that has no effect.
func TestUnsupported(t *testing.T) {
	for _, path := range fluxrelease.Unsupported() {
		path, _, _ = strings.Cut(path, "=")
		typ := reflect.TypeFor[helmv2.HelmRelease]()
		for name := range strings.SplitSeq(strings.TrimSuffix(path, "!"), ".") {
			for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			found := false
			for f := range typ.Fields() {
				if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
					typ, found = f.Type, true
					break
				}
			}
			if !found {
				t.Errorf("there is no field %s: %s", path, name)
				break
			}
		}
	}
}

// TestRequests: a request to force or to reset is seen once.
func TestRequests(t *testing.T) {
	o := object(t, "")
	before := fluxrelease.Desired(o, nil, nil).Generation
	o.Annotations = map[string]string{"reconcile.fluxcd.io/requestedAt": "1", "reconcile.fluxcd.io/forceAt": "1", "reconcile.fluxcd.io/resetAt": "1"}
	d := fluxrelease.Desired(o, nil, nil)
	if !d.Force || d.Generation == before || o.Status.LastHandledResetAt != "1" {
		t.Errorf("got %+v", d)
	}
	o.Status.LastHandledReconcileAt = "1"
	if again := fluxrelease.Desired(o, nil, nil); again.Force || again.Generation != d.Generation {
		t.Errorf("got %+v", again)
	}
}

// TestStatus: what is stored is loaded, failures only for the attempt they are of.
func TestStatus(t *testing.T) {
	o, chart := object(t, ""), testChart(t)
	d := fluxrelease.Desired(o, chart, map[string]any{"a": 1})
	s, err := fluxrelease.Load(o, d)
	if err != nil || s.Attempt != "" || len(s.History) != 0 {
		t.Fatalf("a new object: %+v, %v", s, err)
	}
	s.Counters = release.Counters{Failures: 2, UpgradeFailures: 2, Last: release.Upgrade}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.History = []release.Snapshot{{Name: "shop", Namespace: "apps", Revision: 1, Status: helmrelease.StatusFailed, FirstDeployed: at, LastDeployed: at}}
	s.RenderKey = "k"
	if err := fluxrelease.Store(o, d, s); err != nil {
		t.Fatal(err)
	}
	if o.Status.LastAttemptedRevision != "1.2.3" || o.Status.LastAttemptedGeneration != 3 || o.Status.StorageNamespace != "apps" || o.Status.UpgradeFailures != 2 {
		t.Errorf("got %+v", o.Status)
	}
	again, err := fluxrelease.Load(o, d)
	if s.Attempt, _ = d.Attempt(); err != nil || !cmp.Equal(again, s) {
		t.Errorf("%v\n%s", err, cmp.Diff(s, again))
	}
	if other, err := fluxrelease.Load(o, fluxrelease.Desired(o, chart, map[string]any{"a": 2})); err != nil || other.Attempt != "" {
		t.Errorf("other values are the same attempt: %+v, %v", other, err)
	}
	if err := fluxrelease.Store(o, d, &release.Status{}); err != nil || len(o.Status.History) != 0 || o.Status.Failures != 0 || o.Status.LastAttemptedReleaseAction != "" || o.Status.ObservedPostRenderersDigest != "" {
		t.Errorf("something is left: %+v, %v", o.Status, err)
	}
	if _, err := fluxrelease.Load(o, fluxrelease.Desired(o, nil, nil)); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("without a chart: %v", err)
	}
}

func TestCondition(t *testing.T) {
	d := &release.Desired{Name: "shop", Namespace: "apps", Chart: testChart(t)}
	failed := errors.New("no luck")
	record := &release.Record{Release: &helmrelease.Release{Version: 7}}
	for _, tt := range []struct {
		next release.Action
		err  error
		want string
	}{
		{release.Install, nil, "Released True InstallSucceeded: Helm install succeeded for release apps/shop.v7 with chart c@1.2.3"},
		{release.Upgrade, failed, "Released False UpgradeFailed: Helm upgrade failed for release apps/shop.v7 with chart c@1.2.3: no luck"},
		{release.Test, nil, "TestSuccess True TestSucceeded: Helm test succeeded for release apps/shop.v7 with chart c@1.2.3"},
		{release.Rollback, nil, "Remediated True RollbackSucceeded: Helm rollback succeeded for release apps/shop.v7 with chart c@1.2.3"},
		{release.UninstallFailed, failed, "Remediated False UninstallFailed: Helm uninstall failed for release apps/shop.v7 with chart c@1.2.3: no luck"},
		{release.CorrectDrift, nil, ""},
		{release.Unlock, nil, ""},
		{release.None, nil, ""},
	} {
		step := release.Outcome{Decision: release.Decision{Next: tt.next, Err: tt.err}, Record: record}
		got := ""
		if c, ok := fluxrelease.Condition(&step, d); ok {
			got = fmt.Sprintf("%s %s %s: %s", c.Type, c.Status, c.Reason, c.Message)
		}
		if got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	drifted := release.Outcome{Decision: release.Decision{Next: release.CorrectDrift, Err: failed}}
	if e, ok := drifted.Event(d); !ok || !e.Failed || e.Reason != "DriftDetected" || !strings.Contains(e.Message, "could not be corrected: no luck") {
		t.Errorf("got %+v", e)
	}
}

func ExampleDesired() {
	object := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "apps"}}
	object.Spec.Upgrade = &helmv2.Upgrade{Remediation: &helmv2.UpgradeRemediation{Retries: 3}}
	desired := fluxrelease.Desired(object, nil, nil)
	memory, err := fluxrelease.Load(object, desired)
	fmt.Println(desired.Namespace, desired.Name, desired.Policy.Upgrade.Retries, memory == nil, err != nil)
	// Output: apps shop 3 true true
}
