package bucket_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/s3server"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/bucket"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	srv := s3server.New("key", "secret")
	if err := srv.Put("deploy", "prod/app.yaml", "kind: List\n"); err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(srv)
	defer web.Close()
	ctx := context.Background()

	s3, err := bucket.NewS3(strings.TrimPrefix(web.URL, "http://"), "deploy", &bucket.S3Options{AccessKey: "key", SecretKey: "secret", PlainHTTP: true})
	if err != nil {
		log.Fatal(err)
	}
	src, err := bucket.New("deploy", s3, &bucket.Options{Prefix: "prod/"})
	if err != nil {
		log.Fatal(err)
	}
	rev, err := src.Resolve(ctx)
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := src.Fetch(ctx, rev)
	if err != nil {
		log.Fatal(err)
	}
	defer artifact.Close()
	data, err := fs.ReadFile(artifact, "prod/app.yaml")
	fmt.Print(string(data), err)
	// Output:
	// kind: List
	// <nil>
}

const (
	access = "AKIDEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

type fixture struct {
	t    testing.TB
	srv  *s3server.Server
	addr string
}

func newServer(t testing.TB, files ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, srv: s3server.New(access, secret)}
	for _, name := range files {
		f.put(name)
	}
	web := httptest.NewServer(f.srv)
	t.Cleanup(web.Close)
	f.addr = strings.TrimPrefix(web.URL, "http://")
	return f
}

