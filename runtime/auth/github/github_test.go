package github_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/auth"
	"github.com/gitopskit/gitopskit/runtime/auth/github"
	"github.com/gitopskit/gitopskit/runtime/chaos"
)

// install makes an installation, which must be possible.
func install(t testing.TB, app github.App, opts *github.Options) *github.Installation {
	t.Helper()
	if app.ID == "" {
		app.ID = "1"
	}
	if app.PrivateKey == nil {
		app.PrivateKey = pkcs1(keys()[0])
	}
	i, err := github.New(app, opts)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestToken: by number and by owner, on github.com's API and that of a server, as PKCS #1 and #8; once for all callers.
func TestToken(t *testing.T) {
	der, err := x509.MarshalPKCS8PrivateKey(keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, c := range map[string]struct {
		app         github.App
		path, owner string
		requests    []string
	}{
		"number":       {app: github.App{InstallationID: 7}, requests: []string{"POST /api/v3/app/installations/7/access_tokens"}},
		"organization": {app: github.App{InstallationOwner: "acme"}, owner: "orgs/acme", requests: []string{"GET /api/v3/orgs/acme/installation", "POST /api/v3/app/installations/7/access_tokens"}},
		"user":         {app: github.App{InstallationOwner: "jane"}, owner: "users/jane", requests: []string{"GET /api/v3/orgs/jane/installation", "GET /api/v3/users/jane/installation", "POST /api/v3/app/installations/7/access_tokens"}},
		"server":       {app: github.App{InstallationID: 7, PrivateKey: pkcs8}, path: "/api/v3", requests: []string{"POST /api/v3/app/installations/7/access_tokens"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &forge{t: t, owner: c.owner}
			s := f.start()
			c.app.BaseURL = s.URL + c.path + "/"
			i := install(t, c.app, &github.Options{Transport: s.Client().Transport})
			for range 3 {
				user, password, err := i.BasicAuth(t.Context())
				if err != nil || user != "x-access-token" || password != "ghs_canary1" {
					t.Fatal(user, password, err)
				}
			}
			token, err := i.Token(t.Context())
			if left := time.Until(token.Expires); err != nil || left < 50*time.Minute || left > time.Hour {
				t.Error(left, err)
			}
			if diff := cmp.Diff(c.requests, f.requests); diff != "" {
				t.Error(diff)
			}
			i.Forget()
			if token, err := i.Token(t.Context()); err != nil || token.Value != "ghs_canary2" {
				t.Error(token, err)
			}
		})
	}
}

// TestNarrow: tokens are asked for with the repositories and permissions that are wanted, and kept apart by them.
func TestNarrow(t *testing.T) {
	f := &forge{t: t}
	s := f.start()
	var hits int
	opts := &github.Options{Transport: s.Client().Transport, Cache: &auth.Cache{Observe: func(e auth.Event) {
		if e == auth.Hit {
			hits++
		}
	}}}
	app := github.App{InstallationID: 7, BaseURL: s.URL}
	if _, err := install(t, app, opts).Token(t.Context()); err != nil || f.body != "{}" {
		t.Errorf("%s, %v", f.body, err)
	}
	app.Repositories, app.Permissions = []string{"fleet"}, map[string]string{"contents": "read"}
	for range 2 { // the second is another object of the same
		if _, err := install(t, app, opts).Token(t.Context()); err != nil || f.body != `{"repositories":["fleet"],"permissions":{"contents":"read"}}` {
			t.Errorf("%s, %v", f.body, err)
		}
	}
	if f.issued != 2 || hits != 1 || opts.Cache.Len() != 2 {
		t.Errorf("%d issued, %d hits, %d kept", f.issued, hits, opts.Cache.Len())
	}
}

// bad checks an error and that it holds no secret.
func bad(t *testing.T, err, want error, says string) {
	t.Helper()
	var e *github.Error
	if !errors.Is(err, want) || !errors.As(err, &e) || !strings.Contains(err.Error(), says) {
		t.Fatalf("%v; want %v and %q", err, want, says)
	}
	all := fmt.Sprintf("%v %+v %#v", err, e, e)
	for _, secret := range []string{"canary", "eyJ", "PRIVATE KEY-----", "MII"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is in %s", secret, all)
		}
	}
}

// TestRefusals: what GitHub says becomes a class, and what to do.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		app      github.App
		skew     time.Duration
		status   int
		header   http.Header
		body     string
		want     error
		says     string
		retry    time.Duration
		requests int
	}{
		"other key":          {app: github.App{PrivateKey: pkcs1(keys()[1])}, want: github.ErrUnauthorized, says: "Integration not found", requests: 1},
		"other app":          {app: github.App{ID: "2"}, want: github.ErrUnauthorized, says: "could not be decoded", requests: 1},
		"clock is behind":    {skew: 20 * time.Minute, want: github.ErrUnauthorized, says: "behind that of the server", requests: 1},
		"clock is ahead":     {skew: -20 * time.Minute, want: github.ErrUnauthorized, says: "ahead of that of the server", requests: 1},
		"not installed":      {app: github.App{InstallationID: 8}, want: github.ErrNotInstalled, says: `"Not Found"`, requests: 1},
		"nobody":             {app: github.App{InstallationOwner: "nobody"}, want: github.ErrNotInstalled, says: "find the installation", requests: 2},
		"suspended":          {status: 403, body: `{"message":"This installation has been suspended"}`, want: github.ErrPermission, says: "suspended", requests: 1},
		"not granted":        {status: 422, body: `{"message":"The permissions requested are not granted"}`, want: github.ErrPermission, says: "not granted", requests: 1},
		"too many":           {status: 429, header: http.Header{"Retry-After": {"7"}}, want: github.ErrRateLimited, retry: 7 * time.Second, requests: 1},
		"too many, for now":  {status: 429, want: github.ErrRateLimited, retry: time.Minute, requests: 1},
		"too many, for ever": {status: 429, header: http.Header{"Retry-After": {"999999999999"}}, want: github.ErrRateLimited, retry: time.Hour, requests: 1},
		"secondary limit":    {status: 403, body: `{"message":"You have exceeded a secondary rate limit"}`, want: github.ErrRateLimited, retry: time.Minute, requests: 1},
		"limit":              {status: 403, header: http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"99999999999"}}, want: github.ErrRateLimited, retry: time.Hour, requests: 1},
		"maintenance":        {status: 503, header: http.Header{"Retry-After": {"90"}}, want: github.ErrUnavailable, retry: 90 * time.Second, requests: 1},
		"redirect":           {status: 302, header: http.Header{"Location": {"https://elsewhere.invalid/"}}, want: github.ErrUnavailable, says: "redirects", requests: 1},
		"garbage":            {status: 200, body: "<html>canary", want: github.ErrUnavailable, says: "not that of the API", requests: 1},
		"nothing":            {status: 201, body: "{}", want: github.ErrUnavailable, says: "no token", requests: 1},
		"line break":         {status: 201, body: `{"token":"canary\nX: y","expires_at":"2099-01-01T00:00:00Z"}`, want: github.ErrUnavailable, says: "no token", requests: 1},
		"no end":             {status: 201, body: `{"token":"canary"}`, want: github.ErrUnavailable, says: "no token", requests: 1},
		"endless":            {status: 200, body: strings.Repeat(" ", 2<<20), want: github.ErrUnavailable, says: "not that of the API", requests: 1},
		"long message":       {status: 403, body: `{"message":"` + strings.Repeat("x", 10_000) + `\u001b[31m"}`, want: github.ErrPermission, says: "…", requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := &forge{t: t, skew: c.skew}
			if c.status != 0 {
				f.answer = func(w http.ResponseWriter, _ *http.Request) {
					for k, v := range c.header {
						w.Header()[k] = v
					}
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
				}
			}
			s := f.start()
			c.app.BaseURL = s.URL
			if c.app.InstallationID == 0 && c.app.InstallationOwner == "" {
				c.app.InstallationID = 7
			}
			i := install(t, c.app, &github.Options{Transport: s.Client().Transport})
			_, err := i.Token(t.Context())
			bad(t, err, c.want, c.says)
			if got, _ := rt.RetryAfter(err); got.Round(time.Minute/60) != c.retry && c.retry > 0 || c.retry == 0 && got != 0 {
				t.Errorf("again after %s", got)
			}
			if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x1b") || rt.IsTerminal(err) || len(f.requests) != c.requests {
				t.Errorf("%d requests, %v", len(f.requests), err)
			}
		})
	}
}

