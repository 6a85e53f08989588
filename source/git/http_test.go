package git_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

func TestCredentials(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	basic := func() { srv.Username, srv.Password, srv.Token = "me", "pa:ss", "" }
	token := func() { srv.Username, srv.Password, srv.Token = "", "", "t0ken" }
	for _, test := range []struct {
		name   string
		demand func()
		auth   git.Auth
		want   error
	}{
		{"basic", basic, git.Basic{Username: "me", Password: "pa:ss"}, nil},
		{"wrong password", basic, git.Basic{Username: "me", Password: "s3cret"}, source.ErrUnauthorized},
		{"none", basic, nil, source.ErrUnauthorized},
		{"empty", basic, git.Basic{}, source.ErrUnauthorized},
		{"token", token, git.Token("t0ken"), nil},
		{"wrong token", token, git.Token("s3cret"), source.ErrUnauthorized},
		{"func", token, git.AuthFunc(func(context.Context) (git.Auth, error) { return git.Token("t0ken"), nil }), nil},
		{"func fails", token, git.AuthFunc(func(context.Context) (git.Auth, error) { return nil, errors.New("vault is sealed") }), source.ErrUnauthorized},
		{"func is wrong", token, git.AuthFunc(func(context.Context) (git.Auth, error) { return git.SSH{}, nil }), source.ErrInvalidSpec},
	} {
		test.demand()
		src := newSource(t, url+"/app.git", &git.Options{Auth: test.auth})
		rev, err := src.Resolve(t.Context())
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
		if err != nil {
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: the error contains the secret: %v", test.name, err)
			}
			continue
		}
		if _, err := fetch(t, src, rev).ReadFile("a"); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// Credentials that change between calls are asked for again.
func TestAuthFuncRotates(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	n := 0
	src := newSource(t, url+"/app.git", &git.Options{Auth: git.AuthFunc(func(context.Context) (git.Auth, error) {
		n++
		return git.Token(fmt.Sprint("token-", n)), nil
	})})
	for i := range 3 {
		srv.Token = fmt.Sprint("token-", i+1)
		if _, err := src.Resolve(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// GitLab refuses an empty Authorization header even for public repositories.
func TestNoEmptyAuthorization(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	for _, auth := range []git.Auth{nil, git.Basic{}, git.Token("")} {
		srv.ResetTraffic()
		get(t, newSource(t, url+"/app.git", &git.Options{Auth: auth}))
		for _, r := range srv.Traffic().Seen {
			if r.Authorization != "" {
				t.Errorf("%T: sent Authorization %q", auth, r.Authorization)
			}
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	for _, auth := range []git.Auth{git.Basic{Username: "u", Password: "s3cret"}, git.Token("s3cret"), git.SSH{PrivateKey: []byte("s3cret"), Passphrase: []byte("s3cret")}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(format, auth); strings.Contains(text, "s3cret") || strings.Contains(text, "115") {
				t.Errorf("%s of %T: %s", format, auth, text)
			}
		}
	}
}

// redirector answers the first request with a redirect of the path to another server.
func redirector(t *testing.T, to string, seen *atomic.Value) string {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization"))
		http.Redirect(w, r, to+r.URL.RequestURI(), http.StatusFound)
	}))
	t.Cleanup(web.Close)
	return web.URL
}

// CVE-2026-41506: a redirect to another host must not carry the credentials.
func TestRedirectToAnotherHost(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	var seen atomic.Value
	first := redirector(t, url, &seen)
	src := newSource(t, first+"/app.git", &git.Options{Auth: git.Basic{Username: "me", Password: "s3cret"}})
	get(t, src)
	if seen.Load() == "" {
		t.Error("the first host got no credentials")
	}
	for _, r := range srv.Traffic().Seen {
		if r.Authorization != "" {
			t.Errorf("the other host got credentials for %s", r.Path)
		}
	}
}

func TestRedirectOnTheSameHost(t *testing.T) {
	srv, _ := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	srv.Username, srv.Password = "me", "pw"
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, ok := strings.CutPrefix(r.URL.Path, "/app/"); ok {
			http.Redirect(w, r, "/app.git/"+path+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
			return
		}
		srv.ServeHTTP(w, r)
	}))
	defer web.Close()
	get(t, newSource(t, web.URL+"/app", &git.Options{Auth: git.Basic{Username: "me", Password: "pw"}}))
}

