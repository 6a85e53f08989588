package offline_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa/offline"
	kinds "github.com/gitopskit/gitopskit/ssa/schema"
)

// twins are a real API server without controllers and an offline cluster, of
// the same Kubernetes version, to which the same is done.
type twins struct {
	real, offline dynamic.Interface
	mapper        meta.RESTMapper
	namespace     string
}

func newTwins(t *testing.T) *twins {
	t.Helper()
	env := testenv.StartServer(t, &testenv.Options{})
	config := rest.CopyConfig(env.Config())
	config.QPS = -1
	namespace := object(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+env.Namespace+"}\n")
	set := must[*kinds.Set](t)(kinds.Builtin("1.36"))
	cluster := must[*offline.Cluster](t)(offline.New(set, namespace))
	return &twins{
		real: must[*dynamic.DynamicClient](t)(dynamic.NewForConfig(config)), offline: cluster.Dynamic(),
		mapper: cluster.Mapper(), namespace: env.Namespace,
	}
}

// outcome is what an operation led to.
type outcome struct {
	Object map[string]any
	Code   int32
	Reason metav1.StatusReason
	text   string
}

type operation func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error)

// do does something to an object in both and returns the difference.
func (w *twins) do(t *testing.T, gvk schema.GroupVersionKind, f operation) (real outcome, diff string) {
	t.Helper()
	m := must[*meta.RESTMapping](t)(w.mapper.RESTMapping(gvk.GroupKind(), gvk.Version))
	run := func(d dynamic.Interface) outcome {
		var r dynamic.ResourceInterface = d.Resource(m.Resource)
		if m.Scope.Name() == meta.RESTScopeNameNamespace {
			r = d.Resource(m.Resource).Namespace(w.namespace)
		}
		obj, err := f(t.Context(), r)
		var status apierrors.APIStatus
		switch {
		case errors.As(err, &status):
			return outcome{Code: status.Status().Code, Reason: status.Status().Reason, text: err.Error()}
		case err != nil:
			return outcome{Code: -1, text: err.Error()}
		case obj == nil:
			return outcome{}
		}
		return outcome{Object: comparable(obj)}
	}
	real = run(w.real)
	off := run(w.offline)
	if real.Code != off.Code || real.Reason != off.Reason {
		diff = fmt.Sprintf("server: %d %s %s\noffline: %d %s %s\n", real.Code, real.Reason, real.text, off.Code, off.Reason, off.text)
	}
	diff += strings.Join(differences("", real.Object, off.Object), "")
	return real, diff
}

// comparable leaves out what no two clusters have in common.
func comparable(obj *unstructured.Unstructured) map[string]any {
	uid := string(obj.GetUID())
	obj = obj.DeepCopy()
	for _, name := range []string{"uid", "creationTimestamp", "resourceVersion", "deletionTimestamp"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", name)
	}
	managed := obj.GetManagedFields()
	for i := range managed {
		managed[i].Time = nil
		if managed[i].Manager == "gitopskit-controlplane-server" { // the program's name
			managed[i].Manager = "kube-apiserver"
		}
	}
	slices.SortStableFunc(managed, func(a, b metav1.ManagedFieldsEntry) int { // the server orders them by time
		return strings.Compare(a.Manager+string(a.Operation)+a.Subresource, b.Manager+string(b.Operation)+b.Subresource)
	})
	obj.SetManagedFields(managed)
	if len(managed) == 0 {
		unstructured.RemoveNestedField(obj.Object, "metadata", "managedFields")
	}
	anonymize(obj.Object, uid)
	return obj.Object
}

// anonymize replaces times, addresses and the UID.
func anonymize(v any, uid string) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			switch text, isText := value.(string); {
			case isText && uid != "" && text == uid:
				v[key] = "UID"
			case key == "lastTransitionTime" || key == "lastPhaseTransitionTime":
				v[key] = "TIME"
			case key == "clusterIP" && text != "None":
				v[key] = "IP"
			case key == "clusterIPs":
				if list, ok := value.([]any); ok && len(list) == 1 && list[0] != "None" {
					v[key] = []any{"IP"}
				}
			case key == "nodePort" || key == "healthCheckNodePort":
				v[key] = "PORT"
			default:
				anonymize(value, uid)
			}
		}
	case []any:
		for _, item := range v {
			anonymize(item, uid)
		}
	}
}