// TestRest: while GitHub wants to be left alone, it is.
func TestRest(t *testing.T) {
	f := &forge{t: t, answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
	}}
	s := f.start()
	i := install(t, github.App{InstallationID: 7, BaseURL: s.URL}, &github.Options{Transport: s.Client().Transport})
	for range 5 {
		_, err := i.Token(t.Context())
		bad(t, err, github.ErrRateLimited, "429")
	}
	if len(f.requests) != 1 {
		t.Errorf("%d requests", len(f.requests))
	}
}

// TestSkew: a clock that is wrong does not make tokens live longer.
func TestSkew(t *testing.T) {
	f := &forge{t: t, skew: -40 * time.Second} // little enough for the assertion
	s := f.start()
	token, err := install(t, github.App{InstallationID: 7, BaseURL: s.URL}, &github.Options{Transport: s.Client().Transport}).Token(t.Context())
	if left := time.Until(token.Expires); err != nil || left < 59*time.Minute+50*time.Second {
		t.Errorf("%s is left, %v: it lives an hour by the clock of the server", left, err)
	}
}

// TestMoved: an installation that was made anew is found again by its owner.
func TestMoved(t *testing.T) {
	f := &forge{t: t, owner: "orgs/acme"}
	s := f.start()
	i := install(t, github.App{InstallationOwner: "acme", BaseURL: s.URL}, &github.Options{Transport: s.Client().Transport})
	if _, err := i.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := 0
	f.mu.Lock()
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/api/v3/orgs/acme/installation":
			_, _ = fmt.Fprint(w, `{"id": 9}`)
		case "/api/v3/app/installations/9/access_tokens":
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, `{"token": "new", "expires_at": "2099-01-01T00:00:00Z"}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
	f.mu.Unlock()
	i.Forget()
	if token, err := i.Token(t.Context()); err != nil || token.Value != "new" || asked != 3 {
		t.Error(token, err, asked)
	}
}

// direct calls a handler without a network, for tests in a bubble of time.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// TestFaults: what passes is tried again, and what does not is told; the end of the caller ends it.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		faults   []chaos.Fault
		requests int
		took     time.Duration
		err      error
	}{
		"twice":        {[]chaos.Fault{{Kind: chaos.Internal}, {Kind: chaos.Unavailable}}, 3, 2500 * time.Millisecond, nil},
		"reset":        {[]chaos.Fault{{Kind: chaos.Reset}}, 2, 500 * time.Millisecond, nil},
		"cut":          {[]chaos.Fault{{Kind: chaos.Cut}}, 2, 500 * time.Millisecond, nil},
		"lost":         {[]chaos.Fault{{Kind: chaos.Lost}}, 2, 500 * time.Millisecond, nil},
		"hang":         {[]chaos.Fault{{Kind: chaos.Hang}}, 2, 30*time.Second + 500*time.Millisecond, nil},
		"three times":  {[]chaos.Fault{{Kind: chaos.Internal}, {Kind: chaos.Internal}, {Kind: chaos.Internal}}, 3, 2500 * time.Millisecond, github.ErrUnavailable},
		"for ever":     {[]chaos.Fault{{Kind: chaos.Hang}, {Kind: chaos.Hang}, {Kind: chaos.Hang}}, 2, 45 * time.Second, context.DeadlineExceeded},
		"short answer": {[]chaos.Fault{{Kind: chaos.Short}}, 1, 0, github.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			keys() // outside of the bubble
			synctest.Test(t, func(t *testing.T) {
				faults := &chaos.Faults{Rules: []chaos.Rule{{Times: len(c.faults), Faults: c.faults}}}
				i := install(t, github.App{InstallationID: 7, BaseURL: "https://forge.invalid"}, &github.Options{Transport: faults.Wrap(direct{&forge{t: t}})})
				ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
				defer cancel()
				begin := time.Now()
				_, err := i.Token(ctx)
				if !errors.Is(err, c.err) || time.Since(begin) != c.took || len(faults.Journal()) != c.requests {
					t.Errorf("%v after %s and %d requests", err, time.Since(begin), len(faults.Journal()))
				}
				synctest.Wait()
			})
		})
	}
}

// TestTransport: the API and the repositories that belong to it get tokens, nobody else; a token that was refused is
// replaced once.
func TestTransport(t *testing.T) {
	f := &forge{t: t}
	s := f.start()
	i := install(t, github.App{InstallationID: 7, BaseURL: s.URL + "/api/v3"}, &github.Options{Transport: s.Client().Transport})
	client := &http.Client{Transport: i.Transport(s.Client().Transport)}
	send := func(url, authorization string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader("question"))
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for _, path := range []string{"/api/v3/repos/acme/fleet", "/acme/fleet.git/info/refs"} {
		if code := send(s.URL+path, ""); code != 200 {
			t.Errorf("%s: %d", path, code)
		}
	}
	f.mu.Lock()
	f.tokens = map[string]bool{} // they are revoked
	f.mu.Unlock()
	if code := send(s.URL+"/acme/fleet.git/info/refs", ""); code != 200 || f.issued != 2 {
		t.Errorf("with a revoked token: %d, %d issued", code, f.issued)
	}
	if code := send(s.URL+"/acme/fleet.git/info/refs", "Bearer own"); code != 401 || f.issued != 2 {
		t.Errorf("with another authorization: %d", code)
	}
	other := &forge{t: t}
	other.answer = func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("another host gets %q", a)
		}
	}
	if code := send(other.start().URL+"/acme/fleet.git", ""); code != 200 {
		t.Error(code)
	}
	client.CloseIdleConnections()
}

// TestHosts: which hosts belong to an API.
func TestHosts(t *testing.T) {
	var got []string
	record := chaosFree(func(r *http.Request) (*http.Response, error) {
		kind, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got = append(got, r.URL.Scheme+"://"+r.URL.Host+r.URL.Path+" "+kind)
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	for base, urls := range map[string][]string{
		"":                              {"https://api.github.com/x Bearer", "https://github.com/a/b.git Basic", "https://GitHub.com/a Basic", "http://github.com/a ", "https://api.github.com.evil.invalid/ ", "https://gist.github.com/ ", "https://github.com:444/ "},
		"https://api.acme.ghe.com":      {"https://api.acme.ghe.com/x Bearer", "https://acme.ghe.com/a/b.git Basic", "https://ghe.com/ ", "https://github.com/ "},
		"https://git.invalid/api/v3":    {"https://git.invalid/api/v3/x Bearer", "https://git.invalid/api/graphql Bearer", "https://git.invalid/a/b.git Basic", "https://api.git.invalid/ "},
		"https://bare.invalid":          {"https://bare.invalid/api/v3/x Bearer", "https://bare.invalid/a Basic"},
		"https://git.invalid:8/api/v3/": {"https://git.invalid:8/a Basic", "https://git.invalid/a "},
	} {
		got = nil
		cache := &auth.Cache{}
		i := install(t, github.App{InstallationID: 7, BaseURL: base}, &github.Options{Cache: cache, Transport: chaosFree(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.WriteHeader(http.StatusCreated)
			_, _ = w.WriteString(`{"token": "t", "expires_at": "2099-01-01T00:00:00Z"}`)
			return w.Result(), nil
		})})
		for _, u := range urls {
			u, _, _ = strings.Cut(u, " ")
			r, err := http.NewRequestWithContext(t.Context(), "GET", u, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := i.Transport(record).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if !slices.Equal(got, urls) {
			t.Errorf("%q: %q, want %q", base, got, urls)
		}
	}
}

type chaosFree func(*http.Request) (*http.Response, error)

func (f chaosFree) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNew: everything that is wrong is said at once, and keys are refused by what they are.
func TestNew(t *testing.T) {
	_, err := github.New(github.App{}, nil)
	for _, want := range []string{"id of the App", "installation is missing", "private key is missing"} {
		bad(t, err, github.ErrInvalid, want)
		if !rt.IsTerminal(err) {
			t.Error(err)
		}
	}
	good := pkcs1(keys()[0])
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curveDER, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	}
	for name, c := range map[string]struct {
		key  []byte
		says string
	}{
		"garbage":   {[]byte("canary"), "not in PEM form"},
		"weak":      {pkcs1(weak), "1024 bits"},
		"curve":     {block("PRIVATE KEY", curveDER), "not of the kind RSA"},
		"ec":        {block("EC PRIVATE KEY", []byte("canary")), "EC PRIVATE KEY"},
		"openssh":   {block("OPENSSH PRIVATE KEY", []byte("canary")), "OPENSSH PRIVATE KEY"},
		"public":    {block("PUBLIC KEY", []byte("canary")), "PUBLIC KEY"},
		"encrypted": {block("ENCRYPTED PRIVATE KEY", []byte("canary")), "is encrypted"},
		"passwords": {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "canary"}, Bytes: []byte("canary")}), "is encrypted"},
		"damaged":   {block("RSA PRIVATE KEY", []byte("canary")), "is damaged"},
		"damaged 8": {block("PRIVATE KEY", []byte("canary")), "is damaged"},
		"other":     {block("CANARY", []byte("canary")), "another kind"},
		"two":       {append(slices.Clone(good), good...), "something follows"},
		"long":      {append(slices.Clone(good), make([]byte, 1<<20)...), "64 KiB"},
	} {
		_, err := github.New(github.App{ID: "1", InstallationID: 7, PrivateKey: c.key}, nil)
		bad(t, err, github.ErrInvalid, c.says)
		if !rt.IsTerminal(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		app  github.App
		says string
	}{
		"http":        {github.App{BaseURL: "http://git.invalid/api/v3"}, "not https"},
		"site":        {github.App{BaseURL: "https://github.com"}, "that of the site"},
		"credentials": {github.App{BaseURL: "https://canary:canary@git.invalid"}, "more than a host"},
		"query":       {github.App{BaseURL: "https://git.invalid?x=canary"}, "more than a host"},
		"garbage":     {github.App{BaseURL: "canary"}, "no URL of a server"},
		"both":        {github.App{InstallationOwner: "acme"}, "both an id and an owner"},
		"negative":    {github.App{InstallationID: -1}, "negative"},
		"id":          {github.App{ID: "canary canary"}, "neither a number"},
	} {
		if c.app.ID == "" {
			c.app.ID = "1"
		}
		if c.app.InstallationID == 0 {
			c.app.InstallationID = 7
		}
		c.app.PrivateKey = good
		_, err := github.New(c.app, nil)
		bad(t, err, github.ErrInvalid, c.says)
		if !strings.HasPrefix(err.Error(), "github app ") {
			t.Error(name, err)
		}
	}
	_, err = github.New(github.App{ID: "1", InstallationOwner: "../../user", PrivateKey: good}, nil)
	bad(t, err, github.ErrInvalid, "no name of an organization")
	if s := fmt.Sprintf("%v %+v %#v", github.App{ID: "1", PrivateKey: good}, github.App{PrivateKey: good}, github.App{PrivateKey: good}); strings.Contains(s, "PRIVATE") {
		t.Error(s)
	}
	if _, err := github.New(github.App{ID: "1", InstallationID: 7, PrivateKey: append([]byte("\n"), append(good, "\n\n"...)...)}, nil); err != nil {
		t.Error(err)
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nY2FuYXJ5\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := github.New(github.App{ID: "1", InstallationID: 7, PrivateKey: data}, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, github.ErrInvalid) || len(err.Error()) > 300 {
			t.Error(err)
		}
	})
}

func Example() {
	_, err := github.New(github.App{ID: "123456", InstallationOwner: "example", PrivateKey: []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n")}, nil)
	fmt.Println(err)
	// Output: github app 123456: check: invalid: it is no private key of a GitHub App, but of the kind OPENSSH PRIVATE KEY
}
