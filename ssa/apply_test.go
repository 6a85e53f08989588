package ssa_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/ssa"
)

func TestApplyAndPrune(t *testing.T) {
	c, _ := newClient(t)
	ctx := t.Context()
	first := objects(t, configMap("a", "1")+configMap("b", "1")+deployment("web", 2))
	before := first[0].DeepCopy()

	set := must(t)(c.Apply(ctx, first, nil))
	want := []string{"ConfigMap/a created", "ConfigMap/b created", "Deployment/web created"}
	if diff := cmp.Diff(want, actions(set)); diff != "" {
		t.Errorf("first: -want +got\n%s", diff)
	}
	if !cmp.Equal(before.Object, first[0].Object) {
		t.Error("Apply changed its input")
	}
	live := get(t, c, configMaps, "a")
	if !c.Owner.Owns(live) || live.GetLabels()["gitopskit.github.io/name"] != "app" {
		t.Errorf("labels: %v", live.GetLabels())
	}
	if m := live.GetManagedFields(); len(m) != 1 || m[0].Manager != "gitopskit" || m[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managed fields: %v", m)
	}

	set = must(t)(c.Apply(ctx, first, nil))
	if set.Changed() || set.Count(ssa.Unchanged) != 3 {
		t.Errorf("second: %v", actions(set))
	}

	second := objects(t, configMap("a", "2")+deployment("web", 2))
	set = must(t)(c.Apply(ctx, second, nil))
	if diff := cmp.Diff([]string{"ConfigMap/a configured", "Deployment/web unchanged"}, actions(set)); diff != "" {
		t.Errorf("third: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]ssa.FieldChange{{Path: "data.key", Pointer: "/data/key", Old: "1", New: "2"}}, set.Changes[0].Fields); diff != "" {
		t.Errorf("fields: -want +got\n%s", diff)
	}
	if get(t, c, configMaps, "b") == nil {
		t.Error("Apply deleted an object")
	}

	set = must(t)(c.Prune(ctx, second, nil))
	if diff := cmp.Diff([]string{"ConfigMap/b deleted"}, actions(set)); diff != "" {
		t.Errorf("prune: -want +got\n%s", diff)
	}
	if get(t, c, configMaps, "b") != nil || get(t, c, configMaps, "a") == nil {
		t.Error("prune deleted the wrong object")
	}

	set = must(t)(c.Prune(ctx, nil, nil))
	if diff := cmp.Diff([]string{"Deployment/web deleted", "ConfigMap/a deleted"}, actions(set)); diff != "" {
		t.Errorf("prune all: -want +got\n%s", diff)
	}
	if get(t, c, configMaps, "app-inventory") != nil {
		t.Error("an empty inventory is left behind")
	}
}

// TestRemovedField: a field that leaves the manifest leaves the object, one
// that others set stays.
func TestRemovedField(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {ours: x, gone: x}\n"), nil))
	r := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(c.Owner.Namespace)
	if _, err := r.Patch(t.Context(), "a", "application/merge-patch+json", []byte(`{"data":{"theirs":"y"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	must(t)(c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {ours: x}\n"), nil))
	got := get(t, c, configMaps, "a").Object["data"]
	if diff := cmp.Diff(map[string]any{"ours": "x", "theirs": "y"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestReleasedField: giving up a field that another manager sets to the same
// value changes no value but must be applied, or we would own it forever.
func TestReleasedField(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: x, shared: x}\n"), nil))
	other := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {shared: x}\n")[0]
	r := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(c.Owner.Namespace)
	if _, err := r.Apply(t.Context(), "a", other, metav1.ApplyOptions{FieldManager: "other"}); err != nil {
		t.Fatal(err)
	}
	without := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: x}\n")
	set := must(t)(c.Apply(t.Context(), without, nil))
	if set.Changes[0].Action != ssa.Configured || set.Changes[0].Fields != nil {
		t.Errorf("got %+v", set.Changes[0])
	}
	if set = must(t)(c.Apply(t.Context(), without, nil)); set.Changed() {
		t.Errorf("again: %v", actions(set))
	}
}

// TestAdoption: an object that existed before is taken over, with one read.
func TestAdoption(t *testing.T) {
	c, w := newClient(t)
	r := c.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(c.Owner.Namespace)
	if _, err := r.Create(t.Context(), objects(t, configMap("a", "theirs"))[0], metav1.CreateOptions{FieldManager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	w.take()
	set := must(t)(c.Apply(t.Context(), objects(t, configMap("a", "ours")), nil))
	if set.Changes[0].Action != ssa.Configured {
		t.Errorf("got %v", actions(set))
	}
	var paths []string
	for _, f := range set.Changes[0].Fields {
		paths = append(paths, f.Path)
	}
	if diff := cmp.Diff([]string{"data.key", "metadata.labels"}, paths); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if n := count(w.take(), "GET"); n != 3 { // the list, the object, the inventory
		t.Errorf("%d GETs", n)
	}
}

// TestRequests pins what a pass costs.
func TestRequests(t *testing.T) {
	c, w := newClient(t)
	objs := objects(t, configMap("a", "1")+configMap("b", "1")+configMap("c", "1")+deployment("web", 1))
	c.Mapper.RESTMapping(schema.GroupKind{Kind: "ConfigMap"}) //nolint:errcheck // warms discovery
	w.take()

	set := must(t)(c.Apply(t.Context(), objs, nil))
	got := w.take() // 2 lists, 4 dry runs, inventory read and created, 4 applies
	if len(got) != 12 || count(got, "DRYRUN") != 4 || count(got, "PATCH") != 4 || count(got, "GET") != 3 || count(got, "POST") != 1 {
		t.Errorf("install: %d requests\n%s", len(got), strings.Join(got, "\n"))
	}
	if _, err := c.Wait(t.Context(), ids(set), nil); err != nil { // an object in motion is read again
		t.Fatal(err)
	}
	w.take()
	must(t)(c.Apply(t.Context(), objs, nil))
	got = w.take() // 2 lists, 4 dry runs, inventory read
	if len(got) != 7 || count(got, "PATCH") != 0 {
		t.Errorf("unchanged: %d requests\n%s", len(got), strings.Join(got, "\n"))
	}
}

const widgets = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: GROUPPLURAL}
spec:
  group: GROUP
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, maximum: 9}}}}}}
`

// group makes the cluster-scoped names of a test its own.
func group(t *testing.T, c *ssa.Client, manifests string) string {
	g := c.Owner.Namespace + ".example.com"
	return strings.NewReplacer("GROUPPLURAL", "widgets."+g, "GROUP", g, "NAMESPACE", c.Owner.Namespace).Replace(manifests)
}

// TestStages: a set may hold definitions, namespaces and what needs them, in
// any order.
func TestStages(t *testing.T) {
	c, _ := newClient(t)
	manifests := group(t, c, `
apiVersion: GROUP/v1
kind: Widget
metadata: {name: w, namespace: NAMESPACE-new}
spec: {size: 3}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: NAMESPACE-new}
---
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE-new}
`+widgets)
	objs := objects(t, manifests)
	diff := must(t)(c.Diff(t.Context(), objs, nil))
	if diff.Count(ssa.Created) != 4 || !strings.Contains(diff.Changes[3].Reason, "not validated yet") {
		t.Errorf("diff: %+v", diff.Changes)
	}
	set := must(t)(c.Apply(t.Context(), objs, nil))
	ns := c.Owner.Namespace
	want := []string{
		"CustomResourceDefinition/widgets." + ns + ".example.com created", "Namespace/" + ns + "-new created",
		"ConfigMap/a created", "Widget/w created",
	}
	if diff := cmp.Diff(want, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if set = must(t)(c.Apply(t.Context(), objs, nil)); set.Changed() {
		t.Errorf("again: %v", actions(set))
	}
	set = must(t)(c.Prune(t.Context(), nil, nil))
	if set.Count(ssa.Deleted) != 4 || !slices.Equal(set.Deleted(), ids(set)) {
		t.Errorf("prune: %v", actions(set))
	}
	if _, err := c.WaitDeleted(t.Context(), set.Deleted(), nil); err != nil {
		t.Error(err)
	}
}

func ids(set *ssa.ChangeSet) []ssa.ObjectID {
	var out []ssa.ObjectID
	for _, ch := range set.Changes {
		out = append(out, ch.Object)
	}
	return out
}

// TestInvalidAmongValid: nothing is changed, and every refusal is reported.
func TestInvalidAmongValid(t *testing.T) {
	c, w := newClient(t)
	manifests := configMap("good", "1") +
		strings.Replace(deployment("web", 1), "replicas: 1", "replicass: 1", 1) +
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 99999}]}\n"
	w.take()
	set, err := c.Apply(t.Context(), objects(t, manifests), nil)
	if !errors.Is(err, ssa.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"Deployment/" + c.Owner.Namespace + "/web", "replicass", "Service/" + c.Owner.Namespace + "/svc", "99999"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %q: %v", want, err)
		}
	}
	if diff := cmp.Diff([]string{"ConfigMap/good skipped", "Service/svc failed", "Deployment/web failed"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := w.take(); count(got, "PATCH")+count(got, "POST") > 0 {
		t.Errorf("something was written: %v", got)
	}
}

// TestInvalidAfterDefinition: an object that can only be tried once its
// definition exists is refused before anything but definitions is applied.
func TestInvalidAfterDefinition(t *testing.T) {
	c, _ := newClient(t)
	objs := objects(t, group(t, c, configMap("good", "1")+"---\napiVersion: GROUP/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 10}\n"+widgets))
	set, err := c.Apply(t.Context(), objs, nil)
	if !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "Widget") || !strings.Contains(err.Error(), "spec.size") {
		t.Fatalf("got %v", err)
	}
	if get(t, c, configMaps, "good") != nil || set.Count(ssa.Skipped) != 1 {
		t.Errorf("got %v", actions(set))
	}
	must(t)(c.Prune(t.Context(), nil, nil))
}

// TestDefinitionChanges: a set that changes a definition and uses the change at
// once is applied, as every upgrade of an operator needs it.
func TestDefinitionChanges(t *testing.T) {
	c, _ := newClient(t)
	widget := "---\napiVersion: GROUP/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n"
	must(t)(c.Apply(t.Context(), objects(t, group(t, c, widgets+widget)), nil))
	next := strings.Replace(widgets, "properties: {size:", "properties: {color: {type: string}, size:", 1) + strings.Replace(widget, "size: 1", "size: 1, color: red", 1)
	objs := objects(t, group(t, c, next))
	diff := must(t)(c.Diff(t.Context(), objs, nil))
	if !strings.Contains(diff.Changes[1].Reason, "until its definition is changed") {
		t.Errorf("diff: %+v", diff.Changes)
	}
	set := must(t)(c.Apply(t.Context(), objs, nil))
	if set.Count(ssa.Failed, ssa.Skipped) > 0 {
		t.Errorf("got %v", actions(set))
	}
	if set = must(t)(c.Apply(t.Context(), objs, nil)); set.Changed() {
		t.Errorf("again: %v", actions(set))
	}
	must(t)(c.Prune(t.Context(), nil, nil))
}

// TestDefinitionComesBack: a definition that was deleted is made anew by the
// same client, and one that somebody else made meanwhile is found.
func TestDefinitionComesBack(t *testing.T) {
	c, _ := newClient(t)
	objs := objects(t, group(t, c, widgets+"---\napiVersion: GROUP/v1\nkind: Widget\nmetadata: {name: w}\n"))
	must(t)(c.Apply(t.Context(), objs, nil))
	set := must(t)(c.Prune(t.Context(), nil, nil))
	if _, err := c.WaitDeleted(t.Context(), ids(set), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), objs[1:], nil); !errors.Is(err, ssa.ErrUnknownKind) {
		t.Errorf("without its definition: got %v", err)
	}
	must(t)(c.Apply(t.Context(), objs, nil))
	other, _ := clientFor(t, restConfig(t), "other", c.Owner.Namespace)
	if _, err := other.Apply(t.Context(), objects(t, group(t, c, "apiVersion: GROUP.x/v1\nkind: Widget\nmetadata: {name: w}\n")), nil); !errors.Is(err, ssa.ErrUnknownKind) {
		t.Errorf("unknown kind: got %v", err)
	}
	late := objects(t, strings.ReplaceAll(group(t, c, widgets), c.Owner.Namespace+".example.com", c.Owner.Namespace+".example.com.x"))
	must(t)(c.Apply(t.Context(), append(late, objs...), nil))
	waitServed(t, c, late)
	must(t)(other.Apply(t.Context(), objects(t, group(t, c, "apiVersion: GROUP.x/v1\nkind: Widget\nmetadata: {name: w}\n")), nil))
	must(t)(other.Prune(t.Context(), nil, nil))
	must(t)(c.Prune(t.Context(), nil, nil))
}

// waitServed waits until definitions are served.
func waitServed(t *testing.T, c *ssa.Client, crds []*unstructured.Unstructured) {
	t.Helper()
	var served []ssa.ObjectID
	for _, crd := range crds {
		served = append(served, ssa.IDOf(crd))
	}
	if _, err := c.Wait(t.Context(), served, nil); err != nil {
		t.Fatal(err)
	}
}

// TestNeedsAnother: an object that admission refuses until another object of
// the set exists is applied after that.
func TestNeedsAnother(t *testing.T) {
	c, _ := newClient(t)
	objs := objects(t, `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {serviceAccountName: sa, containers: [{name: a, image: a}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sa}
`)
	set := must(t)(c.Apply(t.Context(), objs, nil))
	if diff := cmp.Diff([]string{"ServiceAccount/sa created", "Pod/p created"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// If it was for something else, what came before stays and the rest is skipped.
	bad := objects(t, configMap("a", "1")+`---
apiVersion: v1
kind: Pod
metadata: {name: q}
spec: {serviceAccountName: nobody, containers: [{name: a, image: a}]}
`)
	set, err := c.Apply(t.Context(), bad, nil)
	if !errors.Is(err, ssa.ErrForbidden) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v: %v", actions(set), err)
	}
}

// TestHopeless: a refusal that no other object of the set can end changes nothing.
func TestHopeless(t *testing.T) {
	c, w := newClient(t)
	config := rest.CopyConfig(restConfig(t))
	config.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
	weak, weakWire := clientFor(t, config, "app", c.Owner.Namespace)
	for name, tc := range map[string]struct {
		client   *ssa.Client
		wire     *wire
		manifest string
		is       error
	}{
		"missing namespace": {c, w, strings.Replace(deployment("web", 1), "{name: web}", "{name: web, namespace: no-such-namespace}", 1), ssa.ErrInvalid},
		"no permission":     {weak, weakWire, deployment("web", 1), ssa.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			tc.wire.take()
			_, err := tc.client.Apply(t.Context(), objects(t, configMap("a", "1")+tc.manifest), nil)
			if got := tc.wire.take(); !errors.Is(err, tc.is) || count(got, "PATCH")+count(got, "POST") > 0 {
				t.Errorf("got %v after %v", err, got)
			}
		})
	}
}

// TestExistingNamespace: a namespace that is there without our labels is not
// taken for a new one, so what is in it is validated first.
func TestExistingNamespace(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")), nil))
	ns := "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + c.Owner.Namespace + "}\n"
	diff := must(t)(c.Diff(t.Context(), objects(t, ns+configMap("a", "1")), nil))
	if got := actions(diff); got[1] != "ConfigMap/a unchanged" {
		t.Errorf("got %v", got)
	}
	w.take()
	_, err := c.Apply(t.Context(), objects(t, ns+"---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 99999}]}\n"), nil)
	if !errors.Is(err, ssa.ErrInvalid) || count(w.take(), "PATCH") > 0 {
		t.Errorf("got %v", err)
	}
}

