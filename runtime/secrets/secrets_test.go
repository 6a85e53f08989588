package secrets_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/runtime/secrets"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair makes a certificate and its key.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// mutual serves only those who show a certificate of the authority.
func mutual(t *testing.T, authority []byte) (url string, ca []byte) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func TestTLS(t *testing.T) {
	cert, key := pair(t)
	_, otherKey := pair(t)
	for name, c := range map[string]struct {
		data          map[string][]byte
		roots, client bool
		want          error
		entry         string
	}{
		"none":         {data: map[string][]byte{"other": cert}},
		"authority":    {data: map[string][]byte{"ca.crt": cert}, roots: true},
		"older names":  {data: map[string][]byte{"caFile": cert, "certFile": cert, "keyFile": key}, roots: true, client: true},
		"client":       {data: map[string][]byte{"tls.crt": cert, "tls.key": key}, client: true},
		"new wins":     {data: map[string][]byte{"ca.crt": cert, "caFile": []byte("old")}, roots: true},
		"no key":       {data: map[string][]byte{"tls.crt": cert}, want: secrets.ErrMissing, entry: "tls.key"},
		"no cert":      {data: map[string][]byte{"tls.key": key}, want: secrets.ErrMissing, entry: "tls.crt"},
		"other key":    {data: map[string][]byte{"tls.crt": cert, "tls.key": otherKey}, want: secrets.ErrInvalid, entry: "tls.crt and tls.key"},
		"no authority": {data: map[string][]byte{"ca.crt": []byte("canary")}, want: secrets.ErrInvalid, entry: "ca.crt"},
	} {
		config, err := secrets.TLS(c.data)
		if c.want != nil {
			check(t, name, err, c.want, c.entry)
			continue
		}
		if err != nil || (config == nil) != (!c.roots && !c.client) || config != nil && ((config.RootCAs != nil) != c.roots || (len(config.Certificates) == 1) != c.client) {
			t.Errorf("%s: %+v, %v", name, config, err)
		}
	}
}

func check(t *testing.T, name string, err, want error, entry string) {
	t.Helper()
	var of *secrets.Error
	if !errors.Is(err, want) || !errors.As(err, &of) || of.Entry != entry || strings.Contains(err.Error(), "canary") {
		t.Errorf("%s: %v; want %v of %s, without the content", name, err, want, entry)
	}
}

func TestEntries(t *testing.T) {
	data := map[string][]byte{
		"username": []byte("u"), "password": []byte("p"), "bearerToken": []byte("t"), "identity": []byte("i"), "known_hosts": []byte("k"),
		"accesskey": []byte("a"), "secretkey": []byte("s"),
	}
	if u, p, err := secrets.BasicAuth(data); u != "u" || p != "p" || err != nil {
		t.Error(u, p, err)
	}
	if b, err := secrets.Bearer(data); b != "t" || err != nil {
		t.Error(b, err)
	}
	if k, err := secrets.SSH(data); err != nil || string(k.Identity) != "i" || k.Passphrase != "p" || string(k.KnownHosts) != "k" {
		t.Error(k, err)
	}
	if id, s, session, err := secrets.AccessKey(data); id != "a" || s != "s" || session != "" || err != nil {
		t.Error(id, s, session, err)
	}
	for _, missing := range []string{"username", "password", "bearerToken", "identity", "known_hosts", "accesskey", "secretkey"} {
		less := map[string][]byte{}
		for k, v := range data {
			less[k] = v
		}
		less[missing] = nil
		var err error
		switch missing {
		case "username":
			_, _, err = secrets.BasicAuth(less)
		case "password":
			_, _, err = secrets.BasicAuth(less)
		case "bearerToken":
			_, err = secrets.Bearer(less)
		case "identity", "known_hosts":
			_, err = secrets.SSH(less)
		default:
			_, _, _, err = secrets.AccessKey(less)
		}
		check(t, missing, err, secrets.ErrMissing, missing)
	}
}

func TestKeychain(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("u4:p:4"))
	k, err := secrets.Keychain(map[string][]byte{".dockerconfigjson": []byte(`{"auths": {
		"https://index.docker.io/v1/": {"username": "u1", "password": "p1"},
		"registry.example.org": {"username": "u2", "password": "p2"},
		"registry.example.org/team": {"username": "u3", "password": "p3"},
		"*.wild.example.org": {"auth": "` + auth + `"},
		"token.example.org": {"identitytoken": "it"}
	}, "credsStore": "program"}`)})
	if err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[string]authn.AuthConfig{
		"library/redis":                     {Username: "u1", Password: "p1"},
		"registry.example.org/app":          {Username: "u2", Password: "p2"},
		"registry.example.org/team/app":     {Username: "u3", Password: "p3"},
		"registry.example.org/teams/app":    {Username: "u2", Password: "p2"},
		"a.wild.example.org/app":            {Username: "u4", Password: "p:4"},
		"a.b.wild.example.org/app":          {Username: "u4", Password: "p:4"},
		"wild.example.org/app":              {},
		"notregistry.example.org/app":       {},
		"registry.example.org.evil.com/app": {},
		"token.example.org/app":             {IdentityToken: "it"},
	} {
		r, err := name.NewRepository(repo)
		if err != nil {
			t.Fatal(err)
		}
		a, err := k.Resolve(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.Authorization()
		got.Auth = "" // the same once more, encoded
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v; want %+v", repo, *got, err, want)
		}
	}
	for text, want := range map[string]error{
		"": secrets.ErrMissing, "canary": secrets.ErrInvalid, `{"auths": {"a": {"auth": "canary"}}}`: secrets.ErrInvalid, `{"auths": {"a": {"auth": "Y2FuYXJ5"}}}`: secrets.ErrInvalid,
	} {
		_, err := secrets.Keychain(map[string][]byte{".dockerconfigjson": []byte(text)})
		check(t, text, err, want, ".dockerconfigjson")
	}
}

func FuzzKeychain(f *testing.F) {
	f.Add([]byte(`{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}}}`), "library/redis")
	f.Fuzz(func(t *testing.T, data []byte, repo string) {
		k, err := secrets.Keychain(map[string][]byte{".dockerconfigjson": data})
		if err != nil {
			return
		}
		if r, err := name.NewRepository(repo); err == nil {
			if _, err := k.Resolve(r); err != nil {
				t.Error(err)
			}
		}
	})
}

func Example() {
	data := map[string][]byte{"username": []byte("robot"), "password": []byte("…")}
	user, _, err := secrets.BasicAuth(data)
	fmt.Println(user, err)
	_, err = secrets.SSH(data)
	fmt.Println(err)
	// Output:
	// robot <nil>
	// secret: entry identity: missing
}
