package controllers_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/stores/yaml"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/internal/gitserver"
)

// all is the program with every kind.
func all() app.Program { return app.Programs()["all"] }

// sealed encrypts the data of a Secret for an age key, as sops does.
func sealed(t *testing.T, recipient, manifest string) string {
	t.Helper()
	store := yaml.NewStore(&config.NewStoresConfig().YAML)
	branches, err := store.LoadPlainFile([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	master, err := sopsage.MasterKeyFromRecipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	tree := library.Tree{Branches: branches, Metadata: library.Metadata{
		KeyGroups: []library.KeyGroup{{master}}, Version: "3.13.3", LastModified: time.Now().UTC(), EncryptedRegex: "^(data|stringData)$",
	}}
	key, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewLocalClient()})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(key, cipher)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, key, tree.Metadata.LastModified.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// podinfo puts the repository of podinfo on a server, with what the story adds:
// a Secret that is encrypted, and a ConfigMap with variables.
func podinfo(t *testing.T, g *gitServer, recipient string) {
	t.Helper()
	if _, err := g.ImportDir("podinfo", "main", "Import podinfo", unzip(t, "../quickstart/testdata/podinfo.zip")); err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile("testdata/podinfo-kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g.commit(t, "podinfo", "Add settings and a secret", map[string]string{
		"kustomize/kustomization.yaml": string(base),
		"kustomize/settings.yaml":      "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  region: ${region}\n  color: ${color:=blue}\n  tier: ${tier}\n",
		"kustomize/extra.yaml":         "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: extra\ndata:\n  kept: \"no\"\n",
		"kustomize/login.yaml":         sealed(t, recipient, "apiVersion: v1\nkind: Secret\nmetadata:\n    name: login\nstringData:\n    password: correct horse\n"),
		"base/namespaced.yaml":         "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: base\n  namespace: ${ns}\ndata:\n  a: b\n",
	})
}

const kustomizations = `
apiVersion: v1
kind: ConfigMap
metadata:
  name: vars
data:
  region: eu
  tier: from the map
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: base
spec:
  interval: 1h
  retryInterval: 1s
  prune: true
  path: ./base
  sourceRef: {kind: GitRepository, name: podinfo}
  postBuild: {substitute: {ns: NAMESPACE}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: podinfo
spec:
  interval: 1h
  retryInterval: 1s
  timeout: 1m
  prune: true
  path: ./kustomize
  targetNamespace: NAMESPACE
  dependsOn: [{name: base}]
  sourceRef: {kind: GitRepository, name: podinfo}
  decryption: {provider: sops, secretRef: {name: sops-age}}
  postBuild:
    substitute: {tier: inline}
    substituteFrom: [{kind: ConfigMap, name: vars}, {kind: Secret, name: more, optional: true}]
  healthChecks: [{apiVersion: apps/v1, kind: Deployment, name: podinfo, namespace: NAMESPACE}]
`

// TestStoryGit is podinfo from a Git repository to a deployment that is ready,
// over HTTP with basic auth and over ssh, and what happens to it then.
func TestStoryGit(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"http", "ssh"} {
		t.Run(transport, func(t *testing.T) {
			w, g := newWorld(t), newGit(t)
			id, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			podinfo(t, g, id.Recipient().String())
			w.run(all(), w.options())
			w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: sops-age}\nstringData: {main.agekey: KEY}", "KEY", id.String())
			if transport == "ssh" {
				w.repositoryOverSSH(g)
			} else {
				w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: git}\nstringData: {username: robot, password: pa55word}")
				w.apply(repository, "URL", g.url+"/podinfo")
			}
			w.apply(kustomizations)
			w.gitStory(g)
		})
	}
}

const repository = `
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: podinfo
spec:
  interval: 1h
  url: URL
  ref: {branch: main}
  secretRef: {name: git}
`