// put writes "name=content".
func (f *fixture) put(name string) {
	f.t.Helper()
	name, data, _ := strings.Cut(name, "=")
	if err := f.srv.Put("deploy", name, data); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) s3(opts *bucket.S3Options) *bucket.S3 {
	f.t.Helper()
	if opts == nil {
		opts = &bucket.S3Options{AccessKey: access, SecretKey: secret, Region: "us-east-1"}
	}
	opts.PlainHTTP = true
	s3, err := bucket.NewS3(f.addr, "deploy", opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return s3
}

func (f *fixture) source(opts *bucket.Options) *bucket.Source {
	f.t.Helper()
	src, err := bucket.New("deploy", f.s3(nil), opts)
	if err != nil {
		f.t.Fatal(err)
	}
	return src
}

func contents(t testing.TB, src *bucket.Source) map[string]string {
	t.Helper()
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := src.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	files := map[string]string{}
	err = fs.WalkDir(a, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(a, name)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSource(t *testing.T) {
	f := newServer(t, "app.yaml=kind: List\n", "a/b=1", "a/b.c=2", "empty", "ü x+y=3")
	src := f.source(nil)
	if err := sourcetest.TestSource(t.Context(), src, "app.yaml", "a/b", "empty", "ü x+y"); err != nil {
		t.Error(err)
	}
	f.put("dir/") // stands for a directory
	if _, ok := contents(t, src)["dir/"]; ok {
		t.Error("a directory became a file")
	}
}

func TestRevision(t *testing.T) {
	f := newServer(t, "b=2", "a/x=1", "a.y=3")
	rev, err := f.source(nil).Resolve(t.Context())
	want := digest.FromString("a.y eccbc87e4b5ce2fe28308fd9f2a7baf3\na/x c4ca4238a0b923820dcc509a6f75849b\nb c81e728d9d4c2f636f067f89cc14862c\n")
	if err != nil || rev.String() != want.String() {
		t.Errorf("got %s, %v, want %s", rev, err, want)
	}
}

func TestIgnoreAndPrefix(t *testing.T) {
	f := newServer(t, ".sourceignore=*.md\n/secret\n", "a.yaml=1", "a.png=2", "b.md", "prod/a=3", "prod/notes.md", "prod/.sourceignore=a", "staging/b=4", "secret/x", "production=5", "prod/skip=6")
	for _, test := range []struct {
		name string
		opts bucket.Options
		want map[string]string
	}{
		{"all", bucket.Options{}, map[string]string{"a.yaml": "1", "a.png": "2", "prod/a": "3", "prod/.sourceignore": "a", "prod/skip": "6", "staging/b": "4", "production": "5"}},
		{"prefix", bucket.Options{Prefix: "prod/"}, map[string]string{"prod/a": "3", "prod/.sourceignore": "a", "prod/skip": "6"}},
		{"prefix without slash", bucket.Options{Prefix: "prod", Ignore: ".sourceignore"}, map[string]string{"prod/a": "3", "prod/skip": "6", "production": "5"}},
		{"ignore", bucket.Options{Ignore: "/*\n!/prod/a\n!/b.md\n"}, map[string]string{"prod/a": "3", "b.md": ""}},
	} {
		f.srv.Requests()
		src := f.source(&test.opts)
		if diff := cmp.Diff(test.want, contents(t, src)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		for _, r := range f.srv.Requests() {
			key, ok := strings.CutPrefix(r, "GET /deploy/")
			if _, wanted := test.want[key]; ok && key != "" && key != ".sourceignore" && !wanted {
				t.Errorf("%s: downloaded %s", test.name, key)
			}
		}
	}
}

func TestChanges(t *testing.T) {
	f := newServer(t, "a=1", "b=2")
	src := f.source(nil)
	old, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.put("a=3")
	if _, err := src.Fetch(t.Context(), old); !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "changed") {
		t.Errorf("changed before: %v", err)
	}
	for name, change := range map[string]func(){
		"replaced": func() { f.put("b=4") },
		"deleted":  func() { _ = f.srv.Delete("deploy", "b") },
	} {
		f.put("b=2")
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		f.srv.Before(func(r *http.Request) {
			if r.URL.Path == "/deploy/a" || r.URL.Path == "/deploy/b" {
				once.Do(change)
			}
		})
		a, err := src.Fetch(t.Context(), rev)
		f.srv.Before(nil)
		if err == nil { // b may have been read before a
			data, err := a.ReadFile("b")
			if err != nil || string(data) != "2" {
				t.Errorf("%s: mixed generations: %q, %v", name, data, err)
			}
			continue
		}
		if !errors.Is(err, source.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReuse(t *testing.T) {
	f := newServer(t)
	for i := range 40 {
		f.put(fmt.Sprintf("d/%d=%d", i, i))
	}
	gets := func() (n int) {
		for _, r := range f.srv.Requests() {
			if strings.HasPrefix(r, "GET /deploy/d/") {
				n++
			}
			if strings.HasPrefix(r, "HEAD") {
				t.Error(r)
			}
		}
		return n
	}
	src := f.source(&bucket.Options{Reuse: true})
	first := contents(t, src)
	if n := gets(); n != 40 || len(first) != 40 {
		t.Errorf("%d requests for %d files", n, len(first))
	}
	contents(t, src)
	if n := gets(); n != 0 {
		t.Errorf("%d requests for nothing new", n)
	}
	f.put("d/7=new")
	first["d/7"] = "new"
	if diff := cmp.Diff(first, contents(t, src)); diff != "" {
		t.Error(diff)
	}
	if n := gets(); n != 1 {
		t.Errorf("%d requests for one change", n)
	}
}

func TestManyPages(t *testing.T) {
	f := newServer(t)
	for i := range 2100 {
		f.put(fmt.Sprintf("f/%04d", i))
	}
	if _, err := f.source(nil).Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.srv.Requests()); n != 4 { // one for .sourceignore, three pages
		t.Errorf("%d requests", n)
	}
}

func TestCredentials(t *testing.T) {
	f := newServer(t, "a=1")
	for name, opts := range map[string]*bucket.S3Options{
		"anonymous":    {Region: "us-east-1"},
		"unknown key":  {AccessKey: "other", SecretKey: secret, Region: "us-east-1"},
		"wrong secret": {AccessKey: access, SecretKey: "s3cret-wrong", Region: "us-east-1"},
		"no region":    {AccessKey: access, SecretKey: "s3cret-wrong"},
	} {
		src, err := bucket.New("deploy", f.s3(opts), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = src.Resolve(t.Context())
		if !errors.Is(err, source.ErrUnauthorized) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	src, err := bucket.New("deploy", f.s3(&bucket.S3Options{AccessKey: access, SecretKey: secret}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Resolve(t.Context()); err != nil {
		t.Errorf("without a region: %v", err)
	}
	open := s3server.New("", "")
	if err := open.Put("deploy", "a", "1"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(open)
	defer web.Close()
	f.addr = strings.TrimPrefix(web.URL, "http://")
	src, err = bucket.New("deploy", f.s3(&bucket.S3Options{}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, src); got["a"] != "1" {
		t.Errorf("anonymous: %v", got)
	}
}

func TestMissingAndBroken(t *testing.T) {
	f := newServer(t, "a=1")
	s3, err := bucket.NewS3(f.addr, "other", &bucket.S3Options{AccessKey: access, SecretKey: secret, Region: "us-east-1", PlainHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	src, err := bucket.New("other", s3, nil)
	if err != nil {
		t.Fatal(err)
	}
	var typed *source.Error
	if _, err := src.Resolve(t.Context()); !errors.Is(err, source.ErrNotFound) || !errors.As(err, &typed) || typed.Op != "resolve" || typed.Source != "other" {
		t.Errorf("no such bucket: %v", err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	f.addr = strings.TrimPrefix(gone.URL, "http://")
	src = f.source(&bucket.Options{Timeout: 300 * time.Millisecond})
	if _, err := src.Resolve(t.Context()); !errors.Is(err, source.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("unreachable: %v", err)
	}
	if _, err := src.Fetch(t.Context(), source.Revision{Ref: "main"}); !errors.Is(err, source.ErrInvalidSpec) {
		t.Errorf("no revision: %v", err)
	}
}

func pemOf(web *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
}

func TestTLS(t *testing.T) {
	srv := s3server.New(access, secret)
	if err := srv.Put("deploy", "a", "1"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(srv)
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it
	web.StartTLS()
	defer web.Close()
	addr := strings.TrimPrefix(web.URL, "https://")
	for name, test := range map[string]struct {
		cas  []byte
		want error
	}{"trusted": {pemOf(web), nil}, "unknown": {nil, source.ErrUnavailable}} {
		s3, err := bucket.NewS3(addr, "deploy", &bucket.S3Options{AccessKey: access, SecretKey: secret, Region: "us-east-1", CAs: test.cas})
		if err != nil {
			t.Fatal(err)
		}
		src, err := bucket.New("deploy", s3, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Resolve(t.Context()); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
