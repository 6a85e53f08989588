package image_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/internal/registry"
)

func TestScanPages(t *testing.T) {
	srv := registry.New()
	srv.PageSize = 100
	var want []string
	for i := range 2_500 {
		want = append(want, fmt.Sprintf("1.0.%d", i))
	}
	put(srv, "a", want...)
	tags := scan(t, open(t, serve(t, srv), nil))
	slices.Sort(want)
	if diff := cmp.Diff(want, tags.Names); diff != "" {
		t.Error(diff)
	}
	if n := srv.Count("GET", "/tags/list"); n > 26 {
		t.Errorf("%d requests for 25 pages", n)
	}
	best, err := image.SemVer{Range: "1.0.x"}.Select(tags.All())
	if err != nil || best != (image.Selection{Tag: "1.0.2499", Value: "1.0.2499", Considered: 2500, Matched: 2500}) {
		t.Error(best, err)
	}
	if got := tags.Latest(2); !slices.Equal(got, []string{"1.0.999", "1.0.998"}) {
		t.Error(got)
	}
	if got := len(tags.Latest(10_000)) + len(tags.Latest(-1)); got != 2_500 {
		t.Error(got)
	}
}

func TestScanSifts(t *testing.T) {
	srv := registry.New()
	put(srv, "a", "2.0", "1.0", "sha256-1.sig", "latest")
	name := serve(t, srv)
	for _, test := range []struct {
		exclude []string
		want    []string
	}{
		{nil, []string{"1.0", "2.0", "latest"}},
		{[]string{}, []string{"1.0", "2.0", "latest", "sha256-1.sig"}},
		{[]string{"^sha256-", "0$"}, []string{"latest"}},
	} {
		tags := scan(t, open(t, name, &image.ScannerOptions{Exclude: test.exclude}))
		if diff := cmp.Diff(test.want, tags.Names); diff != "" || tags.Excluded != 4-len(test.want) {
			t.Errorf("%q: %d excluded, %s", test.exclude, tags.Excluded, diff)
		}
	}
	srv.SetFaults(func(registry.Request) *registry.Fault {
		return &registry.Fault{Status: 200, Body: []byte(`{"tags":["b","a\n  evil: true","b","` + strings.Repeat("x", 200) + `","a","-","../x"]}`)}
	})
	got := scan(t, open(t, name, nil))
	want := &image.Tags{Image: name, Names: []string{"a", "b"}, Malformed: 4}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The values are those of sha256sum for the tags, one a line, the greatest first.
func TestRevision(t *testing.T) {
	for revision, names := range map[string][]string{
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855": nil,
		"sha256:aea8a04c2f293417e499bf5de2def8ebb1ed40264d128a67180ea56fbe4600ff": {"a", "b"},
	} {
		if got := (&image.Tags{Names: names}).Revision(); got != revision {
			t.Errorf("%v: %s", names, got)
		}
	}
}

// One ping and one token serve all scans; a withdrawn one is replaced.
func TestScanKeepsToken(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "s3cret", bearer
		put(srv, "a", "1.0.0")
		s := open(t, serve(t, srv), &image.ScannerOptions{Client: image.Client{Keychain: login{"me", "s3cret"}}})
		for range 100 {
			scan(t, s)
		}
		if n := len(srv.Requests()) - srv.Count("GET", "/tags/list"); srv.Count("GET", "/tags/list") != 100 || n > 2 {
			t.Errorf("bearer %v: %d requests besides the lists", bearer, n)
		}
		srv.ResetRequests()
		srv.ExpireTokens()
		scan(t, s)
		if n := len(srv.Requests()); n > 5 {
			t.Errorf("bearer %v: %d requests after the token was withdrawn", bearer, n)
		}
	}
}

