package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = store.Key{Kind: "GitRepository", Namespace: "apps", Name: "web"}

func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	s, err := store.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	key := store.Key{Kind: "HelmChart", Namespace: "apps", Name: "web"}
	info, err := s.PutBlob(context.Background(), key, "web-1.0.0.tgz", strings.NewReader("chart"))
	fmt.Println(info.Path, info.Size, err)
	if err := errors.Join(s.Close(), os.RemoveAll(dir)); err != nil {
		log.Fatal(err)
	}
	// Output: helmchart/apps/web/web-1.0.0.tgz 5 <nil>
}

func open(t *testing.T, dir string, opts *store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tree(data string) fs.FS { return fstest.MapFS{"app.yaml": {Data: []byte(data)}} }

func put(t *testing.T, s *store.Store, data string) store.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, tree(data))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// files are all files below a directory, staged ones too.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	info := put(t, s, "1")
	if want := "gitrepository/apps/web/" + info.Digest.Encoded() + ".tar.gz"; info.Path != want {
		t.Errorf("path %s, want %s", info.Path, want)
	}
	f, err := s.Open(info.Path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil || digest.FromBytes(data) != info.Digest || int64(len(data)) != info.Size {
		t.Errorf("%d bytes, %v are not %+v", len(data), err, info)
	}
	a, err := source.ReadArchive(t.Context(), source.Revision{}, bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := a.ReadFile("app.yaml"); err != nil || string(text) != "1" {
		t.Errorf("app.yaml is %q, %v", text, err)
	}
	again := put(t, s, "1")
	if again.Path != info.Path || again.Time.Before(info.Time) {
		t.Errorf("the same again is %+v, was %+v", again, info)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("files %v", got)
	}
	if err := s.Verify(t.Context(), info.Path, info.Digest); err != nil {
		t.Error(err)
	}
	blob, err := s.PutBlob(t.Context(), key, "index.yaml", strings.NewReader("a"))
	if err != nil || blob.Path != "gitrepository/apps/web/index.yaml" {
		t.Errorf("%+v, %v", blob, err)
	}
	if blob, err = s.PutBlob(t.Context(), key, "index.yaml", strings.NewReader("bc")); err != nil || blob.Size != 2 || blob.Digest != digest.FromString("bc") {
		t.Errorf("replaced: %+v, %v", blob, err)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	info := put(t, s, "1")
	for _, test := range []struct {
		path string
		sum  digest.Digest
		want error
	}{
		{info.Path, "sha256:x", source.ErrInvalidSpec},
		{info.Path, digest.FromString("x"), source.ErrUnverified},
		{"gitrepository/apps/web/none", info.Digest, source.ErrNotFound},
		{"gitrepository/apps/web", info.Digest, source.ErrNotFound},
	} {
		var typed *source.Error
		if err := s.Verify(t.Context(), test.path, test.sum); !errors.Is(err, test.want) || !errors.As(err, &typed) || typed.Op != "verify" {
			t.Errorf("%s %s: %v, want %v", test.path, test.sum, err, test.want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, info.Path), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), info.Path, info.Digest); !errors.Is(err, source.ErrUnverified) {
		t.Errorf("rotten: %v", err)
	}
	put(t, s, "1")
	if err := s.Verify(t.Context(), info.Path, info.Digest); err != nil {
		t.Errorf("repaired: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &store.Options{MaxBytes: 10})
	for _, k := range []store.Key{
		{}, {Kind: "..", Namespace: "a", Name: "b"}, {Kind: "K", Namespace: "a/b", Name: "c"}, {Kind: "K", Namespace: "a", Name: `..\x`},
		{Kind: ".staging", Namespace: "a", Name: "b"}, {Kind: "K", Namespace: "a", Name: "b c"}, {Kind: "K", Namespace: "a", Name: strings.Repeat("x", 300)},
	} {
		_, err1 := s.Put(t.Context(), k, tree(""))
		_, err2 := s.PutBlob(t.Context(), k, "x", strings.NewReader(""))
		_, err3 := s.Collect(t.Context(), k)
		err4 := s.Remove(k)
		for i, err := range []error{err1, err2, err3, err4} {
			if !errors.Is(err, source.ErrInvalidSpec) {
				t.Errorf("%+v, way %d: %v", k, i, err)
			}
		}
	}
	if _, err := s.PutBlob(t.Context(), key, "../x", strings.NewReader("")); !errors.Is(err, source.ErrInvalidSpec) {
		t.Errorf("file name: %v", err)
	}
	if _, err := s.PutBlob(t.Context(), key, "x", strings.NewReader("12345678901")); !errors.Is(err, source.ErrLimit) {
		t.Errorf("too large: %v", err)
	}
	if _, err := s.PutBlob(t.Context(), key, "x", iotest.ErrReader(errors.New("cut"))); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("failing reader: %v", err)
	}
	if _, err := s.Put(t.Context(), key, fstest.MapFS{"l": {Mode: fs.ModeSymlink}}); !errors.Is(err, source.ErrUnsafePath) {
		t.Errorf("link: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.PutBlob(ctx, key, "x", strings.NewReader("1")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	if s := open(t, t.TempDir(), &store.Options{MaxBytes: source.Unlimited}); put(t, s, "1").Size < 10 {
		t.Error("unlimited")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(file, nil); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("a file as directory: %v", err)
	}
}

// A crash leaves a staged file at most; the next Open removes it.
func TestOpenAfterCrash(t *testing.T) {
	dir := t.TempDir()
	info := put(t, open(t, dir, nil), "1")
	if err := os.WriteFile(filepath.Join(dir, ".staging", "half"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, nil)
	if diff := cmp.Diff([]string{info.Path}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	put(t, s, "2")
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &store.Options{Keep: 2, TTL: time.Hour})
	age := func(info store.Info, age time.Duration) {
		t.Helper()
		at := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, info.Path), at, at); err != nil {
			t.Fatal(err)
		}
	}
	var infos []store.Info
	for i := range 6 {
		infos = append(infos, put(t, s, fmt.Sprint(i)))
	}
	other, err := s.Put(t.Context(), store.Key{Kind: "GitRepository", Namespace: "apps", Name: "other"}, tree("x"))
	if err != nil {
		t.Fatal(err)
	}
	age(other, 10*time.Hour)
	// The current one is the oldest; two have equal times; two are young.
	age(infos[0], 9*time.Hour)
	age(infos[1], 5*time.Hour)
	age(infos[2], 5*time.Hour)
	age(infos[3], 4*time.Hour)
	removed, err := s.Collect(t.Context(), key, infos[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if len(removed) != 3 || removed[0] != infos[3].Path {
		t.Errorf("removed %v", removed)
	}
	got := files(t, dir)
	if len(got) != 4 {
		t.Errorf("left %v", got)
	}
	for _, info := range []store.Info{infos[0], infos[4], infos[5], other} {
		if _, err := os.Stat(filepath.Join(dir, info.Path)); err != nil {
			t.Error(err)
		}
	}
	if removed, err := open(t, t.TempDir(), nil).Collect(t.Context(), key); err != nil || len(removed) != 0 {
		t.Errorf("an object without files: %v, %v", removed, err)
	}
	if err := s.Remove(key); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{other.Path}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	if err := s.Remove(key); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestCollectKeeps(t *testing.T) {
	dir := t.TempDir()
	all := open(t, dir, &store.Options{Keep: -1, TTL: time.Nanosecond})
	for i := range 3 {
		put(t, all, fmt.Sprint(i))
	}
	if removed, err := all.Collect(t.Context(), key); err != nil || len(removed) != 0 {
		t.Errorf("removed %v, %v", removed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	one := open(t, dir, &store.Options{Keep: 1, TTL: time.Nanosecond})
	if removed, err := one.Collect(ctx, key); !errors.Is(err, context.Canceled) || len(removed) != 0 {
		t.Errorf("cancelled: %v, %v", removed, err)
	}
	if removed, err := one.Collect(t.Context(), key); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v", removed, err)
	}
}

// Writers and collectors of one object do not disturb one another.
func TestConcurrent(t *testing.T) {
	s := open(t, t.TempDir(), &store.Options{Keep: 1, TTL: time.Nanosecond})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				info, err := s.Put(t.Context(), key, tree(fmt.Sprint(i, j)))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Collect(t.Context(), key, info.Path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	last := put(t, s, "last")
	if err := s.Verify(t.Context(), last.Path, last.Digest); err != nil {
		t.Error(err)
	}
}

func TestHandler(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	info := put(t, s, "1")
	if _, err := s.PutBlob(t.Context(), key, "index.yaml", strings.NewReader("entries: {}\n")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".staging", "half"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, []byte("x"), 0o600), os.Symlink(outside, filepath.Join(dir, "gitrepository/apps/web/link"))); err != nil {
		t.Fatal(err)
	}
	do := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "http://x/", nil)
		r.URL.Path = path
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	whole := do("GET", "/"+info.Path)
	tag := whole.Header().Get("ETag")
	if whole.Code != 200 || digest.FromBytes(whole.Body.Bytes()) != info.Digest || tag != `"`+info.Digest.String()+`"` || whole.Header().Get("Content-Type") != "application/gzip" {
		t.Errorf("GET: %d, %v", whole.Code, whole.Header())
	}
	if head := do("HEAD", "/"+info.Path); head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("Content-Length") != fmt.Sprint(info.Size) {
		t.Errorf("HEAD: %d, %v", head.Code, head.Header())
	}
	if part := do("GET", "/"+info.Path, "Range", "bytes=2-5"); part.Code != 206 || !bytes.Equal(part.Body.Bytes(), whole.Body.Bytes()[2:6]) {
		t.Errorf("range: %d", part.Code)
	}
	if same := do("GET", "/"+info.Path, "If-None-Match", tag); same.Code != 304 || same.Body.Len() != 0 {
		t.Errorf("condition: %d", same.Code)
	}
	before := do("GET", "/gitrepository/apps/web/index.yaml").Header().Get("ETag")
	if _, err := s.PutBlob(t.Context(), key, "index.yaml", strings.NewReader("entries: []\n")); err != nil {
		t.Fatal(err)
	}
	if after := do("GET", "/gitrepository/apps/web/index.yaml", "If-None-Match", before); after.Code != 200 || after.Body.String() != "entries: []\n" {
		t.Errorf("a replaced file: %d", after.Code)
	}
	if post := do("POST", "/"+info.Path); post.Code != http.StatusMethodNotAllowed || post.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", post.Code)
	}
	for _, path := range []string{
		"", "/", "/gitrepository", "/gitrepository/apps/web", "/gitrepository/apps/web/", "/gitrepository/apps/web/none", "/.staging/half", "/a/b/.staging/half",
		"/x/../" + info.Path, "//" + info.Path, "/../../../../etc/passwd", "/gitrepository/apps/web/link", "/gitrepository/apps/web/..", `/gitrepository\apps\web\x`, "/" + info.Path + "/",
		"/gitrepository/apps/web/\x00",
	} {
		if w := do("GET", path); w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "tar.gz") {
			t.Errorf("GET %q: %d %s", path, w.Code, w.Body)
		}
	}
}
