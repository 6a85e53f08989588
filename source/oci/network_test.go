package oci_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

func TestCredentials(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "right-secret", bearer
		url := serve(t, srv)
		put(t, srv, "a", "latest")
		get(t, open(t, url, &oci.Options{Client: oci.Client{Keychain: login{"me", "right-secret"}}}))
		for _, keys := range []authn.Keychain{nil, login{"me", "wrong-secret"}} {
			err := try(t, open(t, url, &oci.Options{Client: oci.Client{Keychain: keys}}), source.ErrUnauthorized)
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the password is in %v", err)
			}
		}
	}
}

// rotating gives out credentials that change.
type rotating struct{ now *login }

func (r rotating) Resolve(a authn.Resource) (authn.Authenticator, error) { return r.now.Resolve(a) }

func TestCredentialsRotate(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "first", bearer
		url := serve(t, srv)
		put(t, srv, "a", "latest")
		now := &login{"me", "first"}
		repo := open(t, url, &oci.Options{Client: oci.Client{Keychain: rotating{now}}})
		get(t, repo)
		srv.ExpireTokens()
		get(t, repo)
		srv.Password, now.password = "second", "second"
		srv.ExpireTokens()
		get(t, repo)
	}
}

func TestTLS(t *testing.T) {
	srv := registry.New()
	web := httptest.NewTLSServer(srv)
	defer web.Close()
	web.Config.ErrorLog = quiet()
	put(t, srv, "a", "latest")
	url := "oci://" + web.Listener.Addr().String() + "/org/app"
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	get(t, newRepository(t, url, &oci.Options{Client: oci.Client{CAs: ca}}))
	srv.ResetRequests()
	refuses(t, newRepository(t, url, nil), source.ErrUnavailable)
	refuses(t, open(t, url, nil), source.ErrUnavailable)
	if n := len(srv.Requests()); n > 0 {
		t.Errorf("%d requests to a server that nobody vouches for", n)
	}
}

// Where plain HTTP is allowed it is for registries that have nothing better: one
// that answers by https cannot lead there.
func TestRedirectToPlainHTTP(t *testing.T) {
	srv := registry.New()
	web := httptest.NewTLSServer(srv)
	defer web.Close()
	put(t, srv, "a", "latest")
	plain, elsewhere := newRegistry(t)
	put(t, plain, "a", "latest")
	host := strings.TrimSuffix(strings.TrimPrefix(elsewhere, "oci://"), "/org/app")
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if !strings.Contains(r.Path, "/blobs/") {
			return nil
		}
		return &registry.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://" + host + r.Path}}}
	})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	refuses(t, open(t, "oci://"+web.Listener.Addr().String()+"/org/app", &oci.Options{Client: oci.Client{CAs: ca}}), source.ErrUnavailable)
	if n := len(plain.Requests()); n > 0 {
		t.Errorf("%d requests by plain HTTP", n)
	}
}

// Plain HTTP has to be allowed, also on this machine.
func TestPlainHTTPIsSpelledOut(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "latest")
	err := try(t, newRepository(t, url, nil), source.ErrUnavailable)
	if !strings.Contains(err.Error(), "Client.Insecure") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	if n := len(srv.Requests()); n > 0 {
		t.Errorf("%d requests by plain HTTP", n)
	}
}

// Blobs may be elsewhere; credentials stay where they belong.
func TestRedirectToAnotherHost(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "secret", bearer
		url := serve(t, srv)
		put(t, srv, "a", "latest")
		mirror, elsewhere := newRegistry(t)
		put(t, mirror, "a", "latest")
		host := strings.TrimSuffix(strings.TrimPrefix(elsewhere, "oci://"), "/org/app")
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if !strings.Contains(r.Path, "/blobs/") {
				return nil
			}
			return &registry.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://" + host + r.Path}}}
		})
		get(t, open(t, url, &oci.Options{Client: oci.Client{Keychain: login{"me", "secret"}}}))
		if len(mirror.Requests()) == 0 {
			t.Fatal("nothing was redirected")
		}
		for _, r := range mirror.Requests() {
			if r.Authorization != "" {
				t.Errorf("bearer %v: the other host received %s", bearer, r.Authorization)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "latest")
	for _, test := range []struct {
		status int
		class  error
	}{
		{http.StatusTooManyRequests, source.ErrUnavailable},
		{http.StatusInternalServerError, source.ErrUnavailable},
		{http.StatusForbidden, source.ErrUnauthorized},
		{http.StatusNotFound, source.ErrNotFound},
	} {
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if r.Path == "/v2/" {
				return nil
			}
			return &registry.Fault{Status: test.status, Header: http.Header{"Retry-After": {"17"}}, Body: []byte(`{"errors":[{"code":"DENIED","message":"because"}]}`)}
		})
		srv.ResetRequests()
		err := try(t, open(t, url, nil), test.class)
		var typed *source.Error
		if errors.As(err, &typed) && typed.RetryAfter() != 17*time.Second {
			t.Errorf("%d: retry after %s", test.status, typed.RetryAfter())
		}
		if !strings.Contains(err.Error(), "because") && test.status != http.StatusForbidden {
			t.Errorf("%d: the registry's own words are missing: %v", test.status, err)
		}
		if n := srv.Count("GET", "/manifests/"); n > 1 {
			t.Errorf("%d: tried %d times", test.status, n)
		}
	}
}