// A Keychain is asked again when what it said before is refused.
func TestCredentialsRotate(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "first", bearer
		put(srv, "a", "1.0.0")
		now := &login{"me", "first"}
		s := open(t, serve(t, srv), &image.ScannerOptions{Client: image.Client{Keychain: now}})
		scan(t, s)
		srv.Password, now.password = "second", "second"
		srv.ExpireTokens()
		scan(t, s)
	}
}

func TestUnauthorized(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "right-s3cret", bearer
		put(srv, "a", "1.0.0")
		name := serve(t, srv)
		for _, client := range []image.Client{{}, {Keychain: login{"me", "wrong-s3cret"}}} {
			_, err := open(t, name, &image.ScannerOptions{Client: client}).Scan(t.Context())
			fails(t, err, image.ErrUnauthorized, "scan "+name)
			srv.ResetRequests()
			_, err = open(t, name, &image.ScannerOptions{Client: client}).Digest(t.Context(), "1.0.0")
			fails(t, err, image.ErrUnauthorized, "digest "+name)
			if n := srv.Count("", "/manifests/"); n > 1 {
				t.Errorf("%d requests without credentials", n)
			}
		}
	}
}

func TestTLS(t *testing.T) {
	srv := registry.New()
	web := httptest.NewTLSServer(srv)
	defer web.Close()
	web.Config.ErrorLog = quiet()
	put(srv, "a", "1.0.0")
	name := web.Listener.Addr().String() + "/org/app"
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	s, err := image.NewScanner(name, &image.ScannerOptions{Client: image.Client{CAs: ca}})
	if err != nil {
		t.Fatal(err)
	}
	scan(t, s)
	srv.ResetRequests()
	_, err = open(t, name, nil).Scan(t.Context())
	fails(t, err, image.ErrUnavailable)
	if n := len(srv.Requests()); n > 0 {
		t.Errorf("%d requests to a server that nobody vouches for", n)
	}
}

// Plain HTTP has to be allowed, also on this machine.
func TestPlainHTTPIsSpelledOut(t *testing.T) {
	srv := registry.New()
	put(srv, "a", "1.0.0")
	s, err := image.NewScanner(serve(t, srv), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Scan(t.Context())
	fails(t, err, image.ErrUnavailable, "Client.Insecure")
	if n := len(srv.Requests()); n > 0 {
		t.Errorf("%d requests by plain HTTP", n)
	}
}

func TestAnswers(t *testing.T) {
	srv := registry.New()
	put(srv, "a", "1.0.0")
	name := serve(t, srv)
	for _, test := range []struct {
		status int
		class  error
	}{
		{http.StatusTooManyRequests, image.ErrUnavailable},
		{http.StatusInternalServerError, image.ErrUnavailable},
		{http.StatusForbidden, image.ErrUnauthorized},
		{http.StatusNotFound, image.ErrNotFound},
	} {
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if r.Path == "/v2/" {
				return nil
			}
			return &registry.Fault{Status: test.status, Header: http.Header{"Retry-After": {"17"}}, Body: []byte(`{"errors":[{"code":"DENIED","message":"because"}]}`)}
		})
		_, err := open(t, name, nil).Scan(t.Context())
		fails(t, err, test.class, fmt.Sprint(test.status))
		var typed *image.Error
		if errors.As(err, &typed) && typed.RetryAfter() != 17*time.Second {
			t.Errorf("%d: retry after %s", test.status, typed.RetryAfter())
		}
	}
	srv.SetFaults(nil)
	_, err := open(t, strings.Replace(name, "/app", "/other", 1), nil).Scan(t.Context())
	fails(t, err, image.ErrNotFound)
	_, err = open(t, name, nil).Digest(t.Context(), "missing")
	fails(t, err, image.ErrNotFound)
	srv.SetFaults(func(registry.Request) *registry.Fault { return &registry.Fault{Status: 200, Body: []byte("<html>")} })
	_, err = open(t, name, nil).Scan(t.Context())
	fails(t, err, image.ErrUnavailable)
}

