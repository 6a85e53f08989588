//go:build interop

package verify_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

// workspace is a Git repository and a GnuPG home of its own.
type workspace struct {
	t    *testing.T
	home string // short, for the sockets of gpg-agent
	dir  string
	env  []string
}

func newWorkspace(t *testing.T) *workspace {
	t.Helper()
	for program, name := range map[string]string{"gpg": "gnupg", "ssh-keygen": "openssh-client"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: install the package %s", err, name)
		}
	}
	home, err := os.MkdirTemp("", "g") //nolint:usetesting // the name of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	w := &workspace{t: t, home: home, dir: t.TempDir()}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GNUPGHOME=" + home, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com",
	}
	t.Cleanup(func() {
		w.run("", "gpgconf", "--kill", "all")
		_ = os.RemoveAll(home)
	})
	w.run("", "git", "init", "-q", "-b", "main")
	return w
}

func (w *workspace) run(stdin, name string, args ...string) string {
	w.t.Helper()
	out, err := w.try(stdin, name, args...)
	if err != nil {
		w.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return out
}

func (w *workspace) try(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = w.dir, w.env, strings.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	return out.String() + complaint.String(), err
}

func (w *workspace) object(name string) []byte {
	w.t.Helper()
	kind := strings.TrimSpace(w.run("", "git", "cat-file", "-t", name))
	cmd := exec.Command("git", "cat-file", kind, name)
	cmd.Dir, cmd.Env = w.dir, w.env
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *workspace) read(name string) []byte {
	w.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// TestInteropSigned verifies what gpg and ssh-keygen signed.
func TestInteropSigned(t *testing.T) {
	w := newWorkspace(t)
	for _, algorithm := range []string{"ed25519", "rsa3072", "nistp256"} {
		w.run("", "gpg", "--batch", "--passphrase", "", "--quick-gen-key", algorithm+" <"+algorithm+"@example.com>", algorithm, "sign", "never")
		listing := w.run("", "gpg", "--with-colons", "--list-keys", algorithm+"@example.com")
		_, rest, _ := strings.Cut(listing, "fpr:::::::::")
		fingerprint, _, _ := strings.Cut(rest, ":")
		public := w.run("", "gpg", "--armor", "--export", fingerprint)
		w.check(algorithm+".asc", []byte(public), fingerprint, "-c", "user.signingkey="+fingerprint)
	}
	for _, algorithm := range []string{"ed25519", "rsa", "ecdsa"} {
		key := filepath.Join(w.home, algorithm)
		w.run("", "ssh-keygen", "-q", "-t", algorithm, "-N", "", "-f", key)
		fingerprint := strings.Fields(w.run("", "ssh-keygen", "-l", "-f", key))[1]
		w.check(algorithm+".sshpub", w.read(key+".pub"), fingerprint, "-c", "gpg.format=ssh", "-c", "user.signingkey="+key)
	}
}

// check signs a commit and a tag by Git and verifies them.
func (w *workspace) check(file string, public []byte, fingerprint string, config ...string) {
	w.t.Helper()
	w.run("", "git", append(config, "commit", "-q", "--allow-empty", "-S", "-m", "signed\n\nbody")...)
	w.run("", "git", append(config, "tag", "-f", "-s", "-m", "release", file)...)
	keys := keyring(w.t, map[string][]byte{file: public})
	stranger := keyring(w.t, map[string][]byte{"x.sshpub": newSSH(w.t).public})
	for name, kind := range map[string]string{"HEAD": "commit", "refs/tags/" + file: "tag"} {
		object := w.object(name)
		e, err := keys.Verify(w.t.Context(), object)
		if err != nil || e.Signer != fingerprint || e.Object != kind {
			w.t.Errorf("%s of %s: %+v, %v, want %s", kind, file, e, err, fingerprint)
		}
		if _, err := stranger.Verify(w.t.Context(), object); !errors.Is(err, source.ErrUnverified) {
			w.t.Errorf("%s of %s, by a stranger: %v", kind, file, err)
		}
		if _, err := keys.Verify(w.t.Context(), bytes.Replace(object, []byte("a@example.com"), []byte("b@example.com"), 1)); !errors.Is(err, source.ErrUnverified) {
			w.t.Errorf("%s of %s, damaged: %v", kind, file, err)
		}
	}
}

// TestInteropSigner has Git verify commits that we signed and pushed.
func TestInteropSigner(t *testing.T) {
	w := newWorkspace(t)
	pgp, _ := newPGP(t, ed25519PGP(), "")
	w.run(string(pgp.public), "gpg", "--batch", "--import")
	key := newSSH(t)
	allowed := filepath.Join(w.home, "allowed")
	if err := os.WriteFile(allowed, append([]byte("a@example.com "), key.public...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]git.Signer{"pgp": newSigner(t, pgp.private, ""), "ssh": newSigner(t, key.private, ""), "unsigned": nil} {
		_, url, id := repository(t, signer)
		w.run("", "git", "fetch", "-q", url, "main")
		out, err := w.try("", "git", "-c", "gpg.ssh.allowedSignersFile="+allowed, "verify-commit", id)
		if (err == nil) != (signer != nil) || signer != nil && !strings.Contains(strings.ToLower(out), "good") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
