package status_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/runtime/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func object(generation int64) *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Name: "app", Generation: generation}}
}

func summary(o status.Object) string {
	var out []string
	for _, c := range o.GetConditions() {
		out = append(out, fmt.Sprintf("%s=%s %s %q", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, "; ")
}

// TestFinish goes from every outcome to every other: the conditions depend on
// the last one only, and always follow the rules.
func TestFinish(t *testing.T) {
	want := map[status.Kind]string{
		status.Progressing: `Reconciling=True Progressing "m"; Ready=Unknown Progressing "m"`,
		status.Succeeded:   `Ready=True Succeeded "m"`,
		status.Failed:      `Reconciling=True ProgressingWithRetry "m"; Ready=False Failed "m"`,
		status.Waiting:     `Reconciling=True ProgressingWithRetry "m"; Ready=False DependencyNotReady "m"`,
		status.Blocked:     `Stalled=True Failed "m"; Ready=False Failed "m"`,
	}
	for first := range want {
		for second, conditions := range want {
			o := object(3)
			status.Finish(o, status.Outcome{Kind: first, Message: "before"})
			observed := status.Finish(o, status.Outcome{Kind: second, Message: "m"})
			if got := summary(o); got != conditions {
				t.Errorf("%v after %v: %s", second, first, got)
			}
			if observed != (second == status.Succeeded || second == status.Blocked) {
				t.Errorf("%v: observed %v", second, observed)
			}
			if o.Status.ObservedGeneration = 2; observed {
				o.Status.ObservedGeneration = 3
			}
			if wrong := status.Check(o); wrong != nil {
				t.Errorf("%v: %v", second, wrong)
			}
		}
	}
	o := object(1)
	status.Finish(o, status.Outcome{Kind: status.Blocked, Reason: "AccessDenied", Message: "no"})
	if got := summary(o); got != `Stalled=True AccessDenied "no"; Ready=False AccessDenied "no"` {
		t.Error(got)
	}
}

func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := object(1)
		set := func(message string) bool {
			return status.Set(o, metav1.Condition{Type: "Healthy", Status: metav1.ConditionTrue, Reason: "Checked", Message: message})
		}
		if !set("a") || status.Get(o, "Healthy").LastTransitionTime.IsZero() {
			t.Error("a new condition is a change, with a time")
		}
		first := status.Get(o, "Healthy").LastTransitionTime
		time.Sleep(time.Minute)
		o.Generation = 2
		if set("a") {
			t.Error("the same condition is no change")
		}
		if c := status.Get(o, "Healthy"); c.LastTransitionTime != first || c.ObservedGeneration != 2 {
			t.Errorf("%+v", c)
		}
		if !set("b") || status.Get(o, "Healthy").LastTransitionTime == first {
			t.Error("another message moves the time")
		}
		for _, typ := range []string{"Zeta", "Alpha", status.Ready, status.Reconciling, status.Stalled} {
			status.Set(o, metav1.Condition{Type: typ, Status: metav1.ConditionTrue})
		}
		var order []string
		for _, c := range o.GetConditions() {
			order = append(order, c.Type)
			if c.Reason == "" {
				t.Errorf("%s has no reason", c.Type)
			}
		}
		if !slices.Equal(order, []string{"Stalled", "Reconciling", "Ready", "Alpha", "Healthy", "Zeta"}) {
			t.Error(order)
		}
		if !status.Delete(o, "Zeta", "Alpha") || status.Delete(o, "Zeta") || status.Get(o, "Zeta") != nil {
			t.Error("Delete")
		}
	})
}

func TestMessageIsCut(t *testing.T) {
	o := object(1)
	for _, long := range []string{strings.Repeat("é", status.MaxMessage), "x" + strings.Repeat("é", status.MaxMessage), "bad \xff text"} {
		status.Set(o, metav1.Condition{Type: status.Ready, Status: metav1.ConditionFalse, Message: long})
		got := status.Get(o, status.Ready).Message
		if len(got) > status.MaxMessage || !utf8.ValidString(got) || len(long) > status.MaxMessage && !strings.HasSuffix(got, "é...") {
			t.Errorf("%d bytes, valid %v, ends in %q", len(got), utf8.ValidString(got), got[len(got)-8:])
		}
	}
}

