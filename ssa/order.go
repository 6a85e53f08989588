package ssa

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// order is the sequence in which kinds are applied, and the reverse of that in
// which they are deleted: what others need comes first. It is the sequence of
// Flux, so that logs and deletions of the two match. Kinds that are not listed
// come between the last of these and the webhook configurations, which could
// refuse the rest of the set.
func order() []string {
	return []string{
		"CustomResourceDefinition", "Namespace", "ClusterRole",
		"ClusterClass", "RuntimeClass", "PriorityClass", "StorageClass", "VolumeSnapshotClass", "IngressClass", "GatewayClass",
		"ClusterRoleBinding", "ResourceQuota", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret", "Service",
		"LimitRange", "Deployment", "StatefulSet", "CronJob", "PodDisruptionBudget",
	}
}

// rank returns the position of a kind in the order.
func rank(kind string) int {
	kinds := order()
	switch kind {
	case "MutatingWebhookConfiguration":
		return len(kinds) + 1
	case "ValidatingWebhookConfiguration":
		return len(kinds) + 2
	}
	if i := slices.Index(kinds, kind); i >= 0 {
		return i
	}
	if strings.HasSuffix(kind, "Class") {
		return slices.Index(kinds, "GatewayClass")
	}
	return len(kinds)
}

// isDefinition reports the kinds of the first stage: those that decide what
// the cluster serves and where.
func isDefinition(kind string) bool { return rank(kind) < rank("ClusterRoleBinding") }

func compareKinds(a, b ObjectID) int {
	return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), a.Compare(b))
}

// inOrder sorts objects for applying.
func inOrder(objs []*unstructured.Unstructured) {
	type keyed struct {
		rank int
		id   ObjectID
		obj  *unstructured.Unstructured
	}
	ranks := map[string]int{}
	all := make([]keyed, len(objs))
	for i, obj := range objs {
		id := IDOf(obj)
		r, known := ranks[id.Kind]
		if !known {
			r = rank(id.Kind)
			ranks[id.Kind] = r
		}
		all[i] = keyed{r, id, obj}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return cmp.Or(cmp.Compare(a.rank, b.rank), a.id.Compare(b.id)) })
	for i := range all {
		objs[i] = all[i].obj
	}
}
