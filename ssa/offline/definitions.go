package offline

import (
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	kinds "github.com/gitopskit/gitopskit/ssa/schema"
)

// serve makes what the cluster serves that of the built-in kinds and of its
// definitions.
func (c *Cluster) serve() {
	c.set = c.builtin
	definitions := c.store.objects[crdResource()]
	for _, crd := range (selection{}).sorted(definitions) {
		if next, err := c.set.With(crd); err == nil {
			c.set = next
		}
	}
	c.tabulate()
}

// define serves what a definition that was written defines.
func (c *Cluster) define(crd *unstructured.Unstructured) error {
	next, err := c.set.With(crd)
	if err != nil {
		return err
	}
	c.set = next
	c.tabulate()
	return nil
}

// tabulate rebuilds the table of kinds. Of a built-in kind only the preferred
// version is served, as only the server's code can convert others.
func (c *Cluster) tabulate() {
	best := map[schema.GroupKind]kinds.Kind{}
	var out []*kind
	for _, k := range c.set.Kinds() {
		if k.Definition != "" {
			out = append(out, c.customKind(k))
			continue
		}
		if k.Optional || !slices.Contains(k.Verbs, "create") || !slices.Contains(k.Verbs, "list") {
			continue
		}
		if other, ok := best[k.GroupKind()]; !ok || k.Priority < other.Priority {
			best[k.GroupKind()] = k
		}
	}
	for gk, k := range best {
		entry := newKind(k)
		entry.storage, entry.rule = k.GroupVersion(), c.rules[gk]
		out = append(out, entry)
	}
	slices.SortFunc(out, func(a, b *kind) int { return compareKinds(a.gvk, b.gvk) })
	c.kinds = newKindTable(slices.DeleteFunc(out, func(k *kind) bool { return k.plural == "" }))
	for gk, versions := range c.kinds.byKind {
		if c.stored(gk) == nil { // a version that is not served: objects are kept in another one
			for _, k := range versions {
				k.storage = versions[0].gvk.GroupVersion()
			}
		}
	}
}

func newKind(k kinds.Kind) *kind {
	_, status := k.Subresource("status")
	return &kind{
		gvk: k.GroupVersionKind, plural: k.Resource, singular: k.Singular, listKind: k.Kind + "List",
		namespaced: k.Namespaced, status: status,
	}
}

// customKind returns a version of a custom resource; one that only a webhook
// could convert has no name and is left out.
func (c *Cluster) customKind(k kinds.Kind) *kind {
	out := newKind(k)
	out.custom = true
	crd := c.store.objects[crdResource()][keyOf(named(k.Definition))]
	if crd == nil {
		return &kind{}
	}
	if listKind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "listKind"); listKind != "" { // it is a valid definition
		out.listKind = listKind
	}
	versions, _, _ := unstructured.NestedFieldNoCopy(crd.Object, "spec", "versions") // likewise
	for _, v := range items(versions) {
		if name, ok := v["name"].(string); ok && v["storage"] == true {
			out.storage = schema.GroupVersion{Group: k.Group, Version: name}
		}
	}
	strategy, _, _ := unstructured.NestedString(crd.Object, "spec", "conversion", "strategy") // likewise
	if strategy == "Webhook" && out.storage != k.GroupVersion() {
		return &kind{}
	}
	return out
}

func named(name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetName(name)
	return obj
}

// written follows up on an object that was stored.
func (c *Cluster) written(k *kind, obj *unstructured.Unstructured) {
	if k.gvk.GroupKind() != crdKind() || obj.GetDeletionTimestamp() != nil {
		return
	}
	if c.define(obj) == nil {
		c.establish(obj)
	}
}

// establish gives a definition the status of one that is served, as the API
// server's own controllers do.
func (c *Cluster) establish(crd *unstructured.Unstructured) {
	k := c.stored(crdKind())
	q := &request{resource: resource{cluster: c, gvr: k.resource()}, kind: k, name: crd.GetName(), subresource: "status", manager: "kube-apiserver"}
	owners, err := q.owners()
	if err != nil {
		return // its schema is built in
	}
	next := crd.DeepCopy()
	names, _, _ := unstructured.NestedFieldCopy(crd.Object, "spec", "names") // it was validated
	status, _, _ := unstructured.NestedMap(crd.Object, "status")
	if status == nil {
		status = map[string]any{}
	}
	old, _, _ := unstructured.NestedFieldNoCopy(crd.Object, "status", "conditions")
	status["acceptedNames"] = names
	conditions := []any{}
	for _, want := range []map[string]any{
		{"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found"},
		{"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted"},
	} {
		want["lastTransitionTime"] = time.Now().UTC().Format(time.RFC3339)
		for _, had := range items(old) {
			if had["type"] == want["type"] && had["status"] == "True" {
				want = had
			}
		}
		conditions = append(conditions, want)
	}
	status["conditions"] = conditions
	next.Object["status"] = status
	c.canonical(k, next)
	if reflect.DeepEqual(next.Object["status"], crd.Object["status"]) {
		return
	}
	next = owners.update(crd, next, q.manager)
	c.store.put(crdResource(), next)
}

// prepareDefinition notes the version that objects are stored in.
func prepareDefinition(_ *request, obj, _ *unstructured.Unstructured) {
	versions, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "versions")
	stored, _, _ := unstructured.NestedStringSlice(obj.Object, "status", "storedVersions")
	for _, v := range items(versions) {
		if name, ok := v["name"].(string); ok && v["storage"] == true && !slices.Contains(stored, name) {
			status, ok := obj.Object["status"].(map[string]any)
			if !ok {
				status = map[string]any{}
				obj.Object["status"] = status
			}
			status["storedVersions"] = anySlice(append(stored, name))
			return
		}
	}
}

// definedResource returns the resource that a definition defines.
func definedResource(crd *unstructured.Unstructured) schema.GroupResource {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group") // it was validated
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	return schema.GroupResource{Group: group, Resource: plural}
}
