package helmrepo_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/repo"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/helmrepo"
	"github.com/gitopskit/gitopskit/source/oci"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

func TestSource(t *testing.T) {
	srv, url := newServer(t, "1.0.0", "1.2.0")
	index, err := open(t, url, nil).Index()
	if err != nil {
		t.Fatal(err)
	}
	if err := sourcetest.TestSource(t.Context(), index, helmrepo.IndexFile); err != nil {
		t.Error(err)
	}
	if err := sourcetest.TestSource(t.Context(), find(t, open(t, url, nil), "app", "1.x"), "Chart.yaml"); err != nil {
		t.Error(err)
	}
	srv.NoDigests = true
	srv.Add("app", "1.3.0", pack(t, "app", "1.3.0", "x"))
	if err := sourcetest.TestSource(t.Context(), find(t, open(t, url, nil), "app", "1.x"), "Chart.yaml"); err != nil {
		t.Error(err)
	}
	url = serveOCI(t, registry.New(), "1.0.0")
	if err := sourcetest.TestSource(t.Context(), find(t, open(t, url, insecure()), "app", "1.x"), "Chart.yaml"); err != nil {
		t.Error(err)
	}
}

// The version is the one that Helm takes from the same index.
func TestVersionAsHelm(t *testing.T) {
	versions := []string{"1.0.0", "v1.1.0", "1.10.0", "1.9.0", "2.0.0-rc.1", "2.0.0-rc.2", "1.8.0+b1", "1.8.0+b2", "0.1.0"}
	srv, url := newServer(t, versions...)
	file := filepath.Join(t.TempDir(), "index.yaml")
	if err := os.WriteFile(file, srv.Index(), 0o600); err != nil {
		t.Fatal(err)
	}
	peer, err := repo.LoadIndexFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, url, nil)
	for _, want := range []string{"", "*", "1.x", "~1.9", "1.9.0", "1.8.0+b1", "1.8.0+b2", ">=2.0.0-0", "2.0.0-rc.1", ">1.0.0 <1.10.0", "^0", "v1.1.0", "1.1.0", "9.x", "1.0"} {
		theirs, theirErr := peer.Get("app", want)
		rev, err := find(t, r, "app", want).Resolve(t.Context())
		if (err == nil) != (theirErr == nil) {
			t.Errorf("%q: %v, Helm %v", want, err, theirErr)
			continue
		}
		if err != nil {
			if !errors.Is(err, source.ErrNotFound) {
				t.Errorf("%q: %v", want, err)
			}
			continue
		}
		if rev.Ref != theirs.Version || rev.Digest.Encoded() != theirs.Digest {
			t.Errorf("%q: %s, Helm %s", want, rev, theirs.Version)
		}
		a := get(t, find(t, r, "app", want))
		if got := content(t, a); got != "of "+theirs.Version {
			t.Errorf("%q: content %q", want, got)
		}
	}
	refuses(t, find(t, r, "none", ""), source.ErrNotFound)
	// Versions that differ in build metadata alone are equal: the newest it is.
	if rev, err := find(t, r, "app", "~1.8").Resolve(t.Context()); err != nil || rev.Ref != "1.8.0+b2" {
		t.Errorf("%s, %v", rev, err)
	}
}

// The package is the one that is served, byte for byte.
func TestDownload(t *testing.T) {
	srv, url := newServer(t)
	data := pack(t, "app", "1.0.0", "x")
	srv.Add("app", "1.0.0", data)
	c := find(t, open(t, url, nil), "app", "1.0.0")
	rev, err := c.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Download(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Data, data) || a.Name != "app" || a.Filename() != "app-1.0.0.tgz" || a.Revision != rev {
		t.Errorf("%s %s %s", a.Name, a.Filename(), a.Revision)
	}
}

