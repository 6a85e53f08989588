package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/ssa"
)

var (
	deploymentKind = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	services       = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
)

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: -want +got\n%s", what, diff)
	}
}

// field returns a value inside an object, nil if it is not there.
func field(obj *unstructured.Unstructured, path ...string) any {
	if obj == nil {
		return nil
	}
	v, _, _ := unstructured.NestedFieldNoCopy(obj.Object, path...)
	return v
}

// annotated is a ConfigMap with an annotation of the owner's group.
func annotated(name, value, key, says string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, annotations: {gitopskit.github.io/%s: %q}}\ndata: {key: %q}\n", name, key, says, value)
}

// TestObjectPolicies: what a manifest or a live object says of itself counts in
// apply, diff and prune alike, whatever the case of its letters.
func TestObjectPolicies(t *testing.T) {
	c, w := newClient(t)
	first := configMap("plain", "1") + annotated("once", "1", "ssa", "ifnotpresent") + annotated("never", "1", "ssa", "IGNORE") +
		configMap("live-ignore", "1") + configMap("live-off", "1")
	set := must(t)(c.Apply(t.Context(), objects(t, first), nil))
	same(t, "first", actions(set), []string{"ConfigMap/live-ignore created", "ConfigMap/live-off created", "ConfigMap/never exempt", "ConfigMap/once created", "ConfigMap/plain created"})
	if get(t, c, configMaps, "never") != nil {
		t.Error("what is to be ignored was created")
	}
	r := configMapsOf(c)
	patch(t, r, "live-ignore", `{"metadata":{"annotations":{"gitopskit.github.io/ssa":"ignore"}}}`)
	patch(t, r, "live-off", `{"metadata":{"labels":{"gitopskit.github.io/reconcile":"Disabled"}}}`)
	second := objects(t, strings.ReplaceAll(first, `key: "1"`, `key: "2"`))
	want := []string{"ConfigMap/live-ignore exempt", "ConfigMap/live-off exempt", "ConfigMap/never exempt", "ConfigMap/once exempt", "ConfigMap/plain configured"}
	same(t, "diff", actions(must(t)(c.Diff(t.Context(), second, nil))), want)
	w.take()
	set = must(t)(c.Apply(t.Context(), second, nil))
	same(t, "second", actions(set), want)
	if n := count(w.take(), "PATCH"); n != 1 {
		t.Errorf("%d objects were sent", n)
	}
	for _, change := range set.Changes {
		if change.Action == ssa.Exempt && change.Reason == "" {
			t.Errorf("%s: no reason", change.Object)
		}
	}
	if objs := set.Objects(); len(objs) != 1 {
		t.Errorf("somebody would wait for what is left alone: %v", objs)
	}
	same(t, "live", field(get(t, c, configMaps, "once"), "data", "key"), "1")

	// An object that leaves the set is pruned, unless it says that it is not reconciled.
	same(t, "prune", actions(must(t)(c.Prune(t.Context(), objects(t, configMap("plain", "2")), nil))),
		[]string{"ConfigMap/once deleted", "ConfigMap/never deleted", "ConfigMap/live-off kept", "ConfigMap/live-ignore kept"})

	// Who cannot be trusted has no say.
	c.Policy.DistrustLive = true
	set = must(t)(c.Apply(t.Context(), second, nil))
	same(t, "distrust", actions(set), []string{"ConfigMap/live-ignore configured", "ConfigMap/live-off configured", "ConfigMap/never exempt", "ConfigMap/once created", "ConfigMap/plain unchanged"})
	set = must(t)(c.Apply(t.Context(), second, nil))
	if change := set.Changes[0]; change.Action != ssa.Unchanged || !strings.Contains(change.Reason, "does not count") {
		t.Errorf("what the object says is not reported: %+v", change)
	}
	same(t, "distrusting prune", actions(must(t)(c.Prune(t.Context(), nil, nil))),
		[]string{"ConfigMap/plain deleted", "ConfigMap/once deleted", "ConfigMap/never deleted", "ConfigMap/live-off deleted", "ConfigMap/live-ignore deleted"})
}