// TestUnknownField is the commonest mistake; the server calls it an internal error.
func TestUnknownField(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, group(t, c, widgets)), nil))
	for _, manifest := range []string{
		strings.Replace(deployment("web", 1), "replicas:", "replicass:", 1),
		group(t, c, "apiVersion: GROUP/v1\nkind: Widget\nmetadata: {name: w}\nspec: {sise: 1}\n"),
	} {
		if _, err := c.Apply(t.Context(), objects(t, manifest), nil); !errors.Is(err, ssa.ErrInvalid) || errors.Is(err, ssa.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	must(t)(c.Prune(t.Context(), nil, nil))
}

// TestLostField: a field that somebody else took over by writing the same value
// is ours again after an apply, so that the server tells when they differ.
func TestLostField(t *testing.T) {
	c, _ := newClient(t)
	objs := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: x, lost: x}\n")
	must(t)(c.Apply(t.Context(), objs, nil))
	patch(t, configMapsOf(c), "a", `{"data":{"lost":"other"}}`)
	patch(t, configMapsOf(c), "a", `{"data":{"lost":"x"}}`)
	if set := must(t)(c.Apply(t.Context(), objs, nil)); set.Changes[0].Action != ssa.Configured {
		t.Errorf("got %+v", set.Changes[0])
	}
	for _, entry := range get(t, c, configMaps, "a").GetManagedFields() {
		if entry.Manager == "gitopskit" && !strings.Contains(entry.FieldsV1.GetRawString(), "f:lost") {
			t.Errorf("not owned: %s", entry.FieldsV1.GetRawString())
		}
	}
	if set := must(t)(c.Apply(t.Context(), objs, nil)); set.Changed() {
		t.Errorf("again: %v", actions(set))
	}
}

