package ssa_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/ssa"
)

// remembered applies until the cluster holds what the last apply was of.
func remembered(t testing.TB, f *followed, objs []*unstructured.Unstructured) *ssa.Memo {
	t.Helper()
	var memo *ssa.Memo
	eventually(t, "a memo that holds without a request", func() bool {
		set, _ := f.pass(t, objs)
		memo = set.Memo()
		return f.Holds(t.Context(), memo) && len(f.wire.take()) == 0
	})
	return memo
}

// A memo holds as long as an apply of the same objects would do nothing.
func TestMemo(t *testing.T) {
	f := newFollowed(t, nil)
	ctx := t.Context()
	objs := objects(t, configMap("a", "1")+configMap("b", "1")+configMap("c", "1")+deployment("d", 1))
	memo := remembered(t, f, objs)
	if got := memo.Objects(); len(got) != 4 || got[0].Name != "a" || got[3].Kind != "Deployment" {
		t.Fatalf("objects: %v", got)
	}
	if (*ssa.Memo)(nil).Objects() != nil || f.Holds(ctx, nil) {
		t.Error("no memo holds")
	}
	configMaps := configMapsOf(f.Client)
	patch := func(name, body string) {
		t.Helper()
		if _, err := configMaps.Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the memo to be void", func() bool { return !f.Holds(ctx, memo) })
	}

	patch("a", `{"data":{"key":"2"}}`)
	memo = remembered(t, f, objs)
	patch("b", `{"metadata":{"annotations":{"`+ssa.DefaultGroup+`/reconcile":"disabled"}}}`)
	if _, err := configMaps.Patch(ctx, "b", types.MergePatchType, []byte(`{"metadata":{"annotations":{"`+ssa.DefaultGroup+`/reconcile":null}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	memo = remembered(t, f, objs)
	if err := configMaps.Delete(ctx, "c", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the memo to be void", func() bool { return !f.Holds(ctx, memo) })
	memo = remembered(t, f, objs)

	f.stop()
	if f.Holds(ctx, memo) {
		t.Error("a memo holds without a store that runs")
	}
}

// A memo is of one client: as whom it acts, what it sends, and what its
// inventory lists.
func TestMemoIsOfOneClient(t *testing.T) {
	f := newFollowed(t, nil)
	ctx := t.Context()
	objs := objects(t, configMap("a", "1")+configMap("b", "1"))
	memo := remembered(t, f, objs)
	for name, change := range map[string]func(*ssa.Client){
		"owner":     func(c *ssa.Client) { c.Owner.Name = "other" },
		"manager":   func(c *ssa.Client) { c.FieldManager = "other" },
		"cluster":   func(c *ssa.Client) { c.Cluster = "other" },
		"namespace": func(c *ssa.Client) { c.DefaultNamespace = "other" },
		"ignored":   func(c *ssa.Client) { c.Policy.Ignore = []ssa.IgnoreRule{{Paths: []string{"/data"}}} },
		"take over": func(c *ssa.Client) { c.Policy.TakeOver = []string{"kubectl*"} },
		"foreign":   func(c *ssa.Client) { c.Policy.Foreign = ssa.ForeignFail },
		"store":     func(c *ssa.Client) { c.Store = nil },
		"invalid":   func(c *ssa.Client) { c.Dynamic = nil },
	} {
		other := *f.Client
		if change(&other); other.Holds(ctx, memo) {
			t.Errorf("%s: the memo of another client holds", name)
		}
	}
	if set := must(t)(f.Diff(ctx, objs, nil)); set.Memo() != nil {
		t.Error("a diff is remembered")
	}
	mixed := slices.Clone(objs)
	mixed[1] = mixed[1].DeepCopy()
	mixed[1].SetAnnotations(map[string]string{ssa.DefaultGroup + "/reconcile": "disabled"})
	if set := must(t)(f.Apply(ctx, mixed, nil)); set.Memo() != nil || set.Count(ssa.Exempt) != 1 {
		t.Errorf("an apply that left an object alone is remembered: %s", set.Summary())
	}

	memo = remembered(t, f, objs)
	more := objects(t, configMap("a", "1")+configMap("b", "1")+configMap("c", "1"))
	must(t)(f.Apply(ctx, more, nil))
	if f.Holds(ctx, memo) {
		t.Error("a memo holds although there is something to prune")
	}
	remembered(t, f, objs)
	if got, err := configMapsOf(f.Client).List(ctx, metav1.ListOptions{LabelSelector: ssa.DefaultGroup + "/name=app"}); err != nil || len(got.Items) > 2 {
		t.Errorf("after the prune: %v, %v", len(got.Items), err)
	}
}
