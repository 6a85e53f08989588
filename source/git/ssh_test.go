package git_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

// newKey makes a key and its private form as ssh-keygen writes it.
func newKey(t testing.TB, kind, passphrase string) (ssh.Signer, []byte) {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// sshFixture is a server with one repository and a client that may log in.
type sshFixture struct {
	git    *gitserver.Server
	addr   string
	url    string
	head   string
	client []byte
}

func newSSH(t testing.TB, opts gitserver.SSHOptions) *sshFixture {
	t.Helper()
	f := &sshFixture{}
	f.git, _ = newServer(t)
	f.head = fill(t, f.git)
	signer, private := newKey(t, "ed25519", "")
	f.client = private
	opts.Authorized = append(opts.Authorized, signer.PublicKey())
	srv, err := f.git.ServeSSH(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	f.addr, f.url = srv.Addr, "ssh://git@"+srv.Addr+"/app.git"
	return f
}

func (f *sshFixture) options(known ...string) *git.Options {
	return &git.Options{Auth: git.SSH{PrivateKey: f.client, KnownHosts: []byte(strings.Join(known, "\n") + "\n")}}
}

func line(addr string, key ssh.PublicKey) string {
	return knownhosts.Normalize(addr) + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func TestSSHContent(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	for name, ignoreEnv := range map[string]bool{"v2": false, "v0": true} {
		f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}, IgnoreEnv: ignoreEnv, User: "git"})
		for _, ref := range []git.Ref{{}, {Branch: "main"}, {Commit: f.head, Branch: "main"}} {
			opts := f.options(line(f.addr, host.PublicKey()))
			opts.Ref = ref
			a := get(t, newSource(t, f.url, opts))
			if got, want := contents(t, a), archived(t, f.git, "main"); len(got) != len(want) || got["run.sh"] != want["run.sh"] {
				t.Errorf("%s, %v: %d files, want %d", name, ref, len(got), len(want))
			}
		}
		opts := f.options(line(f.addr, host.PublicKey()))
		opts.Ref = git.Ref{Branch: "nope"}
		if _, err := newSource(t, f.url, opts).Resolve(t.Context()); !errors.Is(err, source.ErrNotFound) {
			t.Errorf("%s: missing branch: %v", name, err)
		}
	}
}

func TestSSHHostKeys(t *testing.T) {
	keys := map[string]ssh.Signer{}
	var all []ssh.Signer
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		keys[kind], _ = newKey(t, kind, "")
		all = append(all, keys[kind])
	}
	f := newSSH(t, gitserver.SSHOptions{HostKeys: all})
	resolve := func(known ...string) error {
		_, err := newSource(t, f.url, f.options(known...)).Resolve(t.Context())
		return err
	}
	// The server has three kinds of keys; each alone is enough (source-controller #397).
	for kind, key := range keys {
		if err := resolve(line(f.addr, key.PublicKey())); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	public := keys["ed25519"].PublicKey()
	plain := strings.Fields(line(f.addr, public))
	_, port, err := net.SplitHostPort(f.addr)
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range map[string]string{
		"hashed":   knownhosts.HashHostname(plain[0]) + " " + plain[1] + " " + plain[2],
		"wildcard": "[127.0.0.*]:" + port + " " + plain[1] + " " + plain[2],
		"list":     "example.com,[127.0.?.1]:" + port + " " + plain[1] + " " + plain[2] + " comment",
		"comments": "# a comment\n\n" + line(f.addr, public),
	} {
		if err := resolve(known); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, _ := newKey(t, "ed25519", "")
	for name, known := range map[string]string{
		"wrong key":    line(f.addr, other.PublicKey()),
		"unknown host": line("example.com:22", public),
		"wrong port":   line("127.0.0.1:22", public),
		"negated":      "!" + plain[0] + "," + plain[0] + " " + plain[1] + " " + plain[2],
		"revoked":      "@revoked * " + plain[1] + " " + plain[2] + "\n" + line(f.addr, public),
	} {
		err := resolve(known)
		if !errors.Is(err, source.ErrUnverified) {
			t.Errorf("%s: got %v, want ErrUnverified", name, err)
			continue
		}
		presented := false
		for _, key := range keys {
			presented = presented || strings.Contains(err.Error(), ssh.FingerprintSHA256(key.PublicKey()))
		}
		if !presented {
			t.Errorf("%s: %v does not show the presented fingerprint", name, err)
		}
	}
}

func TestSSHHostKeyOfAnotherType(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	other, _ := newKey(t, "ecdsa", "")
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}})
	_, err := newSource(t, f.url, f.options(line(f.addr, other.PublicKey()))).Resolve(t.Context())
	if !errors.Is(err, source.ErrUnverified) {
		t.Errorf("got %v, want ErrUnverified", err)
	}
}

