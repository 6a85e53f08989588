package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/ssa"
)

var (
	pods   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	events = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// homeless is a Deployment whose pods nobody schedules, so that only the test
// writes their status.
func homeless(name string, replicas int) string {
	return strings.Replace(deployment(name, replicas), "containers:", "schedulerName: nobody, containers:", 1)
}

// podsOf returns the pods of a Deployment when there are n.
func podsOf(t *testing.T, c *ssa.Client, app string, n int) []string {
	t.Helper()
	watch, err := c.Dynamic.Resource(pods).Namespace(c.Owner.Namespace).Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	seen := map[string]bool{}
	var names []string
	for len(names) < n {
		obj, ok := soon(t, watch.ResultChan(), "pod").Object.(*unstructured.Unstructured)
		if ok && !seen[obj.GetName()] {
			seen[obj.GetName()] = true
			names = append(names, obj.GetName())
		}
	}
	return names
}

// until waits for an object to have a condition.
func until(t *testing.T, c *ssa.Client, resource schema.GroupVersionResource, name, condition string) {
	t.Helper()
	watch, err := c.Dynamic.Resource(resource).Namespace(c.Owner.Namespace).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for found := false; !found; {
		obj, _ := soon(t, watch.ResultChan(), condition).Object.(*unstructured.Unstructured)
		list, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions") // none yet
		for _, v := range list {
			found = found || v.(map[string]any)["type"] == condition
		}
	}
}

// warn records an event about an object.
func warn(t *testing.T, c *ssa.Client, kind, name, uid, reason, message string) {
	t.Helper()
	event := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message,
		"metadata":       map[string]any{"generateName": "e-"},
		"involvedObject": map[string]any{"kind": kind, "name": name, "namespace": c.Owner.Namespace, "uid": uid},
		"lastTimestamp":  time.Now().UTC().Format(time.RFC3339),
	}}
	if _, err := c.Dynamic.Resource(events).Namespace(c.Owner.Namespace).Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// late is the error of a wait that times out.
func late(t *testing.T, c *ssa.Client, ids []ssa.ObjectID) string {
	t.Helper()
	statuses, err := c.Wait(t.Context(), ids, &ssa.WaitOptions{Timeout: 300 * time.Millisecond})
	if !errors.Is(err, ssa.ErrNotReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	for _, s := range statuses {
		if s.State != ssa.Current && !strings.Contains(err.Error(), s.Message) {
			t.Errorf("the status says %q, the error %q", s.Message, err)
		}
	}
	return err.Error()
}

// TestReasons: the error of a wait says what is wrong with the pods.
func TestReasons(t *testing.T) {
	c, w := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, homeless("web", 4)), nil))
	names := podsOf(t, c, "web", 4)
	container := func(ready bool, state, last string) string {
		return fmt.Sprintf(`{"phase":"Running","containerStatuses":[{"name":"main","image":"x","imageID":"","restartCount":1,"ready":%t,"state":%s,"lastState":%s}]}`, ready, state, last)
	}
	pull := container(false, `{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image \"example.com/web:1\""}}`, `{}`)
	setStatus(t, c, pods, names[0], pull)
	setStatus(t, c, pods, names[1], pull)
	setStatus(t, c, pods, names[2], container(false, `{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 5m0s"}}`, `{"terminated":{"exitCode":137,"reason":"OOMKilled","message":"password=canary"}}`))
	setStatus(t, c, pods, names[3], container(false, `{"running":{"startedAt":"2026-01-01T00:00:00Z"}}`, `{}`))
	pod, err := c.Dynamic.Resource(pods).Namespace(c.Owner.Namespace).Get(t.Context(), names[3], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	warn(t, c, "Pod", names[3], "another", "Unhealthy", "of another pod of that name")
	warn(t, c, "Pod", names[3], string(pod.GetUID()), "Unhealthy", "Readiness probe failed:\n HTTP probe failed with statuscode: 503")
	w.take()
	got := late(t, c, set.Objects())
	for _, want := range []string{
		`container main: ImagePullBackOff: Back-off pulling image "example.com/web:1" (and 1 more pods)`,
		"pod " + names[2] + ": container main: CrashLoopBackOff: last exit code 137 (OOMKilled)",
		"pod " + names[3] + ": container main: is running and not ready; Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.Contains(got, "canary") || strings.Contains(got, "another") {
		t.Errorf("too much: %s", got)
	}
	if requests := w.take(); len(requests) != 5 { // list, watch; Deployment, pods, events of one
		t.Errorf("it took %v", requests)
	}

	// What cannot be read hides nothing.
	w.tamper(func(r *http.Request) error {
		if strings.HasSuffix(r.URL.Path, "/pods") {
			return errors.New("no pods today")
		}
		return nil
	})
	if got := late(t, c, set.Objects()); !strings.Contains(got, "Available: 0/4") || !strings.Contains(got, "why cannot be read") || !strings.Contains(got, "no pods today") {
		t.Errorf("got %s", got)
	}

	// A caller who has no time gets none of it.
	w.tamper(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Wait(ctx, set.Objects(), nil); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "ImagePull") {
		t.Errorf("got %v", err)
	}
	// Objects keep a part of theirs for it.
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	o := ssa.Objects{Client: c}
	if err := o.WaitReady(ctx, objects(t, homeless("web", 4))); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ImagePull") {
		t.Errorf("got %v", err)
	}
}

