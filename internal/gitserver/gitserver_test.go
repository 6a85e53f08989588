package gitserver_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/internal/gitserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t *testing.T) *gitserver.Server {
	t.Helper()
	s, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commit(t *testing.T, s *gitserver.Server, branch string, files map[string]string) string {
	t.Helper()
	hash, err := s.Commit("a.git", branch, "message", files)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestCommitIsDeterministic(t *testing.T) {
	var hashes []string
	for range 2 {
		s := newServer(t)
		commit(t, s, "main", map[string]string{"a": "1", "dir/b": "2"})
		last, err := s.Delete("a.git", "main", "remove", "a")
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.Git("a.git", "", "ls-tree", "-r", "--name-only", "main")
		if err != nil || list != "dir/b" {
			t.Fatalf("ls-tree = %q, %v", list, err)
		}
		hashes = append(hashes, last)
	}
	if hashes[0] != hashes[1] {
		t.Errorf("the same calls gave %s and %s", hashes[0], hashes[1])
	}
}

func TestHTTP(t *testing.T) {
	s := newServer(t)
	s.Username, s.Password = "me", "secret"
	hash := commit(t, s, "main", map[string]string{"a": "1"})
	web := httptest.NewServer(s)
	defer web.Close()
	defer http.DefaultClient.CloseIdleConnections()
	url := web.URL + "/a.git/info/refs?service=git-upload-pack"

	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without credentials: %s", res.Status)
	}
	req, _ := http.NewRequest("GET", url, nil)
	req.SetBasicAuth("me", "secret")
	res, err = http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(body), hash) {
		t.Errorf("body %q, %v does not name %s", body, err, hash)
	}
}

func TestSSH(t *testing.T) {
	s := newServer(t)
	hash := commit(t, s, "main", map[string]string{"a": "1"})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := s.ServeSSH(gitserver.SSHOptions{HostKeys: []ssh.Signer{signer}, Authorized: []ssh.PublicKey{signer.PublicKey()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := ssh.Dial("tcp", srv.Addr, &ssh.ClientConfig{
		User: "git", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	session.Stdin = strings.NewReader("0000")
	out, err := session.Output("git-upload-pack 'a.git'")
	if err != nil || !strings.Contains(string(out), hash) {
		t.Errorf("output %q, %v does not name %s", out, err, hash)
	}
}
