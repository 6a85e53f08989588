package cosign_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
	"github.com/gitopskit/gitopskit/source/verify/cosign"
)

func TestMain(m *testing.M) {
	// Not ours: the peer's logging library starts it when it is loaded.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// signer signs with a library that is not ours.
type signer struct {
	signature.Signer
	public crypto.PublicKey
	pem    []byte
}

func newSigner(t testing.TB, private crypto.Signer) signer {
	t.Helper()
	s, err := signature.LoadSigner(private, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{s, private.Public(), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func signers(t testing.TB) map[string]signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]signer{
		"ecdsa p256": newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))),
		"ecdsa p384": newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))),
		"rsa 2048":   newSigner(t, must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))),
		"ed25519":    newSigner(t, ed),
	}
}

func (s signer) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	return must[[]byte](t)(s.SignMessage(bytes.NewReader(message)))
}

// payload is what cosign signs in its classic form.
func payload(digest string) string {
	return fmt.Sprintf(`{"critical":{"identity":{"docker-reference":"example.com/org/app"},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}`, digest)
}

// attach stores a signature of the classic form.
func attach(srv *registry.Server, digest string, signatures ...registry.Layer) {
	d := srv.PutManifest("org/app", &registry.Image{ConfigType: "application/vnd.oci.image.config.v1+json", Layers: signatures})
	srv.Tag("org/app", d, strings.Replace(digest, ":", "-", 1)+".sig")
}

func classic(payload string, signature []byte) registry.Layer {
	return registry.Layer{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Data: []byte(payload), Annotations: map[string]string{
		"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature),
	}}
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// statement is what cosign signs in a bundle.
func statement(digest, predicate string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"%s"}}],"predicateType":"%s","predicate":{}}`, strings.TrimPrefix(digest, "sha256:"), predicate)
}

const signPredicate = "https://sigstore.dev/cosign/sign/v1"

func newBundle(t testing.TB, s signer, statement string) []byte {
	t.Helper()
	const payloadType = "application/vnd.in-toto+json"
	signed := s.sign(t, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(statement), statement))
	return must[[]byte](t)(json.Marshal(map[string]any{
		"mediaType":            bundleType,
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "key"}},
		"dsseEnvelope": map[string]any{
			"payload": []byte(statement), "payloadType": payloadType, "signatures": []any{map[string]any{"sig": signed}},
		},
	}))
}

// refer stores a bundle that refers to a manifest, as cosign does.
func refer(srv *registry.Server, digest string, bundle []byte) {
	srv.PutManifest("org/app", &registry.Image{
		ArtifactType: bundleType, Subject: digest, ConfigType: "application/vnd.oci.empty.v1+json",
		Layers: []registry.Layer{{MediaType: bundleType, Data: bundle}},
	})
}

// start returns a registry with one image.
func start(t testing.TB, srv *registry.Server) (digest, url string) {
	t.Helper()
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	digest = srv.PutImage("org/app", nil, registry.Layer{MediaType: oci.ContentMediaType, Data: []byte("content")})
	srv.Tag("org/app", digest, "latest")
	return digest, "oci://" + web.Listener.Addr().String() + "/org/app"
}

func check(t testing.TB, url, digest string, keys ...signer) ([]source.Evidence, error) {
	t.Helper()
	var pems [][]byte
	for _, k := range keys {
		pems = append(pems, k.pem)
	}
	repo, err := oci.New(url, &oci.Options{Verifier: must[*cosign.Keys](t)(cosign.NewKeys(pems...)), Client: oci.Client{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	rev, err := source.ParseRevision(digest)
	if err != nil {
		t.Fatal(err)
	}
	return repo.Verify(t.Context(), rev)
}

// Every key, in both forms, and with both kinds of registries.
func TestVerify(t *testing.T) {
	other := newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	for name, s := range signers(t) {
		for _, form := range []string{"classic", "bundle", "bundle by tag"} {
			t.Run(name+" "+form, func(t *testing.T) {
				srv := registry.New()
				if form == "bundle by tag" {
					srv = registry.NewWithoutReferrers()
				}
				digest, url := start(t, srv)
				if _, err := check(t, url, digest, s); !errors.Is(err, source.ErrUnverified) || !strings.Contains(err.Error(), "not signed") {
					t.Errorf("unsigned: %v", err)
				}
				b := newBundle(t, s, statement(digest, signPredicate))
				switch form {
				case "classic":
					attach(srv, digest, classic(payload(digest), s.sign(t, []byte(payload(digest)))))
				case "bundle":
					refer(srv, digest, b)
				case "bundle by tag":
					tagReferrer(srv, digest, b)
				}
				evidence, err := check(t, url, digest, other, s)
				if err != nil || len(evidence) != 1 || evidence[0].Kind != "cosign" || evidence[0].Object != "manifest" || !strings.HasPrefix(evidence[0].Signer, "sha256:") {
					t.Errorf("%v, %v", evidence, err)
				}
				if _, err := check(t, url, digest, other); !errors.Is(err, source.ErrUnverified) || !strings.Contains(err.Error(), "none of the keys") {
					t.Errorf("another key: %v", err)
				}
			})
		}
	}
}

// tagReferrer does what clients do where there is no referrers API.
func tagReferrer(srv *registry.Server, digest string, bundle []byte) {
	image := &registry.Image{ArtifactType: bundleType, Subject: digest, Layers: []registry.Layer{{MediaType: bundleType, Data: bundle}}}
	d := srv.PutManifest("org/app", image)
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,"artifactType":"%s"}]}`, d, len(srv.Manifest("org/app", d)), bundleType)
	srv.PutRaw("org/app", strings.Replace(digest, ":", "-", 1), "application/vnd.oci.image.index.v1+json", []byte(index))
}

