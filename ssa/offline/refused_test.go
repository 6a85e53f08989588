package offline_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestPreconditions: what was read must still be what is deleted.
func TestPreconditions(t *testing.T) {
	r := configMaps(newCluster(t))
	obj := create(t, r, configMap(t, "a"))
	for _, p := range []metav1.Preconditions{{UID: ptr(types.UID("x"))}, {ResourceVersion: ptr("1")}} {
		if err := r.Delete(t.Context(), "a", metav1.DeleteOptions{Preconditions: &p}); !apierrors.IsConflict(err) {
			t.Errorf("got %v", err)
		}
	}
	if err := r.Delete(t.Context(), "a", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil || gone(t, r, "a") {
		t.Errorf("a trial deleted: %v", err)
	}
	uid, version := obj.GetUID(), obj.GetResourceVersion()
	if err := r.Delete(t.Context(), "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}}); err != nil {
		t.Error(err)
	}
}

// TestRefused: what the cluster does not have is refused by name.
func TestRefused(t *testing.T) {
	c := newCluster(t)
	r := configMaps(c)
	create(t, r, configMap(t, "a"))
	deployments := resourceOf(c, "apps", "v1", "deployments")
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"scale":            {second(deployments.Get(t.Context(), "web", metav1.GetOptions{}, "scale")), "no sub-resource"},
		"eviction":         {second(r.Create(t.Context(), configMap(t, "b"), metav1.CreateOptions{}, "eviction")), "no sub-resource"},
		"status of none":   {second(r.UpdateStatus(t.Context(), configMap(t, "a"), metav1.UpdateOptions{})), "could not find the requested resource"},
		"unknown resource": {second(resourceOf(c, "x", "v1", "things").Get(t.Context(), "a", metav1.GetOptions{})), "could not find the requested resource"},
		"old version":      {second(resourceOf(c, "autoscaling", "v1", "horizontalpodautoscalers").Get(t.Context(), "a", metav1.GetOptions{})), "could not find the requested resource"},
		"no manager":       {second(r.Apply(t.Context(), "a", configMap(t, "a"), metav1.ApplyOptions{})), "is required for apply patch"},
		"patch type":       {second(r.Patch(t.Context(), "a", "text/plain", nil, metav1.PatchOptions{})), "unknown format"},
		"no name":          {second(r.Get(t.Context(), "", metav1.GetOptions{})), "name is required"},
		"no new name":      {second(r.Create(t.Context(), configMap(t, ""), metav1.CreateOptions{})), "name or generateName is required"},
		"dry run":          {second(r.Create(t.Context(), configMap(t, "b"), metav1.CreateOptions{DryRun: []string{"Some"}})), "dryRun"},
		"namespace":        {second(r.Create(t.Context(), object(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: other}\n"), metav1.CreateOptions{})), "does not match the namespace"},
		"strict":           {second(r.Create(t.Context(), object(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndato: {}\n"), metav1.CreateOptions{FieldValidation: "Strict"})), `unknown field "dato"`},
		"large patch":      {second(r.Patch(t.Context(), "a", types.MergePatchType, make([]byte, 4<<20), metav1.PatchOptions{})), "limit is"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("%s: got %v", name, tc.err)
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Get(done, "a", metav1.GetOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestImmutable: fields that cannot change once an object exists.
func TestImmutable(t *testing.T) {
	c := newCluster(t)
	for _, tc := range []struct{ manifest, patch, want string }{
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nimmutable: true\ndata: {k: one}\n", `{"data":{"k":"w"}}`, "data: Forbidden: field is immutable when `immutable` is set"},
		{"apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {k: aHVudGVyMg==}\nimmutable: true\n", `{"stringData":{"k":"w"}}`, "data: Forbidden: field is immutable when `immutable` is set"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n", `{"spec":{"clusterIP":"10.96.7.7","clusterIPs":["10.96.7.7"]}}`, "may not change once set"},
		{web, `{"spec":{"selector":{"matchLabels":{"x":"y"}},"template":{"metadata":{"labels":{"x":"y"}}}}}`, "spec.selector: Invalid value"},
		{"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: a}\nroleRef: {kind: Role, name: r, apiGroup: rbac.authorization.k8s.io}\n", `{"roleRef":{"name":"s"}}`, "cannot change roleRef"},
	} {
		obj := object(t, tc.manifest)
		m := must[*meta.RESTMapping](t)(c.Mapper().RESTMapping(obj.GroupVersionKind().GroupKind()))
		r := c.Dynamic().Resource(m.Resource).Namespace("default")
		create(t, r, obj)
		_, err := r.Patch(t.Context(), obj.GetName(), types.MergePatchType, []byte(tc.patch), metav1.PatchOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "aHVudGVy") {
			t.Errorf("%s: got %v", obj.GetKind(), err)
		}
	}
}

// TestCommonMistakes: what no schema states, and people do.
func TestCommonMistakes(t *testing.T) {
	c := newCluster(t)
	pod := func(text string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [" + text + "]}\n"
	}
	for _, tc := range []struct{ manifest, want string }{
		{strings.Replace(web, "labels: {app: web}}\n    spec", "labels: {app: other}}\n    spec", 1), "`selector` does not match template `labels`"},
		{strings.Replace(web, "selector: {matchLabels: {app: web}}", "selector: {}", 1), "empty selector"},
		{strings.Replace(web, "  selector", "  strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}\n  selector", 1), "may not be specified when strategy"},
		{strings.Replace(web, `, image: "side:1"`, "", 1), "containers[1].image: Required value"},
		{strings.Replace(web, "name: side", "name: main", 1), "duplicate entries"},
		{pod("{name: a, image: a, volumeMounts: [{name: none, mountPath: /x}]}"), `volumeMounts[0].name: Not found: "none"`},
		{pod("{name: a, image: a, ports: [{containerPort: 70000}]}"), "containerPort: Invalid value: 70000"},
		{"apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, image: a}]}}}\n", "restartPolicy: Required value"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {a: b}}\n", "spec.ports: Required value"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 99999}]}\n", "spec.ports[0].port: Invalid value: 99999"},
		{"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: ExternalName}\n", "spec.externalName: Required value"},
		{"apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec: {accessModes: [ReadWriteOnce]}\n", "spec.resources[storage]: Required value"},
		{"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a}\nrules: [{apiGroups: [\"\"], resources: [pods]}]\n", "rules[0].verbs: Required value"},
		{"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: a}\nroleRef: {apiGroup: x, kind: Rol, name: a}\nsubjects: [{kind: Robot, name: r}]\n", "roleRef.kind: Unsupported value"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {priorityClassName: none, containers: [{name: a, image: a}]}\n", "no PriorityClass with name none"},
		{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n", "metadata.name"},
	} {
		obj := object(t, tc.manifest)
		m := must[*meta.RESTMapping](t)(c.Mapper().RESTMapping(obj.GroupVersionKind().GroupKind()))
		_, err := c.Dynamic().Resource(m.Resource).Namespace("default").Apply(t.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "test"})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s lacks %q: got %v", obj.GetKind(), tc.want, err)
		}
	}
}
