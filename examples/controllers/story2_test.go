package controllers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/internal/s3server"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

// signKey is a key pair as cosign makes them.
type signKey struct {
	private *ecdsa.PrivateKey
	public  string
}

func newKey(t *testing.T) signKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return signKey{k, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// sign puts a signature beside a manifest, as `cosign sign --key` does.
func (k signKey) sign(t *testing.T, reg *registry.Server, repo, digest string) {
	t.Helper()
	payload := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, repo, digest)
	sum := sha256.Sum256([]byte(payload))
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	at := reg.PutManifest(repo, &registry.Image{Layers: []registry.Layer{{
		MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte(payload),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)},
	}}})
	reg.Tag(repo, at, strings.Replace(digest, ":", "-", 1)+".sig")
}

// podinfoTree is the directory that the stories deploy, with a Secret for the
// owner of an age key.
func podinfoTree(t *testing.T, recipient string) string {
	t.Helper()
	dir := unzip(t, "../quickstart/testdata/podinfo.zip")
	kustomization, err := os.ReadFile("testdata/podinfo-kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(kustomization), "  - extra.yaml\n", "")
	if err := os.Mkdir(dir+"/base", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"kustomize/kustomization.yaml": text,
		"kustomize/settings.yaml":      "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  color: ${color:=blue}\n",
		"kustomize/login.yaml":         sealed(t, recipient, "apiVersion: v1\nkind: Secret\nmetadata:\n    name: login\nstringData:\n    password: correct horse\n"),
		"base/base.yaml":               "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: base\ndata:\n  note: first\n",
	} {
		if err := os.WriteFile(dir+"/"+name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const deploy = `
apiVersion: v1
kind: Secret
metadata:
  name: sops-age
stringData:
  main.agekey: AGEKEY
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: podinfo
spec:
  dependsOn: [{name: base}]
  decryption: {provider: sops, secretRef: {name: sops-age}}
  interval: 1h
  retryInterval: 1s
  timeout: 1m
  prune: true
  wait: true
  path: ./kustomize
  targetNamespace: NAMESPACE
  sourceRef: {kind: KIND, name: podinfo}
  postBuild: {substitute: {color: red}}
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
  targetNamespace: NAMESPACE
  sourceRef: {kind: KIND, name: podinfo}
`

// deployed checks what a source of any kind comes to.
func deployed(t *testing.T, w *world, color string) {
	t.Helper()
	if got := text(w.get("ConfigMap/settings"), "data", "color"); got != color {
		t.Errorf("color %q, want %q", got, color)
	}
	if got := text(w.get("Secret/login"), "data", "password"); got != base64.StdEncoding.EncodeToString([]byte("correct horse")) {
		t.Errorf("the secret is %q", got)
	}
	if got := text(w.get("ConfigMap/base"), "data", "note"); got != "first" {
		t.Errorf("what the deployment depends on says %q", got)
	}
}

// TestStoryOCI deploys from a registry that wants credentials, what is signed
// and nothing else.
func TestStoryOCI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reg := registry.New()
	reg.Username, reg.Password = "robot", "pa55word"
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	key, other := newKey(t), newKey(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	push := func(tag, note string) string {
		t.Helper()
		tree := os.DirFS(podinfoTree(t, id.Recipient().String()))
		view, err := source.Ignore(t.Context(), tree, "")
		if err != nil {
			t.Fatal(err)
		}
		d, err := oci.Push(t.Context(), "oci://"+host+"/podinfo:"+tag, view, &oci.PushOptions{
			Source: "https://github.com/stefanprodan/podinfo", Revision: "main@sha1:b3396adb98a6a0f5eeedd1a600beaf5e954a1f28",
			Annotations: map[string]string{"note": note}, Client: oci.Client{Insecure: true, Keychain: login{"robot", "pa55word"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	first := push("latest", "first")
	key.sign(t, reg, "podinfo", first)
	w.run(all(), w.options())
	auth, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": "robot", "password": "pa55word"}}})
	if err != nil {
		t.Fatal(err)
	}
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: registry}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: AUTH}", "AUTH", base64.StdEncoding.EncodeToString(auth))
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: cosign}\ndata: {cosign.pub: KEY}", "KEY", base64.StdEncoding.EncodeToString([]byte(key.public)))
	w.apply(`
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata:
  name: podinfo
spec:
  interval: 1h
  insecure: true
  url: oci://HOST/podinfo
  ref: {tag: latest}
  secretRef: {name: registry}
  verify: {provider: cosign, secretRef: {name: cosign}}
`, "HOST", host)
	w.apply(deploy, "KIND", "OCIRepository", "AGEKEY", id.String())
	o := w.ready("OCIRepository/podinfo")
	if got := text(o, "status", "artifact", "revision"); got != "latest@"+first {
		t.Errorf("revision %s, want latest@%s", got, first)
	}
	if got := condition(o, "SourceVerified"); got["status"] != "True" {
		t.Errorf("SourceVerified %v", got)
	}
	metadata, _, _ := unstructured.NestedStringMap(o.Object, "status", "artifact", "metadata")
	if metadata["org.opencontainers.image.revision"] != "main@sha1:b3396adb98a6a0f5eeedd1a600beaf5e954a1f28" {
		t.Errorf("metadata %v", metadata)
	}
	w.readyAt("Kustomization/podinfo", first)
	deployed(t, w, "red")

	unsigned := push("latest", "second")
	w.request("OCIRepository/podinfo", "unsigned")
	w.failed("OCIRepository/podinfo", "VerificationError", "")
	other.sign(t, reg, "podinfo", unsigned)
	w.request("OCIRepository/podinfo", "signed by another key")
	w.until("OCIRepository/podinfo", "refused again", func(o *unstructured.Unstructured) bool {
		return text(o, "status", "lastHandledReconcileAt") == "signed by another key" && condition(o, "SourceVerified")["status"] == "False"
	})
	if got := text(w.get("OCIRepository/podinfo"), "status", "artifact", "revision"); got != "latest@"+first {
		t.Errorf("what is not verified was published: %s", got)
	}
	key.sign(t, reg, "podinfo", unsigned)
	w.readyAt("OCIRepository/podinfo", unsigned) // by its own retry
	w.readyAt("Kustomization/podinfo", unsigned)
}

// TestStoryBucket deploys from an S3 bucket, decryption included.
func TestStoryBucket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s3 := s3server.New("access", "pa55word")
	server := httptest.NewServer(s3)
	t.Cleanup(server.Close)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, data string) {
		t.Helper()
		if err := s3.Put("podinfo", name, data); err != nil {
			t.Fatal(err)
		}
	}
	tree := os.DirFS(podinfoTree(t, id.Recipient().String()))
	for _, dir := range []string{"base", "kustomize"} {
		names, err := fs.Glob(tree, dir+"/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := fs.ReadFile(tree, name)
			if err != nil {
				t.Fatal(err)
			}
			put(name, string(data))
		}
	}
	put("kustomize/login.env", "unused")
	w.run(all(), w.options())
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\nstringData: {accesskey: access, secretkey: wrong}")
	w.apply(`
apiVersion: source.toolkit.fluxcd.io/v1
kind: Bucket
metadata:
  name: podinfo
spec:
  interval: 1h
  insecure: true
  region: us-east-1
  endpoint: HOST
  bucketName: podinfo
  ignore: "*.env"
  secretRef: {name: s3}
`, "HOST", strings.TrimPrefix(server.URL, "http://"))
	o := w.failed("Bucket/podinfo", "AuthenticationFailed", "")
	if message := condition(o, "Ready")["message"]; strings.Contains(message, "wrong") {
		t.Errorf("the message has the key: %s", message)
	}
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: s3}\nstringData: {accesskey: access, secretkey: pa55word}")
	w.ready("Bucket/podinfo") // by its own retry
	w.apply(deploy, "KIND", "Bucket", "AGEKEY", id.String())
	w.ready("Kustomization/podinfo")
	deployed(t, w, "red")

	put("kustomize/settings.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  color: from the bucket\n")
	w.request("Bucket/podinfo", "changed")
	w.until("ConfigMap/settings", "rolled out", func(o *unstructured.Unstructured) bool { return text(o, "data", "color") == "from the bucket" })
	w.delete("Kustomization/podinfo")
	w.until("ConfigMap/settings", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	w.until("Secret/login", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
}
