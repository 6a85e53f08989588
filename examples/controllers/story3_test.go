package controllers_test

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"helm.sh/helm/v3/pkg/action"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source/chart"
)

// testJob stands in for the tests of podinfo, whose pods would never end in a
// cluster where nothing runs.
const testJob = `apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "podinfo.fullname" . }}-test
  annotations: {helm.sh/hook: test, helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: example.com/test}]}
`

// podinfoRepo is the repository of podinfo with another test, as a directory.
func podinfoRepo(t *testing.T) string {
	t.Helper()
	dir := unzip(t, "../quickstart/testdata/podinfo.zip")
	if err := os.RemoveAll(dir + "/charts/podinfo/templates/tests"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/charts/podinfo/templates/test.yaml", []byte(testJob), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

const helmRelease = `
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: podinfo
spec:
  interval: 1h
  timeout: 1m
  CHART
  driftDetection: {mode: enabled}
  test: {enable: true}
  upgrade: {timeout: PATIENCE, remediation: {retries: 1, remediateLastFailure: true}}
  valuesFrom: [{kind: ConfigMap, name: podinfo-values}]
  values: {ui: {message: MESSAGE}EXTRA}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: podinfo-values}
data: {values.yaml: "replicaCount: 2\n"}
`

// TestStoryHelm is the life of podinfo's chart from an HTTP repository, from a
// registry, and from Git.
func TestStoryHelm(t *testing.T) {
	t.Parallel()
	dir := podinfoRepo(t)
	pkg, err := chart.Build(t.Context(), os.DirFS(dir), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]func(t *testing.T, w *world) (chart string){
		"http": func(t *testing.T, w *world) string {
			repo := chartserver.New()
			repo.Username, repo.Password = "robot", "pa55word"
			repo.Add(pkg.Name, pkg.Version, pkg.Data)
			server := httptest.NewServer(repo)
			t.Cleanup(server.Close)
			w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: charts}\nstringData: {username: robot, password: pa55word}")
			w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts}\nspec: {interval: 1h, url: URL/charts, secretRef: {name: charts}}", "URL", server.URL)
			return "chart: {spec: {chart: podinfo, version: 6.x, sourceRef: {kind: HelmRepository, name: charts}}}"
		},
		"oci": func(t *testing.T, w *world) string {
			reg := registry.New()
			server := httptest.NewServer(reg)
			t.Cleanup(server.Close)
			reg.Tag("charts/podinfo", reg.PutManifest("charts/podinfo", &registry.Image{
				ConfigType: "application/vnd.cncf.helm.config.v1+json", Layers: []registry.Layer{{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Data: pkg.Data}},
			}), pkg.Version)
			w.apply(`
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {name: podinfo}
spec:
  interval: 1h
  insecure: true
  url: oci://HOST/charts/podinfo
  ref: {semver: 6.x}
  layerSelector: {mediaType: application/vnd.cncf.helm.chart.content.v1.tar+gzip, operation: copy}
`, "HOST", strings.TrimPrefix(server.URL, "http://"))
			return "chartRef: {kind: OCIRepository, name: podinfo}"
		},
		"git": func(t *testing.T, w *world) string {
			g := newGit(t)
			g.Username, g.Password = "", ""
			if _, err := g.ImportDir("podinfo", "main", "Import podinfo", dir); err != nil {
				t.Fatal(err)
			}
			w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: podinfo}\nspec: {interval: 1h, url: URL/podinfo, ref: {branch: main}}", "URL", g.url)
			return "chart: {spec: {chart: ./charts/podinfo, reconcileStrategy: Revision, sourceRef: {kind: GitRepository, name: podinfo}}}"
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.run(all(), w.options())
			w.helmStory(begin(t, w))
		})
	}
}

// helm returns the configuration of Helm's own actions in the namespace.
func (w *world) helm() *action.Configuration {
	w.t.Helper()
	flags := genericclioptions.NewConfigFlags(false)
	flags.WrapConfigFn = func(*rest.Config) *rest.Config { return rest.CopyConfig(w.config) }
	flags.Namespace = &w.namespace
	config := &action.Configuration{}
	if err := config.Init(flags, w.namespace, "secret", func(string, ...any) {}); err != nil {
		w.t.Fatal(err)
	}
	return config
}