func TestFaults(t *testing.T) {
	srv, url := newRegistry(t)
	files := map[string]string{"a": strings.Repeat("some text ", 1000), "b": "c"}
	srv.Tag("org/app", srv.PutImage("org/app", nil, content(t, files)), "latest")
	for _, test := range []struct {
		name  string
		path  string
		fault registry.Fault
		class error
	}{
		{"manifest cut", "/manifests/sha256", registry.Fault{CutAfter: 20}, source.ErrUnavailable},
		{"manifest flipped", "/manifests/sha256", registry.Fault{FlipAt: 200}, source.ErrUnverified},
		{"another manifest", "/manifests/sha256", registry.Fault{Body: []byte(`{"layers":[]}`)}, source.ErrUnverified},
		{"blob cut", "/blobs/", registry.Fault{CutAfter: 20}, source.ErrUnavailable},
		{"blob flipped", "/blobs/", registry.Fault{FlipAt: 40}, source.ErrUnverified},
		{"blob flipped in its last byte", "/blobs/", registry.Fault{FlipAt: len(archive(t, files)) - 1}, source.ErrUnverified},
		{"short blob", "/blobs/", registry.Fault{Body: []byte("x")}, source.ErrUnavailable},
		{"long blob", "/blobs/", registry.Fault{Body: make([]byte, 100_000)}, source.ErrUnverified},
		{"tags that are none", "/tags/", registry.Fault{Body: []byte("<html>")}, source.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv.SetFaults(func(r registry.Request) *registry.Fault {
				if strings.Contains(r.Path, test.path) {
					return &test.fault
				}
				return nil
			})
			opts := &oci.Options{}
			if test.path == "/tags/" {
				opts.Ref.SemVer = "*"
			}
			refuses(t, open(t, url, opts), test.class)
		})
	}
	srv.SetFaults(nil)
	get(t, open(t, url, nil))
}

func TestStalls(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "latest")
	for _, path := range []string{"/v2/", "/manifests/latest", "/manifests/sha256", "/blobs/"} {
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if r.Path == path || path != "/v2/" && strings.Contains(r.Path, path) {
				return &registry.Fault{Stall: true}
			}
			return nil
		})
		refuses(t, open(t, url, &oci.Options{Client: oci.Client{Timeout: 100 * time.Millisecond}}), context.DeadlineExceeded)
	}
}

func TestUnreachable(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "latest")
	gone := httptest.NewServer(srv)
	addr := gone.Listener.Addr().String()
	gone.Close()
	refuses(t, open(t, "oci://"+addr+"/org/app", nil), source.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, url, nil).Resolve(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNextPageOnAnotherHost(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "1.0.0")
	other, elsewhere := newRegistry(t)
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if !strings.Contains(r.Path, "/tags/") {
			return nil
		}
		return &registry.Fault{Status: 200, Body: []byte(`{"tags":["1.0.0"]}`), Header: http.Header{"Link": {`<` + strings.Replace(elsewhere, "oci:", "http:", 1) + `>; rel="next"`}}}
	})
	refuses(t, open(t, url, &oci.Options{Ref: oci.Ref{SemVer: "*"}}), source.ErrUnavailable)
	if n := len(other.Requests()); n > 0 {
		t.Errorf("%d requests to another host", n)
	}
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if !strings.Contains(r.Path, "/tags/") {
			return nil
		}
		return &registry.Fault{Status: 200, Body: []byte(`{"tags":["1.0.0"]}`), Header: http.Header{"Link": {`<` + r.Path + `>; rel="next"`}}}
	})
	refuses(t, open(t, url, &oci.Options{Ref: oci.Ref{SemVer: "*"}, Limits: source.Limits{Files: 50}}), source.ErrLimit)
}

// The password is for the token server that the registry names, and not for
// where that one sends its clients.
func TestTokenServerRedirects(t *testing.T) {
	srv := registry.New()
	srv.Username, srv.Password, srv.Bearer = "me", "secret", true
	url := serve(t, srv)
	put(t, srv, "a", "latest")
	other, elsewhere := newRegistry(t)
	host := strings.TrimSuffix(strings.TrimPrefix(elsewhere, "oci://"), "/org/app")
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if r.Path != "/token" {
			return nil
		}
		return &registry.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://" + host + "/token"}}}
	})
	_, err := open(t, url, &oci.Options{Client: oci.Client{Keychain: login{"me", "secret"}}}).Resolve(t.Context())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
	for _, r := range other.Requests() {
		if r.Authorization != "" {
			t.Errorf("the other host received %s", r.Authorization)
		}
	}
}