// TestReasonsUnscheduled: pods without a node say why, and which claims they
// wait for.
func TestReasonsUnscheduled(t *testing.T) {
	c, _ := newClient(t)
	claims := "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}\n"
	web := strings.Replace(deployment("web", 1), "spec: {containers:", "spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: data}}], containers:", 1)
	set := must(t)(c.Apply(t.Context(), objects(t, claims+web), nil))
	name := podsOf(t, c, "web", 1)[0]
	until(t, c, pods, name, "PodScheduled")
	claim := get(t, c, schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}, "data")
	warn(t, c, "PersistentVolumeClaim", "data", string(claim.GetUID()), "ProvisioningFailed", "no storage class")
	got := late(t, c, set.Objects())
	for _, want := range []string{
		"pod " + name + ": Unschedulable: 0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims",
		"; claim data is Pending: ProvisioningFailed: no storage class",
		"data: InProgress: PVC is not Bound. phase: Pending; ProvisioningFailed: no storage class",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	id := []ssa.ObjectID{{Kind: "Pod", Namespace: c.Owner.Namespace, Name: name}}
	_, err := c.Wait(t.Context(), id, &ssa.WaitOptions{AnyOwner: true, Timeout: 300 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "; claim data is Pending") {
		t.Errorf("the pod itself: %v", err)
	}
}

// TestReasonsNoPods: a workload without pods says why by its conditions or events.
func TestReasonsNoPods(t *testing.T) {
	c, _ := newClient(t)
	quota := "---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {pods: '0'}}\n"
	stateful := "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec: {containers: [{name: main, image: example.com/db}]}\n"
	must(t)(c.Apply(t.Context(), objects(t, quota), nil))
	setStatus(t, c, schema.GroupVersionResource{Version: "v1", Resource: "resourcequotas"}, "q", `{"hard":{"pods":"0"},"used":{"pods":"0"}}`)
	set := must(t)(c.Apply(t.Context(), objects(t, quota+deployment("web", 1)+stateful), nil))
	until(t, c, schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, "web", "ReplicaFailure")
	db := get(t, c, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"}, "db")
	warn(t, c, "StatefulSet", "db", string(db.GetUID()), "FailedCreate", "no pods for you")
	got := late(t, c, set.Objects())
	if !strings.Contains(got, "FailedCreate: ") || !strings.Contains(got, "exceeded quota: q") || !strings.Contains(got, "/db: InProgress: Replicas: 0/1; ") {
		t.Errorf("got %s", got)
	}
}

func TestTroubles(t *testing.T) {
	tests := []struct{ name, status, want string }{
		{"ready", "phase: Running, conditions: [{type: Ready, status: 'True'}]", ""},
		{"done", "phase: Succeeded", ""},
		{"new", "phase: Pending", "it is not ready"},
		{"evicted", "phase: Failed, reason: Evicted, message: The node was low on memory", "Evicted: The node was low on memory"},
		{"failed", "phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 0}}}, {name: b, state: {terminated: {exitCode: 2, reason: Error, message: secret}}}]", "container b: exit code 2"},
		{"gated", "phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: SchedulingGated}]", "SchedulingGated"},
		{"init container", "phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: CrashLoopBackOff, message: back-off}}, lastState: {terminated: {exitCode: 1}}}], containerStatuses: [{name: a, state: {waiting: {reason: PodInitializing}}}]", "container i: CrashLoopBackOff: last exit code 1"},
		{"creating", "phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}]", "container a: is being created"},
		{"bad configuration", "phase: Pending, containerStatuses: [{name: a, state: {waiting: {reason: ContainerCreating}}}, {name: b, state: {waiting: {reason: CreateContainerConfigError, message: \"secret \\\"x\\\"\\nnot found\"}}}]", `container b: CreateContainerConfigError: secret "x" not found`},
		{"restarted", "phase: Running, containerStatuses: [{name: a, ready: false, state: {running: {}}, lastState: {terminated: {exitCode: 3}}}]", "container a: is running and not ready, after exit code 3"},
		{"long", "phase: Failed, reason: R, message: " + strings.Repeat("x", 5000), "R: " + strings.Repeat("x", 300) + "..."},
		{"odd", "phase: Running, containerStatuses: [1, {name: 2, state: 3}], conditions: 4", "container : is running and not ready"},
	}
	for _, tt := range tests {
		pod := objects(t, "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {"+tt.status+"}}\n")[0]
		if got := ssa.TroubleOf(pod); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	gone := objects(t, "{apiVersion: v1, kind: Pod, metadata: {name: p, deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Failed, reason: R}}\n")[0]
	if got := ssa.TroubleOf(gone); got != "" {
		t.Errorf("a pod that is going away: %q", got)
	}
}