// An unchanged index is one request without content, for all charts together.
func TestConditional(t *testing.T) {
	for _, test := range []struct{ noETag, noLastModified bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		srv, url := newServer(t, "1.0.0")
		srv.NoETag, srv.NoLastModified = test.noETag, test.noLastModified
		r := open(t, url, nil)
		first, err := find(t, r, "app", "").Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		srv.ResetRequests()
		again, err := find(t, r, "app", "").Resolve(t.Context())
		if err != nil || again != first {
			t.Errorf("%s, %v", again, err)
		}
		want := http.StatusNotModified
		if test.noETag && test.noLastModified {
			want = http.StatusOK
		}
		if seen := srv.Requests(); len(seen) != 1 || seen[0].Status != want {
			t.Errorf("%+v: %v", test, seen)
		}
		srv.Add("app", "1.1.0", pack(t, "app", "1.1.0", "new"))
		if a := get(t, find(t, r, "app", "")); a.Revision.Ref != "1.1.0" {
			t.Errorf("%+v: after a change %s", test, a.Revision)
		}
	}
}

// Without digests the package is downloaded once for each entry.
func TestNoDigests(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	srv.NoDigests = true
	srv.Add("app", "1.1.0", pack(t, "app", "1.1.0", "x"))
	c := find(t, open(t, url, nil), "app", "")
	rev, err := c.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.ResetRequests()
	for range 3 {
		if again, err := c.Resolve(t.Context()); err != nil || again != rev {
			t.Errorf("%s, %v", again, err)
		}
	}
	for _, r := range srv.Requests() {
		if strings.HasSuffix(r.Path, ".tgz") {
			t.Error("the package was downloaded again")
		}
	}
	srv.Replace("app", "1.1.0", pack(t, "app", "1.1.0", "other"))
	if _, err := c.Fetch(t.Context(), rev); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("the package changed: %v", err)
	}
}

func TestWrongDigest(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	srv.Replace("app", "1.0.0", pack(t, "app", "1.0.0", "evil"))
	refuses(t, find(t, open(t, url, nil), "app", ""), source.ErrUnverified)
	srv.SetIndex(bytes.Replace(srv.Index(), []byte("digest: "), []byte("digest: xyz"), 1))
	refuses(t, find(t, open(t, url, nil), "app", ""), source.ErrUnverified)
}

// A revision that was resolved is fetched, or is gone; never another one.
func TestFetchIsExact(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	r := open(t, url, nil)
	c := find(t, r, "app", "1.x")
	rev, err := c.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.Add("app", "1.1.0", pack(t, "app", "1.1.0", "new"))
	a, err := c.Fetch(t.Context(), rev)
	if err != nil || content(t, a) != "of 1.0.0" {
		t.Errorf("%v", err)
	}
	index, err := r.Index()
	if err != nil {
		t.Fatal(err)
	}
	old, err := index.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.SetIndex([]byte("apiVersion: v1\nentries: {}\n"))
	if _, err := open(t, url, nil).Chart("app", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := find(t, open(t, url, nil), "app", "").Fetch(t.Context(), rev); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("chart that is gone: %v", err)
	}
	fresh, _ := open(t, url, nil).Index()
	if _, err := fresh.Fetch(t.Context(), old); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("index that is gone: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	srv.Username, srv.Password = "me", "right-secret"
	get(t, find(t, open(t, url, &helmrepo.Options{Username: "me", Password: "right-secret"}), "app", ""))
	for _, opts := range []*helmrepo.Options{nil, {Username: "me", Password: "wrong-secret"}} {
		err := try(t, find(t, open(t, url, opts), "app", ""), source.ErrUnauthorized)
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is in %v", err)
		}
	}
}