// differences lists what two values differ in, a line for each path.
func differences(path string, real, off any) []string {
	if cmp.Equal(real, off) {
		return nil
	}
	a, aMap := real.(map[string]any)
	b, bMap := off.(map[string]any)
	var out []string
	if aMap && bMap {
		keys := map[string]bool{}
		for key := range a {
			keys[key] = true
		}
		for key := range b {
			keys[key] = true
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			out = append(out, differences(path+"."+key, a[key], b[key])...)
		}
		return out
	}
	c, aList := real.([]any)
	d, bList := off.([]any)
	if aList && bList && len(c) == len(d) {
		for i := range c {
			out = append(out, differences(fmt.Sprintf("%s[%d]", path, i), c[i], d[i])...)
		}
		return out
	}
	return []string{fmt.Sprintf("%s: server %v, offline %v\n", path, real, off)}
}

func applying(obj *unstructured.Unstructured, manager string, force bool, dryRun ...string) operation {
	return func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return r.Apply(ctx, obj.GetName(), obj.DeepCopy(), metav1.ApplyOptions{FieldManager: manager, Force: force, DryRun: dryRun})
	}
}

func patching(name string, kind types.PatchType, data, manager string, sub ...string) operation {
	return func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return r.Patch(ctx, name, kind, []byte(data), metav1.PatchOptions{FieldManager: manager}, sub...)
	}
}

func getting(name string) operation {
	return func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		return r.Get(ctx, name, metav1.GetOptions{})
	}
}

func deleting(name string) operation {
	return func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
		background := metav1.DeletePropagationBackground
		return nil, r.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
	}
}

// TestLikeAServer does the same to an object of every kind here and there.
func TestLikeAServer(t *testing.T) {
	w := newTwins(t)
	occurred := excused{}
	for _, obj := range fromFile(t, "testdata/kinds.yaml") {
		t.Run(obj.GetKind()+"/"+obj.GetName(), func(t *testing.T) {
			gvk := obj.GroupVersionKind()
			step := func(name string, f operation) outcome {
				real, diff := w.do(t, gvk, f)
				if diff = occurred.excuse(gvk.Kind, diff); diff != "" {
					t.Errorf("%s: -server +offline\n%s", name, diff)
				}
				return real
			}
			relabeled := obj.DeepCopy()
			relabeled.SetLabels(map[string]string{"own": "y", "more": "z"})
			step("dry run", applying(obj, "first", false, metav1.DryRunAll))
			step("create", applying(obj, "first", false))
			if gvk.Kind == "CustomResourceDefinition" {
				awaitServed(t, w.real)
			}
			step("get", getting(obj.GetName()))
			step("again", applying(obj, "first", false))
			step("labels by patch", patching(obj.GetName(), types.MergePatchType, `{"metadata":{"labels":{"foreign":"z","own":"theirs"}}}`, "second"))
			step("conflict", applying(relabeled, "first", false))
			step("forced dry run", applying(relabeled, "first", true, metav1.DryRunAll))
			step("forced", applying(relabeled, "first", true))
			step("removal", applying(obj, "first", true))
			step("JSON patch", patching(obj.GetName(), types.JSONPatchType, `[{"op":"add","path":"/metadata/annotations","value":{"x":"y"}}]`, "third"))
			step("broken JSON patch", patching(obj.GetName(), types.JSONPatchType, `[{"op":"remove","path":"/no/such"}]`, "third"))
			step("strategic patch", patching(obj.GetName(), types.StrategicMergePatchType, `{"metadata":{"finalizers":["example.com/keep"]}}`, "third"))
			step("update", func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
				live, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
				if err != nil {
					return nil, err
				}
				live.SetAnnotations(map[string]string{"by": "update"})
				return r.Update(ctx, live, metav1.UpdateOptions{FieldManager: "fourth"})
			})
			step("stale update", func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
				live, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
				if err != nil {
					return nil, err
				}
				live.SetResourceVersion("1")
				return r.Update(ctx, live, metav1.UpdateOptions{FieldManager: "fourth"})
			})
			step("create twice", func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
				return r.Create(ctx, obj.DeepCopy(), metav1.CreateOptions{FieldManager: "fourth"})
			})
			for _, status := range statuses()[gvk.Kind] {
				step("status", patching(obj.GetName(), types.MergePatchType, `{"metadata":{"labels":{"s":"t"},"annotations":{"s":"t"}},"spec":{"paused":true},"status":`+status+`}`, "sixth", "status"))
				part := &unstructured.Unstructured{Object: map[string]any{"apiVersion": obj.GetAPIVersion(), "kind": gvk.Kind, "metadata": map[string]any{"name": obj.GetName()}}}
				part.Object["status"] = object(t, "kind: Status\nstatus: "+status+"\n").Object["status"]
				step("status by apply", func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
					return r.ApplyStatus(ctx, obj.GetName(), part, metav1.ApplyOptions{FieldManager: "seventh", Force: true})
				})
				step("apply after status", applying(obj, "first", true))
			}
			unknown := obj.DeepCopy()
			unknown.Object["surprise"] = "x"
			step("unknown field", applying(unknown, "first", true))
			other := obj.DeepCopy()
			other.SetName(strings.TrimSuffix("other-"+obj.GetName(), "."))
			step("create by POST", func(ctx context.Context, r dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
				return r.Create(ctx, other.DeepCopy(), metav1.CreateOptions{FieldManager: "fifth"})
			})
			step("apply after POST", applying(other, "first", true))
			step("delete", deleting(other.GetName()))
			if gvk.Kind != "Namespace" { // that server has no controller which ends it
				step("delete twice", deleting(other.GetName()))
			}
		})
	}
	occurred.check(t)
}