// A bundle counts here if it counts for sigstore's own verifier.
func TestBundleAsPeer(t *testing.T) {
	for name, s := range signers(t) {
		digest, _ := start(t, registry.New()) // the image is always the same
		good := newBundle(t, s, statement(digest, signPredicate))
		for form, data := range map[string][]byte{
			"good":            good,
			"flipped payload": bytes.Replace(good, []byte("payload\":\"ey"), []byte("payload\":\"ez"), 1),
			"another digest":  newBundle(t, s, statement(registry.Digest(nil), signPredicate)),
		} {
			if name == "ecdsa p384" && form == "good" {
				continue // the peer wants SHA-384 there, and cosign's classic form SHA-256: we take both
			}
			srv := registry.New()
			_, url := start(t, srv)
			refer(srv, digest, data)
			_, ours := check(t, url, digest, s)
			theirs := peer(t, data, digest, s)
			if (ours == nil) != (theirs == nil) {
				t.Errorf("%s, %s: we say %v, the peer %v", name, form, ours, theirs)
			}
			if form == "good" && ours != nil {
				t.Errorf("%s: %v", name, ours)
			}
		}
	}
}

func peer(t testing.TB, data []byte, digest string, s signer) error {
	t.Helper()
	var b bundle.Bundle
	if err := b.UnmarshalJSON(data); err != nil {
		return err
	}
	verifier := must[signature.Verifier](t)(signature.LoadVerifier(s.public, crypto.SHA256))
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(verifier, time.Time{}, time.Time{}), nil
	})
	v := must[*verify.Verifier](t)(verify.NewVerifier(material, verify.WithNoObserverTimestamps()))
	raw := must[[]byte](t)(hex.DecodeString(strings.TrimPrefix(digest, "sha256:")))
	_, err := v.Verify(&b, verify.NewPolicy(verify.WithArtifactDigest("sha256", raw), verify.WithKey()))
	return err
}

