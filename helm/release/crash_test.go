package release_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/helm/release"
)

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
