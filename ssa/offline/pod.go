package offline

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantities "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// preparePod completes a pod as the admission of a server does that has no
// service accounts: its priority, how long it stays on a broken node, and its
// class of service.
func preparePod(q *request, obj, old *unstructured.Unstructured) {
	spec, ok := obj.Object["spec"].(map[string]any)
	if !ok {
		return
	}
	tolerateFor(spec, "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
	if old != nil {
		return
	}
	name, _ := spec["priorityClassName"].(string) // none means the usual priority
	value, policy, _ := q.cluster.priority(name)  // it was admitted
	spec["priority"] = value
	if spec["preemptionPolicy"] == nil {
		spec["preemptionPolicy"] = policy
	}
	obj.Object["status"] = map[string]any{"phase": "Pending", "qosClass": serviceClass(spec)}
}

// priority is what pods of a priority class get; false if there is none.
func (c *Cluster) priority(name string) (value int64, policy string, ok bool) {
	policy = "PreemptLowerPriority"
	classes := schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}
	class := c.store.get(classes, types.NamespacedName{Name: name})
	switch {
	case class != nil:
	case name == "system-cluster-critical":
		return 2_000_000_000, policy, true
	case name == "system-node-critical":
		return 2_000_001_000, policy, true
	case name != "":
		return 0, policy, false
	default:
		for _, other := range (selection{}).sorted(c.store.objects[classes]) {
			if isTrue(other, "globalDefault") {
				class = other
			}
		}
		if class == nil {
			return 0, policy, true
		}
	}
	value, _, _ = unstructured.NestedInt64(class.Object, "value") // it was validated
	if p, _, _ := unstructured.NestedString(class.Object, "preemptionPolicy"); p != "" {
		policy = p
	}
	return value, policy, true
}

// admitPod refuses a pod of a priority that is not there.
func (q *request) admitPod(obj *unstructured.Unstructured) error {
	name, _, _ := unstructured.NestedString(obj.Object, "spec", "priorityClassName") // validation reports another type
	if _, _, ok := q.cluster.priority(name); !ok {
		return apierrors.NewForbidden(q.kind.groupResource(), obj.GetName(), fmt.Errorf("no PriorityClass with name %s was found", name))
	}
	return nil
}

// tolerateFor makes a pod stay five minutes on a node with one of these taints,
// unless it says otherwise.
func tolerateFor(spec map[string]any, taints ...string) {
	tolerations, _ := spec["tolerations"].([]any) // none, or validation reports another type
	for _, taint := range taints {
		tolerated := false
		for _, t := range items(spec["tolerations"]) {
			key, effect := t["key"], t["effect"]
			tolerated = tolerated || (key == taint || key == nil || key == "") && (effect == "NoExecute" || effect == nil || effect == "")
		}
		if !tolerated {
			tolerations = append(tolerations, map[string]any{"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": int64(300)})
		}
	}
	if len(tolerations) > 0 {
		spec["tolerations"] = tolerations
	}
}

// serviceClass is Guaranteed if all containers have limits for CPU and memory
// that equal their requests, BestEffort if none has either.
func serviceClass(spec map[string]any) string {
	guaranteed, nothing := true, true
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range items(spec[list]) {
			resources, _ := c["resources"].(map[string]any) // none is as good as empty
			limits, _ := resources["limits"].(map[string]any)
			requests, _ := resources["requests"].(map[string]any)
			for _, name := range []string{"cpu", "memory"} {
				limit, request := quantity(limits[name]), quantity(requests[name])
				nothing = nothing && limit.IsZero() && request.IsZero()
				guaranteed = guaranteed && !limit.IsZero() && (requests[name] == nil || limit.Cmp(request) == 0)
			}
		}
	}
	switch {
	case nothing:
		return "BestEffort"
	case guaranteed:
		return "Guaranteed"
	}
	return "Burstable"
}

func quantity(v any) quantities.Quantity {
	text, _ := v.(string) // canonical quantities are text
	q, err := quantities.ParseQuantity(text)
	if err != nil {
		return quantities.Quantity{}
	}
	return q
}
