package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sha1Hex   = "5394cb7f48332b2de7c17dd8b8384bbc84b7e738"
	sha256Hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func TestParseRevision(t *testing.T) {
	for _, test := range []struct{ name, in, ref, digest string }{
		{"branch", "main@sha1:" + sha1Hex, "main", "sha1:" + sha1Hex},
		{"branch with slash", "feature/x@sha1:" + sha1Hex, "feature/x", "sha1:" + sha1Hex},
		{"tag with at", "app@1.0.0@sha1:" + sha1Hex, "app@1.0.0", "sha1:" + sha1Hex},
		{"full ref", "refs/pull/1/head@sha1:" + sha1Hex, "refs/pull/1/head", "sha1:" + sha1Hex},
		{"no ref", "sha256:" + sha256Hex, "", "sha256:" + sha256Hex},
		{"tag of an image", "6.1.2@sha256:" + sha256Hex, "6.1.2", "sha256:" + sha256Hex},
		{"legacy", "main/" + sha1Hex, "main", "sha1:" + sha1Hex},
		{"legacy with slash", "feature/x/" + sha1Hex, "feature/x", "sha1:" + sha1Hex},
		{"legacy with at", "app@1/" + sha1Hex, "app@1", "sha1:" + sha1Hex},
		{"legacy detached", "HEAD/" + sha1Hex, "", "sha1:" + sha1Hex},
		{"legacy bare", sha1Hex, "", "sha1:" + sha1Hex},
		{"legacy bare sha256", sha256Hex, "", "sha256:" + sha256Hex},
	} {
		t.Run(test.name, func(t *testing.T) {
			rev, err := source.ParseRevision(test.in)
			if err != nil || rev.Ref != test.ref || rev.Digest.String() != test.digest {
				t.Errorf("got %+v, %v", rev, err)
			}
		})
	}
	for _, in := range []string{
		"", "main", "main@", "@sha1:" + sha1Hex, "/" + sha1Hex, "main@sha1:", "main@sha1:" + sha1Hex[:39], "main@sha1:" + strings.ToUpper(sha1Hex),
		"main@md5:d41d8cd98f00b204e9800998ecf8427e", "main@sha256:" + sha1Hex, "main@" + sha1Hex, "a\nb@sha1:" + sha1Hex, sha1Hex[:7], "main@sha1:" + sha1Hex + " ",
	} {
		if rev, err := source.ParseRevision(in); !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("ParseRevision(%q) = %+v, %v; want ErrInvalidSpec", in, rev, err)
		}
	}
}

func TestRevisionJSON(t *testing.T) {
	in := map[string]source.Revision{"a": {Ref: "main", Digest: "sha1:" + sha1Hex}, "b": {}}
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]source.Revision
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Error(diff)
	}
	if err := json.Unmarshal([]byte(`{"a":"main"}`), &out); !errors.Is(err, source.ErrInvalidSpec) {
		t.Errorf("got %v, want ErrInvalidSpec", err)
	}
}

func FuzzParseRevision(f *testing.F) {
	f.Add("main@sha1:" + sha1Hex)
	f.Add("a@b@sha256:" + sha256Hex)
	f.Add("HEAD/" + sha1Hex)
	f.Fuzz(func(t *testing.T, in string) {
		rev, err := source.ParseRevision(in)
		if err != nil {
			return
		}
		again, err := source.ParseRevision(rev.String())
		if err != nil || again != rev {
			t.Errorf("%q is %+v, which parses back as %+v, %v", in, rev, again, err)
		}
	})
}