func TestCheckFinds(t *testing.T) {
	condition := func(typ string, is metav1.ConditionStatus, generation int64) metav1.Condition {
		return metav1.Condition{Type: typ, Status: is, ObservedGeneration: generation}
	}
	for name, c := range map[string]struct {
		observed   int64
		conditions []metav1.Condition
		want       string
	}{
		"nothing":            {1, nil, "no condition Ready"},
		"false abnormal":     {1, []metav1.Condition{condition("Ready", "True", 1), condition("Stalled", "False", 1)}, "Stalled is False"},
		"ready and busy":     {1, []metav1.Condition{condition("Ready", "True", 1), condition("Reconciling", "True", 1)}, "beside Ready"},
		"both":               {1, []metav1.Condition{condition("Ready", "False", 1), condition("Reconciling", "True", 1), condition("Stalled", "True", 1)}, "both there"},
		"unknown":            {1, []metav1.Condition{condition("Ready", "Unknown", 1)}, "without Reconciling"},
		"false":              {1, []metav1.Condition{condition("Ready", "False", 1)}, "says what follows"},
		"of the future":      {1, []metav1.Condition{condition("Ready", "True", 9)}, "of generation 9"},
		"observed too much":  {9, []metav1.Condition{condition("Ready", "True", 1)}, "the generation 1"},
		"ready, not watched": {0, []metav1.Condition{condition("Ready", "True", 1)}, "observedGeneration"},
	} {
		o := object(1)
		o.Status.ObservedGeneration = c.observed
		o.SetConditions(c.conditions)
		if got := strings.Join(status.Check(o), "; "); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestDiff(t *testing.T) {
	before := object(2)
	before.Status.LastAppliedRevision, before.Status.LastAttemptedRevision = "v1", "v1"
	after := before.DeepCopy()
	if patch, err := status.Diff(before, after, status.Change{}, "7"); patch != nil || err != nil {
		t.Errorf("nothing changed: %s, %v", patch, err)
	}
	after.Status.LastAppliedRevision, after.Status.LastAttemptedRevision = "v2", ""
	patch, err := status.Diff(before, after, status.Change{Observed: true, Token: "t"}, "7")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"metadata": map[string]any{"resourceVersion": "7"},
		"status": map[string]any{
			"lastAppliedRevision": "v2", "lastAttemptedRevision": nil, "observedGeneration": 2.0, "lastHandledReconcileAt": "t",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got\n", diff)
	}
}

// TestDiffOfKindWithoutFields writes nothing that the API server would drop.
func TestDiffOfKindWithoutFields(t *testing.T) {
	o := &bare{}
	if patch, err := status.Diff(o, o, status.Change{Observed: true, Token: "t"}, ""); patch != nil || err != nil {
		t.Errorf("%s, %v", patch, err)
	}
}

// bare is a kind whose status has conditions only.
type bare struct {
	metav1.ObjectMeta `json:"metadata"`
	Status            struct {
		Conditions []metav1.Condition `json:"conditions,omitempty"`
	} `json:"status"`
}

func (b *bare) GetConditions() []metav1.Condition  { return b.Status.Conditions }
func (b *bare) SetConditions(c []metav1.Condition) { b.Status.Conditions = c }

func Example() {
	app := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Name: "app", Generation: 1}}
	before := app.DeepCopy()
	observed := status.Finish(app, status.Outcome{Kind: status.Succeeded, Reason: "ReconciliationSucceeded", Message: "applied main@sha1:4f5c"})
	ready := status.Get(app, status.Ready)
	fmt.Println(ready.Status, ready.Reason, ready.Message)
	patch, err := status.Diff(before, app, status.Change{Observed: observed}, "")
	fmt.Println(len(patch) > 0, err)
	// Output:
	// True ReconciliationSucceeded applied main@sha1:4f5c
	// true <nil>
}

// A patch turns one status into the other, whatever differs.
func TestDiffIsComplete(t *testing.T) {
	base := func() *helmv2.HelmRelease {
		o := &helmv2.HelmRelease{}
		o.Generation = 3
		o.Status = helmv2.HelmReleaseStatus{
			ObservedGeneration: 2, LastAttemptedRevision: "v1", StorageNamespace: "apps", Failures: 1,
			History: helmv2.Snapshots{{Name: "a", Version: 1, ChartName: "c"}}, HelmChart: "apps/web", LastHandledResetAt: "r",
			Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Ok"}},
		}
		o.Status.LastHandledReconcileAt = "t0"
		return o
	}
	for name, change := range map[string]func(*helmv2.HelmReleaseStatus){
		"nothing":   func(*helmv2.HelmReleaseStatus) {},
		"text":      func(s *helmv2.HelmReleaseStatus) { s.LastAttemptedRevision = "v2" },
		"text gone": func(s *helmv2.HelmReleaseStatus) { s.StorageNamespace, s.HelmChart = "", "" },
		"number":    func(s *helmv2.HelmReleaseStatus) { s.Failures, s.ObservedGeneration = 0, 7 },
		"embedded":  func(s *helmv2.HelmReleaseStatus) { s.LastHandledReconcileAt = "t1" },
		"list": func(s *helmv2.HelmReleaseStatus) {
			s.History = append(helmv2.Snapshots{{Name: "b", Version: 2}}, s.History...)
		},
		"list gone":  func(s *helmv2.HelmReleaseStatus) { s.History = nil },
		"conditions": func(s *helmv2.HelmReleaseStatus) { s.Conditions[0].Status = "False" },
		"all":        func(s *helmv2.HelmReleaseStatus) { *s = helmv2.HelmReleaseStatus{} },
	} {
		for _, c := range []status.Change{{}, {Observed: true}, {Token: "t2", ForceToken: "f", ResetToken: "r"}} {
			before, after := base(), base()
			change(&after.Status)
			untouched := after.DeepCopy()
			patch, err := status.Diff(before, after, c, "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(untouched, after); diff != "" {
				t.Errorf("%s: the object has changed: %s", name, diff)
			}
			want := after.DeepCopy()
			if c.Observed {
				want.Status.ObservedGeneration = 3
			}
			if c.Token != "" {
				want.Status.LastHandledReconcileAt, want.Status.LastHandledForceAt, want.Status.LastHandledResetAt = c.Token, c.ForceToken, c.ResetToken
			}
			if patch == nil {
				patch = []byte("{}")
			}
			got := &helmv2.HelmRelease{}
			if err := json.Unmarshal(merged(t, before, patch), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Status, got.Status); diff != "" {
				t.Errorf("%s %+v: %s\n-want +got\n%s", name, c, patch, diff)
			}
		}
	}
}