// Charts on another host see credentials only if that is asked for, and where
// they redirect to never does.
func TestCredentialsElsewhere(t *testing.T) {
	for _, pass := range []bool{false, true} {
		other, elsewhere := newServer(t, "1.0.0")
		third, further := newServer(t, "1.0.0")
		srv := chartserver.New()
		srv.Username, srv.Password = "me", "secret"
		srv.ChartURL = func(file string) string { return elsewhere + "/" + file }
		srv.Add("app", "1.0.0", pack(t, "app", "1.0.0", "of 1.0.0"))
		url := serve(t, srv)
		opts := &helmrepo.Options{Username: "me", Password: "secret", PassCredentials: pass}
		get(t, find(t, open(t, url, opts), "app", ""))
		seen := other.Requests()
		if len(seen) == 0 || (seen[0].Authorization != "") != pass {
			t.Errorf("PassCredentials %v: the other host saw %v", pass, seen)
		}
		other.SetFaults(func(r chartserver.Request) *chartserver.Fault {
			return &chartserver.Fault{Status: http.StatusFound, Header: http.Header{"Location": {further + "/app-1.0.0.tgz"}}}
		})
		get(t, find(t, open(t, url, opts), "app", ""))
		for _, r := range third.Requests() {
			if r.Authorization != "" {
				t.Errorf("PassCredentials %v: a redirect carried %s", pass, r.Authorization)
			}
		}
		if len(third.Requests()) == 0 {
			t.Error("nothing was redirected")
		}
	}
}

func TestTLS(t *testing.T) {
	srv := chartserver.New()
	srv.Add("app", "1.0.0", pack(t, "app", "1.0.0", "x"))
	web := httptest.NewUnstartedServer(srv)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	get(t, find(t, open(t, web.URL+"/charts", &helmrepo.Options{Client: oci.Client{CAs: ca}}), "app", ""))
	refuses(t, find(t, open(t, web.URL+"/charts", nil), "app", ""), source.ErrUnavailable)

	// From https to http leads nothing: neither a redirect nor the index.
	plain, url := newServer(t, "1.0.0")
	srv.SetFaults(func(chartserver.Request) *chartserver.Fault {
		return &chartserver.Fault{Status: http.StatusFound, Header: http.Header{"Location": {url + "/index.yaml"}}}
	})
	refuses(t, find(t, open(t, web.URL+"/charts", &helmrepo.Options{Client: oci.Client{CAs: ca}}), "app", ""), source.ErrUnavailable)
	srv.SetFaults(nil)
	srv.SetIndex(bytes.ReplaceAll(srv.Index(), []byte("app-1.0.0.tgz"), []byte(url+"/app-1.0.0.tgz")))
	refuses(t, find(t, open(t, web.URL+"/charts", &helmrepo.Options{Client: oci.Client{CAs: ca}}), "app", ""), source.ErrUnavailable)
	if n := len(plain.Requests()); n > 0 {
		t.Errorf("%d requests by plain HTTP", n)
	}
}

