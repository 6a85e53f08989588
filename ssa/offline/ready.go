package offline

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/ssa"
)

// readyManager owns the statuses that MarkReady writes.
const readyManager = "offline"

// MarkReady gives objects the status that their controllers would give them
// once all is well, so that what waits for them goes on: replicas are there,
// jobs are complete, volumes bound, custom resources have the condition Ready.
// Without ids it is all objects that have a status. Objects without one are
// passed over; one that does not exist is an error that matches
// [ssa.ErrInvalid], and then nothing is changed.
//
// Nothing else in a cluster does so: as in a server without controllers, a
// Deployment has no pods.
func (c *Cluster) MarkReady(ids ...ssa.ObjectID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []located
	if len(ids) == 0 {
		found = c.all(func(obj *unstructured.Unstructured) bool {
			k := c.stored(obj.GroupVersionKind().GroupKind())
			return k != nil && k.status
		})
	}
	for _, id := range ids {
		k := c.stored(id.GroupKind())
		if k == nil {
			return fmt.Errorf("offline: mark ready: %w: %s: its kind is not served", ssa.ErrInvalid, id)
		}
		obj := c.store.get(k.groupResource(), types.NamespacedName{Namespace: id.Namespace, Name: id.Name})
		if obj == nil {
			return fmt.Errorf("offline: mark ready: %w: %s does not exist", ssa.ErrInvalid, id)
		}
		if k.status {
			found = append(found, located{k.groupResource(), obj})
		}
	}
	for _, l := range found {
		if err := c.markReady(l); err != nil {
			return fmt.Errorf("offline: mark ready: %s: %w", ssa.IDOf(l.obj), err)
		}
	}
	c.settle()
	return nil
}

func (c *Cluster) markReady(l located) error {
	k := c.stored(l.obj.GroupVersionKind().GroupKind())
	q := &request{resource: resource{cluster: c, gvr: k.resource(), namespace: l.obj.GetNamespace()}, kind: k, name: l.obj.GetName(), subresource: "status", manager: readyManager}
	next := c.as(k, l.obj)
	status := readyStatus(k, next)
	if status == nil {
		return nil
	}
	next.Object["status"] = status
	owners, err := q.owners()
	if err != nil {
		return err
	}
	old := q.live()
	c.canonical(k, next)
	_, err = q.store(old, owners.update(old, next, q.manager))
	return err
}

// readyStatus returns the status of an object for which all is well, nil if it
// has a good one already.
func readyStatus(k *kind, obj *unstructured.Unstructured) map[string]any {
	status, _, _ := unstructured.NestedMap(obj.Object, "status")
	if status == nil {
		status = map[string]any{}
	}
	number := func(path ...string) int64 {
		n, has, err := unstructured.NestedInt64(obj.Object, path...)
		if !has || err != nil {
			return 1
		}
		return n
	}
	set := func(values map[string]any) {
		for name, value := range values {
			status[name] = value
		}
	}
	generation := obj.GetGeneration()
	replicas := number("spec", "replicas")
	switch k.gvk.Group + "/" + k.gvk.Kind {
	case "apps/Deployment":
		set(map[string]any{"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas})
		condition(status, "Available", "MinimumReplicasAvailable")
		condition(status, "Progressing", "NewReplicaSetAvailable")
	case "apps/StatefulSet":
		set(map[string]any{"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "currentReplicas": replicas, "availableReplicas": replicas, "currentRevision": "1", "updateRevision": "1"})
	case "apps/ReplicaSet", "/ReplicationController":
		set(map[string]any{"observedGeneration": generation, "replicas": replicas, "fullyLabeledReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas})
	case "apps/DaemonSet":
		set(map[string]any{"observedGeneration": generation, "desiredNumberScheduled": int64(1), "currentNumberScheduled": int64(1), "updatedNumberScheduled": int64(1), "numberAvailable": int64(1), "numberReady": int64(1), "numberMisscheduled": int64(0)})
	case "batch/Job":
		now := time.Now().UTC().Format(time.RFC3339)
		set(map[string]any{"startTime": now, "completionTime": now, "succeeded": number("spec", "completions")})
		condition(status, "SuccessCriteriaMet", "CompletionsReached")
		condition(status, "Complete", "CompletionsReached")
	case "/Pod":
		set(map[string]any{"phase": "Running"})
		for _, name := range []string{"PodScheduled", "Initialized", "ContainersReady", "Ready"} {
			condition(status, name, "")
		}
	case "/PersistentVolumeClaim":
		set(map[string]any{"phase": "Bound"})
	case "/PersistentVolume":
		set(map[string]any{"phase": "Bound"})
	case "/Service":
		if kind, _, _ := unstructured.NestedString(obj.Object, "spec", "type"); kind != "LoadBalancer" {
			return nil
		}
		set(map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "192.0.2.1", "ipMode": "VIP"}}}})
	case "networking.k8s.io/Ingress":
		set(map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": "192.0.2.1"}}}})
	case "autoscaling/HorizontalPodAutoscaler":
		set(map[string]any{"observedGeneration": generation, "currentReplicas": int64(1), "desiredReplicas": int64(1)})
		condition(status, "AbleToScale", "ReadyForNewScale")
		condition(status, "ScalingActive", "ValidMetricFound")
	case "policy/PodDisruptionBudget":
		set(map[string]any{"observedGeneration": generation, "currentHealthy": int64(1), "desiredHealthy": int64(0), "disruptionsAllowed": int64(1), "expectedPods": int64(1)})
		condition(status, "DisruptionAllowed", "SufficientPods")
	default:
		if !k.custom {
			return nil
		}
		set(map[string]any{"observedGeneration": generation})
		condition(status, "Ready", "Succeeded")
	}
	return status
}

// condition makes a condition of a status true, and one that is in the way of it.
func condition(status map[string]any, name, reason string) {
	conditions, _ := status["conditions"].([]any) // none, or of another form, which is replaced
	want := map[string]any{"type": name, "status": "True", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}
	if reason != "" {
		want["reason"], want["message"] = reason, "marked ready"
	}
	i := slices.IndexFunc(conditions, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == name
	})
	switch {
	case i < 0:
		conditions = append(conditions, want)
	default:
		if had, ok := conditions[i].(map[string]any); !ok || had["status"] != "True" {
			conditions[i] = want
		}
	}
	status["conditions"] = conditions
}
