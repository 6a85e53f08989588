package release_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	helmrelease "helm.sh/helm/v3/pkg/release"

	"github.com/gitopskit/gitopskit/helm/release"
)

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