func TestFaults(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	for _, test := range []struct {
		name  string
		path  string
		fault chartserver.Fault
		class error
	}{
		{"busy", "index.yaml", chartserver.Fault{Status: 429, Header: http.Header{"Retry-After": {"9"}}}, source.ErrUnavailable},
		{"broken", "index.yaml", chartserver.Fault{Status: 500}, source.ErrUnavailable},
		{"missing", "index.yaml", chartserver.Fault{Status: 404}, source.ErrNotFound},
		{"not modified, unasked", "index.yaml", chartserver.Fault{Status: 304}, source.ErrUnavailable},
		{"a web page", "index.yaml", chartserver.Fault{Body: []byte("<html><body>\n  hello: world\n</body></html>")}, source.ErrUnverified},
		{"no index", "index.yaml", chartserver.Fault{Body: []byte("entries:\n  app: []\n")}, source.ErrUnverified},
		{"cut index", "index.yaml", chartserver.Fault{Header: http.Header{"Content-Length": {"1000"}}, CutAfter: 10}, source.ErrUnavailable},
		{"stall", "index.yaml", chartserver.Fault{Stall: true}, context.DeadlineExceeded},
		{"redirects", "index.yaml", chartserver.Fault{Status: 302, Header: http.Header{"Location": {"/charts/index.yaml"}}}, source.ErrUnavailable},
		{"redirect to nowhere", "index.yaml", chartserver.Fault{Status: 302}, source.ErrUnavailable},
		{"package missing", ".tgz", chartserver.Fault{Status: 404}, source.ErrNotFound},
		{"package cut", ".tgz", chartserver.Fault{Header: http.Header{"Content-Length": {"1000"}}, CutAfter: 10}, source.ErrUnavailable},
		{"another package", ".tgz", chartserver.Fault{Body: []byte("junk")}, source.ErrUnverified},
		{"large package", ".tgz", chartserver.Fault{Body: make([]byte, 20_000)}, source.ErrLimit},
		{"large index", "index.yaml", chartserver.Fault{Body: make([]byte, 20_000)}, source.ErrLimit},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv.SetFaults(func(r chartserver.Request) *chartserver.Fault {
				if strings.HasSuffix(r.Path, test.path) {
					return &test.fault
				}
				return nil
			})
			opts := &helmrepo.Options{IndexSize: 10_000, Limits: source.Limits{Download: 10_000}, Client: oci.Client{Timeout: 5 * time.Second}}
			if test.fault.Stall {
				opts.Timeout = 50 * time.Millisecond
			}
			err := try(t, find(t, open(t, url, opts), "app", ""), test.class)
			var typed *source.Error
			if errors.As(err, &typed) && (typed.RetryAfter() == 9*time.Second) != (test.name == "busy") {
				t.Errorf("retry after %s", typed.RetryAfter())
			}
		})
	}
}