func merged(t *testing.T, before any, patch []byte) []byte {
	t.Helper()
	data, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonpatch.MergePatch(data, patch)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func BenchmarkDiff(b *testing.B) {
	before := object(1)
	before.Status.Inventory = &kustomizev1.ResourceInventory{}
	for i := range 500 {
		before.Status.Inventory.Entries = append(before.Status.Inventory.Entries, kustomizev1.ResourceRef{ID: fmt.Sprintf("apps_app-%d_apps_Deployment", i), Version: "v1"})
	}
	for name, revision := range map[string]string{"nothing": "", "revision": "v2"} {
		b.Run(name, func(b *testing.B) {
			after := before.DeepCopy()
			after.Status.LastAppliedRevision = revision
			b.ReportAllocs()
			for b.Loop() {
				if _, err := status.Diff(before, after, status.Change{}, "7"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What somebody else has written meanwhile stays, field by field and condition by condition, unless the pass has
// changed it, too.
func TestRebase(t *testing.T) {
	condition := func(kind, is, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(is), Reason: reason}
	}
	before := object(1)
	before.Status.LastAppliedRevision, before.Status.LastAppliedOriginRevision = "v1", "o1"
	before.Status.Conditions = []metav1.Condition{condition("Ready", "True", "Old"), condition("Theirs", "False", "Old"), condition("Removed", "True", "Old"), condition("Dropped", "True", "Old")}
	after := before.DeepCopy()
	after.Status.LastAppliedRevision = "v2"
	after.Status.Conditions = []metav1.Condition{condition("Ready", "False", "New"), condition("Theirs", "False", "Old"), condition("Removed", "True", "Old"), condition("Added", "True", "New")}
	fresh := before.DeepCopy()
	fresh.Status.LastAppliedOriginRevision, fresh.Status.LastAttemptedRevision = "o2", "a2"
	fresh.Status.Conditions = []metav1.Condition{condition("Ready", "True", "Vandal"), condition("Theirs", "True", "New"), condition("Dropped", "True", "Old"), condition("Another", "True", "New")}
	kept := fresh.DeepCopy()
	replayed, made := fresh.DeepCopy(), after.DeepCopy()
	if err := status.Replay(before, after, replayed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, after); diff != "" {
		t.Error("what was made has changed", diff)
	}
	if err := status.Rebase(before, after, fresh); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(after.Status, replayed.Status); diff != "" {
		t.Error("replayed and rebased differ", diff)
	}
	if diff := cmp.Diff(kept, fresh); diff != "" {
		t.Error("fresh has changed", diff)
	}
	want := kustomizev1.KustomizationStatus{LastAppliedRevision: "v2", LastAppliedOriginRevision: "o2", LastAttemptedRevision: "a2"}
	want.Conditions = []metav1.Condition{condition("Ready", "False", "New"), condition("Added", "True", "New"), condition("Another", "True", "New"), condition("Theirs", "True", "New")}
	want.ObservedGeneration = fresh.Status.ObservedGeneration
	if diff := cmp.Diff(want, after.Status); diff != "" {
		t.Error("-want +got\n", diff)
	}
	o, p, q := &bare{}, &bare{}, &bare{}
	p.SetConditions([]metav1.Condition{condition("Ready", "True", "New")})
	if err := status.Rebase(o, p, q); err != nil || len(p.GetConditions()) != 1 {
		t.Error(p.GetConditions(), err)
	}
}