func TestLimits(t *testing.T) {
	srv := registry.New()
	srv.PageSize = 10
	for i := range 100 {
		put(srv, "a", fmt.Sprint(i))
	}
	name := serve(t, srv)
	for want, limits := range map[string]image.Limits{
		"Limits.Tags":     {Tags: 99},
		"Limits.Pages":    {Pages: 9},
		"Limits.Download": {Download: 200},
	} {
		_, err := open(t, name, &image.ScannerOptions{Limits: limits}).Scan(t.Context())
		fails(t, err, image.ErrLimit, want)
	}
	scan(t, open(t, name, &image.ScannerOptions{Limits: image.Limits{Tags: 100, Pages: image.Unlimited}}))
	srv.SetFaults(func(r registry.Request) *registry.Fault { // the same page for ever
		return &registry.Fault{Status: 200, Body: []byte(`{"tags":["1"]}`), Header: http.Header{"Link": {`<` + r.Path + `?` + r.Query + `>; rel="next"`}}}
	})
	_, err := open(t, name, nil).Scan(t.Context())
	fails(t, err, image.ErrUnavailable, "circles")
	pages := 0
	srv.SetFaults(func(r registry.Request) *registry.Fault { // pages of nothing, each elsewhere
		pages++
		return &registry.Fault{Status: 200, Body: []byte(`{"tags":[]}`), Header: http.Header{"Link": {fmt.Sprintf(`<%s?n=%d>; rel="next"`, r.Path, pages)}}}
	})
	_, err = open(t, name, nil).Scan(t.Context())
	fails(t, err, image.ErrUnavailable, "circles")
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if r.Method == http.MethodHead {
			return &registry.Fault{Status: http.StatusMethodNotAllowed}
		}
		return &registry.Fault{Status: 200, Body: make([]byte, 5<<20)}
	})
	_, err = open(t, name, nil).Digest(t.Context(), "1")
	fails(t, err, image.ErrLimit, "manifest")
}

func TestNextPageElsewhere(t *testing.T) {
	srv, other := registry.New(), registry.New()
	srv.Username, srv.Password = "me", "s3cret"
	put(srv, "a", "1.0.0")
	name, elsewhere := serve(t, srv), serve(t, other)
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if !strings.Contains(r.Path, "/tags/") {
			return nil
		}
		return &registry.Fault{Status: 200, Body: []byte(`{"tags":["1"]}`), Header: http.Header{"Link": {`<http://` + elsewhere + `>; rel="next"`}}}
	})
	_, err := open(t, name, &image.ScannerOptions{Client: image.Client{Keychain: login{"me", "s3cret"}}}).Scan(t.Context())
	fails(t, err, image.ErrUnavailable, "Link")
	if n := len(other.Requests()); n > 0 {
		t.Errorf("%d requests to another host", n)
	}
}

// A registry of https never leads to plain HTTP, by a page or by a redirect, and
// redirects end.
func TestRedirectDown(t *testing.T) {
	srv, plain := registry.New(), registry.New()
	web := httptest.NewTLSServer(srv)
	defer web.Close()
	host := web.Listener.Addr().String()
	elsewhere, _, _ := strings.Cut(serve(t, plain), "/")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	s := open(t, host+"/org/app", &image.ScannerOptions{Client: image.Client{CAs: ca}})
	for text, fault := range map[string]registry.Fault{
		"the header Link":      {Status: 200, Body: []byte(`{"tags":["1"]}`), Header: http.Header{"Link": {`<http://` + host + `/v2/org/app/tags/list?n=1>; rel="next"`}}},
		"refused to follow":    {Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://" + elsewhere + "/v2/org/app/tags/list"}}},
		"more than 5 redirect": {Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"https://" + host + "/v2/org/app/tags/list"}}},
	} {
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if !strings.Contains(r.Path, "/tags/") {
				return nil
			}
			return &fault
		})
		_, err := s.Scan(t.Context())
		fails(t, err, image.ErrUnavailable, text)
	}
	if n := len(plain.Requests()); n > 0 {
		t.Errorf("%d requests by plain HTTP", n)
	}
}

