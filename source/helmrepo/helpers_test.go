package helmrepo_test

import (
	"errors"
	"io/fs"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/helmrepo"
)

func TestMain(m *testing.M) {
	// Not ours: the peer's logging library starts it when it is loaded.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// pack makes a chart of one template.
func pack(t testing.TB, name, version, text string) []byte {
	t.Helper()
	p, err := chart.Build(t.Context(), fstest.MapFS{
		"Chart.yaml":         {Data: []byte("apiVersion: v2\nname: " + name + "\nversion: " + version + "\n")},
		"templates/app.yaml": {Data: []byte(text)},
	}, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.Data
}

func serve(t testing.TB, srv *chartserver.Server) string {
	t.Helper()
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return web.URL + "/charts"
}

// newServer returns a repository with versions of the chart app.
func newServer(t testing.TB, versions ...string) (*chartserver.Server, string) {
	t.Helper()
	srv := chartserver.New()
	for _, v := range versions {
		srv.Add("app", v, pack(t, "app", v, "of "+v))
	}
	return srv, serve(t, srv)
}

func open(t testing.TB, url string, opts *helmrepo.Options) *helmrepo.Repository {
	t.Helper()
	repo, err := helmrepo.New(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func find(t testing.TB, repo *helmrepo.Repository, name, version string) *helmrepo.Chart {
	t.Helper()
	c, err := repo.Chart(name, version)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t testing.TB, src source.Source) *source.Artifact {
	t.Helper()
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := src.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// refuses resolves and fetches, and wants the error of one of them.
func refuses(t testing.TB, src source.Source, class error) {
	t.Helper()
	if err := try(t, src, class); err == nil {
		t.Error("there is no error")
	}
}

// try is refuses for those who look at the error.
func try(t testing.TB, src source.Source, class error) error {
	t.Helper()
	rev, err := src.Resolve(t.Context())
	if err == nil {
		_, err = src.Fetch(t.Context(), rev)
	}
	if !errors.Is(err, class) {
		t.Errorf("want %v, got %v", class, err)
	}
	var typed *source.Error
	if !errors.As(err, &typed) {
		t.Errorf("not a *source.Error: %v", err)
	}
	return err
}

func content(t testing.TB, fsys fs.FS) string {
	t.Helper()
	data, err := fs.ReadFile(fsys, "templates/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
