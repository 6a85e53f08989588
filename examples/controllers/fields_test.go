package controllers_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/verify"
)

// apps serves a repository with some files, without credentials, and has a
// GitRepository for it.
func (w *world) apps(fields string, files map[string]string) *gitServer {
	w.t.Helper()
	g := newGit(w.t)
	g.Username, g.Password, g.Writable = "", "", true
	g.commit(w.t, "apps", "Add apps", files)
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: apps}\nspec: {interval: 1h, url: URL/apps, ref: {branch: main}FIELDS}", "URL", g.url, "FIELDS", fields)
	return g
}

func (w *world) kustomization(name, fields string) {
	w.t.Helper()
	w.apply("apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: NAME}\nspec: {interval: 1h, retryInterval: 1s, sourceRef: {kind: GitRepository, name: apps}, FIELDS}", "NAME", name, "FIELDS", strings.ReplaceAll(fields, "NAMESPACE", w.namespace))
}

// TestGitVerification publishes a commit that is signed by a known key, and no other.
func TestGitVerification(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := verify.NewSigner(pem.EncodeToMemory(block), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\ndata: {robot.sshpub: KEY}", "KEY", base64.StdEncoding.EncodeToString(ssh.MarshalAuthorizedKey(authorized)))
	w.run(all(), w.options())
	g := w.apps(", verify: {mode: HEAD, secretRef: {name: keys}}", map[string]string{"a.yaml": configMap("a", w.namespace)})
	o := w.failed("GitRepository/apps", "VerificationError", "")
	if got := condition(o, "SourceVerified")["status"]; got != "False" || text(o, "status", "artifact", "revision") != "" {
		t.Errorf("SourceVerified is %s, artifact %s", got, text(o, "status", "artifact", "revision"))
	}

	repo, err := git.New(g.url+"/apps", &git.Options{Ref: git.Ref{Branch: "main"}})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := repo.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	who := git.Person{Name: "Robot", Email: "robot@example.com"}
	commit, err := repo.Commit(t.Context(), rev, git.Change{Author: who, Message: "Sign", Files: map[string][]byte{"b.yaml": []byte(configMap("b", w.namespace))}, Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := repo.Push(t.Context(), commit, nil)
	if err != nil {
		t.Fatal(err)
	}
	o = w.readyAt("GitRepository/apps", signed.String()) // by its own retry
	if got := condition(o, "SourceVerified")["status"]; got != "True" {
		t.Errorf("SourceVerified is %s", got)
	}
	if got := text(o, "status", "sourceVerificationMode"); got != "HEAD" {
		t.Errorf("mode %s", got)
	}
}

// TestIgnoreField leaves files out of an artifact, and makes a new one when the field changes.
func TestIgnoreField(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	w.apps(`, ignore: "/secret\n"`, map[string]string{"a.yaml": configMap("a", w.namespace), "secret/b.yaml": configMap("b", w.namespace)})
	o := w.ready("GitRepository/apps")
	digest := text(o, "status", "artifact", "digest")
	w.kustomization("apps", "prune: true, path: ./")
	w.ready("Kustomization/apps")
	if w.get("ConfigMap/a") == nil || w.get("ConfigMap/b") != nil {
		t.Error("the pattern was not honoured")
	}
	w.patch("GitRepository/apps", `{"spec": {"ignore": "/a.yaml"}}`)
	w.until("GitRepository/apps", "another artifact", func(o *unstructured.Unstructured) bool {
		return text(o, "status", "artifact", "digest") != digest && text(o, "status", "observedIgnore") == "/a.yaml"
	})
	w.until("ConfigMap/b", "applied", func(o *unstructured.Unstructured) bool { return o != nil })
	w.until("ConfigMap/a", "pruned", func(o *unstructured.Unstructured) bool { return o == nil })
}

// TestKustomizationFields is what shapes a build.
func TestKustomizationFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	w.apps("", map[string]string{
		"app/app.yaml":                 strings.Replace(configMap("app", "elsewhere"), "a: b", "a: b\n  color: ${color}", 1) + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec: {containers: [{name: main, image: main:1}]}\n",
		"parts/tls/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nconfigMapGenerator: [{name: tls, literals: [k=v], options: {disableNameSuffixHash: true}}]\n",
	})
	w.kustomization("apps", `prune: true, path: ./app, targetNamespace: NAMESPACE, namePrefix: x-, nameSuffix: -y, buildMetadata: [originAnnotations],
    components: [../parts/tls, ../parts/none], ignoreMissingComponents: true, postBuild: {substitute: {color: red}},
    commonMetadata: {annotations: {team: "${color}"}}, images: [{name: main, newTag: "2"}],
    patches: [{patch: "- {op: add, path: /data/patched, value: yes-it-is}", target: {kind: ConfigMap, name: app}}]`)
	w.ready("Kustomization/apps")
	app := w.get("ConfigMap/x-app-y")
	for key, want := range map[string]string{"a": "b", "color": "red", "patched": "yes-it-is"} {
		if got := text(app, "data", key); got != want {
			t.Errorf("data %s is %q, want %q", key, got, want)
		}
	}
	if got := app.GetAnnotations()["team"]; got != "${color}" {
		t.Errorf("common metadata is %q; it is not substituted", got)
	}
	if app.GetAnnotations()["config.kubernetes.io/origin"] == "" {
		t.Errorf("annotations %v", app.GetAnnotations())
	}
	if w.get("ConfigMap/x-tls-y") == nil {
		t.Error("the component is missing")
	}
	containers, _, _ := unstructured.NestedSlice(w.get("Pod/x-pod-y").Object, "spec", "containers")
	if image := containers[0].(map[string]any)["image"]; image != "main:2" {
		t.Errorf("image %v", image)
	}
}

// TestApplyPolicies recreates what may be recreated, leaves fields and objects to
// others where a spec or an object says so, and takes over what kubectl applied.
func TestApplyPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  replicas: 0\n  selector: {matchLabels: {v: VERSION}}\n  template: {metadata: {labels: {v: VERSION}}, spec: {containers: [{name: main, image: main}]}}\n"
	once := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: once, annotations: {kustomize.toolkit.fluxcd.io/ssa: IfNotPresent}}\ndata: {a: VERSION}\n"
	files := func(version string) map[string]string {
		return map[string]string{"app.yaml": strings.ReplaceAll(deployment, "VERSION", version), "once.yaml": strings.ReplaceAll(once, "VERSION", version), "old.yaml": configMap("old", w.namespace)}
	}
	old := w.resource(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, w.namespace)
	if _, err := old.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "old"}, "data": map[string]any{"left": "over"}}},
		metav1.CreateOptions{FieldManager: "kubectl-client-side-apply"}); err != nil {
		t.Fatal(err)
	}
	g := w.apps("", files("v1"))
	w.kustomization("apps", "prune: true, path: ./, targetNamespace: NAMESPACE, ignore: [{paths: [/spec/replicas], target: {kind: Deployment}}]")
	w.ready("Kustomization/apps")
	if got := text(w.get("ConfigMap/old"), "data", "left"); got != "" {
		t.Errorf("what kubectl applied is still there: %q", got)
	}
	w.patch("Deployment/app", `{"spec": {"replicas": 1}}`)
	w.request("Kustomization/apps", "look")
	w.until("Kustomization/apps", "answered", func(o *unstructured.Unstructured) bool { return text(o, "status", "lastHandledReconcileAt") == "look" })
	if n, _, _ := unstructured.NestedInt64(w.get("Deployment/app").Object, "spec", "replicas"); n != 1 {
		t.Errorf("%d replicas: an ignored field was changed", n)
	}
	before := w.get("Deployment/app").GetUID()
	g.commit(t, "apps", "Another selector", files("v2"))
	w.request("GitRepository/apps", "v2")
	w.failed("Kustomization/apps", "ReconciliationFailed", "force: enabled")
	if w.get("Deployment/app").GetUID() != before {
		t.Error("it was recreated without permission")
	}
	w.kustomization("apps", "prune: true, path: ./, targetNamespace: NAMESPACE, force: true")
	w.until("Deployment/app", "recreated", func(o *unstructured.Unstructured) bool { return o != nil && o.GetUID() != before })
	w.ready("Kustomization/apps")
	if got := text(w.get("ConfigMap/once"), "data", "a"); got != "v1" {
		t.Errorf("what is only to be created was changed to %q", got)
	}
}

