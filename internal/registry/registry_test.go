package registry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve returns a repository of a server, and a transport that ends with the test.
func serve(t *testing.T, srv *registry.Server) (name.Repository, remote.Option) {
	t.Helper()
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	repo, err := name.NewRepository(web.Listener.Addr().String()+"/org/app", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return repo, remote.WithTransport(transport)
}

// A client that is not ours reads what was put there, with the credentials
// that are wanted.
func TestImage(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "secret", bearer
		repo, transport := serve(t, srv)
		digest := srv.PutImage("org/app", map[string]string{"a": "b"})
		srv.Tag("org/app", digest, "1.0.0")
		img, err := remote.Image(repo.Tag("1.0.0"), transport, remote.WithAuth(&authn.Basic{Username: "me", Password: "secret"}))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := img.Digest(); err != nil || got.String() != digest {
			t.Errorf("%s, %v", got, err)
		}
		if _, err := remote.Image(repo.Tag("1.0.0"), transport, remote.WithAuth(&authn.Basic{Username: "me", Password: "wrong"})); err == nil {
			t.Errorf("bearer %v: the wrong password does", bearer)
		}
		srv.Untag("org/app", "1.0.0")
		if _, err := remote.Head(repo.Tag("1.0.0"), transport, remote.WithAuth(&authn.Basic{Username: "me", Password: "secret"})); err == nil {
			t.Error("the tag is still there")
		}
	}
}

func TestManyTags(t *testing.T) {
	srv := registry.New()
	srv.PageSize = 300
	repo, transport := serve(t, srv)
	tags := make([]string, 5000)
	for i := range tags {
		tags[i] = fmt.Sprintf("v%d", i)
	}
	srv.Tag("org/app", srv.PutImage("org/app", nil), tags...)
	got, err := remote.List(repo, transport)
	if err != nil || len(got) != len(tags) {
		t.Errorf("%d tags, %v", len(got), err)
	}
	if n := srv.Count("GET", "/tags/list"); n != 17 {
		t.Errorf("%d pages", n)
	}
}

func TestFaults(t *testing.T) {
	srv := registry.New()
	repo, transport := serve(t, srv)
	srv.Tag("org/app", srv.PutImage("org/app", nil), "latest")
	for _, f := range []registry.Fault{{Status: 404}, {CutAfter: 9}, {Body: []byte("x")}} {
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if r.Path == "/v2/" {
				return nil
			}
			return &f
		})
		if img, err := remote.Image(repo.Tag("latest"), transport, remote.WithRetryBackoff(remote.Backoff{Steps: 1})); err == nil {
			if _, err := img.Manifest(); err == nil {
				t.Errorf("%+v: no error", f)
			}
		}
	}
	srv.SetFaults(nil)
	srv.ResetRequests()
	if _, err := remote.Head(repo.Tag("latest"), transport); err != nil || srv.Count("HEAD", "/manifests/latest") != 1 {
		t.Errorf("%v, %v", err, srv.Requests())
	}
}