// The format of ContentDigest is a promise: this value was computed by another
// program, from the documentation.
func TestContentDigestGolden(t *testing.T) {
	const want = "sha256:6dc5eb7e9da46d8ac53dd582da215401e574245cbfd8066ff7fb5a37e1e641de"
	files := fstest.MapFS{
		"a/x":   {Data: []byte("x\n"), Mode: 0o600, ModTime: time.Now()},
		"a/run": {Data: []byte("#!/bin/sh\n"), Mode: 0o744},
		"a.b":   {Data: nil},
		"empty": {Mode: fs.ModeDir | 0o755},
	}
	got, err := source.ContentDigest(t.Context(), files)
	if err != nil || got.String() != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestContentDigestDistinguishes(t *testing.T) {
	trees := map[string]fstest.MapFS{
		"base":    {"a": {Data: []byte("1"), Mode: 0o644}},
		"name":    {"b": {Data: []byte("1"), Mode: 0o644}},
		"content": {"a": {Data: []byte("2"), Mode: 0o644}},
		"mode":    {"a": {Data: []byte("1"), Mode: 0o755}},
		"link":    {"a": {Data: []byte("1"), Mode: fs.ModeSymlink | 0o777}},
		"more":    {"a": {Data: []byte("1"), Mode: 0o644}, "b": {}},
		"deeper":  {"a/a": {Data: []byte("1"), Mode: 0o644}},
	}
	seen := map[string]string{}
	for name, tree := range trees {
		d, err := source.ContentDigest(t.Context(), tree)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[d.String()]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[d.String()] = name
	}
}

func TestContentDigestRefuses(t *testing.T) {
	for name, tree := range map[string]fstest.MapFS{
		"device": {"dev": {Mode: fs.ModeDevice}},
		"NUL":    {"a\x00b": {}},
	} {
		if _, err := source.ContentDigest(t.Context(), tree); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("%s: got %v, want ErrUnsafePath", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.ContentDigest(ctx, fstest.MapFS{"a": {}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDir(t *testing.T) {
	dir := writeTree(t, map[string]string{"a/b.yaml": "kind: List\n", "c": "", ".git/config": "secret", "a/.git": "gitdir: x"})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "c"), 0o700); err != nil {
		t.Fatal(err)
	}
	src := &source.Dir{Path: dir}
	if err := sourcetest.TestSource(t.Context(), src, "a/b.yaml", "c"); err != nil {
		t.Fatal(err)
	}
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := src.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var got []string
	if err := fs.WalkDir(a, ".", func(name string, d fs.DirEntry, err error) error {
		info, infoErr := d.Info()
		got = append(got, info.Mode().String()+" "+name)
		return errors.Join(err, infoErr)
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"drwxr-xr-x .", "drwxr-xr-x a", "-rw-r--r-- a/b.yaml", "-rwxr-xr-x c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if a.Metadata[source.MetaSkipped] != "link" {
		t.Errorf("metadata %v does not name the link", a.Metadata)
	}
}

func TestDirChanged(t *testing.T) {
	dir := writeTree(t, map[string]string{"a": "1"})
	src := &source.Dir{Path: dir}
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := src.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("fetch of the old revision: %v, want ErrNotFound", err)
	}
	if data, err := a.ReadFile("a"); err != nil || string(data) != "1" {
		t.Errorf("the artifact changed with the directory: %q, %v", data, err)
	}
}

func TestFilesErrors(t *testing.T) {
	deep := fstest.MapFS{"1/2/3/4": {Data: []byte("12345")}, "1/b": {Data: []byte("123")}}
	for _, test := range []struct {
		name string
		src  source.Source
		want error
	}{
		{"missing", &source.Dir{Path: filepath.Join(t.TempDir(), "none")}, source.ErrNotFound},
		{"nil", &source.Files{}, source.ErrInvalidSpec},
		{"limits", &source.Files{FS: deep, Limits: source.Limits{Files: -2}}, source.ErrInvalidSpec},
		{"file", &source.Files{FS: deep, Limits: source.Limits{File: 4}}, source.ErrLimit},
		{"unpacked", &source.Files{FS: deep, Limits: source.Limits{Unpacked: 7}}, source.ErrLimit},
		{"files", &source.Files{FS: deep, Limits: source.Limits{Files: 4}}, source.ErrLimit},
		{"depth", &source.Files{FS: deep, Limits: source.Limits{Depth: 2}}, source.ErrLimit},
		{"device", &source.Files{FS: fstest.MapFS{"dev": {Mode: fs.ModeDevice}}}, source.ErrUnsafePath},
	} {
		_, err := test.src.Resolve(t.Context())
		var typed *source.Error
		if !errors.Is(err, test.want) || !errors.As(err, &typed) || typed.Op != "resolve" {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	limits := source.Limits{File: 5, Unpacked: 8, Files: 5, Depth: 3}
	if _, err := (&source.Files{FS: deep, Limits: limits}).Resolve(t.Context()); err != nil {
		t.Errorf("exactly at the limits: %v", err)
	}
	limits = source.Limits{Download: -1, File: -1, Unpacked: -1, Files: -1, Depth: -1}
	if _, err := (&source.Files{FS: deep, Limits: limits}).Resolve(t.Context()); err != nil {
		t.Errorf("unlimited: %v", err)
	}
}

func TestErrorBehaviour(t *testing.T) {
	for class, terminal := range map[error]bool{
		source.ErrInvalidSpec: true, source.ErrUnsafePath: true, source.ErrNotFound: false, source.ErrUnauthorized: false,
		source.ErrUnverified: false, source.ErrLimit: false, source.ErrUnavailable: false,
	} {
		err := error(&source.Error{Op: "fetch", Source: "x", Err: class, After: time.Second})
		var t1 interface{ Terminal() bool }
		var t2 interface{ RetryAfter() time.Duration }
		if !errors.As(err, &t1) || t1.Terminal() != terminal {
			t.Errorf("%v: terminal is not %v", err, terminal)
		}
		if !errors.As(err, &t2) || t2.RetryAfter() != time.Second {
			t.Errorf("%v: no RetryAfter", err)
		}
		if !errors.Is(err, class) {
			t.Errorf("%v is not %v", err, class)
		}
	}
}

func TestArtifactClose(t *testing.T) {
	closed := 0
	fail := errors.New("busy")
	a := source.NewArtifact(source.Revision{}, fstest.MapFS{"a": {Data: []byte("1")}}, &source.ArtifactOptions{
		Close: func() error { closed++; return fail },
	})
	if _, err := a.Stat("a"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Close(); !errors.Is(err, fail) {
			t.Errorf("close: %v", err)
		}
	}
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
	_, err1 := a.ReadFile("a")
	_, err2 := a.ReadDir(".")
	_, err3 := a.Stat("a")
	_, err4 := a.Digest(t.Context())
	for _, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	}
	var zero source.Artifact
	if _, err := zero.Open("a"); err == nil {
		t.Error("the zero artifact opens a file")
	}
}