// TestHealthTimeout fails when an object does not become ready, and recovers.
func TestHealthTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  selector: {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {SELECTOR}, containers: [{name: main, image: main}]}}\n"
	g := w.apps("", map[string]string{"app.yaml": strings.Replace(deployment, "SELECTOR", "no: node", 1)})
	w.kustomization("apps", "prune: true, path: ./, targetNamespace: NAMESPACE, timeout: 3s, healthChecks: [{apiVersion: apps/v1, kind: Deployment, name: app, namespace: NAMESPACE}]")
	o := w.failed("Kustomization/apps", "HealthCheckFailed", "Deployment/"+w.namespace+"/app")
	if got := condition(o, "Healthy")["status"]; got != "False" {
		t.Errorf("Healthy is %s", got)
	}
	g.commit(t, "apps", "Mend it", map[string]string{"app.yaml": strings.Replace(deployment, "SELECTOR", "", 1)})
	w.request("GitRepository/apps", "mended")
	w.ready("Kustomization/apps")
}

// TestHealthExpressions waits by the expressions of the spec, and says which one
// is wrong.
func TestHealthExpressions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	group := w.namespace + ".example.com"
	w.apps("", map[string]string{
		"crd/crd.yaml":   "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things." + group + "}\nspec: {group: " + group + ", scope: Namespaced, names: {plural: things, kind: Thing}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}\n",
		"app/thing.yaml": "apiVersion: " + group + "/v1\nkind: Thing\nmetadata: {name: app, namespace: " + w.namespace + "}\nphase: Starting\n",
	})
	w.kustomization("crd", "prune: true, path: ./crd, wait: true")
	w.ready("Kustomization/crd")
	exprs := func(current string) string {
		return "prune: true, path: ./app, wait: true, timeout: 1m, healthCheckExprs: [{apiVersion: " + group + "/v1, kind: Thing, current: \"" + current + "\"}]"
	}
	w.kustomization("apps", exprs("phase =="))
	w.failed("Kustomization/apps", "InvalidCELExpression", "phase ==")
	w.kustomization("apps", exprs("phase == 'Started'"))
	w.until("Kustomization/apps", "waiting", func(o *unstructured.Unstructured) bool { return condition(o, "Healthy")["status"] == "Unknown" })
	things := w.resource(schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Thing"}, w.namespace)
	if _, err := things.Patch(t.Context(), "app", types.MergePatchType, []byte(`{"phase": "Started"}`), metav1.PatchOptions{FieldManager: "its-controller"}); err != nil {
		t.Fatal(err)
	}
	w.ready("Kustomization/apps")
}

