package git_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

// newWritable returns a server that takes pushes and checks them as strictly as Git can.
func newWritable(t testing.TB) (*gitserver.Server, string) {
	t.Helper()
	srv, url := newServer(t)
	srv.Writable = true
	srv.Config = []string{"receive.fsckObjects=true", "fsck.missingSpaceBeforeDate=error", "receive.advertisePushOptions=true"}
	return srv, url + "/app.git"
}

func change(files map[string][]byte) git.Change {
	return git.Change{
		Author: git.Person{Name: "Robot", Email: "robot@example.com"}, Message: "update image", When: time.Unix(1_700_000_000, 0).In(time.FixedZone("", 2*3600)), Files: files,
	}
}

func makeCommit(t testing.TB, src *git.Source, c git.Change) *git.Commit {
	t.Helper()
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := src.Commit(t.Context(), rev, c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestCommitAndPush(t *testing.T) {
	srv, url := newWritable(t)
	old := commit(t, srv, "main", map[string]string{"apps/web.yaml": "image: web:1\n", "apps/db.yaml": "image: db:1\n", "apps.yaml": "x", "gone/a": "1", "keep/b": "2"})
	src := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}})
	c := change(map[string][]byte{"apps/web.yaml": []byte("image: web:2\n"), "new/dir/run.sh": []byte("#!/bin/sh\n"), "empty": nil, "apps/db.yaml": []byte("image: db:1\n")})
	c.Executable = []string{"new/dir/run.sh"}
	c.Delete = []string{"gone/a", "never/was"}
	c.Committer = git.Person{Email: "ci@example.com"}
	c.Message = "update image\n\nto the newest\n\n"
	made := makeCommit(t, src, c)
	if made.Parent.Digest.Encoded() != old {
		t.Errorf("parent %s, want %s", made.Parent, old)
	}
	srv.ResetTraffic()
	rev, err := src.Push(t.Context(), made, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := srv.Traffic().Requests; n != 2 {
		t.Errorf("a push took %d requests", n)
	}
	if rev != made.Revision || rev.Ref != "main" || rev.Digest.Encoded() != run(t, srv, "rev-parse", "main") {
		t.Errorf("revision %v", rev)
	}
	want := "100644 apps.yaml\n100644 apps/db.yaml\n100644 apps/web.yaml\n100644 empty\n100644 keep/b\n100755 new/dir/run.sh"
	if got := run(t, srv, "ls-tree", "-r", "--format=%(objectmode) %(path)", "main"); got != want {
		t.Errorf("tree is\n%s", got)
	}
	if got := run(t, srv, "log", "-1", "--format=%P|%an|%ae|%ai|%cn|%ce|%ci|%B", "main"); got != old+"|Robot|robot@example.com|2023-11-15 00:13:20 +0200|ci@example.com|ci@example.com|2023-11-15 00:13:20 +0200|update image\n\nto the newest\n" {
		t.Errorf("log is %q", got)
	}
	run(t, srv, "fsck", "--strict", "--full")
	a := get(t, src)
	if data, err := a.ReadFile("apps/web.yaml"); err != nil || string(data) != "image: web:2\n" {
		t.Errorf("web.yaml is %q, %v", data, err)
	}
	// The answer was lost: the same push again finds its work done.
	if again, err := src.Push(t.Context(), made, nil); err != nil || again != rev {
		t.Errorf("again: %v, %v", again, err)
	}
}

