package controllers_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/ssa"
)

// serviceAccount is a connection with a token of a service account.
func (w *world) serviceAccount(namespace, name string) *rest.Config {
	w.t.Helper()
	gv := schema.GroupVersion{Version: "v1"}
	config := rest.CopyConfig(w.config)
	config.GroupVersion, config.APIPath, config.NegotiatedSerializer = &gv, "/api", scheme.Codecs.WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := client.Post().Namespace(namespace).Resource("serviceaccounts").Name(name).SubResource("token").
		SetHeader("Content-Type", "application/json").Body([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}`)).DoRaw(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var token struct{ Status struct{ Token string } }
	if err := json.Unmarshal(answer, &token); err != nil || token.Status.Token == "" {
		w.t.Fatalf("no token: %v", err)
	}
	out := rest.AnonymousClientConfig(w.config)
	out.BearerToken = token.Status.Token
	return out
}

const installed = `
apiVersion: v1
kind: Namespace
metadata: {name: apps}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: apps}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployer, namespace: apps}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: default, namespace: apps}]
---
apiVersion: v1
kind: Secret
metadata: {name: git, namespace: apps}
stringData: {username: robot, password: pa55word}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: vars, namespace: apps}
data: {region: eu}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: app, namespace: apps}
spec: {interval: 1h, url: GIT/app, ref: {branch: main}, secretRef: {name: git}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: apps}
spec:
  interval: 1h
  retryInterval: 1s
  prune: true
  wait: true
  path: ./deploy
  sourceRef: {kind: GitRepository, name: app}
  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: apps}
spec: {interval: 1h, url: CHARTS}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: apps}
spec:
  interval: 1h
  chart: {spec: {chart: podinfo, sourceRef: {kind: HelmRepository, name: charts}}}
  install: {disableWait: true}
---
apiVersion: v1
kind: Secret
metadata: {name: hook, namespace: apps}
stringData: {token: a token of a hook}
---
apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {name: hook, namespace: apps}
spec: {type: generic, secretRef: {name: hook}, resources: [{kind: GitRepository, name: app}]}
`

// TestInstalled: the controllers run with the service account, the roles and the command line that the bases install, locked
// down for tenants. They do what they are for, nothing is refused to them that they ask for, and what they apply they
// apply as the tenant.
func TestInstalled(t *testing.T) {
	t.Parallel()
	audit := filepath.Join(t.TempDir(), "audit.log")
	w, g := worldOf(t, testenv.StartServer(t, &testenv.Options{AuditLog: audit})), newGit(t)
	g.commit(t, "app", "Add an app", map[string]string{"deploy/app.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\n  namespace: apps\ndata:\n  region: ${region}\n"})
	charts := chartserver.New()
	pkg, err := chart.Build(t.Context(), os.DirFS(podinfoRepo(t)), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	charts.Add(pkg.Name, pkg.Version, pkg.Data)
	server := httptest.NewServer(charts)
	t.Cleanup(server.Close)

	objects := append(base(t, "namespace", ""), base(t, "rbac", "")...)
	objects = append(objects, base(t, "all", "", "lockdown")...)
	c := &ssa.Client{Dynamic: w.dynamic, Mapper: w.mapper, Owner: ssa.Owner{Name: "install", Namespace: "default"}}
	if set, err := c.Apply(t.Context(), objects, nil); err != nil || set.Err() != nil {
		t.Fatal(err, set.Err())
	}
	var o *app.Options
	for _, obj := range objects {
		if obj.GetKind() == "Deployment" {
			o = optionsOf(t, deployment(t, obj))
		}
	}
	defaults := w.options()
	o.Namespace, o.MetricsAddr, o.HealthAddr, o.StoragePath, o.StorageAddr, o.StorageAdvAddr = "flux-system", freeAddr(t), "0", t.TempDir(), "127.0.0.1:0", ""
	o.ReceiverAddr, o.Out, o.Registry, o.MinRetryDelay, o.MaxRetryDelay = "127.0.0.1:0", w.logs, defaults.Registry, defaults.MinRetryDelay, defaults.MaxRetryDelay
	w.apply(strings.NewReplacer("GIT", g.url, "CHARTS", server.URL+"/charts").Replace(installed))
	w.config = w.serviceAccount("flux-system", "gitopskit")
	w.run(all(), o)
	w.ready("Kustomization/apps/app")
	w.ready("HelmRelease/apps/web")
	w.ready("Receiver/apps/hook")
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/symbol"} {
		resp, err := http.Get("http://" + o.MetricsAddr + path)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	w.delete("HelmRelease/apps/web")
	w.delete("Kustomization/apps/app")
	for _, gone := range []string{"Kustomization/apps/app", "HelmRelease/apps/web", "ConfigMap/apps/app"} {
		w.until(gone, "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	}

	const self = "system:serviceaccount:flux-system:gitopskit"
	writes, err := testenv.ReadAudit(audit)
	if err != nil {
		t.Fatal(err)
	}
	as := map[string]int{}
	for _, a := range writes {
		if a.User != self {
			continue
		}
		own := strings.HasSuffix(a.Group, ".fluxcd.io") || a.Resource == "leases" || a.Resource == "events" || a.Resource == "selfsubjectaccessreviews"
		if as[a.As]++; a.Code == http.StatusForbidden || !own && a.As != "system:serviceaccount:apps:default" {
			t.Errorf("%+v", a)
		}
	}
	if len(as) != 2 || as[""] == 0 {
		t.Errorf("wrote as %v", as)
	}
	w.logs.mu.Lock()
	defer w.logs.mu.Unlock()
	for line := range strings.Lines(w.logs.buf.String()) {
		if strings.Contains(line, "forbidden") && !strings.Contains(line, "cannot follow objects") {
			t.Errorf("something was refused: %s", line)
		}
	}
}