// TestDeletionPolicy leaves behind what it should.
func TestDeletionPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	files := map[string]string{}
	cases := map[string]struct {
		fields string
		stays  bool
	}{
		"mirror": {"prune: true", false}, "kept": {"prune: false", true}, "orphan": {"prune: true, deletionPolicy: Orphan", true},
		"delete": {"prune: false, deletionPolicy: Delete", false}, "wait": {"prune: true, deletionPolicy: WaitForTermination", false}, "suspended": {"prune: true", true},
	}
	for name := range cases {
		files[name+"/a.yaml"] = configMap(name, w.namespace)
	}
	w.apps("", files)
	for name, c := range cases {
		w.kustomization(name, "path: ./"+name+", "+c.fields)
	}
	for name, c := range cases {
		w.ready("Kustomization/" + name)
		if name == "suspended" {
			w.patch("Kustomization/"+name, `{"spec": {"suspend": true}}`)
		}
		w.delete("Kustomization/" + name)
		w.until("Kustomization/"+name, "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
		if stays := w.get("ConfigMap/"+name) != nil; stays != c.stays {
			t.Errorf("%s: stays %v, want %v", name, stays, c.stays)
		}
	}
}

// TestWaitForTermination keeps a deleted Kustomization until its objects are gone.
func TestWaitForTermination(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(all(), w.options())
	w.apps("", map[string]string{"a.yaml": configMap("slow", w.namespace)})
	w.kustomization("apps", "prune: true, path: ./, deletionPolicy: WaitForTermination, timeout: 1m")
	w.ready("Kustomization/apps")
	w.patch("ConfigMap/slow", `{"metadata": {"finalizers": ["example.com/slow"]}}`)
	w.delete("Kustomization/apps")
	w.until("ConfigMap/slow", "on its way out", func(o *unstructured.Unstructured) bool { return o.GetDeletionTimestamp() != nil })
	for range 5 { // it would be gone within one of these
		w.request("GitRepository/apps", "look")
		if w.get("Kustomization/apps") == nil {
			t.Fatal("the Kustomization is gone before its object")
		}
		time.Sleep(200 * time.Millisecond)
	}
	w.patch("ConfigMap/slow", `{"metadata": {"finalizers": null}}`)
	w.until("Kustomization/apps", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
}

// TestKubeConfig applies to another cluster.
func TestKubeConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	remote := testenv.StartServer(t, nil)
	w.run(all(), w.options())
	kubeconfig, err := os.ReadFile(remote.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: remote}\ndata: {value: CONFIG}", "CONFIG", base64.StdEncoding.EncodeToString(kubeconfig))
	w.apps("", map[string]string{"a.yaml": configMap("a", remote.Namespace)})
	w.kustomization("apps", "prune: true, path: ./, kubeConfig: {secretRef: {name: remote}}")
	w.ready("Kustomization/apps")
	there := worldOf(t, remote)
	if there.get("ConfigMap/a") == nil {
		t.Error("it was not applied there")
	}
	w.delete("Kustomization/apps")
	there.until("ConfigMap/a", "deleted there", func(o *unstructured.Unstructured) bool { return o == nil })
}