func TestRedirectsThatAreRefused(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	var target atomic.Value
	srv.SetFaults(func(r gitserver.Request) *gitserver.Fault {
		if strings.HasSuffix(r.Path, "/info/refs") != strings.HasPrefix(target.Load().(string), "GET ") {
			return nil
		}
		_, to, _ := strings.Cut(target.Load().(string), " ")
		return &gitserver.Fault{Status: http.StatusTemporaryRedirect, Header: http.Header{"Location": {to}}}
	})
	for name, to := range map[string]string{
		"post":       "POST " + url + "/app.git/git-upload-pack",
		"loop":       "GET " + url + "/app.git/info/refs?service=git-upload-pack",
		"file":       "GET file:///etc/passwd",
		"userinfo":   "GET http://me:s3cret@127.0.0.1/app.git/info/refs?service=git-upload-pack",
		"no target":  "GET ",
		"other page": "GET " + url + "/login",
	} {
		target.Store(to)
		_, err := newSource(t, url+"/app.git", nil).Resolve(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cret") || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	secure := httptest.NewTLSServer(http.RedirectHandler(url+"/app.git/info/refs", http.StatusFound))
	defer secure.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	_, err := newSource(t, secure.URL+"/app.git", &git.Options{CAs: ca}).Resolve(t.Context())
	if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "refused to follow") {
		t.Errorf("https to http: got %v", err)
	}
}

func TestTLS(t *testing.T) {
	srv, _ := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	web := httptest.NewUnstartedServer(srv)
	web.EnableHTTP2 = true
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // it would tell of the client that refuses its certificate
	web.StartTLS()
	defer web.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	get(t, newSource(t, web.URL+"/app.git", &git.Options{CAs: ca}))
	transport := web.Client().Transport.(*http.Transport)
	get(t, newSource(t, web.URL+"/app.git", &git.Options{TLS: transport.TLSClientConfig}))
	get(t, newSource(t, web.URL+"/app.git", &git.Options{Transport: transport}))
	transport.CloseIdleConnections()

	_, err := newSource(t, web.URL+"/app.git", nil).Resolve(t.Context())
	if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("unknown CA: got %v, want ErrUnavailable with x509", err)
	}
}

func TestUnreachable(t *testing.T) {
	_, err := newSource(t, "http://no-such-host.invalid/app.git", nil).Resolve(t.Context())
	if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("unknown host: got %v", err)
	}
	web := httptest.NewServer(nil)
	web.Close()
	if _, err := newSource(t, web.URL+"/app.git", nil).Resolve(t.Context()); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("refused: got %v", err)
	}
}

func TestStatus(t *testing.T) {
	for code, want := range map[int]error{
		401: source.ErrUnauthorized, 403: source.ErrUnauthorized, 404: source.ErrNotFound, 410: source.ErrNotFound,
		429: source.ErrUnavailable, 500: source.ErrUnavailable, 503: source.ErrUnavailable, 204: source.ErrUnavailable, 200: source.ErrNotFound,
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(code)
		}))
		_, err := newSource(t, web.URL+"/app.git", nil).Resolve(t.Context())
		web.Close()
		if !errors.Is(err, want) {
			t.Errorf("%d: got %v, want %v", code, err, want)
		}
		var delay interface{ RetryAfter() time.Duration }
		if !errors.As(err, &delay) || (code == 429 || code == 503) && delay.RetryAfter() != 7*time.Second {
			t.Errorf("%d: Retry-After is lost", code)
		}
	}
}

