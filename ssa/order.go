package ssa

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// rank returns the position of a kind in the sequence in which kinds are
// applied, and in the reverse of which they are deleted: what others need comes
// first. It is the sequence of Flux, so that logs and deletions of the two
// match. Other kinds come before the webhook configurations, which could refuse
// the rest of the set.
func rank(kind string) int {
	switch kind {
	case "CustomResourceDefinition":
		return 0
	case "Namespace":
		return 1
	case "ClusterRole":
		return 2
	case "ClusterClass":
		return 3
	case "RuntimeClass":
		return 4
	case "PriorityClass":
		return 5
	case "StorageClass":
		return 6
	case "VolumeSnapshotClass":
		return 7
	case "IngressClass":
		return 8
	case "GatewayClass":
		return 9
	case "ClusterRoleBinding":
		return firstOfRest
	case "ResourceQuota":
		return 11
	case "ServiceAccount":
		return 12
	case "Role":
		return 13
	case "RoleBinding":
		return 14
	case "ConfigMap":
		return 15
	case "Secret":
		return 16
	case "Service":
		return 17
	case "LimitRange":
		return 18
	case "Deployment":
		return 19
	case "StatefulSet":
		return 20
	case "CronJob":
		return 21
	case "PodDisruptionBudget":
		return 22
	case "MutatingWebhookConfiguration":
		return 24
	case "ValidatingWebhookConfiguration":
		return 25
	}
	if strings.HasSuffix(kind, "Class") {
		return 9
	}
	return 23
}

// firstOfRest is the rank of the first kind that is not of the first stage.
const firstOfRest = 10

// isDefinition reports the kinds of the first stage: those that decide what
// the cluster serves and where.
func isDefinition(kind string) bool { return rank(kind) < firstOfRest }

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
	slices.SortFunc(all, func(a, b keyed) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return a.id.Compare(b.id)
	})
	for i := range all {
		objs[i] = all[i].obj
	}
}