// TestTakeOver: fields that kubectl or Helm set by updates become ours, so that
// one that leaves the manifest leaves the object; with Merge they stay.
func TestTakeOver(t *testing.T) {
	c, _ := newClient(t)
	r := configMapsOf(c)
	for _, name := range []string{"a", "merge"} {
		obj := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+", annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}}\ndata: {key: old, mine: x}\n")[0]
		if _, err := r.Create(t.Context(), obj, metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Patch(t.Context(), "a", "application/merge-patch+json", []byte(`{"data":{"theirs":"stays"}}`), metav1.PatchOptions{FieldManager: "autoscaler"}); err != nil {
		t.Fatal(err)
	}
	c.Policy.TakeOver = []string{"kubectl*", "helm"}
	objs := objects(t, configMap("a", "new")+annotated("merge", "new", "ssa", "Merge"))
	diff := must(t)(c.Diff(t.Context(), objs, nil))
	if got := diff.Changes[0]; got.Action != ssa.Configured || !strings.Contains(got.Reason, "kubectl-client-side-apply") {
		t.Errorf("the diff does not tell: %+v", got)
	}
	var goes []string
	for _, f := range diff.Changes[0].Fields {
		if f.New == nil {
			goes = append(goes, f.Path)
		}
	}
	same(t, "what goes", goes, []string{"data.mine", "metadata.annotations.kubectl.kubernetes.io/last-applied-configuration"})
	must(t)(c.Apply(t.Context(), objs, nil))
	same(t, "taken over", field(get(t, c, configMaps, "a"), "data"), map[string]any{"key": "new", "theirs": "stays"})
	if get(t, c, configMaps, "a").GetAnnotations() != nil {
		t.Error("the annotation of kubectl is still there")
	}
	same(t, "merged", field(get(t, c, configMaps, "merge"), "data"), map[string]any{"key": "new", "mine": "x"})
	same(t, "again", actions(must(t)(c.Apply(t.Context(), objs, nil))), []string{"ConfigMap/a unchanged", "ConfigMap/merge unchanged"})
	for _, e := range get(t, c, configMaps, "a").GetManagedFields() {
		if strings.HasPrefix(e.Manager, "kubectl") {
			t.Errorf("kubectl still has an entry: %+v", e)
		}
	}
}

const webDeployment = `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {note: ours}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: side, image: "example.com/side:1"}
      - {name: main, image: "example.com/main:1", env: [{name: LEVEL, value: info}]}
`

// TestIgnoreRuleValidate: what Apply would refuse is told beforehand.
func TestIgnoreRuleValidate(t *testing.T) {
	for want, rule := range map[string]ssa.IgnoreRule{
		"no paths": {}, "slash": {Paths: []string{"data"}}, "target: ": {Paths: []string{"/data"}, Target: &ssa.Target{Kind: "("}},
	} {
		if err := rule.Validate(); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", rule, err)
		}
	}
	if err := (ssa.IgnoreRule{Paths: []string{"/data", ""}}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestIgnoreRules: ignored fields are created, then left to others, in diff,
// apply and drift; an index means the item with the same key.
func TestIgnoreRules(t *testing.T) {
	c, w := newClient(t)
	c.Policy.Ignore = []ssa.IgnoreRule{
		{Paths: []string{"/spec/replicas"}, Target: &ssa.Target{Kind: "Deployment|StatefulSet"}},
		{Paths: []string{"/spec/template/spec/containers/1/image", "/metadata/annotations/note"}},
	}
	objs := objects(t, webDeployment)
	applied := must(t)(c.Apply(t.Context(), objs, nil))
	r := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	live := get(t, c, deploymentKind, "web")
	same(t, "created", []any{field(live, "spec", "replicas"), live.GetAnnotations()["note"]}, []any{int64(2), "ours"})

	// Somebody swaps the containers, sets the image of main, and scales; another applies the annotation.
	patchAs(t, r, "web", "scaler", `{"spec":{"replicas":7}}`)
	patchAs(t, r, "web", "editor", `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"example.com/main:9","env":[{"name":"LEVEL","value":"info"}]},{"name":"side","image":"example.com/side:1"}]}}}}`)
	other := objects(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, annotations: {note: theirs}}\n")[0]
	if _, err := r.Apply(t.Context(), "web", other, metav1.ApplyOptions{FieldManager: "annotator", Force: true}); err != nil {
		t.Fatal(err)
	}
	drifts := make(chan ssa.Drift, 1)
	ctx, stop := contextWithCancel(t)
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx, applied, func(d ssa.Drift) { drifts <- d }) }()
	swap := must(t)(c.Diff(t.Context(), objs, nil)) // their order is ours
	for _, f := range swap.Changes[0].Fields {
		if strings.Contains(f.Path, "replicas") || strings.Contains(f.Path, "note") {
			t.Errorf("an ignored field differs: %s", f)
		}
	}
	must(t)(c.Apply(t.Context(), objs, nil))
	live = get(t, c, deploymentKind, "web")
	same(t, "left to others", []any{field(live, "spec", "replicas"), live.GetAnnotations()["note"], imageOf(live, "main")}, []any{int64(7), "theirs", "example.com/main:9"})
	w.take()
	same(t, "again", actions(must(t)(c.Apply(t.Context(), objs, nil))), []string{"Deployment/web unchanged"})
	if n := count(w.take(), "PATCH"); n != 0 {
		t.Errorf("%d requests", n)
	}
	// Another field of the manifest changes: theirs stay.
	changed := objects(t, strings.Replace(webDeployment, "value: info", "value: debug", 1))
	must(t)(c.Apply(t.Context(), changed, nil))
	live = get(t, c, deploymentKind, "web")
	same(t, "applied around them", []any{field(live, "spec", "replicas"), live.GetAnnotations()["note"], imageOf(live, "main")}, []any{int64(7), "theirs", "example.com/main:9"})
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// A watch is deaf to ignored fields.
	applied = must(t)(c.Apply(t.Context(), changed, nil))
	ctx, stop = contextWithCancel(t)
	for len(drifts) > 0 {
		<-drifts
	}
	go func() { done <- c.Watch(ctx, applied, func(d ssa.Drift) { drifts <- d }) }()
	patchAs(t, r, "web", "scaler", `{"spec":{"replicas":9}}`)
	patchAs(t, r, "web", "editor", `{"spec":{"minReadySeconds":3}}`)
	select {
	case d := <-drifts:
		t.Errorf("reported %s", d)
	case <-time.After(300 * time.Millisecond):
	}
	patchAs(t, r, "web", "editor", `{"metadata":{"labels":{"gitopskit.github.io/name":"x"}}}`)
	soon(t, drifts, "drift of a field that is not ignored")
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// Without the rules all is ours again.
	c.Policy.Ignore = nil
	patchAs(t, r, "web", "editor", `{"metadata":{"labels":{"gitopskit.github.io/name":"app"}}}`)
	must(t)(c.Apply(t.Context(), changed, nil))
	live = get(t, c, deploymentKind, "web")
	same(t, "ours again", []any{field(live, "spec", "replicas"), live.GetAnnotations()["note"], imageOf(live, "main")}, []any{int64(2), "ours", "example.com/main:1"})
}

func patchAs(t *testing.T, r dynamic.ResourceInterface, name, manager, body string) {
	t.Helper()
	if _, err := r.Patch(t.Context(), name, "application/merge-patch+json", []byte(body), metav1.PatchOptions{FieldManager: manager}); err != nil {
		t.Fatal(err)
	}
}

