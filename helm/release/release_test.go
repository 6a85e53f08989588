package release_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	helmrelease "helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
)

// TestHelmTakesOver: what we install, Helm lists, shows, upgrades, rolls back and uninstalls.
func TestHelmTakesOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "{{ .Values.v }}")}, map[string]any{"v": "one"})
	d.Labels = map[string]string{"team": "shop"}
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	d.Values = map[string]any{"v": "two"}
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	config := c.helm()

	listed := must[[]*helmrelease.Release](t)(action.NewList(config).Run())
	if len(listed) != 1 || listed[0].Name != "shop" || listed[0].Version != 2 || listed[0].Info.Status != helmrelease.StatusDeployed {
		t.Fatalf("listed: %+v", listed)
	}
	if listed[0].Labels["team"] != "shop" || listed[0].Chart.Metadata.AppVersion != "1" || !strings.Contains(listed[0].Manifest, "# Source: web/templates/a.yaml") {
		t.Errorf("listed: %v %v %q", listed[0].Labels, listed[0].Chart.Metadata, listed[0].Manifest)
	}
	history := must[[]*helmrelease.Release](t)(action.NewHistory(config).Run("shop"))
	if len(history) != 2 {
		t.Errorf("%d in the history", len(history))
	}
	values := must[map[string]any](t)(action.NewGetValues(config).Run("shop"))
	if diff := cmp.Diff(map[string]any{"v": "two"}, values); diff != "" {
		t.Errorf("values\n%s", diff)
	}
	rollback := action.NewRollback(config)
	rollback.Version = 1
	if err := rollback.Run("shop"); err != nil {
		t.Fatal(err)
	}
	if data := c.get("ConfigMap", "a").Object["data"]; !cmp.Equal(data, map[string]any{"key": "one"}) {
		t.Errorf("after Helm's rollback: %v", data)
	}
	upgrade := action.NewUpgrade(config)
	upgrade.Namespace = c.namespace
	if _, err := upgrade.Run("shop", helmChart(t, configMap("a", "three")+configMap("b", "new")), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"4 deployed", "3 superseded", "2 superseded", "1 superseded"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// And back to us: what Helm added goes, with its fields.
	record := must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if record.Release.Version != 5 || record.ApplyMethod() != "ssa" || c.get("ConfigMap", "b") != nil {
		t.Errorf("revision %d, %s, %v", record.Release.Version, record.ApplyMethod(), c.names("ConfigMap"))
	}
	if _, err := action.NewUninstall(config).Run("shop"); err != nil {
		t.Fatal(err)
	}
	if names := c.names("ConfigMap"); len(names) > 0 || len(c.history()) > 0 {
		t.Errorf("left: %v %v", names, c.history())
	}
}