// statuses are sent to the sub-resource of some kinds.
func statuses() map[string][]string {
	condition := `{"type":"T","status":"True","reason":"R","message":"m","lastTransitionTime":"2026-01-02T03:04:05Z"}`
	return map[string][]string{
		"Deployment":              {`{"observedGeneration":1,"replicas":1,"conditions":[` + condition + `]}`},
		"StatefulSet":             {`{"observedGeneration":1,"replicas":1}`},
		"DaemonSet":               {`{"observedGeneration":1,"currentNumberScheduled":1,"desiredNumberScheduled":1,"numberMisscheduled":0,"numberReady":1}`},
		"ReplicaSet":              {`{"observedGeneration":1,"replicas":1}`},
		"Job":                     {`{"active":1,"startTime":"2026-01-02T03:04:05Z"}`},
		"CronJob":                 {`{"lastScheduleTime":"2026-01-02T03:04:05Z"}`},
		"PersistentVolumeClaim":   {`{"phase":"Bound","accessModes":["ReadWriteOnce"],"capacity":{"storage":"1024Mi"}}`},
		"Ingress":                 {`{"loadBalancer":{"ingress":[{"ip":"192.0.2.7"}]}}`},
		"PodDisruptionBudget":     {`{"currentHealthy":1,"desiredHealthy":1,"disruptionsAllowed":0,"expectedPods":1,"observedGeneration":1}`},
		"HorizontalPodAutoscaler": {`{"currentReplicas":1,"desiredReplicas":2}`},
		"ConfigMap":               {`{}`},
		"Widget":                  {`{"phase":"Good"}`},
	}
}

// exception is a known difference, which docs/conformance.md lists.
type exception struct{ test, kind, path, why string }

var exceptions = []exception{
	{"TestLikeAServer", "FlowSchema", ".status", "the controller of priority and fairness, inside the server, writes a condition Dangling"},
	{"TestLikeAServer", "FlowSchema", ".metadata.managedFields", "the controller of priority and fairness, inside the server, writes a condition Dangling"},
	{"TestRealManifests", "APIService", ".status", "its controller, inside the server, writes a condition Available; no kinds are served for it"},
	{"TestRealManifests", "APIService", ".metadata.managedFields", "its controller, inside the server, writes a condition Available; no kinds are served for it"},
}

// excused are the exceptions that occurred.
type excused map[exception]bool

// excuse leaves the known differences out of a list.
func (x excused) excuse(kind, diff string) (rest string) {
	for line := range strings.Lines(diff) {
		i := slices.IndexFunc(exceptions, func(e exception) bool { return e.kind == kind && strings.HasPrefix(line, e.path) })
		if i < 0 {
			rest += line
		} else {
			x[exceptions[i]] = true
		}
	}
	return rest
}

// check compares what occurred with what the documentation says.
func (x excused) check(t *testing.T) {
	t.Helper()
	doc := string(must[[]byte](t)(os.ReadFile("../../docs/conformance.md")))
	for _, e := range exceptions {
		if e.test == t.Name() && !x[e] {
			t.Errorf("%s%s no longer differs: take it from the exceptions and from docs/conformance.md", e.kind, e.path)
		}
		if !strings.Contains(doc, "| "+e.kind+" | "+e.why) {
			t.Errorf("docs/conformance.md does not say of %s: %s", e.kind, e.why)
		}
	}
}

func awaitServed(t *testing.T, d dynamic.Interface) {
	t.Helper()
	widgets := d.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"})
	for {
		if _, err := widgets.List(t.Context(), metav1.ListOptions{}); err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("not served")
		}
	}
}