func imageOf(obj *unstructured.Unstructured, container string) string {
	list, _ := field(obj, "spec", "template", "spec", "containers").([]any)
	for _, item := range list {
		if m, _ := item.(map[string]any); m["name"] == container {
			image, _ := m["image"].(string)
			return image
		}
	}
	return ""
}

// TestStoreOfAnotherCluster: a store serves only clients of its cluster.
func TestStoreOfAnotherCluster(t *testing.T) {
	c, w := newClient(t)
	c.Store, c.Cluster = &ssa.Store{Dynamic: c.Dynamic, Cluster: "one"}, "two"
	w.take()
	_, err := c.Apply(t.Context(), objects(t, configMap("a", "1")), nil)
	if !errors.Is(err, ssa.ErrInvalid) || len(w.take()) > 0 {
		t.Errorf("got %v", err)
	}
}

// TestPolicyRefuses: rules and names that cannot work are refused before a request.
func TestPolicyRefuses(t *testing.T) {
	c, w := newClient(t)
	for _, p := range []ssa.Policy{
		{Ignore: []ssa.IgnoreRule{{}}},
		{Ignore: []ssa.IgnoreRule{{Paths: []string{"spec/replicas"}}}},
		{Ignore: []ssa.IgnoreRule{{Paths: []string{"/a~2b"}}}},
		{Ignore: []ssa.IgnoreRule{{Paths: []string{"/a"}, Target: &ssa.Target{Name: "("}}}},
		{Ignore: []ssa.IgnoreRule{{Paths: []string{"/a"}, Target: &ssa.Target{LabelSelector: "a in"}}}},
		{Ignore: []ssa.IgnoreRule{{Paths: []string{"/a"}, Target: &ssa.Target{AnnotationSelector: "!!"}}}},
		{TakeOver: []string{"*"}}, {TakeOver: []string{"a*b"}}, {Recreate: 7}, {Foreign: -1},
	} {
		c.Policy = p
		if _, err := c.Apply(t.Context(), objects(t, configMap("a", "1")), nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "Policy.") {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if got := w.take(); len(got) != 0 {
		t.Errorf("requests: %v", got)
	}
}

// fixed is a Deployment whose selector, which cannot be changed, is by version.
func fixed(version int, force string) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: once, annotations: {gitopskit.github.io/force: %[2]s}}
spec:
  replicas: 0
  selector: {matchLabels: {v: v%[1]d}}
  template:
    metadata: {labels: {v: v%[1]d}}
    spec: {containers: [{name: main, image: "example.com/main:%[1]d"}]}
`, version, force)
}

// TestRecreate: an object whose fields cannot be changed is made anew if it may
// be, when the whole set is known to be fine; one that is merely invalid stays.
func TestRecreate(t *testing.T) {
	c, _ := newClient(t)
	set := must(t)(c.Apply(t.Context(), objects(t, fixed(1, "enabled")+"---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 80}]}\n"), nil))
	uid := set.Changes[1].UID
	next := fixed(2, "enabled")

	// Invalid stays what it is, with the same UID, even if all may be recreated.
	c.Policy.Recreate = ssa.RecreateAlways
	before := get(t, c, services, "svc").GetUID()
	_, err := c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 99999}]}\n"), nil)
	if !errors.Is(err, ssa.ErrInvalid) || get(t, c, services, "svc").GetUID() != before {
		t.Errorf("an invalid service: %v", err)
	}
	c.Policy.Recreate = ssa.RecreateAnnotated

	// Another invalid object of the set: nothing is deleted.
	_, err = c.Apply(t.Context(), objects(t, next+"---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 99999}]}\n"), nil)
	if err == nil || get(t, c, deploymentKind, "once").GetUID() != uid {
		t.Errorf("the deployment was deleted for nothing: %v", err)
	}

	// Not allowed: the error says how to allow it.
	c.Policy.Recreate = ssa.RecreateNever
	_, err = c.Apply(t.Context(), objects(t, next), nil)
	c.Policy.Recreate = ssa.RecreateAnnotated
	if !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "gitopskit.github.io/force: enabled") {
		t.Errorf("got %v", err)
	}
	same(t, "diff", actions(must(t)(c.Diff(t.Context(), objects(t, next), nil)))[0], "Deployment/once recreated")
	if got := get(t, c, deploymentKind, "once").GetUID(); got != uid {
		t.Error("a diff recreated it")
	}
	set = must(t)(c.Apply(t.Context(), objects(t, next), nil))
	same(t, "recreated", actions(set), []string{"Deployment/once recreated"})
	live := get(t, c, deploymentKind, "once")
	if live.GetUID() == uid || imageOf(live, "main") != "example.com/main:2" || set.Changes[0].UID != live.GetUID() || !set.Changed() || len(set.Changes[0].Fields) == 0 {
		t.Errorf("got %+v", set.Changes[0])
	}
	same(t, "again", actions(must(t)(c.Apply(t.Context(), objects(t, next), nil))), []string{"Deployment/once unchanged"})
}

// TestRecreateIsUndone: if the new object is refused after all, the old one is
// put back, and the error tells both; one that changed meanwhile is not deleted.
func TestRecreateIsUndone(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, fixed(1, "enabled")), nil))
	old := get(t, c, deploymentKind, "once")
	next := objects(t, fixed(2, "enabled"))
	deleted := false
	w.tamper(func(r *http.Request) error {
		deleted = deleted || r.Method == http.MethodDelete
		if deleted && r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "once", errors.New("denied since a moment ago"))
		}
		return nil
	})
	_, err := c.Apply(t.Context(), next, nil)
	w.tamper(nil)
	if err == nil || !strings.Contains(err.Error(), "denied since a moment ago") || !strings.Contains(err.Error(), "put back") {
		t.Errorf("got %v", err)
	}
	live := get(t, c, deploymentKind, "once")
	if live == nil || imageOf(live, "main") != "example.com/main:1" || live.GetLabels()["gitopskit.github.io/name"] != "app" {
		t.Fatalf("it is not as it was: %v", live)
	}
	same(t, "put back", actions(must(t)(c.Apply(t.Context(), objects(t, fixed(1, "enabled")), nil)))[0], "Deployment/once configured") // the fields are ours again
	if live.GetUID() == old.GetUID() {
		t.Error("it was never deleted")
	}

	r := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	plain, _ := clientFor(t, restConfig(t), "x", c.Owner.Namespace)
	others := plain.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	w.tamper(func(req *http.Request) error {
		if req.Method == http.MethodPost && req.URL.Query().Get("dryRun") != "" { // after it was looked at
			w.tamper(nil)
			_, err := others.Patch(t.Context(), "once", "application/merge-patch+json", []byte(`{"spec":{"minReadySeconds":7}}`), metav1.PatchOptions{})
			return err
		}
		return nil
	})
	_, err = c.Apply(t.Context(), next, nil)
	if !errors.Is(err, ssa.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if now, err := r.Get(t.Context(), "once", metav1.GetOptions{}); err != nil || now.GetUID() != live.GetUID() {
		t.Errorf("it was deleted: %v", err)
	}
}

// TestRecreateWaitsForFinalizers: a deletion that does not end is told, and the
// next apply goes on.
func TestRecreateWaitsForFinalizers(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, fixed(1, "enabled")), nil))
	r := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	patch(t, r, "once", `{"metadata":{"finalizers":["example.com/slow"]}}`)
	next := objects(t, fixed(2, "enabled"))
	_, err := c.Apply(t.Context(), next, &ssa.ApplyOptions{EstablishTimeout: time.Second})
	if !errors.Is(err, ssa.ErrNotReady) || !strings.Contains(err.Error(), "example.com/slow") {
		t.Errorf("got %v", err)
	}
	patch(t, r, "once", `{"metadata":{"finalizers":null}}`)
	waitGone(t, r, "once")
	same(t, "then", actions(must(t)(c.Apply(t.Context(), next, nil))), []string{"Deployment/once created"})
}

func waitGone(t *testing.T, r dynamic.ResourceInterface, name string) {
	t.Helper()
	for range 500 {
		if _, err := r.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s is still there", name)
}

// TestForeign: objects of other owners and tools are named, refused or taken.
func TestForeign(t *testing.T) {
	c, _ := newClient(t)
	other, _ := clientFor(t, restConfig(t), "other", c.Owner.Namespace)
	must(t)(other.Apply(t.Context(), objects(t, configMap("shared", "1")), nil))
	r := configMapsOf(c)
	for name, marks := range map[string]string{
		"helm": "annotations: {meta.helm.sh/release-name: web, meta.helm.sh/release-namespace: prod}",
		"argo": "annotations: {argocd.argoproj.io/tracking-id: 'shop:/ConfigMap:a/b'}",
		"flux": "labels: {kustomize.toolkit.fluxcd.io/name: apps, kustomize.toolkit.fluxcd.io/namespace: flux-system}",
		"free": "labels: {a: b}",
	} {
		if _, err := r.Create(t.Context(), objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "+name+", "+marks+"}\n")[0], metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all := objects(t, configMap("shared", "2")+configMap("helm", "1")+configMap("argo", "1")+configMap("flux", "1")+configMap("free", "1"))
	c.Policy.Foreign = ssa.ForeignFail
	set, err := c.Apply(t.Context(), all, nil)
	if !errors.Is(err, ssa.ErrForeign) || set.Count(ssa.Failed) != 4 || field(get(t, c, configMaps, "shared"), "data", "key") != "1" {
		t.Errorf("%v %v", actions(set), err)
	}
	c.Policy.Foreign = ssa.ForeignWarn
	got := map[string]string{}
	for _, change := range must(t)(c.Diff(t.Context(), all, nil)).Changes {
		got[change.Object.Name] = change.Foreign
	}
	ns := c.Owner.Namespace
	same(t, "named", got, map[string]string{
		"shared": "owner " + ns + "/other", "helm": "Helm release prod/web", "argo": "Argo CD application shop", "flux": "Kustomization flux-system/apps", "free": "",
	})
	must(t)(c.Apply(t.Context(), all, nil))
	same(t, "taken", field(get(t, c, configMaps, "shared"), "data", "key"), "2")
	// The former owner lets go, whichever way it learns.
	same(t, "former owner", actions(must(t)(other.Prune(t.Context(), nil, nil))), []string{"ConfigMap/shared kept"})
}

// TestHandOver: an object that moves from one owner to another is never deleted,
// in whatever order they run.
func TestHandOver(t *testing.T) {
	for _, order := range []string{"the new owner first", "the old owner first"} {
		a, _ := newClient(t)
		b, _ := clientFor(t, restConfig(t), "b", a.Owner.Namespace)
		moves := objects(t, configMap("moves", "1"))
		must(t)(a.Apply(t.Context(), moves, nil))
		uid := get(t, a, configMaps, "moves").GetUID()
		if order == "the new owner first" {
			must(t)(b.Apply(t.Context(), moves, nil))
			must(t)(a.Prune(t.Context(), nil, nil))
		} else {
			must(t)(a.Prune(t.Context(), nil, &ssa.PruneOptions{HandedOver: []ssa.ObjectID{b.ID(moves[0])}}))
			must(t)(b.Apply(t.Context(), moves, nil))
		}
		if live := get(t, a, configMaps, "moves"); live == nil || live.GetUID() != uid || !b.Owner.Owns(live) {
			t.Errorf("%s: %v", order, live)
		}
		same(t, order, len(must(t)(a.Prune(t.Context(), nil, nil)).Changes), 0)
		same(t, order, actions(must(t)(b.Prune(t.Context(), nil, nil))), []string{"ConfigMap/moves deleted"})
	}
}

// TestPartial: five of twenty objects are invalid: five errors in order; on
// request the others are applied, except what needs one of the five.
func TestPartial(t *testing.T) {
	c, _ := newClient(t)
	group := c.Owner.Namespace + ".example.com"
	manifests := "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: Bad}\n" +
		"---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: wrong." + group + "}\nspec: {group: " + group + ", scope: Namespaced, names: {plural: things, kind: Thing}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n" +
		"---\napiVersion: " + group + "/v1\nkind: Thing\nmetadata: {name: t}\n" +
		"---\napiVersion: no.such.group/v1\nkind: Unheard\nmetadata: {name: u}\n" +
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 99999}]}\n" +
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: needs, annotations: {config.kubernetes.io/depends-on: /namespaces/" + c.Owner.Namespace + "/Service/s}}\n" +
		"---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}\ntype: kubernetes.io/tls\n"
	for i := range 13 {
		manifests += configMap(fmt.Sprintf("cm-%02d", i), "1")
	}
	all := objects(t, manifests)
	_, err := c.Apply(t.Context(), all, nil)
	if err == nil || get(t, c, configMaps, "cm-00") != nil {
		t.Fatalf("a part was applied: %v", err)
	}
	c.Policy.Partial = true
	set, err := c.Apply(t.Context(), all, nil)
	if set.Count(ssa.Failed) != 5 || set.Count(ssa.Skipped) != 2 || set.Count(ssa.Created) != 13 {
		t.Errorf("%v: %v", actions(set), err)
	}
	var failed []string
	for e := range strings.SplitSeq(err.Error(), "\n") {
		failed = append(failed, e)
	}
	if again, err2 := c.Apply(t.Context(), all, nil); err2 == nil || err2.Error() != err.Error() || again.Count(ssa.Unchanged) != 13 {
		t.Errorf("another order: %v\nthan %v", err2, failed)
	}
	inv, err := (&ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: "app-inventory"}).Load(t.Context())
	if err != nil || len(inv.Entries) != 19 { // of what is of an unknown kind nobody knows the namespace
		t.Errorf("what failed is not in the inventory: %d entries, %v", len(inv.Entries), err)
	}
}

// TestDependsOn: what others need comes first and is ready before they are sent,
// and is deleted after them; a cycle is told with its path.
func TestDependsOn(t *testing.T) {
	c, w := newClient(t)
	ns := c.Owner.Namespace
	needs := func(name, on string) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, annotations: {config.kubernetes.io/depends-on: %q}}\n", name, on)
	}
	set := objects(t, needs("a", "/namespaces/"+ns+"/ConfigMap/z, /namespaces/"+ns+"/Service/svc")+configMap("z", "1")+needs("m", "/namespaces/"+ns+"/ConfigMap/a")+
		"---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 80}]}\n")
	must(t)(c.Apply(t.Context(), set, nil))
	same(t, "order", writes(w.take(), "PATCH"), []string{"z", "svc", "a", "m"})
	w.take()
	must(t)(c.Apply(t.Context(), set, nil))
	if got := w.take(); count(got, "WATCH") != 0 {
		t.Errorf("nothing changed, but something was waited for: %v", got)
	}
	must(t)(c.Prune(t.Context(), nil, nil))
	same(t, "reverse", writes(w.take(), "DELETE"), []string{"m", "a", "svc", "z"})

	_, err := c.Apply(t.Context(), objects(t, needs("a", "/namespaces/"+ns+"/ConfigMap/b")+needs("b", "/namespaces/"+ns+"/ConfigMap/c")+needs("c", "/namespaces/"+ns+"/ConfigMap/a")+configMap("free", "1")), nil)
	for _, want := range []string{"ConfigMap/" + ns + "/a -> ConfigMap/" + ns + "/b -> ConfigMap/" + ns + "/c -> ConfigMap/" + ns + "/a", "ConfigMap/" + ns + "/c -> ConfigMap/" + ns + "/a -> ConfigMap/" + ns + "/b"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
	if _, err := c.Apply(t.Context(), objects(t, needs("a", "nonsense")), nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v", err)
	}
	// What is not of the set and never comes: the others are applied, the reason is told.
	c.Policy.Partial = true
	part, err := c.Apply(t.Context(), objects(t, needs("a", "/namespaces/"+ns+"/ConfigMap/elsewhere")+configMap("free", "1")), &ssa.ApplyOptions{DependencyTimeout: time.Second})
	if !errors.Is(err, ssa.ErrNotReady) || !strings.Contains(err.Error(), "elsewhere") || get(t, c, configMaps, "free") == nil || get(t, c, configMaps, "a") != nil {
		t.Errorf("%v %v", actions(part), err)
	}
}

// writes returns the names of what was written, in order.
func writes(requests []string, kind string) []string {
	var out []string
	for _, r := range requests {
		if name, ok := strings.CutPrefix(r, kind+" "); ok && !strings.Contains(name, "inventory") {
			out = append(out, name[strings.LastIndexByte(name, '/')+1:])
		}
	}
	return out
}

// TestPruneGuard: a prune that would delete too much deletes nothing and names
// what it would have deleted.
func TestPruneGuard(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("b", "1")+configMap("c", "1")+configMap("d", "1")+
		"---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n"), nil))
	keep := objects(t, "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n")
	for _, g := range []ssa.PruneGuard{{Max: 3}, {MaxPercent: 50}, {Max: 3, Confirm: func([]ssa.ObjectID) bool { return false }}} {
		w.take()
		set, err := c.Prune(t.Context(), keep, &ssa.PruneOptions{Guard: &g})
		if !errors.Is(err, ssa.ErrGuarded) || set.Count(ssa.Deleted) != 0 || set.Count(ssa.Kept) != 4 {
			t.Errorf("%+v: %v %v", g, actions(set), err)
		}
		for _, name := range []string{"/a", "/b", "/c", "/d"} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%v does not name %s", err, name)
			}
		}
		if got := w.take(); count(got, "DELETE")+count(got, "PUT") != 0 {
			t.Errorf("wrote %v", got)
		}
	}
	var asked []ssa.ObjectID
	confirm := func(ids []ssa.ObjectID) bool { asked = ids; return true }
	must(t)(c.Prune(t.Context(), keep, &ssa.PruneOptions{Guard: &ssa.PruneGuard{Max: 4, Confirm: confirm}}))
	if asked != nil || get(t, c, configMaps, "a") != nil {
		t.Errorf("asked about %v", asked)
	}
	if _, err := c.Prune(t.Context(), nil, &ssa.PruneOptions{Guard: &ssa.PruneGuard{}}); !errors.Is(err, ssa.ErrGuarded) {
		t.Errorf("a claim was deleted unasked: %v", err)
	}
	must(t)(c.Prune(t.Context(), nil, &ssa.PruneOptions{Guard: &ssa.PruneGuard{Confirm: confirm}}))
	if len(asked) != 1 {
		t.Errorf("asked about %v", asked)
	}
}

// TestOrphans: what carries the owner's labels and is in no inventory is found,
// and can be taken back into it.
func TestOrphans(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, configMap("known", "1")+configMap("lost", "1")+deployment("gone", 0)), nil))
	store := &ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: "app-inventory"}
	inv, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inv.Entries = slices.DeleteFunc(inv.Entries, func(e ssa.Entry) bool { return e.Object.Name != "known" })
	if err := store.Save(t.Context(), inv); err != nil {
		t.Fatal(err)
	}
	found, err := c.Orphans(t.Context(), configMaps, deploymentKind, secrets)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, id := range found {
		names = append(names, id.Name)
	}
	same(t, "found", names, []string{"lost", "gone"})
	if _, err := c.Orphans(t.Context(), schema.GroupVersionKind{Group: "no.such", Version: "v1", Kind: "X"}); !errors.Is(err, ssa.ErrUnknownKind) {
		t.Errorf("got %v", err)
	}
	if err := c.Adopt(t.Context(), found...); err != nil {
		t.Fatal(err)
	}
	same(t, "pruned", len(must(t)(c.Prune(t.Context(), objects(t, configMap("known", "1")), nil)).Changes), 2)
	if found, err := c.Orphans(t.Context(), configMaps, deploymentKind); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// TestOtherCluster: an inventory of another cluster is not applied, diffed or pruned here.
func TestOtherCluster(t *testing.T) {
	c, _ := newClient(t)
	id, err := ssa.ClusterID(t.Context(), c.Dynamic)
	if err != nil || id == "" {
		t.Fatal(err)
	}
	objs := objects(t, configMap("a", "1"))
	must(t)(c.Apply(t.Context(), objs, nil)) // before anybody knew which cluster
	c.Cluster = id
	must(t)(c.Apply(t.Context(), objs, nil))
	c.Cluster = "another"
	for name, call := range map[string]func(context.Context) error{
		"apply": func(ctx context.Context) error { _, err := c.Apply(ctx, objs, nil); return err },
		"diff":  func(ctx context.Context) error { _, err := c.Diff(ctx, objs, nil); return err },
		"prune": func(ctx context.Context) error { _, err := c.Prune(ctx, nil, nil); return err },
	} {
		if err := call(t.Context()); !errors.Is(err, ssa.ErrOtherCluster) || !strings.Contains(err.Error(), string(id)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.Cluster = id
	same(t, "its own", actions(must(t)(c.Prune(t.Context(), nil, nil))), []string{"ConfigMap/a deleted"})
}

// TestApplySet: parent and members carry the marks of KEP-3659.
func TestApplySet(t *testing.T) {
	c, _ := newClient(t)
	ns := c.Owner.Namespace
	store := &ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: ns, Name: "set", ApplySet: true}
	c.Inventory = store
	objs := objects(t, configMap("a", "1")+deployment("web", 0)+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: far, namespace: default}\n")
	t.Cleanup(func() {
		if _, err := c.Prune(context.WithoutCancel(t.Context()), nil, nil); err != nil {
			t.Error(err)
		}
	})
	must(t)(c.Apply(t.Context(), objs, nil))
	id := ssa.ApplySetID(ns, "set")
	parent := get(t, c, configMaps, "set")
	same(t, "parent", parent.GetLabels()["applyset.kubernetes.io/id"], id)
	same(t, "kinds", parent.GetAnnotations(), map[string]string{
		"applyset.kubernetes.io/tooling": "gitopskit/v1", "applyset.kubernetes.io/contains-group-kinds": "ConfigMap,Deployment.apps", "applyset.kubernetes.io/additional-namespaces": "default",
	})
	members, err := configMapsOf(c).List(t.Context(), metav1.ListOptions{LabelSelector: "applyset.kubernetes.io/part-of=" + id})
	if err != nil || len(members.Items) != 1 {
		t.Errorf("%d members, %v", len(members.Items), err)
	}
	same(t, "again", must(t)(c.Apply(t.Context(), objs, nil)).Changed(), false)
	// What was applied without marks gets them, and loses them again.
	for _, marked := range []bool{false, true, false} {
		store.ApplySet = marked
		must(t)(c.Apply(t.Context(), objs, nil))
		for _, name := range []string{"set", "a"} {
			_, found := get(t, c, configMaps, name).GetLabels()[map[string]string{"set": "applyset.kubernetes.io/id", "a": "applyset.kubernetes.io/part-of"}[name]]
			same(t, fmt.Sprintf("the marks of %s, asked for: %t", name, marked), found, marked)
		}
	}
	// The identity is that of the proposal: of name, namespace, kind and group.
	same(t, "identity", ssa.ApplySetID("default", "my-set"), "applyset-DaObTxGT41gT7jz9wyulA3kuIrhUKfuOcjAfLI6wcmQ-v1")
}

// TestStorePolicies: with a store, what is left to others and what is left alone
// costs no request, and what was left out of a rule is repaired.
func TestStorePolicies(t *testing.T) {
	f := newFollowed(t, nil)
	f.Policy.Ignore = []ssa.IgnoreRule{{Paths: []string{"/spec/replicas", "/metadata/annotations/note"}, Target: &ssa.Target{Kind: "Deployment"}}}
	objs := objects(t, webDeployment+configMap("a", "1")+annotated("once", "1", "ssa", "IfNotPresent"))
	quiet := func(what string, exempt int) {
		t.Helper()
		var set *ssa.ChangeSet
		var requests []string
		eventually(t, what, func() bool {
			set, requests = f.pass(t, objs)
			return len(requests) == 0 && set.Count(ssa.Exempt) == exempt && set.Count(ssa.Exempt, ssa.Unchanged) == len(objs)
		}, func() string { return fmt.Sprint(requests, actions(set)) })
	}
	f.pass(t, objs)
	quiet("a pass that knows all", 1)
	live := f.Dynamic.Resource(deployments).Namespace(f.Owner.Namespace)
	patchAs(t, live, "web", "scaler", `{"spec":{"replicas":7},"metadata":{"annotations":{"note":"theirs"}}}`)
	quiet("settled with the replicas of others", 1)
	same(t, "theirs", field(get(t, f.Client, deploymentKind, "web"), "spec", "replicas"), int64(7))

	patchAs(t, configMapsOf(f.Client), "a", "editor", `{"metadata":{"annotations":{"gitopskit.github.io/reconcile":"disabled"}},"data":{"key":"theirs"}}`)
	objs = objs[:2]
	quiet("what opted out, left alone without a request", 1)
	same(t, "left alone", field(get(t, f.Client, configMaps, "a"), "data", "key"), "theirs")
	f.Policy.DistrustLive = true
	eventually(t, "unchanged object with its remark, without a request", func() bool {
		set, requests := f.pass(t, objs)
		change := set.Changes[slices.IndexFunc(set.Changes, func(c ssa.Change) bool { return c.Object.Name == "a" })]
		return len(requests) == 0 && change.Action == ssa.Unchanged && strings.Contains(change.Reason, "does not count")
	})
	f.Policy.DistrustLive = false

	f.Policy.Ignore = nil
	eventually(t, "repair of what is ignored no more", func() bool {
		f.pass(t, objs)
		return field(get(t, f.Client, deploymentKind, "web"), "spec", "replicas") == int64(2)
	})
}

// TestPartialKeepsAll: when it cannot be told who is to stay, nobody goes.
func TestPartialKeepsAll(t *testing.T) {
	c, _ := newClient(t)
	c.Policy.Partial = true
	must(t)(c.Apply(t.Context(), objects(t, deployment("web", 0)), nil))
	keep := objects(t, strings.Replace(deployment("web", 0), "apps/v1", "apps/v9", 1))
	if set, err := c.Prune(t.Context(), keep, nil); !errors.Is(err, ssa.ErrUnknownKind) || len(set.Changes) != 0 {
		t.Errorf("%v %v", actions(set), err)
	}
	if set, err := c.Diff(t.Context(), keep, nil); err == nil || set.Count(ssa.Deleted) != 0 {
		t.Errorf("%v %v", actions(set), err)
	}
	if set, err := c.Apply(t.Context(), keep, nil); err == nil || set.Count(ssa.Failed) != 1 {
		t.Errorf("%v %v", actions(set), err)
	}
	if get(t, c, deploymentKind, "web") == nil {
		t.Error("it was deleted")
	}
	same(t, "inventory", actions(must(t)(c.Prune(t.Context(), nil, nil))), []string{"Deployment/web deleted"})
}

// TestDefinitionLeftAlone: objects of a kind whose definition is left alone, and
// missing, fail at once and are never sent.
func TestDefinitionLeftAlone(t *testing.T) {
	c, _ := newClient(t)
	group := c.Owner.Namespace + ".example.com"
	crd := "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things." + group + ", annotations: {gitopskit.github.io/ssa: Ignore}}\nspec: {group: " + group + ", scope: Namespaced, names: {plural: things, kind: Thing}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n"
	all := objects(t, crd+"---\napiVersion: "+group+"/v1\nkind: Thing\nmetadata: {name: t}\n"+configMap("a", "1"))
	for _, partial := range []bool{false, true} {
		c.Policy.Partial = partial
		set, err := c.Apply(t.Context(), all, nil)
		if !errors.Is(err, ssa.ErrUnknownKind) || set.Count(ssa.Exempt) != 1 || set.Count(ssa.Failed) != 1 || (get(t, c, configMaps, "a") != nil) != partial {
			t.Errorf("partial %v: %v %v", partial, actions(set), err)
		}
	}
}

// TestIgnoredSubtree: of a map that others may write to, what is ours stays ours.
func TestIgnoredSubtree(t *testing.T) {
	c, _ := newClient(t)
	c.Policy.Ignore = []ssa.IgnoreRule{{Paths: []string{"/data", "/data"}}}
	objs := objects(t, configMap("a", "1"))
	must(t)(c.Apply(t.Context(), objs, nil))
	bob := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {other: x}\n")[0]
	if _, err := configMapsOf(c).Apply(t.Context(), "a", bob, metav1.ApplyOptions{FieldManager: "bob", Force: true}); err != nil {
		t.Fatal(err)
	}
	same(t, "beside bob", actions(must(t)(c.Apply(t.Context(), objs, nil))), []string{"ConfigMap/a unchanged"})
	must(t)(c.Apply(t.Context(), objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {l: m}}\ndata: {key: '1'}\n"), nil))
	same(t, "both", field(get(t, c, configMaps, "a"), "data"), map[string]any{"key": "1", "other": "x"})

	c.Policy.Ignore = []ssa.IgnoreRule{{Paths: []string{""}}}
	same(t, "all of it", actions(must(t)(c.Apply(t.Context(), objects(t, configMap("a", "2")+configMap("new", "2")), nil))), []string{"ConfigMap/a exempt", "ConfigMap/new created"})
}

// TestRecreateRespects: who asks to be left alone is not recreated, whoever it
// belongs to; a policy that forbids a change is no reason to delete.
func TestRecreateRespects(t *testing.T) {
	c, _ := newClient(t)
	c.Policy.Recreate = ssa.RecreateAlways
	r := c.Dynamic.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(c.Owner.Namespace)
	obj := objects(t, strings.Replace(fixed(1, "disabled"), "annotations: {", "annotations: {gitopskit.github.io/reconcile: disabled, ", 1))[0]
	created, err := r.Create(t.Context(), obj, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "left alone", actions(must(t)(c.Apply(t.Context(), objects(t, fixed(2, "enabled")), nil))), []string{"Deployment/once exempt"})

	patch(t, r, "once", `{"metadata":{"annotations":{"gitopskit.github.io/reconcile":null}}}`)
	forbid(t, c, "deployments", "apps")
	_, err = c.Apply(t.Context(), objects(t, strings.Replace(fixed(1, "enabled"), "replicas: 0", "replicas: 1", 1)), nil)
	if err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("got %v", err)
	}
	if live := get(t, c, deploymentKind, "once"); live == nil || live.GetUID() != created.GetUID() {
		t.Error("it was deleted")
	}
}

// forbid lets a policy refuse all updates in the namespace of the client, and
// waits until it does.
func forbid(t *testing.T, c *ssa.Client, resource, group string) {
	t.Helper()
	name := c.Owner.Namespace
	manifests := objects(t, `---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: `+name+`}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: `+name+`}}
    resourceRules: [{apiGroups: [`+group+`], apiVersions: ["*"], operations: [UPDATE], resources: [`+resource+`]}]
  validations: [{expression: "request.userInfo.username == 'system:serviceaccount:kube-system:deployment-controller'", message: frozen, reason: Invalid}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: `+name+`}