func helmChart(t *testing.T, template string) *chart.Chart {
	t.Helper()
	return must[*chart.Chart](t)(loader.LoadFiles([]*loader.BufferedFile{
		{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n")},
		{Name: "templates/a.yaml", Data: []byte(template)},
	}))
}

// TestTakeOverFromHelm: a release of Helm is upgraded; fields it set and we do not go.
func TestTakeOverFromHelm(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	install := action.NewInstall(c.helm())
	install.ReleaseName, install.Namespace = "shop", c.namespace
	old := strings.Replace(configMap("a", "one"), "{key", "{old: gone, key", 1)
	if _, err := install.Run(helmChart(t, old+configMap("b", "one")), map[string]any{"x": "y"}); err != nil {
		t.Fatal(err)
	}
	d := c.desired("2.0.0", map[string]string{"a.yaml": configMap("a", "two")}, nil)
	var status release.Status
	var did []release.Action
	out, err := c.client.Reconcile(t.Context(), d, &status, func(o release.Outcome) error {
		did = append(did, o.Next)
		return nil
	})
	if err != nil || out.State != release.InSync || !slices.Equal(did, []release.Action{release.Upgrade}) {
		t.Fatalf("%v %+v %v", did, out.Decision, err)
	}
	if data := c.get("ConfigMap", "a").Object["data"]; !cmp.Equal(data, map[string]any{"key": "two"}) {
		t.Errorf("got %v", data)
	}
	if diff := cmp.Diff([]string{"2 deployed", "1 superseded"}, c.history()); diff != "" || c.get("ConfigMap", "b") != nil {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(status.History) != 1 || status.History[0].Revision != 2 {
		t.Errorf("remembered: %+v", status.History)
	}
}

func TestPodinfo(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", nil, map[string]any{"replicaCount": 2.0})
	d.Chart = podinfo(t)
	var status release.Status
	out, err := c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil || out.State != release.InSync {
		t.Fatalf("%+v %v", out.Decision, err)
	}
	deployment := c.get("Deployment", "shop-podinfo")
	if ready, _, _ := unstructured.NestedInt64(deployment.Object, "status", "readyReplicas"); ready != 2 {
		t.Errorf("%d ready", ready)
	}
	if deployment.GetLabels()["app.kubernetes.io/managed-by"] != "Helm" || deployment.GetAnnotations()["meta.helm.sh/release-name"] != "shop" {
		t.Errorf("marks: %v %v", deployment.GetLabels(), deployment.GetAnnotations())
	}
	before := deployment.GetResourceVersion()
	for range 2 { // nothing to do, nothing done
		if out, err = c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync || len(c.history()) != 1 {
			t.Errorf("%+v %v", out.Decision, err)
		}
	}
	if after := c.get("Deployment", "shop-podinfo").GetResourceVersion(); after != before {
		t.Error("an object was written though nothing changed")
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if c.get("Deployment", "shop-podinfo") != nil || len(c.history()) > 0 {
		t.Error("something is left")
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestDrift(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	ignored := strings.Replace(configMap("c", "1"), "name: c", "name: c, annotations: {helm.toolkit.fluxcd.io/driftDetection: disabled}", 1)
	secret := "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + configMap("b", "1") + configMap("d", "1") + ignored + secret}, nil)
	d.Policy.Drift = release.DriftReported
	var status release.Status
	if out, err := c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync {
		t.Fatalf("%+v %v", out, err)
	}
	for kind, patch := range map[string]string{
		"ConfigMap/d": `{"data":{"key":"edited"},"metadata":{"annotations":{"helm.toolkit.fluxcd.io/driftDetection":"disabled"}}}`,
		"ConfigMap/a": `{"data":{"key":"edited"}}`, "ConfigMap/c": `{"data":{"key":"edited"}}`, "Secret/s": `{"data":{"password":"c3RvbGVu"}}`} {
		kind, name, _ := strings.Cut(kind, "/")
		if _, err := c.resource(kind).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.resource("ConfigMap").Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	check := func(differences []release.Difference) {
		t.Helper()
		var got []string
		for _, o := range differences {
			got = append(got, o.Object.GetName()+": "+strings.Join(o.Changes, "; "))
		}
		slices.Sort(got)
		want := []string{`a: ~ data.key: "edited" -> "1"`, "b: it does not exist", `s: ~ data.password: "*** (before)" -> "*** (after)"`}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	out, err := c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil || out.State != release.Drifted || c.get("ConfigMap", "b") != nil {
		t.Errorf("%+v %v", out, err)
	}
	check(out.Drift)
	d.Policy.Drift = release.DriftCorrected
	out, err = c.client.Reconcile(t.Context(), d, &status, nil)
	if err != nil {
		t.Errorf("%+v %v", out, err)
	}
	check(out.Drift)
	if data := c.get("ConfigMap", "a").Object["data"]; !cmp.Equal(data, map[string]any{"key": "1"}) || c.get("ConfigMap", "b") == nil {
		t.Errorf("got %v", data)
	}
	if data := c.get("Secret", "s").Object["data"]; !cmp.Equal(data, map[string]any{"password": "aHVudGVyMg=="}) {
		t.Errorf("got %v", data)
	}
	if out, err = c.client.Reconcile(t.Context(), d, &status, nil); err != nil || out.State != release.InSync || len(c.history()) != 1 {
		t.Errorf("%+v %v", out, err)
	}
	if differences, err := c.client.Drift(t.Context(), d); err != nil || differences != nil {
		t.Errorf("%v %v", differences, err)
	}
}

func TestForeignObjects(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	theirs := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}}}
	if _, err := c.resource("ConfigMap").Create(t.Context(), theirs, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	_, err := c.client.Install(t.Context(), d)
	var typed *release.Error
	if !errors.Is(err, release.ErrForeign) || !strings.Contains(err.Error(), "app.kubernetes.io/managed-by") || !errors.As(err, &typed) || !typed.Terminal() {
		t.Errorf("got %v", err)
	}
	if len(c.history()) > 0 {
		t.Error("a record was written")
	}
	d.TakeOwnership = true
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	// Another release may not take it either, and what is handed over stays.
	other := d
	other.Name, other.TakeOwnership = "other", false
	if _, err := c.client.Install(t.Context(), other); !errors.Is(err, release.ErrForeign) {
		t.Errorf("got %v", err)
	}
	other.TakeOwnership = true
	must[*release.Record](t)(c.client.Install(t.Context(), other))
	if err := c.client.Uninstall(t.Context(), d); err != nil || c.get("ConfigMap", "a") == nil {
		t.Errorf("the object of the other release is gone: %v", err)
	}
}

// TestKeep: the resource policy, objects that changed their group, and several failed revisions.
func TestKeep(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	kept := strings.Replace(configMap("kept", "1"), "name: kept", "name: kept, annotations: {helm.sh/resource-policy: keep}", 1)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1") + kept}, nil)
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	d.Chart = chartOf(t, "1.1.0", map[string]string{"a.yaml": configMap("b", "1")})
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if strings.HasPrefix(call, "wait") {
			return errBroken
		}
		return nil
	}}
	if _, err := c.client.Upgrade(t.Context(), d); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	c.client.Applier = c.objects
	d.Chart = chartOf(t, "1.2.0", map[string]string{"a.yaml": configMap("c", "1")})
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if diff := cmp.Diff([]string{"c", "kept"}, c.names("ConfigMap")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	d.KeepHistory = true
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"3 uninstalled", "2 failed", "1 superseded"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	d.TakeOwnership = true
	if record := must[*release.Record](t)(c.client.Install(t.Context(), d)); record.Release.Version != 4 {
		t.Errorf("revision %d", record.Release.Version)
	}
	if _, err := c.client.Install(t.Context(), d); !errors.Is(err, release.ErrExists) {
		t.Errorf("got %v", err)
	}
}

func TestMaxHistory(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "{{ .Release.Revision }}")}, nil)
	d.MaxHistory = 3
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	watched := &spy{Applier: c.objects}
	c.client.Applier = watched
	for i := range 5 {
		watched.fail = nil
		if i >= 1 {
			watched.fail = func(call string) error {
				if strings.HasPrefix(call, "wait") {
					return errBroken
				}
				return nil
			}
		}
		_, err := c.client.Upgrade(t.Context(), d)
		if (err == nil) != (i < 1) {
			t.Fatal(err)
		}
		if n := len(c.history()); n > 3 {
			t.Errorf("%d records", n)
		}
	}
	if diff := cmp.Diff([]string{"6 failed", "5 failed", "2 deployed"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	group := c.namespace + ".example.com"
	crd := func(description string) map[string]string {
		return map[string]string{"crds/widgets.yaml": "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets." + group +
			"}\nspec:\n  group: " + group + "\n  scope: Namespaced\n  names: {plural: widgets, singular: widget, kind: Widget}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object, description: " + description + "}}\n",
			"widget.yaml": "apiVersion: " + group + "/v1\nkind: Widget\nmetadata: {name: w}\n"}
	}
	name := "widgets." + group
	description := func() string {
		versions, _, _ := unstructured.NestedSlice(c.get("CustomResourceDefinition", name).Object, "spec", "versions")
		text, _, _ := unstructured.NestedString(versions[0].(map[string]any), "schema", "openAPIV3Schema", "description")
		return text
	}
	t.Cleanup(func() {
		c.resource("CustomResourceDefinition").Delete(context.Background(), name, metav1.DeleteOptions{}) //nolint:errcheck // may be gone; the test is over
	})
	d := c.desired("1.0.0", crd("one"), nil)
	d.CRDs = release.SkipCRDs
	if _, err := c.client.Install(t.Context(), d); err == nil {
		t.Error("installed without its definition")
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d.CRDs = release.CreateCRDs
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	d.Chart = chartOf(t, "1.1.0", crd("two"))
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if got := description(); got != "one" {
		t.Errorf("Create: %s", got)
	}
	d.CRDs = release.CreateReplaceCRDs
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	if got := description(); got != "two" {
		t.Errorf("CreateReplace: %s", got)
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil || c.get("CustomResourceDefinition", name) == nil {
		t.Errorf("the definition was deleted: %v", err)
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": job("work", "")}, nil)
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	if n, _, _ := unstructured.NestedInt64(c.get("Job", "work").Object, "status", "succeeded"); n != 1 {
		t.Errorf("%d succeeded", n)
	}
	// A cancelled wait ends at once and is noted.
	never := strings.Replace(job("never", ""), "restartPolicy", "nodeSelector: {no: such}, restartPolicy", 1)
	d.Chart = chartOf(t, "1.1.0", map[string]string{"a.yaml": never})
	ctx, cancel := context.WithCancel(t.Context())
	c.client.Applier = &spy{Applier: c.objects, fail: func(call string) error {
		if call == "delete work" {
			time.AfterFunc(50*time.Millisecond, cancel)
		}
		return nil
	}}
	began := time.Now()
	record, err := c.client.Upgrade(ctx, d)
	if !errors.Is(err, context.Canceled) || statusOf(record) != helmrelease.StatusFailed || time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	if diff := cmp.Diff([]string{"2 failed", "1 deployed"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	c.client.Applier = c.objects
	d.Upgrade.DisableWaitForJobs = true
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	d.Upgrade = release.ActionOptions{Timeout: 200 * time.Millisecond}
	if _, err := c.client.Upgrade(t.Context(), d); !errors.Is(err, release.ErrNotReady) || !strings.Contains(err.Error(), "Job/") {
		t.Errorf("got %v", err)
	}
}

func TestCreateNamespace(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	d.Namespace = c.namespace + "-target"
	d.CreateNamespace = true
	c.objects.Client.DefaultNamespace = d.Namespace
	must[*release.Record](t)(c.client.Install(t.Context(), d)) // the record stays in the namespace of the store
	namespace := c.get("Namespace", d.Namespace)
	if namespace == nil || namespace.GetLabels()["name"] != d.Namespace {
		t.Errorf("got %v", namespace)
	}
	if err := c.client.Uninstall(t.Context(), d); err != nil || c.get("Namespace", d.Namespace) == nil {
		t.Errorf("the namespace was deleted: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	for name, d := range map[string]release.Desired{
		"no name":  {Namespace: "a", Chart: &helm.Chart{}},
		"no chart": {Name: "a", Namespace: "a"},
		"policy":   {Name: "a", Namespace: "a", CRDs: "x", Chart: &helm.Chart{}},
	} {
		client := &release.Client{Applier: &spy{}, Store: &brokenStore{}}
		if _, err := client.Install(t.Context(), d); !errors.Is(err, release.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&release.Client{}).Install(t.Context(), release.Desired{}); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
