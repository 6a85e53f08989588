package release_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-cmp/cmp"
	helmrelease "helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/helm/release"
)

// TestSnapshotDigest: testdata/snapshots/digests.txt holds the digests of the
// records beside it, computed with the types of helm.sh/helm/v4 v4.2.1 over the
// document that Flux makes of a record.
func TestSnapshotDigest(t *testing.T) {
	data, err := os.ReadFile("testdata/snapshots/digests.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		content, err := os.ReadFile("testdata/snapshots/" + name)
		if err != nil {
			t.Fatal(err)
		}
		r := &release.Record{}
		if err := json.Unmarshal(content, r); err != nil {
			t.Fatal(err)
		}
		got, err := release.Observe(r, "")
		if err != nil || got.Digest.String() != want {
			t.Errorf("%s: got %s, want %s: %v", name, got.Digest, want, err)
		}
		if !got.Verify(r) {
			t.Errorf("%s: the record is not that of its own snapshot", name)
		}
		for _, h := range r.Release.Hooks {
			if h.Events[0] == helmrelease.HookTest {
				h.LastRun.Phase = helmrelease.HookPhaseFailed
			}
		}
		if !got.Verify(r) {
			t.Errorf("%s: a test made it another record", name)
		}
		r.Release.Manifest += "x"
		if got.Verify(r) {
			t.Errorf("%s: a changed manifest was not noticed", name)
		}
	}
}

// TestSnapshotOfStored: a record has the same digest before and after it is stored.
func TestSnapshotOfStored(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + hookMap("h", "helm.sh/hook: pre-install")}, map[string]any{
		"float": json.Number("1.0"), "exponent": json.Number("1e3"), "large": json.Number("12345678901234567890"), "int": 7, "list": []any{nil, map[string]any{}}})
	d.OCIDigest = "sha256:x"
	made := must[*release.Record](t)(c.client.Install(t.Context(), d))
	snapshot := must[release.Snapshot](t)(release.Observe(made, "sha256:x"))
	if stored := must[*release.Record](t)(c.store.Get(t.Context(), "shop", 1)); !snapshot.Verify(stored) {
		t.Error("the stored record is another one")
	}
	var status release.Status
	for range 2 {
		if out, err := c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync {
			t.Errorf("%+v %v", out.Decision, err)
		}
	}
	if got := c.history(); len(got) != 2 { // one takes the install over
		t.Errorf("got %v", got)
	}
}

// TestStatusForm: a status in JSON is that of Flux's HelmRelease, and nothing is lost on the way there and back.
func TestStatusForm(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := release.Status{
		History: []release.Snapshot{
			{
				Name: "shop", Namespace: "apps", Revision: 2, Status: helmrelease.StatusDeployed, ChartName: "c", ChartVersion: "1.0.0", AppVersion: "9",
				ConfigDigest: "sha256:c", Digest: "sha256:d", FirstDeployed: at, LastDeployed: at.Add(time.Minute), OCIDigest: "sha256:o",
				Tests: map[string]release.TestResult{"smoke": {Phase: "Succeeded", Started: at, Completed: at.Add(time.Second)}},
			},
			{Name: "shop", Namespace: "apps", Revision: 1, Status: helmrelease.StatusUninstalled, FirstDeployed: at, LastDeployed: at, Deleted: at, Tests: map[string]release.TestResult{}},
			{Name: "shop", Namespace: "apps", FirstDeployed: at, LastDeployed: at},
		},
		Counters: release.Counters{Failures: 3, InstallFailures: 1, UpgradeFailures: 2, Last: release.Upgrade}, RenderKey: "sha256:k",
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	flux := helmv2.HelmReleaseStatus{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&flux); err != nil {
		t.Fatal(err)
	}
	if h := flux.History[0]; h.APIVersion != "v2" || h.Version != 2 || (*h.TestHooks)["smoke"].Phase != "Succeeded" || !h.LastDeployed.Equal(new(metav1.NewTime(at.Add(time.Minute)))) {
		t.Errorf("got %+v", h)
	}
	if flux.History[1].TestHooks == nil || flux.History[2].TestHooks != nil || flux.LastAttemptedReleaseAction != helmv2.ReleaseActionUpgrade || flux.UpgradeFailures != 2 || flux.ObservedPostRenderersDigest != "sha256:k" {
		t.Errorf("got %+v", flux)
	}
	if data, err = json.Marshal(flux); err != nil {
		t.Fatal(err)
	}
	var got release.Status
	if err := json.Unmarshal(data, &got); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}
