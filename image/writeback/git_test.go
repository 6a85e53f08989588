package writeback_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/image/update"
	"github.com/gitopskit/gitopskit/image/writeback"
	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source/git"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var robot = writeback.Person{Name: "Robot", Email: "robot@example.com"}

// newServer serves a repository with marked files on main.
func newServer(t testing.TB, files ...string) (*gitserver.Server, gitRepository) {
	t.Helper()
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv.Writable = true
	srv.Config = []string{"receive.fsckObjects=true", "receive.advertisePushOptions=true"}
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	marked := map[string]string{"README": "hello\n"}
	for _, name := range files {
		marked[name+".yaml"] = fmt.Sprintf("# %s\n\nimage:   org/%s:1   # {\"$imagepolicy\": \"apps:%s\"}\n", name, name, name)
	}
	commit(t, srv, "main", marked)
	return srv, gitRepository{web.URL + "/app.git", git.Options{TempDir: t.TempDir()}}
}

func commit(t testing.TB, srv *gitserver.Server, branch string, files map[string]string) string {
	t.Helper()
	id, err := srv.Commit("app.git", branch, "change "+branch, files)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func run(t testing.TB, srv *gitserver.Server, args ...string) string {
	t.Helper()
	out, err := srv.Git("app.git", "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// set selects one tag for one policy.
func set(name, tag string) writeback.EditFunc {
	return func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
		return update.Setters(ctx, tree, map[string]image.Ref{"apps:" + name: {Name: "org/" + name, Tag: tag}}, nil)
	}
}

func newWriter(t testing.TB, repo writeback.Repository, opts *writeback.Options) *writeback.Writer {
	t.Helper()
	w, err := writeback.New(repo, robot, opts)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t testing.TB, w *writeback.Writer, edit writeback.EditFunc) *writeback.Result {
	t.Helper()
	result, err := w.Write(t.Context(), edit)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestSameBranch(t *testing.T) {
	srv, repo := newServer(t, "a", "b")
	old := run(t, srv, "rev-parse", "main")
	w := newWriter(t, repo, nil)
	got := write(t, w, set("a", "2"))
	head := run(t, srv, "rev-parse", "main")
	if got.Revision != "main@sha1:"+head || got.Base != "main@sha1:"+old || got.Attempts != 1 || got.Message != writeback.DefaultTemplate || len(got.Plan.Changes) != 1 {
		t.Errorf("%+v", got)
	}
	if log := run(t, srv, "log", "-1", "--format=%P|%an|%ae|%cn|%s", "main"); log != old+"|Robot|robot@example.com|Robot|"+writeback.DefaultTemplate {
		t.Error(log)
	}
	if diff := run(t, srv, "diff", "-U0", old, head); !strings.HasSuffix(diff, "@@ -3 +3 @@\n-image:   org/a:1   # {\"$imagepolicy\": \"apps:a\"}\n+image:   org/a:2   # {\"$imagepolicy\": \"apps:a\"}") {
		t.Error(diff)
	}
	run(t, srv, "fsck", "--strict")
	if again := write(t, w, set("a", "2")); again.Changed() || again.Attempts != 1 || run(t, srv, "rev-parse", "main") != head {
		t.Errorf("again: %+v", again)
	}
}

func TestNothingToChange(t *testing.T) {
	srv, repo := newServer(t, "a")
	old := run(t, srv, "rev-parse", "main")
	got := write(t, newWriter(t, repo, nil), set("other", "2"))
	if got.Changed() || len(got.Plan.Skipped) != 1 || run(t, srv, "rev-parse", "main") != old {
		t.Errorf("%+v", got)
	}
	for _, r := range srv.Traffic().Seen {
		if strings.Contains(r.Path+r.Query, "receive-pack") {
			t.Errorf("asked to push: %+v", r)
		}
	}
}

// The push branch is made, then continued; a change that is there is not made twice.
func TestOtherBranch(t *testing.T) {
	srv, repo := newServer(t, "a", "b")
	main := run(t, srv, "rev-parse", "main")
	w := newWriter(t, repo, &writeback.Options{Branch: "main", PushBranch: "updates"})
	first := write(t, w, set("a", "2"))
	if first.Revision != "updates@sha1:"+run(t, srv, "rev-parse", "updates") || first.Branch != "updates" || first.Base != "main@sha1:"+main {
		t.Errorf("%+v", first)
	}
	if again := write(t, w, set("a", "2")); again.Changed() {
		t.Errorf("the same change twice: %+v", again)
	}
	second := write(t, w, set("b", "3"))
	if second.Base != first.Revision || run(t, srv, "rev-list", "--count", main+"..updates") != "2" {
		t.Errorf("%+v", second)
	}
	if run(t, srv, "rev-parse", "main") != main {
		t.Error("main moved")
	}
}

func TestRefspecAndOptions(t *testing.T) {
	srv, repo := newServer(t, "a")
	if err := srv.Hook("app.git", "pre-receive", "printenv GIT_PUSH_OPTION_0 GIT_PUSH_OPTION_1 > options"); err != nil {
		t.Fatal(err)
	}
	got := write(t, newWriter(t, repo, &writeback.Options{
		Branch: "main", PushBranch: "updates", Refspec: "refs/heads/updates:refs/heads/staging", PushOptions: map[string]string{"topic": "x", "ci.skip": "true"},
	}), set("a", "2"))
	if head := run(t, srv, "rev-parse", "updates"); head != run(t, srv, "rev-parse", "staging") || len(got.Refs) != 1 {
		t.Errorf("%+v", got)
	}
	dir, err := srv.Dir("app.git")
	if err != nil {
		t.Fatal(err)
	}
	if options, err := os.ReadFile(filepath.Join(dir, "options")); err != nil || string(options) != "ci.skip=true\ntopic=x\n" {
		t.Errorf("%q, %v", options, err)
	}
}

func TestSigned(t *testing.T) {
	srv, repo := newServer(t, "a")
	signer := writeback.SignerFunc(func(_ context.Context, object []byte) ([]byte, error) {
		return []byte(fmt.Sprintf("-----BEGIN TEST-----\n%d bytes\n-----END TEST-----\n", len(object))), nil
	})
	write(t, newWriter(t, repo, &writeback.Options{Signer: signer}), set("a", "2"))
	if raw := run(t, srv, "cat-file", "commit", "main"); !strings.Contains(raw, "gpgsig -----BEGIN TEST-----") {
		t.Error(raw)
	}
	refuses := writeback.SignerFunc(func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no key") })
	old := run(t, srv, "rev-parse", "main")
	_, err := newWriter(t, repo, &writeback.Options{Signer: refuses}).Write(t.Context(), set("a", "3"))
	fails(t, err, nil, "push", "no key")
	if run(t, srv, "rev-parse", "main") != old {
		t.Error("an unsigned commit was pushed")
	}
}

// Somebody pushes after the fetch: the plan is made again for what is there now.
func TestSomebodyPushes(t *testing.T) {
	srv, repo := newServer(t, "a")
	var theirs string
	calls := 0
	edit := func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
		plan, err := set("a", "2")(ctx, tree)
		if calls++; calls == 1 {
			theirs = commit(t, srv, "main", map[string]string{"new.yaml": "image: org/a:1 # {\"$imagepolicy\": \"apps:a\"}\n"})
		}
		return plan, err
	}
	got := write(t, newWriter(t, repo, nil), edit)
	if got.Attempts != 2 || got.Base != "main@sha1:"+theirs || len(got.Plan.Changes) != 2 || run(t, srv, "rev-parse", "main~1") != theirs {
		t.Errorf("%+v", got)
	}
	// They made the same change: nothing is left to do.
	calls = 0
	edit = func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
		plan, err := set("a", "3")(ctx, tree)
		if calls++; calls == 1 {
			write(t, newWriter(t, repo, &writeback.Options{Message: writeback.Message{Template: "theirs"}}), set("a", "3"))
		}
		return plan, err
	}
	if got := write(t, newWriter(t, repo, nil), edit); got.Changed() || got.Attempts != 2 {
		t.Errorf("%+v", got)
	}
}

func TestAlwaysTooLate(t *testing.T) {
	srv, repo := newServer(t, "a")
	n := 0
	edit := func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
		n++
		commit(t, srv, "main", map[string]string{"n": fmt.Sprint(n)})
		return set("a", "2")(ctx, tree)
	}
	_, err := newWriter(t, repo, &writeback.Options{Attempts: 3}).Write(t.Context(), edit)
	fails(t, err, writeback.ErrMoved, "faster 3 times")
	if n != 3 {
		t.Errorf("tried %d times", n)
	}
}

// A hook or a protection refuses: an error with its words, and no second try.
func TestRejected(t *testing.T) {
	srv, repo := newServer(t, "a")
	if err := srv.Hook("app.git", "pre-receive", "echo main is protected >&2; exit 1"); err != nil {
		t.Fatal(err)
	}
	calls := 0
	edit := func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
		calls++
		return set("a", "2")(ctx, tree)
	}
	_, err := newWriter(t, repo, &writeback.Options{Branch: "main"}).Write(t.Context(), edit)
	fails(t, err, git.ErrRejected, "push branch main", "main is protected")
	if calls != 1 {
		t.Errorf("tried %d times", calls)
	}
}