func TestSSHHostCertificate(t *testing.T) {
	authority, _ := newKey(t, "ecdsa", "")
	host, _ := newKey(t, "ed25519", "")
	certify := func(principal string) ssh.Signer {
		cert := &ssh.Certificate{
			Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{principal},
			ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		}
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, host)
		if err != nil {
			t.Fatal(err)
		}
		return signer
	}
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(authority.PublicKey())))
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{certify("127.0.0.1")}})
	if _, err := newSource(t, f.url, f.options("@cert-authority * "+key)).Resolve(t.Context()); err != nil {
		t.Errorf("certificate: %v", err)
	}
	for name, known := range map[string]string{
		"authority of another host": "@cert-authority example.com " + key,
		"revoked authority":         "@cert-authority * " + key + "\n@revoked * " + key,
	} {
		if _, err := newSource(t, f.url, f.options(known)).Resolve(t.Context()); !errors.Is(err, source.ErrUnverified) {
			t.Errorf("%s: got %v, want ErrUnverified", name, err)
		}
	}
	wrong := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{certify("example.com")}})
	if _, err := newSource(t, wrong.url, wrong.options("@cert-authority * "+key)).Resolve(t.Context()); !errors.Is(err, source.ErrUnverified) {
		t.Errorf("certificate for another host: got %v, want ErrUnverified", err)
	}
}

func TestSSHClientKeys(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	signer, encrypted := newKey(t, "ed25519", "s3cret")
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}, Authorized: []ssh.PublicKey{signer.PublicKey()}, User: "git"})
	known := []byte(line(f.addr, host.PublicKey()))
	_, stranger := newKey(t, "rsa", "")
	for _, test := range []struct {
		name string
		auth git.SSH
		want error
		text string
	}{
		{"passphrase", git.SSH{PrivateKey: encrypted, Passphrase: []byte("s3cret"), KnownHosts: known}, nil, ""},
		{"needless passphrase", git.SSH{PrivateKey: f.client, Passphrase: []byte("s3cret"), KnownHosts: known}, nil, ""},
		{"no passphrase", git.SSH{PrivateKey: encrypted, KnownHosts: known}, source.ErrInvalidSpec, "SSH.Passphrase"},
		{"wrong passphrase", git.SSH{PrivateKey: encrypted, Passphrase: []byte("wr0ng"), KnownHosts: known}, source.ErrInvalidSpec, "passphrase is wrong"},
		{"no key", git.SSH{KnownHosts: known}, source.ErrInvalidSpec, "SSH.PrivateKey is empty"},
		{"no known hosts", git.SSH{PrivateKey: f.client}, source.ErrInvalidSpec, "SSH.KnownHosts is empty"},
		{"bad known hosts", git.SSH{PrivateKey: f.client, KnownHosts: []byte("host ssh-rsa !!!")}, source.ErrInvalidSpec, "entry 1"},
		{"stranger", git.SSH{PrivateKey: stranger, KnownHosts: known}, source.ErrUnauthorized, ""},
		{"other user", git.SSH{PrivateKey: f.client, KnownHosts: known, User: "root"}, source.ErrUnauthorized, ""},
	} {
		src, err := git.New(f.url, &git.Options{Auth: test.auth})
		if err == nil {
			_, err = src.Resolve(t.Context())
		}
		if !errors.Is(err, test.want) || test.want != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want %v with %q", test.name, err, test.want, test.text)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng")) {
			t.Errorf("%s: the error contains the passphrase: %v", test.name, err)
		}
	}
}

// CVE-2026-45570: what the server's shell sees is the path, all of it.
func TestSSHPathIsQuoted(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}})
	path := "/a'; touch x; '.git"
	src := newSource(t, strings.Replace(f.url, "/app.git", "/a'; touch x; '.git", 1), f.options(line(f.addr, host.PublicKey())))
	_, err := src.Resolve(t.Context())
	if !errors.Is(err, source.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if seen := f.git.Traffic().Seen; len(seen) != 1 || seen[0].Path != path {
		t.Errorf("the server saw %v, want the path %q", seen, path)
	}
}

func TestSSHFaults(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}})
	opts := f.options(line(f.addr, host.PublicKey()))
	src := newSource(t, f.url, opts)
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(10) {
		f.git.SetFaults(func(gitserver.Request) *gitserver.Fault { return &gitserver.Fault{CutAfter: 10 + i*150} })
		if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("cut after %d bytes: got %v, want ErrUnavailable", 10+i*150, err)
		}
	}
	f.git.SetFaults(func(gitserver.Request) *gitserver.Fault { return &gitserver.Fault{Stall: true} })
	opts.Timeout = 150 * time.Millisecond
	if _, err := newSource(t, f.url, opts).Resolve(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stall: got %v, want DeadlineExceeded", err)
	}
	// A server that accepts and says nothing at all.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := newSource(t, fmt.Sprintf("ssh://%s/app.git", ln.Addr()), opts).Resolve(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: got %v, want DeadlineExceeded", err)
	}
}

// TestSSHValidate: what New would refuse is told beforehand, and nothing of the key.
func TestSSHValidate(t *testing.T) {
	for _, auth := range []git.SSH{{}, {PrivateKey: []byte("s3cret"), KnownHosts: []byte("host ssh-ed25519 s3cret")}} {
		err := auth.Validate()
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
		if _, other := git.New("ssh://git@localhost/app", &git.Options{Auth: auth}); other == nil || err != nil && !strings.Contains(other.Error(), err.Error()) {
			t.Errorf("New says %v, Validate %v", other, err)
		}
	}
}
