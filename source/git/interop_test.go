//go:build interop

package git_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

// sshd is OpenSSH's server, one process for each connection.
type sshd struct {
	addr string
	log  bytes.Buffer // complete after stop
	stop func()
}

// startSSHD serves the account of the test to the holder of a key.
func startSSHD(t *testing.T, hostKey []byte, authorized ssh.PublicKey, settings string) *sshd {
	t.Helper()
	program, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Fatalf("%v: install the package openssh-server", err)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("sshd_config", fmt.Appendf(nil, "HostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\n"+
		"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\n%s",
		file("host_key", hostKey), file("authorized_keys", ssh.MarshalAuthorizedKey(authorized)), settings))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sshd{addr: listener.Addr().String()}
	var log sync.Mutex
	var connections sync.WaitGroup
	serve := func(conn net.Conn) {
		defer conn.Close()
		socket, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Error(err)
			return
		}
		var out bytes.Buffer
		cmd := exec.Command(program, "-i", "-e", "-f", config)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, &out
		err = errors.Join(cmd.Start(), socket.Close(), conn.Close())
		if err == nil {
			_ = cmd.Wait() // it fails whenever the client was refused or hung up
		} else {
			t.Error(err)
		}
		log.Lock()
		defer log.Unlock()
		s.log.Write(out.Bytes())
	}
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { serve(conn) })
		}
	})
	s.stop = sync.OnceFunc(func() {
		listener.Close()
		connections.Wait()
	})
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("sshd said:\n%s", &s.log)
		}
	})
	return s
}

// TestInteropOpenSSH reads and writes a repository through OpenSSH, with every type of host key, by protocol 2 and by protocol 0.
func TestInteropOpenSSH(t *testing.T) {
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	repos, _ := newServer(t)
	head := fill(t, repos)
	dir, err := repos.Dir("app.git")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		for protocol, settings := range map[string]string{"v2": "AcceptEnv GIT_PROTOCOL\n", "v0": ""} {
			t.Run(kind+" "+protocol, func(t *testing.T) {
				host, hostPrivate := newKey(t, kind, "")
				client, private := newKey(t, kind, "")
				server := startSSHD(t, hostPrivate, client.PublicKey(), settings)
				url := "ssh://" + account.Username + "@" + server.addr + dir
				options := func(key []byte, known ssh.PublicKey) *git.Options {
					return &git.Options{Ref: git.Ref{Branch: "main"}, Auth: git.SSH{PrivateKey: key, KnownHosts: []byte(line(server.addr, known) + "\n")}}
				}
				a := get(t, newSource(t, url, options(private, host.PublicKey())))
				if got, want := a.Revision.Digest.Encoded(), head; got != want {
					t.Errorf("got commit %s, want %s", got, want)
				}
				if got, want := contents(t, a), archived(t, repos, "main"); len(got) != len(want) || got["run.sh"] != want["run.sh"] {
					t.Errorf("%d files, want %d", len(got), len(want))
				}
				src := newSource(t, url, options(private, host.PublicKey()))
				made, err := src.Commit(t.Context(), a.Revision, change(map[string][]byte{"pushed": []byte(kind + protocol)}))
				if err != nil {
					t.Fatal(err)
				}
				branch := kind + "-" + protocol
				if rev, err := src.Push(t.Context(), made, &git.PushOptions{Branch: branch}); err != nil || run(t, repos, "rev-parse", branch) != rev.Digest.Encoded() {
					t.Errorf("push: %v, %v", rev, err)
				}
				stranger, strangerPrivate := newKey(t, kind, "")
				if _, err := newSource(t, url, options(strangerPrivate, host.PublicKey())).Resolve(t.Context()); !errors.Is(err, source.ErrUnauthorized) {
					t.Errorf("a key the server does not know: %v", err)
				}
				if _, err := newSource(t, url, options(private, stranger.PublicKey())).Resolve(t.Context()); !errors.Is(err, source.ErrUnverified) {
					t.Errorf("a host key the client does not know: %v", err)
				}
				if _, err := newSource(t, url+"/nope", options(private, host.PublicKey())).Resolve(t.Context()); !errors.Is(err, source.ErrNotFound) {
					t.Errorf("a missing repository: %v", err)
				}
			})
		}
	}
}