// TestNamesWithUnderscores: RBAC allows them, Flux's form of an inventory does not.
func TestNamesWithUnderscores(t *testing.T) {
	c, _ := newClient(t)
	manifests := ""
	for _, name := range []string{"read_only", "read__only", "'read:only'", "plain"} {
		manifests += "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: " + name + "}\nrules: []\n"
	}
	must(t)(c.Apply(t.Context(), objects(t, manifests), nil))
	if set := must(t)(c.Apply(t.Context(), objects(t, manifests), nil)); set.Changed() {
		t.Errorf("again: %v", actions(set))
	}
	set := must(t)(c.Prune(t.Context(), nil, nil))
	if set.Count(ssa.Deleted) != 4 {
		t.Errorf("got %v", actions(set))
	}
	roles := schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}
	for _, name := range []string{"read_only", "read__only", "read:only", "plain"} {
		if get(t, c, roles, name) != nil {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestRefusedBeforeAnyRequest(t *testing.T) {
	c, w := newClient(t)
	for name, tc := range map[string]struct{ manifests, want string }{
		"duplicate":       {configMap("a", "1") + configMap("a", "2"), "more than once"},
		"default twin":    {configMap("a", "1") + strings.Replace(configMap("a", "2"), "{name: a}", "{name: a, namespace: "+c.Owner.Namespace+"}", 1), "more than once"},
		"its inventory":   {configMap("app-inventory", "1"), "inventory"},
		"no name":         {"apiVersion: v1\nkind: ConfigMap\n", "metadata.name"},
		"generateName":    {"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n", "generateName"},
		"no apiVersion":   {"kind: ConfigMap\nmetadata: {name: a}\n", "apiVersion"},
		"label value":     {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: 1}}\n", "metadata.labels"},
		"unknown kind":    {"apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: a}\n", "CustomResourceDefinition"},
		"unknown version": {"apiVersion: apps/v9\nkind: Deployment\nmetadata: {name: a}\n", "apps/v9"},
	} {
		t.Run(name, func(t *testing.T) {
			w.take()
			_, err := c.Apply(t.Context(), objects(t, tc.manifests), nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
			if got := w.take(); len(got) > 0 {
				t.Errorf("requests: %v", got)
			}
		})
	}
	c.DefaultNamespace = ""
	if _, err := c.Apply(t.Context(), objects(t, configMap("a", "1")), nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "no namespace") {
		t.Errorf("no namespace: got %v", err)
	}
	c.Owner.Name = "No_Object_Name"
	if _, err := c.Apply(t.Context(), nil, nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "No_Object_Name-inventory") {
		t.Errorf("owner name: got %v", err)
	}
	if _, err := (&ssa.Client{}).Apply(t.Context(), nil, nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "Owner.Name") {
		t.Errorf("zero client: got %v", err)
	}
}

// TestListIsExpanded: lists of both kinds are applied item by item.
func TestListIsExpanded(t *testing.T) {
	c, _ := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
---
apiVersion: v1
kind: ConfigMapList
items:
- {metadata: {name: b}}
`), nil))
	if diff := cmp.Diff([]string{"ConfigMap/a created", "ConfigMap/b created"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestSecretKeyIsRemoved: a key that leaves stringData leaves the Secret.
func TestSecretKeyIsRemoved(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: x, b: z}\n"), nil))
	must(t)(c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: x}\n"), nil))
	if diff := cmp.Diff(map[string]any{"a": "eA=="}, get(t, c, secrets, "s").Object["data"]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestSecretsStaySecret: values appear in no diff and in no error.
func TestSecretsStaySecret(t *testing.T) {
	c, _ := newClient(t)
	ctx := t.Context()
	canary := "hunter2hunter2"
	secret := func(value string) []*unstructured.Unstructured {
		return objects(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {kubectl.kubernetes.io/last-applied-configuration: "+canary+"}}\nstringData: {k: "+value+"}\n")
	}
	set := must(t)(c.Diff(ctx, secret(canary), nil))
	must(t)(c.Apply(ctx, secret(canary), nil))
	next := must(t)(c.Diff(ctx, secret(canary+"x"), nil))
	for _, f := range append(set.Changes[0].Fields, next.Changes[0].Fields...) {
		if strings.Contains(f.String(), canary) || strings.Contains(f.String(), "aHVudGVy") {
			t.Errorf("diff shows %s", f)
		}
	}
	if diff := cmp.Diff([]ssa.FieldChange{{Path: "data.k", Pointer: "/data/k", Old: "*** (before)", New: "*** (after)"}}, next.Changes[0].Fields); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	open := must(t)(c.Diff(ctx, secret(canary+"x"), &ssa.DiffOptions{ShowSecrets: true}))
	if !strings.Contains(open.Changes[0].Fields[0].String(), "aHVudGVy") {
		t.Errorf("ShowSecrets shows %v", open.Changes[0].Fields)
	}
	for name, manifest := range map[string]string{
		"not base64": "data: {k: '" + canary + "!'}",
		"number":     "data: {k: 123454321}",
		"list":       "data: [" + canary + "]",
		"stringData": "stringData: {k: 123454321}",
		"type":       "type: [" + canary + "]",
	} {
		_, err := c.Apply(ctx, objects(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"+manifest+"\n"), nil)
		if err == nil || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "123454321") || !strings.Contains(err.Error(), "Secret/") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestServerGone: a connection lost half-way is an error that says so, the
// rest is skipped, and the inventory knows everything.
func TestServerGone(t *testing.T) {
	c, w := newClient(t)
	patches := 0
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" {
			if patches++; patches > 1 {
				return errors.New("connection refused")
			}
		}
		return nil
	})
	c.Concurrency = 1
	objs := objects(t, configMap("a", "1")+configMap("b", "1")+deployment("web", 1))
	set, err := c.Apply(t.Context(), objs, nil)
	if !errors.Is(err, ssa.ErrUnavailable) || !strings.Contains(err.Error(), "ConfigMap/"+c.Owner.Namespace+"/b") {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff([]string{"ConfigMap/a created", "ConfigMap/b failed", "Deployment/web skipped"}, actions(set)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	w.tamper(nil)
	if set = must(t)(c.Prune(t.Context(), nil, nil)); set.Count(ssa.Deleted) != 3 {
		t.Errorf("prune: %v", actions(set))
	}
	if get(t, c, configMaps, "a") != nil {
		t.Error("an orphan is left")
	}
}

// TestInventoryFirst: no object is written before the inventory holds it.
func TestInventoryFirst(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")), nil))
	w.take()
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("b", "1")), nil))
	writes := slices.DeleteFunc(w.take(), func(r string) bool { return strings.HasPrefix(r, "GET") || strings.HasPrefix(r, "DRYRUN") })
	if len(writes) != 2 || !strings.HasPrefix(writes[0], "PUT") || !strings.HasSuffix(writes[0], "app-inventory") {
		t.Errorf("got %v", writes)
	}
	// A store that fails lets nothing through.
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodPut {
			return errors.New("no route to host")
		}
		return nil
	})
	_, err := c.Apply(t.Context(), objects(t, configMap("c", "1")), nil)
	if !errors.Is(err, ssa.ErrUnavailable) || get(t, c, configMaps, "c") != nil {
		t.Errorf("got %v", err)
	}
}

// TestCancelled: a cancelled apply says so and marks what was not reached.
func TestCancelled(t *testing.T) {
	c, w := newClient(t)
	ctx, cancel := contextWithCancel(t)
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" {
			cancel()
		}
		return nil
	})
	c.Concurrency = 1
	set, err := c.Apply(ctx, objects(t, configMap("a", "1")+deployment("web", 1)), nil)
	if err == nil || set.Count(ssa.Created) == 2 {
		t.Errorf("got %v %v", actions(set), err)
	}
}
