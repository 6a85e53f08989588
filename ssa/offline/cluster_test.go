package offline_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/ssa/offline"
)

func configMap(t testing.TB, name string, labels ...string) *unstructured.Unstructured {
	t.Helper()
	obj := object(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+"}\ndata: {k: v}\n")
	if len(labels) > 0 {
		obj.SetLabels(map[string]string{labels[0]: labels[1]})
	}
	return obj
}

func create(t testing.TB, r dynamic.ResourceInterface, obj *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	return must[*unstructured.Unstructured](t)(r.Create(t.Context(), obj, metav1.CreateOptions{FieldManager: "test"}))
}

func gone(t testing.TB, r dynamic.ResourceInterface, name string) bool {
	t.Helper()
	_, err := r.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return err != nil
}

func owned(obj, owner *unstructured.Unstructured, blocking bool) *unstructured.Unstructured {
	obj.SetOwnerReferences(append(obj.GetOwnerReferences(), metav1.OwnerReference{
		APIVersion: owner.GetAPIVersion(), Kind: owner.GetKind(), Name: owner.GetName(), UID: owner.GetUID(), BlockOwnerDeletion: &blocking,
	}))
	return obj
}

func deleteWith(t testing.TB, r dynamic.ResourceInterface, name string, policy metav1.DeletionPropagation) {
	t.Helper()
	if err := r.Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
}

