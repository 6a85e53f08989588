package ssa_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/ssa"
)

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

func configMapsOf(c *ssa.Client) dynamic.ResourceInterface {
	return c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(c.Owner.Namespace)
}

func patch(t *testing.T, r dynamic.ResourceInterface, name, body string) {
	t.Helper()
	if _, err := r.Patch(t.Context(), name, "application/merge-patch+json", []byte(body), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
}

// TestPruneGuards: only what is still ours, and does not ask to stay, is deleted.
func TestPruneGuards(t *testing.T) {
	c, _ := newClient(t)
	all := objects(t, configMap("mine", "1")+configMap("handed-over", "1")+configMap("stays", "1")+configMap("unlabelled", "1")+configMap("gone", "1"))
	must(t)(c.Apply(t.Context(), all, nil))
	r := configMapsOf(c)
	patch(t, r, "handed-over", `{"metadata":{"labels":{"gitopskit.github.io/name":"other"}}}`)
	patch(t, r, "unlabelled", `{"metadata":{"labels":{"gitopskit.github.io/namespace":null}}}`)
	patch(t, r, "stays", `{"metadata":{"annotations":{"gitopskit.github.io/prune":"Disabled"}}}`)
	if err := r.Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	diff := must(t)(c.Diff(t.Context(), nil, nil))
	set := must(t)(c.Prune(t.Context(), nil, nil))
	want := []string{
		"ConfigMap/unlabelled kept", "ConfigMap/stays kept", "ConfigMap/mine deleted", "ConfigMap/handed-over kept", "ConfigMap/gone deleted",
	}
	for _, got := range []*ssa.ChangeSet{diff, set} {
		if diff := cmp.Diff(want, actions(got)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	if get(t, c, configMaps, "mine") != nil || get(t, c, configMaps, "stays") == nil || get(t, c, configMaps, "handed-over") == nil {
		t.Error("the wrong object was deleted")
	}
	// What asks to stay is remembered: once it no longer asks, it goes.
	patch(t, r, "stays", `{"metadata":{"annotations":{"gitopskit.github.io/prune":null}}}`)
	set = must(t)(c.Prune(t.Context(), nil, nil))
	if diff := cmp.Diff([]string{"ConfigMap/stays deleted"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestOrphan: what is left in the cluster is no longer the owner's to prune.
func TestOrphan(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("b", "1")), nil))
	set := must(t)(c.Prune(t.Context(), objects(t, configMap("a", "1")), &ssa.PruneOptions{Orphan: true}))
	if diff := cmp.Diff([]string{"ConfigMap/b kept"}, actions(set)); diff != "" || set.Changed() {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ConfigMap/a deleted"}, actions(must(t)(c.Prune(t.Context(), nil, nil)))); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if get(t, c, configMaps, "b") == nil {
		t.Error("b was deleted")
	}
}

// TestPruneSparesSuccessor: an object that was deleted and made anew between
// the read and the deletion is another object.
func TestPruneSparesSuccessor(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")), nil))
	plain, _ := clientFor(t, restConfig(t), "x", c.Owner.Namespace)
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodDelete {
			w.tamper(nil)
			if err := configMapsOf(plain).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
				return err
			}
			_, err := configMapsOf(plain).Create(t.Context(), objects(t, configMap("a", "theirs"))[0], metav1.CreateOptions{})
			return err
		}
		return nil
	})
	set := must(t)(c.Prune(t.Context(), nil, nil))
	if set.Changes[0].Action != ssa.Kept || get(t, c, configMaps, "a") == nil {
		t.Errorf("got %v", actions(set))
	}
}

// TestPruneRetriesNewVersion: an update between the read and the deletion does
// not save the object.
func TestPruneRetriesNewVersion(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")), nil))
	plain, _ := clientFor(t, restConfig(t), "x", c.Owner.Namespace)
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodDelete {
			w.tamper(nil)
			patch(t, configMapsOf(plain), "a", `{"data":{"other":"x"}}`)
		}
		return nil
	})
	must(t)(c.Prune(t.Context(), nil, nil))
	if get(t, c, configMaps, "a") != nil {
		t.Error("it is still there")
	}
}

