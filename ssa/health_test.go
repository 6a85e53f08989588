package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/health"
)

// reports are objects of a kind with a status, and of one without.
const reports = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: reports.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: Report, plural: reports, singular: report, listKind: ReportList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {status: {}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: plains.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {kind: Plain, plural: plains, singular: plain, listKind: PlainList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: GROUP/v1
kind: Report
metadata: {name: r}
---
apiVersion: GROUP/v1
kind: Plain
metadata: {name: p}
`

// setStatus writes the status of an object of the client's namespace.
func setStatus(t *testing.T, c *ssa.Client, resource schema.GroupVersionResource, name, body string) {
	t.Helper()
	r := c.Dynamic.Resource(resource).Namespace(c.Owner.Namespace)
	if _, err := r.Patch(t.Context(), name, "application/merge-patch+json", []byte(`{"status":`+body+`}`), metav1.PatchOptions{FieldManager: "controller"}, "status"); err != nil {
		t.Fatal(err)
	}
}

func reportsOf(c *ssa.Client) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: c.Owner.Namespace + ".example.com", Version: "v1", Resource: "reports"}
}

// withStore calls f with the client as it is, and with a store.
func withStore(t *testing.T, f func(t *testing.T, c *ssa.Client, w *wire)) {
	t.Run("without a store", func(t *testing.T) {
		c, w := newClient(t)
		f(t, c, w)
	})
	t.Run("with a store", func(t *testing.T) {
		c, w := newClient(t)
		run(t, c)
		f(t, c, w)
	})
}

// run gives a client a store that runs.
func run(t *testing.T, c *ssa.Client) {
	t.Helper()
	c.Store = &ssa.Store{Dynamic: c.Dynamic}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := soon(t, done, "end of the store"); err != nil {
			t.Error(err)
		}
	})
}

// TestWaitGrace: an object without a status is given time for one, if its kind
// has a status.
func TestWaitGrace(t *testing.T) {
	t.Parallel()
	withStore(t, func(t *testing.T, c *ssa.Client, w *wire) {
		set := must(t)(c.Apply(t.Context(), objects(t, group(t, c, reports)), nil))
		if _, err := c.Wait(t.Context(), set.Objects(), nil); err != nil {
			t.Errorf("without a grace: %v", err)
		}
		w.take()
		got, err := c.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Grace: time.Hour, Timeout: 2 * time.Second})
		if !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "Plain.") || !strings.Contains(err.Error(), "/r: InProgress: it has no status yet") {
			t.Errorf("got %v, %v", got, err)
		}
		asked := 0
		for _, r := range w.take() {
			if strings.HasSuffix(r, "/status") {
				asked++
			}
		}
		if asked != 2 {
			t.Errorf("%d requests for kinds with and without a status", asked)
		}
		done := make(chan error, 1)
		waiting := make(chan struct{}, 10)
		go func() {
			_, err := c.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Grace: time.Hour, Timeout: time.Minute, Progress: func(s ssa.Status) {
				if s.Object.Kind == "Report" {
					waiting <- struct{}{}
				}
			}})
			done <- err
		}()
		soon(t, waiting, "first state")
		setStatus(t, c, reportsOf(c), "r", `{"phase":"any"}`)
		if err := soon(t, done, "end of the wait"); err != nil {
			t.Errorf("with a status: %v", err)
		}
		must(t)(c.Apply(t.Context(), objects(t, group(t, c, reports+"---\napiVersion: GROUP/v1\nkind: Report\nmetadata: {name: new}\n")), nil))
		id := ssa.ObjectID{Group: c.Owner.Namespace + ".example.com", Kind: "Report", Namespace: c.Owner.Namespace, Name: "new"}
		if _, err := c.Wait(t.Context(), []ssa.ObjectID{id}, &ssa.WaitOptions{Grace: 2 * time.Second, Timeout: 20 * time.Second}); err != nil {
			t.Errorf("when the grace is over: %v", err)
		}
		must(t)(c.Prune(t.Context(), nil, nil))
	})
}

// TestWaitHealth: the client's own rules decide, also with a store, which others
// share whose rules differ.
func TestWaitHealth(t *testing.T) {
	withStore(t, func(t *testing.T, c *ssa.Client, _ *wire) {
		set := must(t)(c.Apply(t.Context(), objects(t, group(t, c, reports)), nil))
		rules := func(current string) ssa.Health {
			e, err := health.Compile([]health.Expression{{APIVersion: c.Owner.Namespace + ".example.com/v1", Kind: "Report", Failed: "status.phase == 'broken'", Current: current}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		mine, theirs := *c, *c
		mine.Health, theirs.Health = rules("status.phase == 'done'"), rules("status.phase in ['done', 'started']")
		done := make(chan error, 1)
		states := make(chan ssa.Status, 20)
		go func() {
			_, err := mine.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Progress: func(s ssa.Status) {
				if s.Object.Kind == "Report" {
					states <- s
				}
			}})
			done <- err
		}()
		if s := soon(t, states, "state"); s.State != ssa.InProgress || !strings.Contains(s.Message, "no such key: status") && !strings.Contains(s.Message, "no such attribute") {
			t.Errorf("got %s", s)
		}
		setStatus(t, c, reportsOf(c), "r", `{"phase":"started"}`)
		if s := soon(t, states, "state"); s.State != ssa.InProgress || !strings.Contains(s.Message, "not true yet") {
			t.Errorf("got %s", s)
		}
		if _, err := theirs.Wait(t.Context(), set.Objects(), nil); err != nil {
			t.Errorf("by other rules: %v", err)
		}
		if _, err := c.Wait(t.Context(), set.Objects(), nil); err != nil {
			t.Errorf("by kstatus: %v", err)
		}
		setStatus(t, c, reportsOf(c), "r", `{"phase":"done"}`)
		if err := soon(t, done, "end of the wait"); err != nil {
			t.Error(err)
		}
		setStatus(t, c, reportsOf(c), "r", `{"phase":"broken"}`)
		if _, err := mine.Wait(t.Context(), set.Objects(), nil); !errors.Is(err, ssa.ErrNotReady) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `Failed: by the expression "status.phase == 'broken'"`) {
			t.Errorf("got %v", err)
		}
		setStatus(t, c, reportsOf(c), "r", `{"phase":null,"other":true}`)
		if _, err := mine.Wait(t.Context(), set.Objects(), nil); errors.Is(err, context.DeadlineExceeded) || err == nil || !strings.Contains(err.Error(), `expression "status.phase == 'broken'": no such key: phase`) {
			t.Errorf("got %v", err)
		}
		must(t)(c.Prune(t.Context(), nil, nil))
	})
}

// TestStates: what is said of built-in kinds is what kstatus says, but for Jobs.
func TestStates(t *testing.T) {
	deploying := `metadata: {generation: 2}, spec: {replicas: 2}, status: {observedGeneration: 2, `
	progress := func(reason string) string {
		return "conditions: [{type: Progressing, status: 'True', reason: " + reason + "}, {type: Available, status: 'True'}]"
	}
	tests := []struct{ kind, body, want string }{
		{"apps/v1 Deployment", "metadata: {generation: 2}, status: {observedGeneration: 1}", "InProgress"},
		{"apps/v1 Deployment", deploying + "replicas: 2, updatedReplicas: 1}", "InProgress"},
		{"apps/v1 Deployment", deploying + "replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 2, " + progress("NewReplicaSetAvailable") + "}", "Current"},
		{"apps/v1 Deployment", deploying + progress("ProgressDeadlineExceeded") + "}", "Failed"},
		{"apps/v1 StatefulSet", "spec: {replicas: 1}, status: {replicas: 1}", "InProgress"},
		{"apps/v1 StatefulSet", "spec: {replicas: 1, updateStrategy: {type: OnDelete}}", "Current"},
		{"apps/v1 StatefulSet", "spec: {replicas: 1}, status: {replicas: 1, readyReplicas: 1, currentReplicas: 1, updatedReplicas: 1, currentRevision: a, updateRevision: a}", "Current"},
		{"apps/v1 DaemonSet", "metadata: {generation: 1}", "InProgress"},
		{"apps/v1 DaemonSet", "metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 1, currentNumberScheduled: 1, updatedNumberScheduled: 1, numberAvailable: 1, numberReady: 1}", "Current"},
		{"apps/v1 ReplicaSet", "spec: {replicas: 1}, status: {replicas: 1}", "InProgress"},
		{"apps/v1 ReplicaSet", "spec: {replicas: 1}, status: {replicas: 1, fullyLabeledReplicas: 1, availableReplicas: 1, readyReplicas: 1}", "Current"},
		{"v1 Pod", "status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}", "Current"},
		{"v1 Pod", "status: {phase: Running, containerStatuses: [{name: a, state: {waiting: {reason: CrashLoopBackOff}}}]}", "Failed"},
		{"v1 Pod", "status: {phase: Pending}", "InProgress"},
		{"v1 Pod", "status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable}]}", "Failed"},
		{"v1 Pod", "status: {phase: Succeeded}", "Current"},
		{"v1 Pod", "status: {phase: odd}", "Unknown"},
		{"v1 Pod", "status: {phase: Running, containerStatuses: [odd]}", "Unknown"},
		{"v1 PersistentVolumeClaim", "status: {phase: Pending}", "InProgress"},
		{"v1 PersistentVolumeClaim", "status: {phase: Bound}", "Current"},
		{"v1 Service", "spec: {type: LoadBalancer}", "InProgress"},
		{"v1 Service", "spec: {type: LoadBalancer, clusterIP: 10.0.0.1}", "Current"},
		{"policy/v1 PodDisruptionBudget", "metadata: {generation: 2}, status: {observedGeneration: 1}", "InProgress"},
		{"policy/v1 PodDisruptionBudget", "metadata: {generation: 2}, status: {observedGeneration: 2}", "Current"},
		{"batch/v1 CronJob", "spec: {suspend: true}", "Current"},
		{"v1 ConfigMap", "data: {a: b}", "Current"},
		{"v1 Secret", "data: {a: Yg==}", "Current"},
		{"v1 ServiceAccount", "metadata: {name: a}", "Current"},
		{"v1 Namespace", "status: {phase: Active}", "Current"},
		{"v1 ConfigMap", "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}", "Terminating"},
		{"apiextensions.k8s.io/v1 CustomResourceDefinition", "status: {conditions: [{type: Established, status: 'True'}]}", "Current"},
		{"apiextensions.k8s.io/v1 CustomResourceDefinition", "status: {conditions: [{type: NamesAccepted, status: 'False'}]}", "Failed"},
		{"apiextensions.k8s.io/v1 CustomResourceDefinition", "status: {conditions: []}", "InProgress"},
		{"example.com/v1 Thing", "status: {conditions: [{type: Ready, status: 'False', message: why}]}", "InProgress"},
		{"example.com/v1 Thing", "status: {conditions: [{type: Reconciling, status: 'True'}]}", "InProgress"},
		{"example.com/v1 Thing", "status: {conditions: [{type: Stalled, status: 'True'}]}", "Failed"},
		{"example.com/v1 Thing", "status: {conditions: [{type: Ready, status: 'True'}]}", "Current"},
		{"example.com/v1 Thing", "spec: {}", "Current"},
		{"batch/v1 Job", "status: {}", "InProgress"},
		{"batch/v1 Job", "status: {startTime: '2026-01-01T00:00:00Z', active: 1}", "InProgress"}, // kstatus: Current
		{"batch/v1 Job", "status: {startTime: '2026-01-01T00:00:00Z', conditions: [{type: Complete, status: 'True'}]}", "Current"},
		{"batch/v1 Job", "status: {startTime: '2026-01-01T00:00:00Z', conditions: [{type: Failed, status: 'True'}]}", "Failed"},
		{"batch/v1 Job", "spec: {suspend: true}", "Current"}, // kstatus: InProgress
		{"batch/v1 Job", "spec: {suspend: true}, status: {conditions: [{type: Failed, status: 'True'}]}", "Failed"},
		{"batch/v1 Job", "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, spec: {suspend: true}", "Terminating"},
	}
	for _, tt := range tests {
		version, kind, _ := strings.Cut(tt.kind, " ")
		body := strings.Replace(tt.body, "metadata: {", "metadata: {name: x, ", 1)
		if body == tt.body {
			body = "metadata: {name: x}, " + body
		}
		obj := objects(t, fmt.Sprintf("{apiVersion: %s, kind: %s, %s}\n", version, kind, body))[0]
		got := ssa.StateOf(obj)
		if string(got) != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.kind, tt.body, got, tt.want)
		}
		if kind == "Job" || tt.want == "Unknown" {
			continue
		}
		peer, err := status.Compute(obj)
		if err != nil || got != ssa.State(peer.Status) {
			t.Errorf("%s, %s: %s, kstatus says %+v, %v", tt.kind, tt.body, got, peer, err)
		}
	}
}

func job(spec string) string {
	return "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  suspend: " + spec + "\n  template:\n    spec: {restartPolicy: Never, containers: [{name: main, image: example.com/x}]}\n"
}

// TestWaitJob: Jobs are waited for until they are complete, and those that
// delete themselves then may be gone.
func TestWaitJob(t *testing.T) {
	withStore(t, func(t *testing.T, c *ssa.Client, _ *wire) {
		manifest := job("true\n  ttlSecondsAfterFinished: 0")
		set := must(t)(c.Apply(t.Context(), objects(t, manifest+configMap("a", "1")), nil))
		if got := set.Expiring(); len(got) != 1 || got[0].Kind != "Job" {
			t.Errorf("expiring: %v", got)
		}
		if _, err := c.Wait(t.Context(), set.Objects(), nil); err != nil {
			t.Errorf("a suspended Job: %v", err)
		}
		// It runs and goes during a wait.
		id := set.Expiring()
		jobs := schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
		patch(t, c.Dynamic.Resource(jobs).Namespace(c.Owner.Namespace), "j", `{"spec":{"suspend":false},"metadata":{"finalizers":["example.com/keep"]}}`)
		done := make(chan error, 1)
		states := make(chan ssa.Status, 20)
		go func() {
			_, err := c.Wait(t.Context(), id, &ssa.WaitOptions{Progress: func(s ssa.Status) { states <- s }})
			done <- err
		}()
		soon(t, states, "first state")
		if err := c.Dynamic.Resource(jobs).Namespace(c.Owner.Namespace).Delete(t.Context(), "j", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
			t.Fatal(err)
		}
		patch(t, c.Dynamic.Resource(jobs).Namespace(c.Owner.Namespace), "j", `{"metadata":{"finalizers":null}}`)
		if err := soon(t, done, "end of the wait"); err != nil {
			t.Errorf("a Job that deleted itself: %v", err)
		}
		if _, err := c.Wait(t.Context(), id, &ssa.WaitOptions{Expiring: id, Timeout: time.Minute}); err != nil {
			t.Errorf("a Job that was gone before: %v", err)
		}
		if _, err := c.Wait(t.Context(), id, &ssa.WaitOptions{Timeout: 200 * time.Millisecond}); !errors.Is(err, ssa.ErrNotReady) {
			t.Errorf("a Job that never was: %v", err)
		}
		if _, err := c.WaitDeleted(t.Context(), id, &ssa.WaitOptions{Expiring: id}); err != nil {
			t.Errorf("gone: %v", err)
		}
	})
}