// TestOwnerReferences: dependents go with their last owner, or stay if asked to.
func TestOwnerReferences(t *testing.T) {
	for _, tc := range []struct {
		policy metav1.DeletionPropagation
		gone   bool
	}{
		{metav1.DeletePropagationBackground, true},
		{metav1.DeletePropagationForeground, true},
		{metav1.DeletePropagationOrphan, false},
	} {
		t.Run(string(tc.policy), func(t *testing.T) {
			r := configMaps(newCluster(t))
			owner, second := create(t, r, configMap(t, "owner")), create(t, r, configMap(t, "second"))
			child := create(t, r, owned(configMap(t, "child"), owner, true))
			create(t, r, owned(configMap(t, "grandchild"), child, true))
			create(t, r, owned(owned(configMap(t, "shared"), owner, true), second, true))
			deleteWith(t, r, "owner", tc.policy)
			if !gone(t, r, "owner") || gone(t, r, "child") != tc.gone || gone(t, r, "grandchild") != tc.gone || gone(t, r, "shared") {
				t.Errorf("owner %v, child %v, grandchild %v, shared %v", gone(t, r, "owner"), gone(t, r, "child"), gone(t, r, "grandchild"), gone(t, r, "shared"))
			}
			shared := must[*unstructured.Unstructured](t)(r.Get(t.Context(), "shared", metav1.GetOptions{}))
			if refs := shared.GetOwnerReferences(); len(refs) != 1 || refs[0].Name != "second" {
				t.Errorf("references: %v", refs)
			}
		})
	}
	t.Run("of nobody", func(t *testing.T) {
		r := configMaps(newCluster(t))
		nobody := configMap(t, "nobody")
		nobody.SetUID("00000000-0000-0000-0000-000000000000")
		create(t, r, owned(configMap(t, "child"), nobody, false))
		if !gone(t, r, "child") {
			t.Error("an object of an owner that is not there stays")
		}
	})
	t.Run("kept by a finalizer", func(t *testing.T) {
		r := configMaps(newCluster(t))
		owner := create(t, r, configMap(t, "owner"))
		child := owned(configMap(t, "child"), owner, true)
		child.SetFinalizers([]string{"example.com/keep"})
		create(t, r, child)
		deleteWith(t, r, "owner", metav1.DeletePropagationForeground)
		if gone(t, r, "owner") || gone(t, r, "child") {
			t.Error("gone too early")
		}
		must[*unstructured.Unstructured](t)(r.Patch(t.Context(), "child", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))
		if !gone(t, r, "owner") || !gone(t, r, "child") {
			t.Error("still there")
		}
	})
	t.Run("a job leaves its pods", func(t *testing.T) {
		c := newCluster(t)
		jobs, pods := resourceOf(c, "batch", "v1", "jobs"), resourceOf(c, "", "v1", "pods")
		job := create(t, jobs, object(t, "apiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}\n"))
		create(t, pods, owned(object(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec: {containers: [{name: a, image: a}]}\n"), job, true))
		if err := jobs.Delete(t.Context(), "job", metav1.DeleteOptions{}); err != nil || gone(t, pods, "pod") {
			t.Errorf("pod gone: %v", err)
		}
	})
}

// TestFinalizers: an object that is kept is marked, and goes with the last one.
func TestFinalizers(t *testing.T) {
	r := configMaps(newCluster(t))
	obj := configMap(t, "kept")
	obj.SetFinalizers([]string{"example.com/a", "example.com/b"})
	create(t, r, obj)
	if err := r.Delete(t.Context(), "kept", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	live := must[*unstructured.Unstructured](t)(r.Get(t.Context(), "kept", metav1.GetOptions{}))
	if live.GetDeletionTimestamp() == nil {
		t.Error("no deletion timestamp")
	}
	live.SetFinalizers([]string{"example.com/c"})
	if _, err := r.Update(t.Context(), live, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a finalizer was added: %v", err)
	}
	for _, rest := range []string{`["example.com/a"]`, `[]`} {
		must[*unstructured.Unstructured](t)(r.Patch(t.Context(), "kept", types.MergePatchType, []byte(`{"metadata":{"finalizers":`+rest+`}}`), metav1.PatchOptions{}))
	}
	if !gone(t, r, "kept") {
		t.Error("still there")
	}
}

// TestNamespaces: objects need one, and go with it.
func TestNamespaces(t *testing.T) {
	c := newCluster(t)
	namespaces := c.Dynamic().Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	team := c.Dynamic().Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("team")
	_, err := team.Create(t.Context(), configMap(t, "a"), metav1.CreateOptions{})
	if !apierrors.IsNotFound(err) || err.Error() != `namespaces "team" not found` {
		t.Errorf("got %v", err)
	}
	create(t, namespaces, object(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n"))
	create(t, team, configMap(t, "a"))
	kept := configMap(t, "kept")
	kept.SetFinalizers([]string{"example.com/keep"})
	create(t, team, kept)
	if err := namespaces.Delete(t.Context(), "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	live := must[*unstructured.Unstructured](t)(namespaces.Get(t.Context(), "team", metav1.GetOptions{}))
	if phase, _, _ := unstructured.NestedString(live.Object, "status", "phase"); phase != "Terminating" || !gone(t, team, "a") {
		t.Errorf("phase %q", phase)
	}
	_, err = team.Create(t.Context(), configMap(t, "b"), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !apierrors.HasStatusCause(err, "NamespaceTerminating") {
		t.Errorf("got %v", err)
	}
	must[*unstructured.Unstructured](t)(team.Patch(t.Context(), "kept", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{}))
	if !gone(t, namespaces, "team") {
		t.Error("still there")
	}
	if err := namespaces.Delete(t.Context(), "kube-system", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
}

// TestDefinitions: kinds come and go with their definition, in all versions.
func TestDefinitions(t *testing.T) {
	c := newCluster(t)
	crds := c.Dynamic().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	gk := schema.GroupKind{Group: "example.com", Kind: "Gadget"}
	if _, err := c.Mapper().RESTMapping(gk); !meta.IsNoMatchError(err) {
		t.Errorf("got %v", err)
	}
	create(t, crds, object(t, gadgets))
	if m, err := c.Mapper().RESTMapping(gk); err != nil || m.Resource.Version != "v1" {
		t.Errorf("got %v %v", m, err)
	}
	v1, beta := resourceOf(c, "example.com", "v1", "gadgets"), resourceOf(c, "example.com", "v1beta1", "gadgets")
	create(t, v1, object(t, "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\nspec: {note: x, unknown: y}\n"))
	live := must[*unstructured.Unstructured](t)(beta.Get(t.Context(), "g", metav1.GetOptions{}))
	if diff := cmp.Diff(map[string]any{"size": int64(2), "old": "was"}, live.Object["spec"]); diff != "" || live.GetAPIVersion() != "example.com/v1beta1" {
		t.Errorf("%s: -want +got\n%s", live.GetAPIVersion(), diff)
	}
	_, err := v1.Patch(t.Context(), "g", types.MergePatchType, []byte(`{"spec":{"size":11}}`), metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.size") {
		t.Errorf("got %v", err)
	}
	status := must[*unstructured.Unstructured](t)(v1.Patch(t.Context(), "g", types.MergePatchType, []byte(`{"spec":{"size":3},"status":{"ok":true}}`), metav1.PatchOptions{}, "status"))
	if size, _, _ := unstructured.NestedInt64(status.Object, "spec", "size"); size != 2 || status.GetGeneration() != 1 {
		t.Errorf("a status request changed the spec: %v", status.Object)
	}
	broken := object(t, strings.Replace(gadgets, "type: integer, maximum", "type: text, maximum", 1))
	if _, err := crds.Patch(t.Context(), broken.GetName(), types.ApplyYAMLPatchType, must[[]byte](t)(broken.MarshalJSON()), metav1.PatchOptions{FieldManager: "x", Force: ptr(true)}); !apierrors.IsInvalid(err) {
		t.Errorf("got %v", err)
	}
	if err := crds.Delete(t.Context(), "gadgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := v1.Get(t.Context(), "g", metav1.GetOptions{}); !apierrors.IsNotFound(err) || len(err.(apierrors.APIStatus).Status().Details.Name) > 0 {
		t.Errorf("got %v", err)
	}
	if _, err := c.Mapper().RESTMapping(gk); !meta.IsNoMatchError(err) {
		t.Errorf("got %v", err)
	}
}

// TestDefinitionChanges: objects outlive the versions of their definition.
func TestDefinitionChanges(t *testing.T) {
	c := newCluster(t)
	crds := c.Dynamic().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	create(t, crds, object(t, gadgets))
	v1, beta := resourceOf(c, "example.com", "v1", "gadgets"), resourceOf(c, "example.com", "v1beta1", "gadgets")
	kept := object(t, "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g, finalizers: [example.com/keep]}\n")
	create(t, v1, kept)
	w := must[watch.Interface](t)(beta.Watch(t.Context(), metav1.ListOptions{}))
	defer w.Stop()
	serve := func(v1Served, betaServed bool) {
		t.Helper()
		data := fmt.Appendf(nil, `[{"op":"replace","path":"/spec/versions/0/served","value":%v},{"op":"replace","path":"/spec/versions/1/served","value":%v}]`, v1Served, betaServed)
		must[*unstructured.Unstructured](t)(crds.Patch(t.Context(), "gadgets.example.com", types.JSONPatchType, data, metav1.PatchOptions{}))
	}
	serve(false, true) // the version that objects are stored in
	must[*unstructured.Unstructured](t)(beta.Patch(t.Context(), "g", types.MergePatchType, []byte(`{"spec":{"size":4}}`), metav1.PatchOptions{}))
	if _, err := v1.Get(t.Context(), "g", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
	serve(false, false)
	if err := c.MarkReady(); err != nil {
		t.Error(err)
	}
	serve(true, true)
	if err := crds.Delete(t.Context(), "gadgets.example.com", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	must[*unstructured.Unstructured](t)(v1.Patch(t.Context(), "g", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))
	if !gone(t, crds, "gadgets.example.com") {
		t.Error("still there")
	}
	last := ""
	for got := next(t, w); got != "closed"; got = next(t, w) {
		last = got
	}
	if !strings.HasPrefix(last, "ERROR") {
		t.Errorf("the watch ended with %q", last)
	}
}

func ptr[T any](v T) *T { return &v }

// TestList selects, and goes on where it stopped, in the state it began in.
func TestList(t *testing.T) {
	c := newCluster(t)
	r := configMaps(c)
	for i := range 5 {
		create(t, r, configMap(t, fmt.Sprintf("c%d", i), "odd", fmt.Sprint(i%2 == 1)))
	}
	names := func(list *unstructured.UnstructuredList) (out []string) {
		for _, obj := range list.Items {
			out = append(out, obj.GetName())
		}
		return out
	}
	list := func(opts metav1.ListOptions) *unstructured.UnstructuredList {
		return must[*unstructured.UnstructuredList](t)(r.List(t.Context(), opts))
	}
	first := list(metav1.ListOptions{Limit: 2})
	if err := r.Delete(t.Context(), "c3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := list(metav1.ListOptions{Limit: 2, Continue: first.GetContinue()})
	third := list(metav1.ListOptions{Limit: 2, Continue: second.GetContinue()})
	for _, tc := range []struct {
		name string
		list *unstructured.UnstructuredList
		want []string
	}{
		{"first", first, []string{"c0", "c1"}},
		{"second", second, []string{"c2", "c3"}},
		{"third", third, []string{"c4"}},
		{"labels", list(metav1.ListOptions{LabelSelector: "odd=true"}), []string{"c1"}},
		{"fields", list(metav1.ListOptions{FieldSelector: "metadata.name=c2,metadata.namespace=default"}), []string{"c2"}},
		{"exactly then", list(metav1.ListOptions{ResourceVersion: first.GetResourceVersion(), ResourceVersionMatch: metav1.ResourceVersionMatchExact}), []string{"c0", "c1", "c2", "c3", "c4"}},
	} {
		if diff := cmp.Diff(tc.want, names(tc.list)); diff != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, diff)
		}
	}
	if first.GetKind() != "ConfigMapList" || *first.GetRemainingItemCount() != 3 || third.GetContinue() != "" {
		t.Errorf("got %v", first.Object)
	}
	for _, opts := range []metav1.ListOptions{{Continue: "!"}, {LabelSelector: "=="}, {FieldSelector: "spec.x=y"}, {ResourceVersion: "x"}} {
		if _, err := r.List(t.Context(), opts); !apierrors.IsBadRequest(err) {
			t.Errorf("%+v: got %v", opts, err)
		}
	}
	if err := r.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "odd=false"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c1"}, names(list(metav1.ListOptions{}))); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestSystemFields: what a server sets, is set.
func TestSystemFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := object(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system, uid: 11111111-2222-4333-8444-555555555555}\n")
		names := map[string]bool{}
		for range 2 {
			c := newCluster(t, seed)
			r := configMaps(c)
			obj := configMap(t, "")
			obj.SetGenerateName("gen-")
			obj = create(t, r, obj)
			names[obj.GetName()+" "+string(obj.GetUID())] = true
			if !obj.GetCreationTimestamp().Time.Equal(time.Now()) || obj.GetResourceVersion() == "" || !strings.HasPrefix(obj.GetName(), "gen-") {
				t.Errorf("got %v", obj.Object)
			}
			other := configMap(t, "")
			other.SetGenerateName("gen-")
			if other = create(t, r, other); other.GetName() == obj.GetName() {
				t.Error("the same name twice")
			}
			create(t, r, configMap(t, "again"))
			first := must[*unstructured.Unstructured](t)(r.Get(t.Context(), "again", metav1.GetOptions{}))
			deleteWith(t, r, "again", metav1.DeletePropagationBackground)
			if second := create(t, r, configMap(t, "again")); second.GetUID() == first.GetUID() {
				t.Error("another object has the same UID")
			}
		}
		if len(names) != 1 {
			t.Errorf("the same cluster twice made different names: %v", names)
		}
	})
	kubeSystem := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	one := must[*unstructured.Unstructured](t)(newCluster(t).Dynamic().Resource(kubeSystem).Get(t.Context(), "kube-system", metav1.GetOptions{}))
	two := must[*unstructured.Unstructured](t)(newCluster(t).Dynamic().Resource(kubeSystem).Get(t.Context(), "kube-system", metav1.GetOptions{}))
	if one.GetUID() == two.GetUID() || one.GetUID() == "" {
		t.Error("two clusters have the same identity")
	}
}

// TestSeed: a cluster can begin as a copy of another.
func TestSeed(t *testing.T) {
	c := newCluster(t)
	create(t, configMaps(c), configMap(t, "a"))
	create(t, c.Dynamic().Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}), object(t, gadgets))
	create(t, resourceOf(c, "example.com", "v1", "gadgets"), object(t, "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\n"))
	create(t, resourceOf(c, "apps", "v1", "deployments"), object(t, web))
	if err := c.MarkReady(); err != nil {
		t.Fatal(err)
	}
	again := newCluster(t, c.Objects()...)
	strip := func(objs []*unstructured.Unstructured) (out []map[string]any) {
		for _, obj := range objs {
			obj.SetResourceVersion("")
			out = append(out, obj.Object)
		}
		return out
	}
	if diff := cmp.Diff(strip(c.Objects()), strip(again.Objects())); diff != "" {
		t.Errorf("-original +copy\n%s", diff)
	}
	_, err := offline.New(nil, objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}\n---\napiVersion: x/v1\nkind: Thing\nmetadata: {name: z}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: default}\n")...)
	for _, want := range []string{`namespaces "nowhere" not found`, "Thing of x/v1 is not served", "spec.selector"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

// TestConcurrent: many at once, each object keeps all that was written.
func TestConcurrent(t *testing.T) {
	r := configMaps(newCluster(t))
	create(t, r, configMap(t, "a"))
	w := must[watch.Interface](t)(r.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=a"}))
	defer w.Stop()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				data := fmt.Appendf(nil, `{"data":{"k%d-%d":"v"}}`, i, n)
				if _, err := r.Patch(t.Context(), "a", types.MergePatchType, data, metav1.PatchOptions{}); err != nil {
					t.Error(err)
				}
				if _, err := r.List(t.Context(), metav1.ListOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 161 {
		next(t, w)
	}
	wg.Wait()
	live := must[*unstructured.Unstructured](t)(r.Get(t.Context(), "a", metav1.GetOptions{}))
	if data, _, _ := unstructured.NestedMap(live.Object, "data"); len(data) != 161 {
		t.Errorf("%d keys", len(data))
	}
}