func TestPushElsewhere(t *testing.T) {
	srv, url := newWritable(t)
	old := commit(t, srv, "main", map[string]string{"a": "1"})
	other := commit(t, srv, "other", map[string]string{"a": "other"})
	src := newSource(t, url, nil)
	made := makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	rev, err := src.Push(t.Context(), made, &git.PushOptions{Branch: "image/updates", Refs: []string{"refs/heads/staging", "refs/for/main"}})
	if err != nil || rev.Ref != "image/updates" {
		t.Fatal(rev, err)
	}
	id := made.Revision.Digest.Encoded()
	for ref, want := range map[string]string{"main": old, "image/updates": id, "staging": id, "refs/for/main": id} {
		if got := run(t, srv, "rev-parse", ref); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
	_, err = src.Push(t.Context(), made, &git.PushOptions{Branch: "other"})
	if !errors.Is(err, git.ErrMoved) || run(t, srv, "rev-parse", "other") != other {
		t.Errorf("over other commits: %v", err)
	}
	// All or none.
	_, err = src.Push(t.Context(), made, &git.PushOptions{Branch: "new", Refs: []string{"refs/heads/other"}})
	if !errors.Is(err, git.ErrMoved) {
		t.Errorf("one of two: %v", err)
	}
	if _, err := srv.Git("app.git", "", "rev-parse", "--verify", "refs/heads/new"); err == nil {
		t.Error("one of two refs was made")
	}
	if _, err := src.Push(t.Context(), made, &git.PushOptions{Branch: "other", Force: true}); err != nil || run(t, srv, "rev-parse", "other") != id {
		t.Errorf("force: %v", err)
	}
}

// TestPushRaces has somebody push at each moment at which one can.
func TestPushRaces(t *testing.T) {
	srv, url := newWritable(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	src := newSource(t, url, nil)

	made := makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	commit(t, srv, "main", map[string]string{"b": "1"})
	if _, err := src.Push(t.Context(), made, nil); !errors.Is(err, git.ErrMoved) {
		t.Errorf("before the push: %v", err)
	}

	made = makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	var theirs string
	srv.SetFaults(func(r gitserver.Request) *gitserver.Fault {
		if theirs == "" && strings.HasSuffix(r.Path, "/git-receive-pack") {
			theirs = commit(t, srv, "main", map[string]string{"b": "2"})
		}
		return nil
	})
	if _, err := src.Push(t.Context(), made, nil); !errors.Is(err, git.ErrMoved) {
		t.Errorf("during the push: %v", err)
	}
	if got := run(t, srv, "rev-parse", "main"); got != theirs {
		t.Errorf("their commit %s is lost, main is %s", theirs, got)
	}
	srv.SetFaults(nil)

	made = makeCommit(t, src, change(map[string][]byte{"a": []byte("3")}))
	if _, err := src.Push(t.Context(), made, nil); err != nil {
		t.Errorf("once more: %v", err)
	}
	made = makeCommit(t, src, change(map[string][]byte{"a": []byte("4")}))
	run(t, srv, "branch", "-D", "main")
	if _, err := src.Push(t.Context(), made, nil); !errors.Is(err, git.ErrMoved) {
		t.Errorf("deleted meanwhile: %v", err)
	}
}

func TestPushRejected(t *testing.T) {
	srv, url := newWritable(t)
	old := commit(t, srv, "main", map[string]string{"a": "1"})
	src := newSource(t, url, nil)
	made := makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	for _, hook := range []string{"pre-receive", "update"} {
		if err := srv.Hook("app.git", hook, "echo 'main is protected' >&2; exit 1"); err != nil {
			t.Fatal(err)
		}
		_, err := src.Push(t.Context(), made, nil)
		var typed *source.Error
		if !errors.Is(err, git.ErrRejected) || !errors.As(err, &typed) || typed.Op != "push" || !strings.Contains(err.Error(), "main is protected") || errors.Is(err, source.ErrUnavailable) {
			t.Errorf("%s: %v", hook, err)
		}
		if err := srv.Hook("app.git", hook, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := run(t, srv, "rev-parse", "main"); got != old {
		t.Errorf("main is %s", got)
	}
	if _, err := src.Push(t.Context(), made, nil); err != nil {
		t.Errorf("without hooks: %v", err)
	}
	srv.Writable = false
	if _, err := src.Push(t.Context(), makeCommit(t, src, change(map[string][]byte{"a": []byte("3")})), nil); !errors.Is(err, source.ErrUnauthorized) {
		t.Errorf("read only: %v", err)
	}
}

func TestPushOptions(t *testing.T) {
	srv, url := newWritable(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	src := newSource(t, url, nil)
	made := makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	if err := srv.Hook("app.git", "pre-receive", `test "$GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0 $GIT_PUSH_OPTION_1" = "2 merge_request.create title=a b"`); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Push(t.Context(), made, nil); !errors.Is(err, git.ErrRejected) {
		t.Errorf("without options: %v", err)
	}
	opts := &git.PushOptions{Options: []string{"merge_request.create", "title=a b"}}
	if _, err := src.Push(t.Context(), made, opts); err != nil {
		t.Error(err)
	}
	srv.Config = []string{"receive.advertiseAtomic=false"}
	made = makeCommit(t, src, change(map[string][]byte{"a": []byte("3")}))
	for _, opts := range []*git.PushOptions{opts, {Refs: []string{"refs/heads/b"}}} {
		if _, err := src.Push(t.Context(), made, opts); !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("a server that cannot: %v", err)
		}
	}
}

func TestPushCredentials(t *testing.T) {
	srv, url := newWritable(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	srv.Username, srv.Password = "me", "s3cret"
	src := newSource(t, url, &git.Options{Auth: git.Basic{Username: "me", Password: "s3cret"}})
	made := makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	if _, err := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}, Auth: git.Basic{Username: "me", Password: "wrong-s3cret"}}).Push(t.Context(), made, nil); !errors.Is(err, source.ErrUnauthorized) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := src.Push(t.Context(), made, nil); err != nil {
		t.Error(err)
	}
}

func TestPushSSH(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}})
	src := newSource(t, f.url, f.options(line(f.addr, host.PublicKey())))
	made := makeCommit(t, src, change(map[string][]byte{"new": []byte("2")}))
	if _, err := src.Push(t.Context(), made, nil); err == nil {
		t.Error("a push to a server that is read only")
	}
	f.git.Writable = true
	if err := f.git.Hook("app.git", "pre-receive", "echo no >&2; exit 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Push(t.Context(), made, nil); !errors.Is(err, git.ErrRejected) {
		t.Errorf("hook: %v", err)
	}
	if err := f.git.Hook("app.git", "pre-receive", ""); err != nil {
		t.Fatal(err)
	}
	if rev, err := src.Push(t.Context(), made, nil); err != nil || run(t, f.git, "rev-parse", "main") != rev.Digest.Encoded() {
		t.Errorf("%v, %v", rev, err)
	}
	run(t, f.git, "fsck", "--strict", "--full")
}

