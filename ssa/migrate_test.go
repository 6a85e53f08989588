package ssa_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/ssa"
)

// gadgets defines a kind in two versions. The newer one may have a field more.
func gadgets(group, storage, more string) string {
	version := func(name, more string) string {
		return fmt.Sprintf(`{name: %s, served: true, storage: %t, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, properties: {
  status: {type: object, properties: {phase: {type: string}}},
  spec: {type: object, properties: {size: {type: integer}, from: {type: array, items: {type: object, properties: {extract: {type: object, properties: {key: {type: string}%s}}}}}}}}}}}`, name, name == storage, more)
	}
	return fmt.Sprintf("---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: gadgets.%[1]s}\nspec: {group: %[1]s, scope: Namespaced, names: {plural: gadgets, kind: Gadget}, versions: [%[2]s, %[3]s]}\n",
		group, version("v1beta1", ""), version("v1", more))
}

func gadget(group, version string, size int) string {
	return fmt.Sprintf("---\napiVersion: %s/%s\nkind: Gadget\nmetadata: {name: one}\nspec: {size: %d, from: [{extract: {key: a}}]}\n", group, version, size)
}

// TestVersionMigration: managed fields that a neighbour has in a former API
// version do not keep an object from being applied once the newer version fills
// in a field that the former does not know.
func TestVersionMigration(t *testing.T) {
	for name, together := range map[string]bool{"definition first": false, "in one set": true} {
		t.Run(name, func(t *testing.T) {
			c, w := newClient(t)
			group := c.Owner.Namespace + ".example.com"
			apply := func(manifests string) *ssa.ChangeSet {
				t.Helper()
				return must(t)(c.Apply(t.Context(), objects(t, manifests), nil))
			}
			apply(gadgets(group, "v1beta1", "") + gadget(group, "v1beta1", 1))
			former := schema.GroupVersionResource{Group: group, Version: "v1beta1", Resource: "gadgets"}
			_, err := c.Dynamic.Resource(former).Namespace(c.Owner.Namespace).
				Patch(t.Context(), "one", types.MergePatchType, []byte(`{"status":{"phase":"Done"}}`), metav1.PatchOptions{FieldManager: "neighbour"}, "status")
			if err != nil {
				t.Fatal(err)
			}
			apply(gadgets(group, "v1", ""))
			apply(gadgets(group, "v1", "") + gadget(group, "v1", 2))
			now := gadgets(group, "v1", ", mode: {type: string, default: Ignore}")
			if !together {
				apply(now)
				eventually(t, "refusal that can be mended", func() bool {
					set, err := c.Diff(t.Context(), objects(t, now+gadget(group, "v1", 3)), nil)
					change := set.Changes[len(set.Changes)-1]
					return err == nil && change.Action == ssa.Configured && strings.Contains(change.Reason, "managed fields")
				})
			}
			apply(now + gadget(group, "v1", 3))

			live := get(t, c, schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Gadget"}, "one")
			same(t, "size", field(live, "spec", "size"), any(int64(3)))
			same(t, "status", field(live, "status", "phase"), any("Done"))
			if !together {
				entries := map[string]string{}
				for _, e := range live.GetManagedFields() {
					entries[e.Manager+" "+e.Subresource] = e.APIVersion
				}
				same(t, "managed fields", entries, map[string]string{"gitopskit ": group + "/v1", "neighbour status": group + "/v1"})
			}
			apply(now + gadget(group, "v1", 3)) // the server may begin to fill in the field only now
			w.take()
			if set := apply(now + gadget(group, "v1", 3)); set.Changed() || count(w.take(), "PATCH") != 0 {
				t.Error("applied again:", actions(set))
			}
		})
	}
}