// Neither a redirect nor the index makes us send credentials of their own.
func TestCredentialsOfOthers(t *testing.T) {
	other, elsewhere := newServer(t, "1.0.0")
	with := strings.Replace(elsewhere, "http://", "http://them:theirs@", 1)
	srv, url := newServer(t, "1.0.0")
	srv.SetFaults(func(chartserver.Request) *chartserver.Fault {
		return &chartserver.Fault{Status: http.StatusFound, Header: http.Header{"Location": {with + "/index.yaml"}}}
	})
	refuses(t, find(t, open(t, url, nil), "app", ""), source.ErrUnavailable)
	srv.SetFaults(nil)
	srv.SetIndex(bytes.ReplaceAll(srv.Index(), []byte("app-1.0.0.tgz"), []byte(with+"/app-1.0.0.tgz")))
	refuses(t, find(t, open(t, url, nil), "app", ""), source.ErrUnavailable)
	if n := len(other.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// A chart that is no chart is not one because the index has its digest.
func TestNotAChart(t *testing.T) {
	srv, url := newServer(t)
	srv.Add("app", "1.0.0", []byte("junk"))
	refuses(t, find(t, open(t, url, nil), "app", ""), source.ErrUnverified)
}

func TestIndexArtifact(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	index, err := open(t, url, nil).Index()
	if err != nil {
		t.Fatal(err)
	}
	a := get(t, index)
	data, err := a.ReadFile(helmrepo.IndexFile)
	if err != nil || !bytes.Equal(data, srv.Index()) || a.Revision.String() != registry.Digest(data) {
		t.Errorf("%s, %v", a.Revision, err)
	}
	if _, err := open(t, "oci://example.com/charts", nil).Index(); !errors.Is(err, source.ErrInvalidSpec) {
		t.Error(err)
	}
}

// The URL's query goes to relative URLs, and nowhere else.
func TestQuery(t *testing.T) {
	srv, url := newServer(t, "1.0.0")
	get(t, find(t, open(t, url+"/?token=abc", nil), "app", ""))
	for _, r := range srv.Requests() {
		if r.Query != "token=abc" {
			t.Errorf("%+v", r)
		}
	}
	srv.SetFaults(func(chartserver.Request) *chartserver.Fault { return &chartserver.Fault{Status: 500} })
	if err := try(t, find(t, open(t, url+"/?token=abc", nil), "app", ""), source.ErrUnavailable); strings.Contains(err.Error(), "abc") {
		t.Errorf("the query is in %v", err)
	}
}

func TestRefuses(t *testing.T) {
	verifier := oci.VerifierFunc(func(context.Context, *oci.Subject) ([]source.Evidence, error) { return nil, nil })
	for _, test := range []struct {
		url  string
		opts *helmrepo.Options
		want string
	}{
		{"ftp://example.com", nil, "want https, http or oci"},
		{"https://", nil, "no host"},
		{"https://me:hunter2@example.com", nil, "Options.Username"},
		{"https://example.com/%zz?hunter2", nil, "malformed"},
		{"oci://example.com/charts:1.0", nil, "malformed"},
		{"oci://me:hunter2@example.com/charts", nil, "Keychain"},
		{"https://example.com", &helmrepo.Options{Verifier: verifier}, "Verifier is for OCI"},
		{"https://example.com", &helmrepo.Options{Password: "x"}, "without Username"},
		{"https://example.com", &helmrepo.Options{PassCredentials: true}, "PassCredentials without"},
		{"https://example.com", &helmrepo.Options{Username: "a:b"}, "colon"},
		{"https://example.com", &helmrepo.Options{IndexSize: -7}, "IndexSize"},
		{"https://example.com", &helmrepo.Options{Limits: source.Limits{File: -7}}, "File"},
		{"https://example.com", &helmrepo.Options{Client: oci.Client{CAs: []byte("x")}}, "CAs"},
	} {
		_, err := helmrepo.New(test.url, test.opts)
		if !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: want %q: %v", test.url, test.want, err)
		}
	}
	r := open(t, "https://example.com", nil)
	for _, c := range [][2]string{{"../x", ""}, {"", ""}, {"a/../b", ""}, {"app", "x y"}, {"app", "1 || x y"}} {
		if _, err := r.Chart(c[0], c[1]); !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestResolver(t *testing.T) {
	_, url := newServer(t, "1.0.0", "1.1.0")
	registry := serveOCI(t, registry.New(), "2.0.0")
	r := &helmrepo.Resolver{Options: func(_ context.Context, repository string) (*helmrepo.Options, error) {
		if strings.HasPrefix(repository, "oci:") {
			return insecure(), nil
		}
		return &helmrepo.Options{}, nil
	}}
	for repository, want := range map[string]string{url: "1.1.0", registry: "2.0.0"} {
		data, err := r.ResolveChart(t.Context(), repository, "app", "*")
		if err != nil || !bytes.Equal(data, pack(t, "app", want, "of "+want)) {
			t.Errorf("%s: %v", repository, err)
		}
	}
	if _, err := (&helmrepo.Resolver{}).ResolveChart(t.Context(), url, "none", ""); !errors.Is(err, source.ErrNotFound) {
		t.Error(err)
	}
	failing := &helmrepo.Resolver{Options: func(context.Context, string) (*helmrepo.Options, error) { return nil, errors.New("no") }}
	if _, err := failing.ResolveChart(t.Context(), url, "app", ""); err == nil {
		t.Error("no options, and no error")
	}
}

func Example() {
	srv := chartserver.New()
	srv.SetIndex([]byte("apiVersion: v1\nentries:\n  app:\n  - {name: app, version: 1.4.2, urls: [app.tgz], digest: " + strings.Repeat("ab", 32) + "}\n"))
	web := httptest.NewServer(srv)
	defer web.Close()

	repo, err := helmrepo.New(web.URL+"/charts", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	app, err := repo.Chart("app", "1.x")
	if err != nil {
		fmt.Println(err)
		return
	}
	rev, err := app.Resolve(context.Background())
	fmt.Println(rev.Ref, err)
	// Output: 1.4.2 <nil>
}