spec: {policyName: `+name+`, validationActions: [Deny]}
`)
	for i, r := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		policies := c.Dynamic.Resource(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: r})
		if _, err := policies.Create(t.Context(), manifests[i], metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := policies.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	live := c.Dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}).Namespace(name)
	eventually(t, "refusal of an update", func() bool {
		_, err := live.Patch(t.Context(), "once", "application/merge-patch+json", []byte(`{"metadata":{"annotations":{"try":"it"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "frozen")
	})
}

// TestRestoreJob: a Job is put back, too, though the server generates a part of it
// from what it was.
func TestRestoreJob(t *testing.T) {
	c, w := newClient(t)
	manifest := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once, annotations: {gitopskit.github.io/force: enabled}}\nspec: {completions: 1, completionMode: MODE, template: {spec: {restartPolicy: Never, containers: [{name: main, image: main}]}}}\n"
	must(t)(c.Apply(t.Context(), objects(t, strings.Replace(manifest, "MODE", "NonIndexed", 1)), nil))
	deleted := false
	w.tamper(func(r *http.Request) error {
		deleted = deleted || r.Method == http.MethodDelete
		if deleted && r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "jobs"}, "once", errors.New("since a moment ago"))
		}
		return nil
	})
	_, err := c.Apply(t.Context(), objects(t, strings.Replace(manifest, "MODE", "Indexed", 1)), nil)
	w.tamper(nil)
	if err == nil || !strings.Contains(err.Error(), "put back as it was") {
		t.Errorf("got %v", err)
	}
	job := schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}
	if live := get(t, c, job, "once"); field(live, "spec", "completionMode") != "NonIndexed" || !c.Owner.Owns(live) {
		t.Errorf("it is not as it was: %v", live)
	}
}

// TestDefinitionDepends: what usually comes first can wait for something else;
// definitions and namespaces cannot, and say so at once.
func TestDefinitionDepends(t *testing.T) {
	c, w := newClient(t)
	ns := c.Owner.Namespace
	role := "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: " + ns + ", annotations: {config.kubernetes.io/depends-on: /namespaces/" + ns + "/ConfigMap/a}}\nrules: []\n"
	t.Cleanup(func() {
		if _, err := c.Prune(context.WithoutCancel(t.Context()), nil, nil); err != nil {
			t.Error(err)
		}
	})
	must(t)(c.Apply(t.Context(), objects(t, role+configMap("a", "1")), nil))
	same(t, "order", writes(w.take(), "PATCH"), []string{"a", ns})
	late := objects(t, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: "+ns+"-b, annotations: {config.kubernetes.io/depends-on: /namespaces/"+ns+"/ConfigMap/a}}\n"+configMap("a", "1"))
	if _, err := c.Apply(t.Context(), late, nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "cannot wait") {
		t.Errorf("got %v", err)
	}
}