// TestHelmPostRender changes what a chart renders.
func TestHelmPostRender(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := chartserver.New()
	pkg, err := chart.Build(t.Context(), os.DirFS(podinfoRepo(t)), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	repo.Add(pkg.Name, pkg.Version, pkg.Data)
	server := httptest.NewServer(repo)
	t.Cleanup(server.Close)
	w.run(all(), w.options())
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts}\nspec: {interval: 1h, url: URL/charts}", "URL", server.URL)
	w.apply(podinfoRelease("podinfo", `commonMetadata: {labels: {team: a}}, postRenderers: [{kustomize: {images: [{name: ghcr.io/stefanprodan/podinfo, newTag: patched}],
    patches: [{patch: "- {op: add, path: /spec/revisionHistoryLimit, value: 3}", target: {kind: Deployment}}]}}]`))
	w.ready("HelmRelease/podinfo")
	d := w.get("Deployment/podinfo")
	containers, _, _ := unstructured.NestedSlice(d.Object, "spec", "template", "spec", "containers")
	if image, _ := containers[0].(map[string]any)["image"].(string); !strings.HasSuffix(image, ":patched") {
		t.Errorf("image %s", image)
	}
	if n, _, _ := unstructured.NestedInt64(d.Object, "spec", "revisionHistoryLimit"); n != 3 || d.GetLabels()["team"] != "a" {
		t.Errorf("limit %d, labels %v", n, d.GetLabels())
	}
	revision := len(w.revisions("podinfo"))
	w.patch("HelmRelease/podinfo", `{"spec": {"commonMetadata": {"labels": {"team": "b"}}}}`)
	w.until("Deployment/podinfo", "changed by an upgrade", func(o *unstructured.Unstructured) bool { return o.GetLabels()["team"] == "b" })
	w.ready("HelmRelease/podinfo")
	w.request("HelmRelease/podinfo", "again")
	w.until("HelmRelease/podinfo", "answered", func(o *unstructured.Unstructured) bool { return text(o, "status", "lastHandledReconcileAt") == "again" })
	if n := len(w.revisions("podinfo")); n != revision+1 {
		t.Errorf("%d revisions, want %d: one for the change, none without", n, revision+1)
	}
}
