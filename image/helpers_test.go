package image_test

import (
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/internal/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve returns the name of a repository of srv.
func serve(t testing.TB, srv *registry.Server) string {
	t.Helper()
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return web.Listener.Addr().String() + "/org/app"
}

// put stores an image under tags and returns its digest.
func put(srv *registry.Server, text string, tags ...string) string {
	digest := srv.PutImage("org/app", nil, registry.Layer{MediaType: "text/plain", Data: []byte(text)})
	srv.Tag("org/app", digest, tags...)
	return digest
}

// open makes a scanner for a server of plain HTTP.
func open(t testing.TB, name string, opts *image.ScannerOptions) *image.Scanner {
	t.Helper()
	if opts == nil {
		opts = &image.ScannerOptions{}
	}
	opts.Insecure = true
	s, err := image.NewScanner(name, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func scan(t testing.TB, s *image.Scanner) *image.Tags {
	t.Helper()
	tags, err := s.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

// fails wants an *image.Error of a class.
func fails(t testing.TB, err, class error, texts ...string) {
	t.Helper()
	var typed *image.Error
	if !errors.Is(err, class) || !errors.As(err, &typed) {
		t.Fatalf("want an *image.Error of %v, got %v", class, err)
	}
	if want := errors.Is(class, image.ErrInvalid) || errors.Is(class, image.ErrInvalidPolicy); typed.Terminal() != want {
		t.Errorf("terminal %v: %v", typed.Terminal(), err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in %v", text, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a secret is in %v", err)
	}
}

// login is a keychain of one pair of credentials for every registry.
type login struct{ user, password string }

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: l.user, Password: l.password}, nil
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
