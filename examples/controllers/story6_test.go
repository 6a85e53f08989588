package controllers_test

import (
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/source/chart"
)

// definition is a CustomResourceDefinition that accepts everything.
func definition(group, version, kind, plural, scope string) string {
	return strings.NewReplacer("GROUP", group, "VERSION", version, "KIND", kind, "PLURAL", plural, "SCOPE", scope).Replace(`---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: PLURAL.GROUP
  annotations: {api-approved.kubernetes.io: unapproved for tests}
spec:
  group: GROUP
  scope: SCOPE
  names: {kind: KIND, plural: PLURAL}
  versions:
    - name: VERSION
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`)
}

const workload = `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: main, image: example.com/main}]}
`

// standIn packages a chart that has the definitions of the real one, and a
// Deployment for its controller.
func standIn(t *testing.T, name, version string, files map[string]string) []byte {
	t.Helper()
	tree := fstest.MapFS{
		"Chart.yaml":              {Data: []byte("apiVersion: v2\nname: " + name + "\nversion: " + version + "\n")},
		"templates/workload.yaml": {Data: []byte(workload)},
	}
	for path, text := range files {
		tree[path] = &fstest.MapFile{Data: []byte(text)}
	}
	pkg, err := chart.Build(t.Context(), tree, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	return pkg.Data
}

// exampleRepo is the example repository, with the addresses of local servers.
func exampleRepo(t *testing.T, registryHost, charts string) string {
	t.Helper()
	dir := unzip(t, "testdata/flux2-kustomize-helm-example.zip")
	if err := os.RemoveAll(dir + "/clusters/staging/flux-system"); err != nil {
		t.Fatal(err)
	}
	local := strings.NewReplacer(
		"url: oci://quay.io", "insecure: true\n  url: oci://"+registryHost, "url: oci://docker.io", "insecure: true\n  url: oci://"+registryHost,
		"https://stefanprodan.github.io/podinfo", charts, "retryInterval: 2m", "retryInterval: 2s",
	)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, []byte(local.Replace(string(data))), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestStoryExample reconciles Flux's example repository, staging, from nothing:
// one repository taken apart by a generator, controllers before what they
// define, charts from registries and over HTTP.
func TestStoryExample(t *testing.T) {
	t.Parallel()
	w := worldOf(t, testenv.StartServer(t, &testenv.Options{SimulatedNodes: 1}))
	reg := registry.New()
	registryServer := httptest.NewServer(reg)
	t.Cleanup(registryServer.Close)
	push := func(repo, tag string, data []byte) {
		reg.Tag(repo, reg.PutManifest(repo, &registry.Image{
			ConfigType: "application/vnd.cncf.helm.config.v1+json", Layers: []registry.Layer{{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Data: data}},
		}), tag)
	}
	push("jetstack/charts/cert-manager", "1.18.2", standIn(t, "cert-manager", "1.18.2", map[string]string{
		"templates/crds.yaml": "{{- if .Values.crds.enabled }}\n" + definition("cert-manager.io", "v1", "ClusterIssuer", "clusterissuers", "Cluster") + "{{- end }}\n",
	}))
	const gateways = "gateway.networking.k8s.io"
	push("envoyproxy/gateway-helm", "1.8.0", standIn(t, "gateway-helm", "1.8.0", map[string]string{
		"crds/gateways.yaml": definition(gateways, "v1", "GatewayClass", "gatewayclasses", "Cluster") + definition(gateways, "v1", "Gateway", "gateways", "Namespaced") + definition(gateways, "v1", "HTTPRoute", "httproutes", "Namespaced"),
	}))
	charts := chartserver.New()
	pkg, err := chart.Build(t.Context(), os.DirFS(podinfoRepo(t)), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	charts.Add(pkg.Name, pkg.Version, pkg.Data)
	chartServer := httptest.NewServer(charts)
	t.Cleanup(chartServer.Close)
	g := newGit(t)
	g.Username, g.Password = "", ""
	if _, err := g.ImportDir("fleet", "main", "Import", exampleRepo(t, strings.TrimPrefix(registryServer.URL, "http://"), chartServer.URL+"/charts")); err != nil {
		t.Fatal(err)
	}

	o := w.options()
	o.WatchAllNamespaces = true
	w.run(all(), o)
	w.apply(`
apiVersion: v1
kind: Namespace
metadata: {name: flux-system}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1h, url: URL/fleet, ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1h, retryInterval: 2s, path: ./clusters/staging, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
`, "URL", g.url)
	for _, ref := range []string{
		"Kustomization/flux-system/flux-system", "Kustomization/flux-system/infra-controllers", "Kustomization/flux-system/infra-configs", "Kustomization/flux-system/apps",
		"HelmRelease/cert-manager/cert-manager", "HelmRelease/envoy-gateway-system/envoy-gateway", "HelmRelease/podinfo/podinfo",
	} {
		w.ready(ref)
	}
	route := w.get("HelmRelease/podinfo/podinfo")
	if hosts, _, _ := unstructured.NestedStringSlice(route.Object, "spec", "values", "httpRoute", "hostnames"); len(hosts) != 1 || hosts[0] != "podinfo.staging" {
		t.Errorf("hostnames %v", hosts)
	}
	if w.get("Deployment/podinfo/podinfo") == nil || w.get("Deployment/podinfo/podinfo-redis") == nil {
		t.Error("podinfo is not there")
	}
	infrastructure := text(w.get("ExternalArtifact/flux-system/infrastructure"), "status", "artifact", "revision")

	commit := g.commit(t, "fleet", "Change an app", map[string]string{"apps/staging/podinfo-values.yaml": strings.Replace(`
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: podinfo
  namespace: podinfo
spec:
  values:
    replicaCount: 3
`, "\n", "", 1)})
	w.request("GitRepository/flux-system/flux-system", "commit")
	w.readyAt("Kustomization/flux-system/flux-system", commit)
	w.until("Deployment/podinfo/podinfo", "scaled", func(o *unstructured.Unstructured) bool {
		n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
		return n == 3
	})
	if now := text(w.get("ExternalArtifact/flux-system/infrastructure"), "status", "artifact", "revision"); now != infrastructure {
		t.Error("a change of the apps made a new revision of the infrastructure")
	}
}