func (w *world) repositoryOverSSH(g *gitServer) {
	w.t.Helper()
	_, hostKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		w.t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	authorized, err := ssh.NewPublicKey(public)
	if err != nil {
		w.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		w.t.Fatal(err)
	}
	server, err := g.ServeSSH(gitserver.SSHOptions{HostKeys: []ssh.Signer{host}, Authorized: []ssh.PublicKey{authorized}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { server.Close() }) //nolint:errcheck // the test is over
	encode := base64.StdEncoding.EncodeToString
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: git}\ndata: {identity: IDENTITY, known_hosts: HOSTS}",
		"IDENTITY", encode(pem.EncodeToMemory(block)), "HOSTS", encode([]byte(knownhosts.Line([]string{server.Addr}, host.PublicKey()))))
	w.apply(repository, "URL", "ssh://git@"+server.Addr+"/podinfo")
}

// gitStory is what follows from the objects.
func (w *world) gitStory(g *gitServer) {
	t := w.t
	w.ready("GitRepository/podinfo")
	w.ready("Kustomization/base")
	k := w.ready("Kustomization/podinfo")
	if got := condition(k, "Healthy")["status"]; got != "True" {
		t.Errorf("Healthy is %q", got)
	}
	settings := w.get("ConfigMap/settings")
	for key, want := range map[string]string{"region": "eu", "color": "blue", "tier": "inline"} {
		if got := text(settings, "data", key); got != want {
			t.Errorf("variable %s is %q, want %q", key, got, want)
		}
	}
	if got, err := base64.StdEncoding.DecodeString(text(w.get("Secret/login"), "data", "password")); string(got) != "correct horse" {
		t.Errorf("the secret is %q: %v", got, err)
	}
	if w.get("ConfigMap/base") == nil || w.get("Deployment/podinfo") == nil {
		t.Error("objects are missing")
	}

	commit := g.commit(t, "podinfo", "Change the color", map[string]string{"kustomize/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  color: red\n"})
	w.request("GitRepository/podinfo", "one")
	w.readyAt("Kustomization/podinfo", "main@sha1:"+commit)
	if got := w.get("ConfigMap/settings"); text(got, "data", "color") != "red" || text(got, "data", "region") != "" {
		t.Errorf("the commit was not rolled out: %v", got.Object["data"])
	}

	w.patch("ConfigMap/settings", `{"data": {"color": "green"}}`)
	w.request("Kustomization/podinfo", "two")
	w.until("ConfigMap/settings", "corrected", func(o *unstructured.Unstructured) bool { return text(o, "data", "color") == "red" })

	kustomization, err := os.ReadFile("testdata/podinfo-kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commit = g.commit(t, "podinfo", "Remove extra", map[string]string{"kustomize/kustomization.yaml": strings.Replace(string(kustomization), "  - extra.yaml\n", "", 1)})
	w.request("GitRepository/podinfo", "three")
	w.readyAt("Kustomization/podinfo", commit)
	w.until("ConfigMap/extra", "pruned", func(o *unstructured.Unstructured) bool { return o == nil })

	w.patch("Kustomization/podinfo", `{"spec": {"suspend": true}}`)
	suspended := w.get("Kustomization/podinfo")
	commit = g.commit(t, "podinfo", "While suspended", map[string]string{"kustomize/settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  color: white\n"})
	w.request("GitRepository/podinfo", "four")
	w.readyAt("Kustomization/base", commit)
	if now := w.get("Kustomization/podinfo"); now.GetResourceVersion() != suspended.GetResourceVersion() {
		t.Error("a suspended object was reconciled")
	}
	w.patch("Kustomization/podinfo", `{"spec": {"suspend": false}}`)
	w.readyAt("Kustomization/podinfo", commit)
	if got := text(w.get("ConfigMap/settings"), "data", "color"); got != "white" {
		t.Errorf("after the suspension the color is %q", got)
	}

	w.delete("Kustomization/podinfo")
	for _, ref := range []string{"Kustomization/podinfo", "ConfigMap/settings", "Deployment/podinfo", "Secret/login"} {
		w.until(ref, "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	}
	if w.get("ConfigMap/base") == nil || w.get("ConfigMap/vars") == nil {
		t.Error("what is of others was deleted")
	}
	w.delete("GitRepository/podinfo")
	w.until("GitRepository/podinfo", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
}

// request asks for a pass, as `flux reconcile` does.
func (w *world) request(ref, token string) {
	w.t.Helper()
	w.patch(ref, fmt.Sprintf(`{"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": %q}}}`, token))
}
