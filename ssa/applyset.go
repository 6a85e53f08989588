package ssa

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The labels and annotations of an ApplySet (KEP-3659,
// https://git.k8s.io/enhancements/keps/sig-cli/3659-kubectl-apply-prune): a
// parent, here the ConfigMap with the inventory, and its members.
const (
	applySetID         = "applyset.kubernetes.io/id"
	applySetPartOf     = "applyset.kubernetes.io/part-of"
	applySetTooling    = "applyset.kubernetes.io/tooling"
	applySetKinds      = "applyset.kubernetes.io/contains-group-kinds"
	applySetNamespaces = "applyset.kubernetes.io/additional-namespaces"
)

// ApplySetID returns the identity of the ApplySet whose parent is a ConfigMap, as
// its members carry it in the label applyset.kubernetes.io/part-of.
func ApplySetID(namespace, name string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{name, namespace, "ConfigMap", ""}, ".")))
	return "applyset-" + base64.RawURLEncoding.EncodeToString(sum[:]) + "-v1"
}

// applySet returns the identity of the set that the client's objects belong to,
// empty if they are not marked.
func (c *Client) applySet() string {
	if store, ok := c.inventory().(*ConfigMapInventory); ok && store.ApplySet {
		return ApplySetID(store.Namespace, store.Name)
	}
	return ""
}

// markParent makes a ConfigMap the parent of the ApplySet of an inventory.
func markParent(cm *unstructured.Unstructured, inv *Inventory) {
	var kinds, namespaces []string
	for _, e := range inv.Entries {
		kinds = append(kinds, e.Object.GroupKind().String())
		if ns := e.Object.Namespace; ns != "" && ns != cm.GetNamespace() {
			namespaces = append(namespaces, ns)
		}
	}
	list := func(names []string) string {
		slices.Sort(names)
		return strings.Join(slices.Compact(names), ",")
	}
	labels := cm.GetLabels()
	labels[applySetID] = ApplySetID(cm.GetNamespace(), cm.GetName())
	cm.SetLabels(labels)
	cm.SetAnnotations(map[string]string{applySetTooling: "gitopskit/v1", applySetKinds: list(kinds), applySetNamespaces: list(namespaces)})
}