func TestRefuses(t *testing.T) {
	s := newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	other := registry.Digest([]byte("other"))
	signed := func(p string) registry.Layer { return classic(p, s.sign(t, []byte(p))) }
	for _, test := range []struct {
		name string
		put  func(srv *registry.Server, digest string)
		want string
	}{
		{"signature of another image", func(srv *registry.Server, d string) { attach(srv, d, signed(payload(other))) }, "another manifest"},
		{"payload of another type", func(srv *registry.Server, d string) {
			attach(srv, d, signed(strings.Replace(payload(d), "container image", "something", 1)))
		}, "not a signature of an image"},
		{"payload that is no JSON", func(srv *registry.Server, d string) { attach(srv, d, signed("{")) }, "malformed"},
		{"payload changed", func(srv *registry.Server, d string) {
			attach(srv, d, classic(payload(d), s.sign(t, []byte(payload(other)))))
		}, "none of the keys"},
		{"no signature", func(srv *registry.Server, d string) { attach(srv, d, classic(payload(d), nil)) }, "no signature"},
		{"attestation", func(srv *registry.Server, d string) {
			refer(srv, d, newBundle(t, s, statement(d, "https://slsa.dev/provenance/v1")))
		}, "attestation"},
		{"statement of another image", func(srv *registry.Server, d string) {
			refer(srv, d, newBundle(t, s, statement(other, signPredicate)))
		}, "other manifests"},
		{"statement without subject", func(srv *registry.Server, d string) {
			refer(srv, d, newBundle(t, s, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"`+signPredicate+`"}`))
		}, "other manifests"},
		{"bundle of an identity", func(srv *registry.Server, d string) {
			refer(srv, d, bytes.Replace(newBundle(t, s, statement(d, signPredicate)), []byte(`"publicKey":{"hint":"key"}`), []byte(`"certificate":{"rawBytes":"AAAA"}`), 1))
		}, "keyless"},
		{"older bundle", func(srv *registry.Server, d string) {
			refer(srv, d, bytes.Replace(newBundle(t, s, statement(d, signPredicate)), []byte("v0.3"), []byte("v0.1"), 1))
		}, "not supported"},
		{"bundle of a message", func(srv *registry.Server, d string) { refer(srv, d, []byte(`{"mediaType":"`+bundleType+`"}`)) }, "no signed statement"},
		{"two signatures", func(srv *registry.Server, d string) {
			b := newBundle(t, s, statement(d, signPredicate))
			refer(srv, d, bytes.Replace(b, []byte(`"signatures":[`), []byte(`"signatures":[{"sig":"AA=="},`), 1))
		}, "2 signatures"},
		{"statement of another type", func(srv *registry.Server, d string) {
			refer(srv, d, newBundle(t, s, strings.Replace(statement(d, signPredicate), "Statement/v1", "Link/v1", 1)))
		}, "not supported"},
		{"payload type of another format", func(srv *registry.Server, d string) {
			refer(srv, d, bytes.Replace(newBundle(t, s, statement(d, signPredicate)), []byte("vnd.in-toto+json"), []byte("vnd.other+json"), 1))
		}, "not supported"},
		{"bundle that is none", func(srv *registry.Server, d string) { refer(srv, d, []byte("[")) }, "malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := registry.New()
			digest, url := start(t, srv)
			test.put(srv, digest)
			evidence, err := check(t, url, digest, s)
			if !errors.Is(err, source.ErrUnverified) || !strings.Contains(err.Error(), test.want) || len(evidence) > 0 {
				t.Errorf("%v, %v", evidence, err)
			}
		})
	}
}

// Bad signatures beside a good one do no harm, but for so many that trying
// them is an attack.
func TestManySignatures(t *testing.T) {
	s := newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	srv := registry.New()
	digest, url := start(t, srv)
	bad, good := classic(payload(digest), []byte("bad")), classic(payload(digest), s.sign(t, []byte(payload(digest))))
	attach(srv, digest, bad, bad, good)
	if _, err := check(t, url, digest, s); err != nil {
		t.Error(err)
	}
	var many []registry.Layer
	for range 101 {
		many = append(many, bad)
	}
	attach(srv, digest, many...)
	if _, err := check(t, url, digest, s); !errors.Is(err, source.ErrLimit) {
		t.Errorf("101 signatures: %v", err)
	}
	attach(srv, digest)
	for i := range 101 {
		refer(srv, digest, fmt.Appendf(nil, "%d", i))
	}
	if _, err := check(t, url, digest, s); !errors.Is(err, source.ErrLimit) {
		t.Errorf("101 bundles: %v", err)
	}
	attach(srv, digest, registry.Layer{MediaType: good.MediaType, Data: make([]byte, 2<<20), Annotations: good.Annotations})
	if _, err := check(t, url, digest, s); !errors.Is(err, source.ErrLimit) {
		t.Errorf("a payload of 2 MiB: %v", err)
	}
}

// A registry that fails is not one without signatures.
func TestRegistryFails(t *testing.T) {
	s := newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	srv := registry.New()
	digest, url := start(t, srv)
	for _, path := range []string{".sig", "/referrers/"} {
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if strings.Contains(r.Path, path) {
				return &registry.Fault{Status: 503}
			}
			return nil
		})
		if _, err := check(t, url, digest, s); !errors.Is(err, source.ErrUnavailable) || errors.Is(err, source.ErrUnverified) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNewKeys(t *testing.T) {
	p256 := newSigner(t, must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	if _, err := cosign.NewKeys(p256.pem, append(append([]byte{}, p256.pem...), p256.pem...)); err != nil {
		t.Error(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, data []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}) }
	p224 := newP224(t)
	for _, test := range []struct {
		pems [][]byte
		want string
	}{
		{nil, "keyless"},
		{[][]byte{nil}, "no public key"},
		{[][]byte{p256.pem, []byte("text")}, "key 2: no public key"},
		{[][]byte{block("CERTIFICATE", []byte("x"))}, "keyless"},
		{[][]byte{block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("secret-key"))}, "private key"},
		{[][]byte{block("PUBLIC KEY", []byte("x"))}, "malformed"},
		{[][]byte{block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&short.PublicKey))}, "1024 bits"},
		{[][]byte{block("PUBLIC KEY", p224)}, "P-224"},
		{[][]byte{block("DH PARAMETERS", nil)}, "no public key"},
	} {
		_, err := cosign.NewKeys(test.pems...)
		if !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret-key") {
			t.Errorf("want %q: %v", test.want, err)
		}
	}
}

func newP224(t testing.TB) []byte {
	t.Helper()
	k := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	return must[[]byte](t)(x509.MarshalPKIXPublicKey(&k.PublicKey))
}

// Whatever a registry holds beside an image, it does not count.
func FuzzSignature(f *testing.F) {
	s := newSigner(f, must[*ecdsa.PrivateKey](f)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
	srv := registry.New()
	digest, url := start(f, srv)
	f.Add([]byte(payload(digest)), []byte("sig"))
	f.Add([]byte(`{"mediaType":"`+bundleType+`","dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AA=="}]}}`), []byte{})
	f.Fuzz(func(t *testing.T, data, sig []byte) {
		attach(srv, digest, classic(string(data), sig))
		refer(srv, digest, data)
		if _, err := check(t, url, digest, s); err == nil {
			t.Fatal("a signature by nobody counts")
		}
	})
}

func ExampleNewKeys() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	keys, err := cosign.NewKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := registry.New()
	web := httptest.NewServer(srv)
	defer web.Close()
	srv.Tag("org/app", srv.PutImage("org/app", nil, registry.Layer{MediaType: oci.ContentMediaType}), "latest")
	repo, err := oci.New(web.Listener.Addr().String()+"/org/app", &oci.Options{Verifier: keys, Client: oci.Client{Insecure: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	rev, err := repo.Resolve(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = repo.Fetch(context.Background(), rev)
	fmt.Println(errors.Is(err, source.ErrUnverified)) // nobody has signed it
	// Output: true
}
