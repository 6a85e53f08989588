package oci_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve returns a registry and the name of one of its repositories.
func serve(t testing.TB, srv *registry.Server) string {
	t.Helper()
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return "oci://" + web.Listener.Addr().String() + "/org/app"
}

func newRegistry(t testing.TB) (*registry.Server, string) {
	t.Helper()
	srv := registry.New()
	return srv, serve(t, srv)
}

// content is a layer of these files.
func content(t testing.TB, files map[string]string) registry.Layer {
	t.Helper()
	return registry.Layer{MediaType: oci.ContentMediaType, Data: archive(t, files)}
}

func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := source.WriteArchive(t.Context(), &buf, tree(t, files), nil); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func tree(t testing.TB, files map[string]string) fs.FS {
	t.Helper()
	all := map[string][]byte{}
	for name, data := range files {
		all[name] = []byte(data)
	}
	tree, err := source.MapFS(all)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// put stores an artifact of one file under tags.
func put(t testing.TB, srv *registry.Server, text string, tags ...string) string {
	t.Helper()
	digest := srv.PutImage("org/app", nil, content(t, map[string]string{"app.yaml": text}))
	srv.Tag("org/app", digest, tags...)
	return digest
}

// open makes a repository for a server of plain HTTP.
func open(t testing.TB, url string, opts *oci.Options) *oci.Repository {
	t.Helper()
	if opts == nil {
		opts = &oci.Options{}
	}
	opts.Insecure = true
	return newRepository(t, url, opts)
}

func newRepository(t testing.TB, url string, opts *oci.Options) *oci.Repository {
	t.Helper()
	repo, err := oci.New(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return repo
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
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
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

func text(t testing.TB, fsys fs.FS, name string) string {
	t.Helper()
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// login is a keychain of one pair of credentials for every registry.
type login struct{ user, password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: l.user, Password: l.password}, nil
}

// closing is a transport whose connections end with the test.
type closing struct{ http.Transport }

func (c *closing) of(t testing.TB) http.RoundTripper {
	t.Cleanup(c.CloseIdleConnections)
	return c
}
