package controllers_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/internal/s3server"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/oci"
)

// upstreams are what sources are read from.
type upstreams struct {
	*world
	t      *testing.T
	git    *gitserver.Server
	charts *chartserver.Server
	s3     *s3server.Server
	// where they are: URLs, and hosts
	gitURL, forge, chartsURL, chartsTLS string
	registry, registryTLS, s3Host       string
	head                                string // of apps
	digest                              string // of app:v1
	archive                             []byte // of podinfo
	version                             string
}

func newUpstreams(t *testing.T, w *world) *upstreams {
	t.Helper()
	u := &upstreams{world: w, t: t, charts: chartserver.New(), s3: s3server.New("access", "pa55word")}
	var err error
	if u.git, err = gitserver.New(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	u.gitURL, u.chartsURL, u.s3Host = u.serve(u.git), u.serve(u.charts), strings.TrimPrefix(u.serve(u.s3), "http://")
	u.head = u.commit("apps", "main", map[string]string{"a.yaml": "a: 1\n", "b/b.yaml": "b: 1\n", "b/c.txt": "c\n", "secret/d.yaml": "d: 1\n"})
	for _, tag := range []string{"v1.0.0", "v1.1.0"} {
		u.commit("tagged", "main", map[string]string{tag + ".yaml": "a: 1\n"})
		if _, err := u.git.AnnotatedTag("tagged", tag, "main", tag); err != nil {
			t.Fatal(err)
		}
	}
	u.commit("library", "main", map[string]string{"lib/x.yaml": "x: 1\n", "other/y.yaml": "y: 1\n"})
	u.commit("shrinking", "main", map[string]string{"dir/a.yaml": "a: 1\n", "b.yaml": "b: 1\n"})
	u.gitHub()

	everybody := registry.New()
	u.registry = strings.TrimPrefix(u.serve(everybody), "http://")
	locked := registry.New()
	locked.Username, locked.Password = "robot", "pa55word"
	u.registryTLS = strings.TrimPrefix(u.serveTLS(locked, "registry-ca"), "https://")
	for _, tag := range []string{"v1", "1.0.0", "1.1.0-dev", "1.2.0-beta"} {
		u.push(tag, tag)
	}
	u.digest = registry.Digest(everybody.Manifest("app", "v1"))
	tree := fstest.MapFS{"a.yaml": {Data: []byte("locked")}}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(u.data("Secret/registry-ca", "ca.crt"))
	if _, err := oci.Push(t.Context(), "oci://"+u.registryTLS+"/app:v1", tree, &oci.PushOptions{Client: oci.Client{TLS: &tls.Config{RootCAs: trust}, Keychain: login{"robot", "pa55word"}}}); err != nil {
		t.Fatal(err)
	}

	u.helm()
	everybody.Tag("podinfo", everybody.PutManifest("podinfo", &registry.Image{
		ConfigType: "application/vnd.cncf.helm.config.v1+json", Layers: []registry.Layer{{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Data: u.archive}},
	}), u.version)
	for _, name := range []string{"a.yaml", "deep/b.yaml", "deep/c.txt", "rest/d.yaml"} {
		if err := u.s3.Put("apps", name, "a: 1\n"); err != nil {
			t.Fatal(err)
		}
	}
	u.proxied()
	u.secret("git", map[string]string{"username": "robot", "password": "pa55word"})
	u.secret("s3", map[string]string{"accesskey": "access", "secretkey": "pa55word"})
	u.secret("wrong", map[string]string{"username": "robot", "password": "wrong", "accesskey": "access", "secretkey": "wrong"})
	u.secret("pull", map[string]string{".dockerconfigjson": fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, u.registryTLS, base64.StdEncoding.EncodeToString([]byte("robot:pa55word")))})
	u.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller}\nimagePullSecrets: [{name: pull}]")
	return u
}

func (u *upstreams) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	u.t.Cleanup(server.Close)
	return server.URL
}

