package controllers_test

import (
	"encoding/base64"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"filippo.io/age"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/oci"
)

// TestBadInput gives the controllers what is wrong in one way each. Each case
// ends in a condition that says what and where, without a secret, and recovers
// by itself when it is mended.
func TestBadInput(t *testing.T) {
	t.Parallel()
	w, g := newWorld(t), newGit(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cm := func(name string) string { return configMap(name, w.namespace) }
	g.commit(t, "apps", "Add apps", map[string]string{
		"good/a.yaml": cm("a"), "yaml/b.yaml": "kind: [", "vars/c.yaml": strings.Replace(cm("c"), "a: b", "a: ${missing}", 1),
		"broken/Chart.yaml": "apiVersion: v2\nname: broken\n",
		"refused/d.yaml":    strings.Replace(cm("d"), "  name: d", "  name: \"Not A Name\"", 1),
		"sealed/e.yaml":     sealed(t, id.Recipient().String(), strings.ReplaceAll("apiVersion: v1\nkind: Secret\nmetadata:\n  name: e\n  namespace: NS\nstringData:\n  a: canary\n", "NS", w.namespace)),
	})
	registryServer := httptest.NewServer(registry.New())
	t.Cleanup(registryServer.Close)
	host := strings.TrimPrefix(registryServer.URL, "http://")
	push := func(tag string) {
		if _, err := oci.Push(t.Context(), "oci://"+host+"/app:"+tag, fstest.MapFS{"a.yaml": {Data: []byte(cm("a"))}}, &oci.PushOptions{Client: oci.Client{Insecure: true}}); err != nil {
			t.Fatal(err)
		}
	}
	push("now")
	repo := chartserver.New()
	pkg, err := chart.Build(t.Context(), os.DirFS(podinfoRepo(t)), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	repo.Add(pkg.Name, pkg.Version, pkg.Data)
	server := httptest.NewServer(repo)
	t.Cleanup(server.Close)
	w.run(all(), w.options())
	secret := func(name, data string) {
		w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\nstringData: {DATA}", "NAME", name, "DATA", data)
	}
	gitRepo := func(name, fields string) {
		w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: NAME}\nspec: {interval: 1h, FIELDS}", "NAME", name, "FIELDS", fields)
	}
	kustomization := func(name, fields string) {
		w.apply("apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: NAME}\nspec: {interval: 1h, retryInterval: 500ms, prune: true, sourceRef: {kind: GitRepository, name: apps}, FIELDS}", "NAME", name, "FIELDS", fields)
	}
	url := "url: " + g.url + "/apps, ref: {branch: main}"
	secret("git", "username: robot, password: pa55word")
	gitRepo("apps", url+", secretRef: {name: git}")
	w.ready("GitRepository/apps")

	for _, c := range []struct {
		ref, reason, says string
		breaks, mends     func()
	}{
		{
			"GitRepository/no-secret", "AuthenticationFailed", "Secret " + w.namespace + "/later does not exist",
			func() { gitRepo("no-secret", url+", secretRef: {name: later}") }, func() { secret("later", "username: robot, password: pa55word") },
		}, {
			"GitRepository/wrong-secret", "AuthenticationFailed", "",
			func() {
				secret("wrong", "username: robot, password: canary")
				gitRepo("wrong-secret", url+", secretRef: {name: wrong}")
			},
			func() { secret("wrong", "username: robot, password: pa55word") },
		}, {
			"GitRepository/half-secret", "AuthenticationFailed", "entry password: missing",
			func() { secret("half", "username: canary"); gitRepo("half-secret", url+", secretRef: {name: half}") },
			func() { secret("half", "username: robot, password: pa55word") },
		}, {
			"GitRepository/unreachable", "GitOperationFailed", "127.0.0.1:1",
			func() { gitRepo("unreachable", "url: http://127.0.0.1:1/apps, ref: {branch: main}") },
			func() { gitRepo("unreachable", url+", secretRef: {name: git}") },
		}, {
			"GitRepository/no-branch", "GitOperationFailed", "later",
			func() { gitRepo("no-branch", strings.Replace(url, "main", "later", 1)+", secretRef: {name: git}") },
			func() {
				if _, err := g.Git("apps", "", "branch", "later", "main"); err != nil {
					t.Fatal(err)
				}
			},
		}, {
			"GitRepository/unsupported", "UnsupportedField", "spec.recurseSubmodules",
			func() { gitRepo("unsupported", url+", secretRef: {name: git}, recurseSubmodules: true") },
			func() { gitRepo("unsupported", url+", secretRef: {name: git}, recurseSubmodules: false") },
		}, {
			"Kustomization/no-source", "ArtifactFailed", "GitRepository '" + w.namespace + "/soon' does not exist",
			func() { kustomization("no-source", "path: ./good, sourceRef: {kind: GitRepository, name: soon}") },
			func() { gitRepo("soon", url+", secretRef: {name: git}") },
		}, {
			"Kustomization/no-path", "ArtifactFailed", `no directory "nowhere"`,
			func() { kustomization("no-path", "path: ./nowhere") }, func() { kustomization("no-path", "path: ./good") },
		}, {
			"Kustomization/bad-yaml", "BuildFailed", "yaml/b.yaml",
			func() { kustomization("bad-yaml", "path: ./yaml") }, func() { kustomization("bad-yaml", "path: ./good") },
		}, {
			"Kustomization/no-variable", "BuildFailed", `variable is not set: "missing"`,
			func() { kustomization("no-variable", "path: ./vars, postBuild: {substitute: {other: x}}") },
			func() { kustomization("no-variable", "path: ./vars, postBuild: {substitute: {missing: x}}") },
		}, {
			"Kustomization/no-map", "BuildFailed", "substitute from 'ConfigMap/settings' error",
			func() {
				kustomization("no-map", "path: ./vars, postBuild: {substituteFrom: [{kind: ConfigMap, name: settings}]}")
			},
			func() { w.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {missing: x}") },
		}, {
			"Kustomization/refused", "ReconciliationFailed", "Not A Name",
			func() { kustomization("refused", "path: ./refused") }, func() { kustomization("refused", "path: ./good") },
		}, {
			"Kustomization/no-key", "BuildFailed", "Secret " + w.namespace + "/age does not exist",
			func() {
				kustomization("no-key", "path: ./sealed, decryption: {provider: sops, secretRef: {name: age}}")
			},
			func() { secret("age", "a.agekey: "+id.String()) },
		}, {
			"Kustomization/not-decrypted", "BuildFailed", "still encrypted",
			func() { kustomization("not-decrypted", "path: ./sealed") },
			func() {
				kustomization("not-decrypted", "path: ./sealed, decryption: {provider: sops, secretRef: {name: age}}")
			},
		}, {
			"Kustomization/elsewhere", "UnsupportedField", "spec.kubeConfig.configMapRef",
			func() { kustomization("elsewhere", "path: ./good, kubeConfig: {configMapRef: {name: x}}") }, func() { kustomization("elsewhere", "path: ./good") },
		}, {
			"Kustomization/patches", "InvalidSpec", "spec.patches[1].target: ",
			func() {
				kustomization("patches", "path: ./good, patches: [{patch: 'kind: ConfigMap'}, {patch: '[]', target: {kind: '(', labelSelector: '='}}]")
			},
			func() { kustomization("patches", "path: ./good, patches: []") },
		}, {
			"Kustomization/ignores", "InvalidSpec", "spec.ignore[0]: ",
			func() { kustomization("ignores", "path: ./good, ignore: [{paths: [data]}]") }, func() { kustomization("ignores", "path: ./good, ignore: [{paths: [/data]}]") },
		}, {
			"HelmRepository/charts", "Failed", "",
			func() {
				w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts}\nspec: {interval: 1h, url: URL/nowhere}", "URL", server.URL)
			},
			func() {
				w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts}\nspec: {interval: 1h, url: URL/charts}", "URL", server.URL)
			},
		}, {
			"HelmChart/version", "ChartPullError", "9.x",
			func() {
				w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmChart\nmetadata: {name: version}\nspec: {interval: 1h, chart: podinfo, version: 9.x, sourceRef: {kind: HelmRepository, name: charts}}")
			},
			func() { w.patch("HelmChart/version", `{"spec": {"version": "6.x"}}`) },
		}, {
			"HelmChart/broken", "ChartPackageError", "broken",
			func() {
				w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmChart\nmetadata: {name: broken}\nspec: {interval: 1h, chart: ./broken, sourceRef: {kind: GitRepository, name: apps}}")
			},
			func() {
				g.commit(t, "apps", "Mend the chart", map[string]string{"broken/Chart.yaml": "apiVersion: v2\nname: broken\nversion: 1.0.0\n"})
				w.request("GitRepository/apps", "mended chart")
			},
		}, {
			"OCIRepository/no-tag", "OCIArtifactPullFailed", "later",
			func() {
				w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {name: no-tag}\nspec: {interval: 1h, insecure: true, url: oci://HOST/app, ref: {tag: later}}", "HOST", host)
			},
			func() { push("later") },
		}, {
			"HelmRelease/values", "ValuesError", "absent",
			func() { w.apply(podinfoRelease("values", "valuesFrom: [{kind: Secret, name: absent}]")) },
			func() { secret("absent", `values.yaml: "replicaCount: 1"`) },
		}, {
			"HelmRelease/schema", "InstallFailed", "",
			func() {
				w.apply(podinfoRelease("schema", "install: {strategy: {name: RetryOnFailure, retryInterval: 1s}}, values: {service: {httpPort: no-port}}"))
			},
			func() {
				w.apply(podinfoRelease("schema", "install: {strategy: {name: RetryOnFailure, retryInterval: 1s}}, values: {service: {httpPort: 9898}}"))
			},
		}, {
			"HelmRelease/replace", "UnsupportedField", "spec.upgrade.force",
			func() { w.apply(podinfoRelease("replace", "upgrade: {force: true}")) }, func() { w.apply(podinfoRelease("replace", "upgrade: {force: false}")) },
		},
	} {
		t.Run(c.ref, func(t *testing.T) {
			w := *w
			w.t = t
			c.breaks()
			message := condition(w.failed(c.ref, c.reason, c.says), "Ready")["message"]
			for _, canary := range []string{"canary", base64.StdEncoding.EncodeToString([]byte("canary")), "pa55word", id.String()} {
				if strings.Contains(message, canary) {
					t.Errorf("the message has a secret: %s", message)
				}
			}
			t.Log(message)
			c.mends()
			w.ready(c.ref)
		})
	}
}

// podinfoRelease is a HelmRelease of podinfo that waits for nothing.
func podinfoRelease(name, fields string) string {
	return strings.NewReplacer("NAME", name, "FIELDS", fields).Replace("apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: NAME}\nspec: {interval: 1h, chart: {spec: {chart: podinfo, sourceRef: {kind: HelmRepository, name: charts}}}, FIELDS}")
}