// revisions is the history of the release, as Helm lists it.
func (w *world) revisions(name string) []*release.Release {
	w.t.Helper()
	history, err := action.NewHistory(w.helm()).Run(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return history
}

// helmStory is what follows from the objects.
func (w *world) helmStory(chartField string) {
	t := w.t
	set := func(message, extra string) {
		t.Helper()
		patience := "1m"
		if extra != "" { // this one will not become ready
			patience = "8s"
		}
		w.apply(helmRelease, "CHART", chartField, "MESSAGE", message, "EXTRA", extra, "PATIENCE", patience)
	}
	set("one", "")
	o := w.ready("HelmRelease/podinfo")
	if got := condition(o, "TestSuccess"); got["status"] != "True" {
		t.Errorf("TestSuccess %v", got)
	}
	deployment := w.get("Deployment/podinfo")
	if n, _, _ := unstructured.NestedInt64(deployment.Object, "spec", "replicas"); n != 2 {
		t.Errorf("%d replicas; want 2, from the ConfigMap", n)
	}

	set("two", "")
	w.readyAt("HelmRelease/podinfo", "podinfo.v2")
	releases, err := action.NewList(w.helm()).Run()
	if err != nil || len(releases) != 1 || releases[0].Name != "podinfo" || releases[0].Version != 2 || releases[0].Info.Status != release.StatusDeployed {
		t.Fatalf("Helm lists %v, %v", releases, err)
	}
	if n := len(w.revisions("podinfo")); n != 2 {
		t.Errorf("Helm finds %d revisions, want 2", n)
	}

	set("broken", ", nodeSelector: {no: such-node}")
	o = w.until("HelmRelease/podinfo", "rolled back", func(o *unstructured.Unstructured) bool {
		return condition(o, "Remediated")["status"] == "True" && condition(o, "Ready")["status"] == "False"
	})
	if got := condition(o, "Released"); got["status"] != "False" || got["reason"] != "UpgradeFailed" {
		t.Errorf("Released %v", got)
	}
	if got := w.get("Deployment/podinfo"); strings.Contains(text(got, "spec", "template", "spec", "nodeSelector", "no"), "such") {
		t.Error("the failed upgrade is still there")
	}

	set("three", "")
	w.readyAt("HelmRelease/podinfo", "succeeded for release")
	w.patch("Service/podinfo", `{"spec": {"selector": {"app.kubernetes.io/name": "somebody-else"}}}`)
	w.request("HelmRelease/podinfo", "drift")
	w.until("Service/podinfo", "corrected", func(o *unstructured.Unstructured) bool {
		return text(o, "spec", "selector", "app.kubernetes.io/name") == "podinfo"
	})

	before := w.revisions("podinfo")
	rollback := action.NewRollback(w.helm())
	for _, r := range before[:len(before)-1] { // any that was deployed once
		if r.Info.Status == release.StatusSuperseded {
			rollback.Version = r.Version
		}
	}
	if err := rollback.Run("podinfo"); err != nil {
		t.Errorf("Helm cannot roll back: %v", err)
	}
	w.request("HelmRelease/podinfo", "taken back")
	w.until("HelmRelease/podinfo", "managed again", func(o *unstructured.Unstructured) bool {
		all := w.revisions("podinfo")
		return len(all) >= len(before) && all[len(all)-1].Info.Status == release.StatusDeployed && all[len(all)-1].Version > before[len(before)-1].Version+1
	})
	w.ready("HelmRelease/podinfo")

	w.delete("HelmRelease/podinfo")
	for _, ref := range []string{"HelmRelease/podinfo", "Deployment/podinfo", "Service/podinfo"} {
		w.until(ref, "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	}
	if left, err := action.NewList(w.helm()).Run(); err != nil || len(left) > 0 {
		t.Errorf("after the deletion Helm lists %v, %v", left, err)
	}
}

// TestUninstallOnlyOwn: a HelmRelease that never got as far as a release leaves
// another one of the same name alone when it is deleted.
func TestUninstallOnlyOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken, err := chart.Build(t.Context(), fstest.MapFS{
		"Chart.yaml":       {Data: []byte("apiVersion: v2\nname: podinfo\nversion: 1.0.0\n")},
		"templates/a.yaml": {Data: []byte(`{{ fail "it cannot be rendered" }}`)},
	}, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	repo := chartserver.New()
	repo.Add(broken.Name, broken.Version, broken.Data)
	server := httptest.NewServer(repo)
	t.Cleanup(server.Close)
	install := action.NewInstall(w.helm())
	install.ReleaseName, install.Namespace = "podinfo", w.namespace
	theirs := &helmchart.Chart{
		Metadata:  &helmchart.Metadata{APIVersion: "v2", Name: "theirs", Version: "1.0.0"},
		Templates: []*helmchart.File{{Name: "templates/a.yaml", Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\n")}},
	}
	if _, err := install.Run(theirs, nil); err != nil {
		t.Fatal(err)
	}
	w.run(all(), w.options())
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts}\nspec: {interval: 1h, url: URL/charts}", "URL", server.URL)
	w.apply(podinfoRelease("podinfo", ""))
	o := w.failed("HelmRelease/podinfo", "UpgradeFailed", "it cannot be rendered")
	if text(o, "status", "lastAttemptedRevision") == "" {
		t.Error("it was not even tried")
	}
	w.delete("HelmRelease/podinfo")
	w.until("HelmRelease/podinfo", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	if n := len(w.revisions("podinfo")); n != 1 || w.get("ConfigMap/theirs") == nil {
		t.Errorf("%d revisions are left of a release of somebody else", n)
	}
}
