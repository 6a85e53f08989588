package git_test

import (
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer returns a Git server and its address for HTTP.
func newServer(t testing.TB) (*gitserver.Server, string) {
	t.Helper()
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return srv, web.URL
}

func commit(t testing.TB, srv *gitserver.Server, branch string, files map[string]string) string {
	t.Helper()
	hash, err := srv.Commit("app.git", branch, "change "+branch, files)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func run(t testing.TB, srv *gitserver.Server, args ...string) string {
	t.Helper()
	out, err := srv.Git("app.git", "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newSource(t testing.TB, url string, opts *git.Options) *git.Source {
	t.Helper()
	if opts == nil {
		opts = &git.Options{}
	}
	if opts.TempDir == "" {
		opts.TempDir = t.TempDir()
	}
	src, err := git.New(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// get resolves and fetches.
func get(t testing.TB, src source.Source) *source.Artifact {
	t.Helper()
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fetch(t, src, rev)
}

func fetch(t testing.TB, src source.Source, rev source.Revision) *source.Artifact {
	t.Helper()
	a, err := src.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return a
}