// Two automations, the same branch, different files: no commit is lost.
func TestTwoAutomations(t *testing.T) {
	const rounds = 5
	srv, repo := newServer(t, "a", "b")
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		wg.Go(func() {
			w, err := writeback.New(repo, robot, &writeback.Options{Attempts: 50, Message: writeback.Message{Template: name}})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range rounds {
				if got, err := w.Write(t.Context(), set(name, fmt.Sprintf("r%d", i))); err != nil || !got.Changed() {
					t.Errorf("%s: %+v, %v", name, got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"a", "b"} {
		if n := run(t, srv, "log", "--format=%h", "--fixed-strings", "--grep="+name, "--author=Robot", "--", name+".yaml"); len(strings.Fields(n)) != rounds {
			t.Errorf("%s: commits %s", name, n)
		}
		if text := run(t, srv, "show", "main:"+name+".yaml"); !strings.Contains(text, fmt.Sprintf(":r%d ", rounds-1)) {
			t.Errorf("%s is %s", name, text)
		}
	}
	if n := run(t, srv, "rev-list", "--count", "main"); n != fmt.Sprint(2*rounds+1) {
		t.Errorf("%s commits", n)
	}
}

func TestUnreachable(t *testing.T) {
	_, repo := newServer(t, "a")
	repo.url = strings.Replace(repo.url, "app.git", "missing.git", 1)
	_, err := newWriter(t, repo, &writeback.Options{PushBranch: "x"}).Write(t.Context(), set("a", "2"))
	fails(t, err, fs.ErrNotExist, "fetch branch x")
}

// fails wants a *writeback.Error.
func fails(t testing.TB, err, class error, texts ...string) {
	t.Helper()
	var typed *writeback.Error
	if !errors.As(err, &typed) || class != nil && !errors.Is(err, class) {
		t.Fatalf("want a *writeback.Error of %v, got %v", class, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in %v", text, err)
		}
	}
}