// faults applies a fault to the answers with content: the POST requests.
func faults(srv *gitserver.Server, f *gitserver.Fault) {
	srv.SetFaults(func(r gitserver.Request) *gitserver.Fault {
		if strings.HasSuffix(r.Path, "/git-upload-pack") {
			return f
		}
		return nil
	})
}

// sizeOfFetch is how many bytes the server sends in answer to a fetch.
func sizeOfFetch(t *testing.T, srv *gitserver.Server, src *git.Source, rev source.Revision) int64 {
	t.Helper()
	srv.ResetTraffic()
	fetch(t, src, rev)
	return srv.Traffic().Sent
}

func TestCutConnections(t *testing.T) {
	srv, url := newServer(t)
	fill(t, srv)
	dir := t.TempDir()
	src := newSource(t, url+"/app.git", &git.Options{TempDir: dir})
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := sizeOfFetch(t, srv, src, rev)
	for i := range int64(20) { // the last in the trailer: git may use a packet more or less, of 5 bytes
		faults(srv, &gitserver.Fault{CutAfter: 1 + i*(total-24)/19})
		if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("cut %d/20: got %v, want ErrUnavailable", i, err)
		}
	}
	srv.SetFaults(nil)
	fetch(t, src, rev)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFlippedBytes(t *testing.T) {
	srv, url := newServer(t)
	fill(t, srv)
	src := newSource(t, url+"/app.git", nil)
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := sizeOfFetch(t, srv, src, rev)
	want := contents(t, fetch(t, src, rev))
	for i := range int64(25) {
		faults(srv, &gitserver.Fault{FlipAt: 1 + i*(total-6)/24})
		a, err := src.Fetch(t.Context(), rev)
		if err != nil {
			continue
		}
		// A flip may hit a progress packet, which means nothing.
		if got := contents(t, a); len(got) != len(want) {
			t.Errorf("flip %d: fetched other content", i)
		}
		_ = a.Close()
	}
	faults(srv, &gitserver.Fault{FlipAt: total / 2}) // inside the pack
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrUnverified) {
		t.Errorf("a flip inside the pack: got %v, want ErrUnverified", err)
	}
}

func TestStalls(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a": "1"})
	src := newSource(t, url+"/app.git", &git.Options{Timeout: 150 * time.Millisecond})
	rev, err := newSource(t, url+"/app.git", nil).Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	faults(srv, &gitserver.Fault{Stall: true})
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("fetch: got %v, want DeadlineExceeded", err)
	}
	srv.SetFaults(func(gitserver.Request) *gitserver.Fault { return &gitserver.Fault{Stall: true} })
	if _, err := src.Resolve(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("resolve: got %v, want DeadlineExceeded", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = newSource(t, url+"/app.git", nil).Resolve(ctx)
	if !errors.Is(err, context.Canceled) || errors.Is(err, source.ErrUnavailable) {
		t.Errorf("cancel: got %v, want Canceled alone", err)
	}
}

// A server that never stops talking is cut off.
func TestFloods(t *testing.T) {
	for name, start := range map[string]string{
		"refs": "001e# service=git-upload-pack\n0000", "capabilities": "001e# service=git-upload-pack\n0000000eversion 2\n",
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(w, start)
			for i := 0; r.Context().Err() == nil; i++ {
				line := fmt.Sprintf("%040x refs/heads/%d\n", i, i)
				if _, err := fmt.Fprintf(w, "%04x%s", len(line)+4, line); err != nil {
					return
				}
			}
		}))
		_, err := newSource(t, web.URL+"/app.git", &git.Options{Limits: source.Limits{Download: 1 << 20}}).Resolve(t.Context())
		web.CloseClientConnections()
		web.Close()
		if !errors.Is(err, source.ErrLimit) {
			t.Errorf("%s: got %v, want ErrLimit", name, err)
		}
	}
}