// TestFailedDeleteIsRemembered: what could not be deleted is tried again.
func TestFailedDeleteIsRemembered(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("b", "1")), nil))
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodDelete && r.URL.Path[len(r.URL.Path)-2:] == "/b" {
			return errors.New("connection reset")
		}
		return nil
	})
	set, err := c.Prune(t.Context(), nil, nil)
	if !errors.Is(err, ssa.ErrUnavailable) || set.Count(ssa.Deleted) != 1 || set.Count(ssa.Failed) != 1 {
		t.Fatalf("got %v %v", actions(set), err)
	}
	w.tamper(nil)
	set = must(t)(c.Prune(t.Context(), nil, nil))
	if diff := cmp.Diff([]string{"ConfigMap/b deleted"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestKindAway: objects whose extension API server is away are not forgotten;
// those whose definition is gone are.
func TestKindAway(t *testing.T) {
	c, _ := newClient(t)
	g := c.Owner.Namespace + ".example.com"
	store := &ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: "app-inventory"}
	inv, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inv.Entries = []ssa.Entry{
		{Object: ssa.ObjectID{Group: g, Kind: "Away", Namespace: c.Owner.Namespace, Name: "a"}, Version: "v1"},
		{Object: ssa.ObjectID{Group: "gone." + g, Kind: "Gone", Namespace: c.Owner.Namespace, Name: "b"}, Version: "v1"},
	}
	if err := store.Save(t.Context(), inv); err != nil {
		t.Fatal(err)
	}
	other, _ := clientFor(t, restConfig(t), "other", c.Owner.Namespace)
	must(t)(other.Apply(t.Context(), objects(t, "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1."+g+"}\nspec: {group: "+g+", version: v1, groupPriorityMinimum: 1, versionPriority: 1, insecureSkipTLSVerify: true, service: {name: none, namespace: default}}\n"), nil))
	defer func() { must(t)(other.Prune(context.WithoutCancel(t.Context()), nil, nil)) }()
	set := must(t)(c.Prune(t.Context(), nil, nil))
	if diff := cmp.Diff([]string{"Away/a kept", "Gone/b deleted"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if inv, err = store.Load(t.Context()); err != nil || len(inv.Entries) != 1 {
		t.Errorf("inventory: %+v %v", inv, err)
	}
}

// TestInventoryConflict: two writers notice each other.
func TestInventoryConflict(t *testing.T) {
	c, _ := newClient(t)
	store := &ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: "inv"}
	load := func() *ssa.Inventory {
		inv, err := store.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	entry := ssa.Entry{Object: ssa.ObjectID{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "system:x"}, Version: "v1"}
	one, two := load(), load()
	one.Entries, two.Entries = []ssa.Entry{entry}, []ssa.Entry{entry, entry}
	if err := store.Save(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if err := store.Save(t.Context(), two); !errors.Is(err, ssa.ErrConflict) {
		t.Errorf("second create: got %v", err)
	}
	one, two = load(), load()
	if diff := cmp.Diff([]ssa.Entry{entry}, one.Entries); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	one.Entries = append(one.Entries, ssa.Entry{Object: ssa.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: "y"}, Version: "v1"})
	for range 2 { // a saved inventory can be saved again
		if err := store.Save(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Save(t.Context(), two); !errors.Is(err, ssa.ErrConflict) {
		t.Errorf("stale update: got %v", err)
	}
	two.Entries = nil
	if err := store.Save(t.Context(), two); !errors.Is(err, ssa.ErrConflict) {
		t.Errorf("stale removal: got %v", err)
	}
	missing := &ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: "no-such-namespace", Name: "inv"}
	if err := missing.Save(t.Context(), &ssa.Inventory{Entries: one.Entries}); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("missing namespace: got %v", err)
	}
	patch(t, configMapsOf(c), "inv", `{"data":{"inventory":"{broken"}}`)
	if _, err := store.Load(t.Context()); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("broken inventory: got %v", err)
	}
}

// TestPruneStaleMapper: a mapper that looked before a kind was defined does not
// make its objects orphans.
func TestPruneStaleMapper(t *testing.T) {
	c, _ := newClient(t)
	group := c.Owner.Namespace + ".example.com"
	crd := "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets." + group + "}\n" +
		"spec: {group: " + group + ", scope: Namespaced, names: {plural: widgets, kind: Widget}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n"
	widget := "---\napiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\n"
	c.ID(objects(t, configMap("a", "1"))[0]) // the mapper looks
	other, _ := clientFor(t, restConfig(t), "app", c.Owner.Namespace)
	must(t)(other.Apply(t.Context(), objects(t, crd+widget), nil))
	set := must(t)(c.Prune(t.Context(), objects(t, crd), nil))
	if diff := cmp.Diff([]string{"Widget/w deleted"}, actions(set)); diff != "" || set.Changes[0].UID == "" {
		t.Errorf("-want +got\n%s%v", diff, set.Changes)
	}
	if orphans, err := other.Orphans(t.Context()); err != nil || len(orphans) > 0 {
		t.Errorf("%v %v", orphans, err)
	}
	must(t)(c.Prune(t.Context(), nil, nil))
}