// More than fits any buffer on the way.
func TestPushLarge(t *testing.T) {
	host, _ := newKey(t, "ed25519", "")
	f := newSSH(t, gitserver.SSHOptions{HostKeys: []ssh.Signer{host}})
	f.git.Writable = true
	web := httptest.NewServer(f.git)
	defer web.Close()
	for url, opts := range map[string]*git.Options{f.url: f.options(line(f.addr, host.PublicKey())), web.URL + "/app.git": nil} {
		random := make([]byte, 5<<20)
		_, _ = rand.Read(random)
		src := newSource(t, url, opts)
		made := makeCommit(t, src, change(map[string][]byte{"large": random}))
		if _, err := src.Push(t.Context(), made, nil); err != nil {
			t.Fatal(err)
		}
		if data, err := get(t, src).ReadFile("large"); err != nil || !bytes.Equal(data, random) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	}
}

func TestPushBroken(t *testing.T) {
	srv, url := newWritable(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	src := newSource(t, url, &git.Options{Timeout: 200 * time.Millisecond})
	made := makeCommit(t, src, change(map[string][]byte{"a": []byte("2")}))
	for _, fault := range []gitserver.Fault{{CutAfter: 10}, {FlipAt: 7}, {Status: 500}, {Status: 302}, {Stall: true}} {
		srv.SetFaults(func(r gitserver.Request) *gitserver.Fault {
			if strings.HasSuffix(r.Path, "/git-receive-pack") {
				return &fault
			}
			return nil
		})
		_, err := src.Push(t.Context(), made, nil)
		// One whose answer is lost did push; those after it find nothing to do.
		if err != nil && !errors.Is(err, source.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v: %v", fault, err)
		}
	}
	srv.SetFaults(nil)
	if rev, err := src.Push(t.Context(), made, nil); err != nil || run(t, srv, "rev-parse", "main") != rev.Digest.Encoded() {
		t.Errorf("in the end: %v, %v", rev, err)
	}
}