// Credentials stay where they belong.
func TestRedirectElsewhere(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv, mirror := registry.New(), registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "s3cret", bearer
		put(mirror, "a", "1.0.0")
		name, elsewhere := serve(t, srv), serve(t, mirror)
		srv.SetFaults(func(r registry.Request) *registry.Fault {
			if !strings.Contains(r.Path, "/tags/") {
				return nil
			}
			host, _, _ := strings.Cut(elsewhere, "/")
			return &registry.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"http://" + host + r.Path}}}
		})
		scan(t, open(t, name, &image.ScannerOptions{Client: image.Client{Keychain: login{"me", "s3cret"}}}))
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

func TestTimeAndContext(t *testing.T) {
	srv := registry.New()
	put(srv, "a", "1.0.0")
	name := serve(t, srv)
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if strings.Contains(r.Path, "/tags/") {
			return &registry.Fault{Stall: true}
		}
		return nil
	})
	_, err := open(t, name, &image.ScannerOptions{Client: image.Client{Timeout: 50 * time.Millisecond}}).Scan(t.Context())
	fails(t, err, context.DeadlineExceeded, "in time")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = open(t, name, &image.ScannerOptions{Client: image.Client{Timeout: -1}}).Scan(ctx)
	fails(t, err, context.Canceled)
	gone := httptest.NewServer(srv)
	gone.Close()
	_, err = open(t, gone.Listener.Addr().String()+"/org/app", nil).Scan(t.Context())
	fails(t, err, image.ErrUnavailable)
	if strings.Contains(err.Error(), "/v2/") {
		t.Errorf("the URL is in the error: %v", err)
	}
}

func TestReflect(t *testing.T) {
	srv := registry.New()
	first := put(srv, "a", "1.0.0")
	put(srv, "b", "2.0.0")
	name := serve(t, srv)
	s := open(t, name, nil)
	next := image.Ref{Name: name, Tag: "1.0.0"}
	reflect := func(policy image.DigestPolicy, previous image.Ref, requests int) image.Ref {
		t.Helper()
		srv.ResetRequests()
		got, err := s.Reflect(t.Context(), policy, previous, next)
		if err != nil {
			t.Fatal(err)
		}
		if n := srv.Count("", "/manifests/"); n != requests {
			t.Errorf("%s: %d requests", policy, n)
		}
		return got
	}
	pinned := image.Ref{Name: name, Tag: "1.0.0", Digest: first}
	if got := reflect("", pinned, 0); got != next {
		t.Error(got)
	}
	if got := reflect(image.IfNotPresent, image.Ref{}, 1); got != pinned {
		t.Error(got)
	}
	second := put(srv, "c", "1.0.0")
	if got := reflect(image.IfNotPresent, pinned, 0); got != pinned {
		t.Error(got)
	}
	if got := reflect(image.IfNotPresent, image.Ref{Name: name, Tag: "2.0.0", Digest: first}, 1); got.Digest != second {
		t.Error(got)
	}
	if got := reflect(image.IfNotPresent, image.Ref{Name: "old/name", Tag: "1.0.0", Digest: first}, 1); got.Digest != second || got.Name != name {
		t.Error(got)
	}
	if got := reflect(image.Always, pinned, 1); got.Digest != second {
		t.Error(got)
	}
	srv.NoHead = true
	if got := reflect(image.Always, pinned, 2); got.Digest != second {
		t.Error(got)
	}
	_, err := s.Reflect(t.Context(), "Sometimes", pinned, next)
	fails(t, err, image.ErrInvalid, "IfNotPresent")
	_, err = s.Digest(t.Context(), "a/../b")
	fails(t, err, image.ErrInvalid)
}