// serveTLS serves with a certificate that the Secret of a name trusts.
func (u *upstreams) serveTLS(h http.Handler, secret string) string {
	server := httptest.NewTLSServer(h)
	u.t.Cleanup(server.Close)
	u.secret(secret, map[string]string{"ca.crt": authority(server)})
	return server.URL
}

func authority(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func (u *upstreams) secret(name string, entries map[string]string) {
	u.t.Helper()
	data := map[string][]byte{}
	for k, v := range entries {
		data[k] = []byte(v)
	}
	encoded, err := json.Marshal(data)
	if err != nil {
		u.t.Fatal(err)
	}
	u.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\ndata: "+string(encoded), "NAME", name)
}

func (u *upstreams) commit(repo, branch string, files map[string]string) string {
	u.t.Helper()
	id, err := u.git.Commit(repo, branch, "Change "+repo, files)
	if err != nil {
		u.t.Fatal(err)
	}
	return id
}

// push makes an artifact app:tag.
func (u *upstreams) push(tag, data string) {
	u.t.Helper()
	tree := fstest.MapFS{"a.yaml": {Data: []byte(data)}, "b.txt": {Data: []byte(data)}}
	if _, err := oci.Push(u.t.Context(), "oci://"+u.registry+"/app:"+tag, tree, &oci.PushOptions{Client: oci.Client{Insecure: true}}); err != nil {
		u.t.Fatal(err)
	}
}

// helm serves the chart podinfo: to everybody, and to a robot by TLS with its archives on another host.
func (u *upstreams) helm() {
	u.t.Helper()
	dir := podinfoRepo(u.t)
	pkg, err := chart.Build(u.t.Context(), os.DirFS(dir), "charts/podinfo", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	u.archive, u.version = pkg.Data, pkg.Version
	archives := chartserver.New()
	locked := chartserver.New()
	for _, s := range []*chartserver.Server{archives, locked} {
		s.Username, s.Password = "robot", "pa55word"
	}
	elsewhere := u.serveTLS(archives, "unused")
	locked.ChartURL = func(file string) string { return elsewhere + "/charts/" + file }
	for _, s := range []*chartserver.Server{archives, locked, u.charts} {
		s.Add(pkg.Name, pkg.Version, pkg.Data)
	}
	u.chartsTLS = u.serveTLS(locked, "charts-ca")
	files := map[string]string{"broken/Chart.yaml": "apiVersion: v2\nname: broken\n"}
	for _, name := range []string{"Chart.yaml", "values.yaml", "templates/service.yaml", "templates/_helpers.tpl"} {
		data, err := os.ReadFile(filepath.Join(dir, "charts", "podinfo", filepath.FromSlash(name)))
		if err != nil {
			u.t.Fatal(err)
		}
		files["podinfo/"+name] = string(data)
	}
	files["podinfo/values-prod.yaml"] = "replicaCount: 7\n"
	u.commit("charts", "main", files)
}

// gitHub serves a repository to an App of GitHub Enterprise Server only.
func (u *upstreams) gitHub() {
	u.t.Helper()
	repos, err := gitserver.New(u.t.TempDir())
	if err != nil {
		u.t.Fatal(err)
	}
	repos.Username, repos.Password = "x-access-token", "ghs_issued"
	if _, err := repos.Commit("apps", "main", "Add apps", map[string]string{"a.yaml": "a: 1\n"}); err != nil {
		u.t.Fatal(err)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v3/app/installations/7/access_tokens" {
			repos.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token": "ghs_issued", "expires_at": %q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	u.t.Cleanup(server.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		u.t.Fatal(err)
	}
	u.forge = server.URL
	u.secret("app", map[string]string{
		"githubAppID": "1", "githubAppInstallationID": "7", "githubAppBaseURL": server.URL, "ca.crt": authority(server),
		"githubAppPrivateKey": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
}

// proxied serves a proxy, which alone knows where the hosts below .invalid are, to those who know its password.
func (u *upstreams) proxied() {
	u.t.Helper()
	hosts := map[string]string{"git.invalid": strings.TrimPrefix(u.gitURL, "http://"), "registry.invalid": u.registry, "s3.invalid": u.s3Host}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Host = hosts[r.In.Host] }}
	address := u.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login := r.Header.Get("Proxy-Authorization") == "Basic "+base64.StdEncoding.EncodeToString([]byte("robot:pa55word"))
		if !login || hosts[r.Host] == "" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	u.secret("proxy", map[string]string{"address": address, "username": "robot", "password": "pa55word"})
}

// is creates an object of a source, or changes it.
func (u *upstreams) is(ref, spec string) step {
	kind, name, _ := strings.Cut(ref, "/")
	return step{ref, func() {
		u.t.Helper()
		u.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: "+kind+"\nmetadata: {name: NAME}\nspec: {interval: 1h, SPEC}", "NAME", name, "SPEC", spec)
	}}
}

// look asks for a pass.
func (u *upstreams) look(ref, token string) step {
	return step{ref, func() { u.request(ref, token) }}
}

// keep does nothing to an object.
func keep(ref string) step { return step{ref, func() {}} }

// sourceStages is what happens to sources.
func sourceStages(t *testing.T, w *world, o *app.Options) []stage {
	t.Helper()
	u := newUpstreams(t, w)
	blocked := filepath.Join(o.StoragePath, "gitrepository", w.namespace, "unstored") // a file where a directory is needed
	if err := errors.Join(os.MkdirAll(filepath.Dir(blocked), 0o750), os.WriteFile(blocked, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	apps := "url: " + u.gitURL + "/apps, ref: {branch: main}"
	tagged := "url: " + u.gitURL + "/tagged, ref: "
	image := "insecure: true, url: oci://" + u.registry + "/app, ref: "
	bucket := "insecure: true, region: us-east-1, endpoint: \"" + u.s3Host + "\", secretRef: {name: s3}, bucketName: "
	secure := "url: oci://" + u.registryTLS + "/app, ref: {tag: v1}, certSecretRef: {name: registry-ca}"
	charts := "sourceRef: {kind: HelmRepository, name: charts}, chart: podinfo"
	packed := "sourceRef: {kind: GitRepository, name: charts}, chart: "
	return []stage{
		{"first", []step{
			u.is("GitRepository/apps", apps),
			u.is("GitRepository/ignore", apps+", ignore: \"/secret\\n*.txt\\n\""),
			u.is("GitRepository/tag", tagged+"{tag: v1.0.0}"),
			u.is("GitRepository/semver", tagged+"{semver: \">=1.0.0\", tag: v1.0.0}"),
			u.is("GitRepository/name", tagged+"{name: refs/heads/main, semver: 1.x}"),
			u.is("GitRepository/commit", "url: "+u.gitURL+"/apps, ref: {commit: "+u.head+", name: refs/heads/main}"),
			u.is("GitRepository/sparse", apps+", sparseCheckout: [./b]"),
			u.is("GitRepository/shrinking", strings.Replace(apps, "/apps", "/shrinking", 1)+", sparseCheckout: [dir]"),
			u.is("GitRepository/include", apps+", sparseCheckout: [secret], include: [{repository: {name: library}, fromPath: lib, toPath: from/lib}, {repository: {name: library}}]"),
			u.is("GitRepository/itself", apps+", include: [{repository: {name: itself}}]"),
			u.is("GitRepository/github", "url: "+u.forge+"/apps, ref: {branch: main}, provider: github, secretRef: {name: app}"),
			u.is("GitRepository/no-app", apps+", provider: github, secretRef: {name: git}"),
			u.is("GitRepository/app-unused", "url: "+u.forge+"/apps, ref: {branch: main}, secretRef: {name: app}"),
			u.is("GitRepository/proxy", "url: http://git.invalid/apps, ref: {branch: main}, proxySecretRef: {name: proxy}"),
			u.is("GitRepository/no-secret", apps+", secretRef: {name: later}"),
			u.is("GitRepository/unreachable", "url: http://127.0.0.1:1/apps, ref: {branch: main}"),
			u.is("GitRepository/query", "url: \"http://127.0.0.1:1/apps?token=canary\", ref: {branch: main}"),
			u.is("HelmRepository/query", "url: \"http://127.0.0.1:1/charts?token=canary\""),
			u.is("GitRepository/no-url", "url: \"http://\""),
			u.is("GitRepository/unsigned", apps+", verify: {mode: HEAD, secretRef: {name: git}}"),
			u.is("GitRepository/submodules", apps+", recurseSubmodules: true"),
			u.is("GitRepository/suspended", apps+", suspend: true"),
			u.is("GitRepository/unstored", apps),
			u.is("GitRepository/charts", strings.Replace(apps, "/apps", "/charts", 1)),
			u.is("OCIRepository/app", image+"{tag: v1}"),
			u.is("OCIRepository/digest", image+"{digest: \""+u.digest+"\", tag: none}"),
			u.is("OCIRepository/filter", image+"{semver: \">=1.0.0-0\", semverFilter: \".*-dev\"}"),
			u.is("OCIRepository/secure", secure+", secretRef: {name: pull}"),
			u.is("OCIRepository/account", secure+", serviceAccountName: puller"),
			u.is("OCIRepository/no-account", secure+", serviceAccountName: nobody"),
			u.is("OCIRepository/anonymous", secure),
			u.is("OCIRepository/no-tag", image+"{tag: v2}"),
			u.is("OCIRepository/proxy", strings.Replace(image, u.registry, "registry.invalid", 1)+"{tag: v1}, proxySecretRef: {name: proxy}"),
			u.is("OCIRepository/keyless", image+"{tag: v1}, verify: {provider: cosign}"),
			u.is("OCIRepository/no-keys", image+"{tag: v1}, verify: {provider: cosign, secretRef: {name: later-keys}}"),
			u.is("OCIRepository/cloud", image+"{tag: v1}, provider: aws"),
			u.is("Bucket/apps", bucket+"apps, ignore: \"*.txt\""),
			u.is("Bucket/prefix", bucket+"apps, prefix: deep/"),
			u.is("Bucket/proxy", strings.Replace(bucket, u.s3Host, "s3.invalid", 1)+"apps, prefix: rest/, proxySecretRef: {name: proxy}"),
			u.is("Bucket/wrong", strings.Replace(bucket, "name: s3", "name: wrong", 1)+"apps"),
			u.is("Bucket/missing", bucket+"missing"),
			u.is("HelmRepository/charts", "url: "+u.chartsURL+"/charts, accessFrom: {namespaceSelectors: [{matchLabels: {}}]}"),
			u.is("HelmRepository/secure", "url: "+u.chartsTLS+"/charts, certSecretRef: {name: charts-ca}, secretRef: {name: git}, passCredentials: true"),
			u.is("HelmRepository/wrong", "url: "+u.chartsTLS+"/charts, certSecretRef: {name: charts-ca}, secretRef: {name: wrong}"),
			u.is("HelmRepository/oci", "type: oci, insecure: true, url: oci://"+u.registry),
			u.is("HelmRepository/nowhere", "url: "+u.chartsURL+"/nowhere"),
			u.is("HelmChart/pulled", charts),
			u.is("HelmChart/secure", strings.Replace(charts, "name: charts", "name: secure", 1)),
			u.is("HelmChart/oci", strings.Replace(charts, "name: charts", "name: oci", 1)+", version: \">=1.0.0\""),
			u.is("HelmChart/merged", packed+"podinfo, valuesFiles: [podinfo/values.yaml, podinfo/values-prod.yaml, podinfo/none.yaml], ignoreMissingValuesFiles: true"),
			u.is("HelmChart/packed", packed+"podinfo, reconcileStrategy: Revision"),
			u.is("HelmChart/broken", packed+"broken"),
			u.is("HelmChart/no-version", charts+", version: 9.x"),
			u.is("HelmChart/no-source", strings.Replace(charts, "name: charts", "name: later", 1)),
			u.is("HelmChart/unverified", strings.Replace(charts, "name: charts", "name: oci", 1)+", verify: {provider: notation}"),
			{"ExternalArtifact/made", func() {
				w.apply("apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: made}\nspec: {sources: [{alias: apps, kind: GitRepository, name: apps}], artifacts: [{name: made, revision: \"@apps\", copy: [{from: \"@apps/b/**\", to: \"@artifact/\"}]}]}")
			}},
		}},
		{"nothing new", []step{
			u.look("GitRepository/apps", "again"), u.look("OCIRepository/app", "again"), u.look("Bucket/apps", "again"),
			u.look("HelmRepository/charts", "again"), u.look("HelmChart/pulled", "again"), keep("ExternalArtifact/made"),
		}},
		{"changed", []step{
			{"GitRepository/apps", func() {
				u.commit("apps", "main", map[string]string{"e.yaml": "e: 1\n"})
				w.request("GitRepository/apps", "changed")
			}},
			u.is("GitRepository/ignore", apps+", ignore: \"*.txt\""),
			{"GitRepository/shrinking", func() {
				if _, err := u.git.Delete("shrinking", "main", "Remove dir", "dir/a.yaml"); err != nil {
					t.Fatal(err)
				}
				w.request("GitRepository/shrinking", "changed")
			}},
			u.is("GitRepository/library", "url: "+u.gitURL+"/library, ref: {branch: main}"), keep("GitRepository/include"),
			u.is("GitRepository/no-app", apps),
			{"GitRepository/unstored", func() {
				if err := os.Remove(blocked); err != nil {
					t.Fatal(err)
				}
			}},
			{"GitRepository/no-secret", func() { u.secret("later", map[string]string{"username": "robot", "password": "pa55word"}) }},
			u.is("GitRepository/unreachable", apps), u.is("GitRepository/no-url", apps), u.is("GitRepository/unsigned", apps),
			u.is("GitRepository/submodules", apps+", recurseSubmodules: false"), u.is("GitRepository/suspended", apps), u.is("GitRepository/itself", apps),
			{"OCIRepository/app", func() { u.push("v1", "newer"); w.request("OCIRepository/app", "changed") }},
			{"OCIRepository/no-tag", func() { u.push("v2", "two") }},
			u.is("OCIRepository/anonymous", secure+", secretRef: {name: pull}"),
			u.is("OCIRepository/cloud", image+"{tag: v1}"),
			{"Bucket/apps", func() {
				if err := u.s3.Put("apps", "new.yaml", "a: 1\n"); err != nil {
					t.Fatal(err)
				}
				w.request("Bucket/apps", "changed")
			}},
			u.is("Bucket/wrong", bucket+"apps"),
			{"HelmRepository/charts", func() {
				u.charts.Add("other", "1.0.0", u.archive)
				w.request("HelmRepository/charts", "changed")
			}},
			u.is("HelmRepository/nowhere", "url: "+u.chartsURL+"/charts"),
			u.is("HelmChart/no-version", charts+", version: 6.x"),
			{"HelmChart/no-source", u.is("HelmRepository/later", "url: "+u.chartsURL+"/charts").do},
			keep("ExternalArtifact/made"),
		}},
		{"lost", []step{
			u.is("GitRepository/apps", "url: http://127.0.0.1:1/apps, ref: {branch: main}"),
			u.is("OCIRepository/app", image+"{tag: gone}"), u.is("Bucket/apps", bucket+"gone"), u.is("HelmRepository/charts", "url: "+u.chartsURL+"/gone"),
			u.is("HelmChart/packed", packed+"gone"),
		}},
		{"found again", []step{
			u.is("GitRepository/apps", apps), u.is("OCIRepository/app", image+"{tag: v1}"), u.is("Bucket/apps", bucket+"apps, ignore: \"*.txt\""),
			u.is("HelmRepository/charts", "url: "+u.chartsURL+"/charts"), u.is("HelmChart/packed", packed+"podinfo, reconcileStrategy: Revision"),
		}},
	}
}
