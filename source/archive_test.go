package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/source"
)

func ExampleWriteArchive() {
	tree := fstest.MapFS{"app.yaml": {Data: []byte("kind: List\n")}}
	var blob bytes.Buffer
	if err := source.WriteArchive(context.Background(), &blob, tree, nil); err != nil {
		fmt.Println(err)
	}
	a, err := source.ReadArchive(context.Background(), source.Revision{}, &blob, nil)
	if err != nil {
		fmt.Println(err)
	}
	defer a.Close()
	data, err := fs.ReadFile(a, "app.yaml")
	fmt.Print(string(data), err)
	// Output:
	// kind: List
	// <nil>
}

func archive(t testing.TB, tree fs.FS, opts *source.ArchiveOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := source.WriteArchive(t.Context(), &b, tree, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t testing.TB, blob []byte, opts *source.ReadArchiveOptions) (*source.Artifact, error) {
	t.Helper()
	return source.ReadArchive(t.Context(), source.Revision{Ref: "v1"}, bytes.NewReader(blob), opts)
}

// listing shows what an archive says about each of its entries.
func listing(t *testing.T, blob []byte) []string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %04o %d:%d %q%q %d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime.Unix(), h.Name))
	}
}

func TestWriteArchive(t *testing.T) {
	long := strings.Repeat("long/", 40) + "name"
	tree := fstest.MapFS{
		"b/run": {Data: []byte("#!"), Mode: 0o755, ModTime: time.Now()}, "b.yaml": {Data: []byte("1"), Mode: 0o640},
		"a": {Mode: fs.ModeDir | 0o700}, long: {Data: []byte("2")}, "ü": {},
	}
	blob := archive(t, tree, nil)
	got := listing(t, blob)
	want := []string{ // b comes before b.yaml, as in fs.WalkDir
		`5 0750 0:0 """" 0 a/`, `5 0750 0:0 """" 0 b/`, `0 0700 0:0 """" 0 b/run`, `0 0600 0:0 """" 0 b.yaml`,
	}
	if diff := cmp.Diff(want, got[:4]); diff != "" {
		t.Error(diff)
	}
	tree["b/run"].ModTime = time.Time{}
	if !bytes.Equal(blob, archive(t, tree, nil)) {
		t.Error("the time of a file changes the archive")
	}
	a, err := unpack(t, blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.Revision.Ref != "v1" {
		t.Errorf("revision %v", a.Revision)
	}
	if err := fstest.TestFS(a, "a", "b/run", "b.yaml", long, "ü"); err != nil {
		t.Error(err)
	}
	d1, err1 := source.ContentDigest(t.Context(), tree)
	d2, err2 := a.Digest(t.Context())
	if d1 != d2 || err1 != nil || err2 != nil {
		t.Errorf("digest %s, %v became %s, %v", d1, err1, d2, err2)
	}
}

func TestWriteArchivePrefix(t *testing.T) {
	a, err := unpack(t, archive(t, fstest.MapFS{"Chart.yaml": {Data: []byte("name: app")}}, &source.ArchiveOptions{Prefix: "charts/app"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := fs.Sub(a, "charts/app")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(sub, "Chart.yaml"); err != nil {
		t.Error(err)
	}
	for _, prefix := range []string{"/abs", "../x", ".", "a//b", `a\b`} {
		err := source.WriteArchive(t.Context(), io.Discard, fstest.MapFS{}, &source.ArchiveOptions{Prefix: prefix})
		if !errors.Is(err, source.ErrInvalidSpec) && !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

func TestWriteArchiveRefuses(t *testing.T) {
	for name, tree := range map[string]fstest.MapFS{
		"link":      {"l": {Data: []byte("x"), Mode: fs.ModeSymlink}},
		"device":    {"d": {Mode: fs.ModeDevice}},
		"backslash": {`a\b`: {}},
		"no UTF-8":  {"a\xff": {}},
		"NUL":       {"a\x00": {}},
	} {
		if err := source.WriteArchive(t.Context(), io.Discard, tree, nil); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := source.WriteArchive(ctx, io.Discard, fstest.MapFS{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	full := errors.New("disk full")
	if err := source.WriteArchive(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full }), fstest.MapFS{"a": {}}, nil); !errors.Is(err, full) {
		t.Errorf("failing writer: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// tarball makes an archive of any entries; Size and Mode are filled in.
func tarball(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := ""
		if h.Typeflag == tar.TypeReg {
			body = h.Linkname
			h.Size, h.Linkname = int64(len(body)), ""
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, data string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: data}
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadArchiveEntries(t *testing.T) {
	blob := tarball(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "5394cb7f"}},
		tar.Header{Typeflag: tar.TypeDir, Name: "./"},
		file("./a/one", "1"), file("x../y", "kept"),
		tar.Header{Typeflag: tar.TypeLink, Name: "two", Linkname: "a/one"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/etc/passwd"},
		tar.Header{Typeflag: tar.TypeReg, Name: "run", Mode: 0o711},
		tar.Header{Typeflag: tar.TypeDir, Name: "closed", Mode: 0},
		file("closed/in", "2"),
		tar.Header{Typeflag: tar.TypeDir, Name: "a/"},
	)
	for name, blob := range map[string][]byte{"plain": blob, "gzip": zipped(t, blob)} {
		a, err := unpack(t, blob, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		var got []string
		err = fs.WalkDir(a, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(a, name)
			got = append(got, d.Type().String()+name+"="+string(data))
			return err
		})
		want := []string{"----------a/one=1", "----------closed/in=2", "----------run=", "----------two=1", "----------x../y=kept"}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(name, diff, err)
		}
		if a.Metadata[source.MetaSkipped] != "link" {
			t.Errorf("metadata %v does not name the link", a.Metadata)
		}
		if info, err := a.Stat("run"); err != nil || info.Mode() != 0o755 {
			t.Errorf("run: %v, %v", info, err)
		}
		if err := fstest.TestFS(a, "a/one", "two"); err != nil {
			t.Error(err)
		}
	}
}

func TestReadArchiveRefuses(t *testing.T) {
	link := tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "a"}
	for _, test := range []struct {
		name string
		blob []byte
		opts source.ReadArchiveOptions
		want error
	}{
		{"absolute", tarball(t, file("/etc/x", "")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"parent", tarball(t, file("a/../../x", "")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"parent inside", tarball(t, file("a/../x", "")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"backslash", tarball(t, file(`a\x`, "")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"no UTF-8", tarball(t, file("a\xff", "")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"file as root", tarball(t, file(".", "x")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"twice", tarball(t, file("a", "1"), file("./a", "2")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"below a file", tarball(t, file("a", "1"), file("a/b", "2")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"file over directory", tarball(t, file("a/b", "1"), file("a", "2")), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"directory over file", tarball(t, file("a", "1"), tar.Header{Typeflag: tar.TypeDir, Name: "a/"}), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"fifo", tarball(t, tar.Header{Typeflag: tar.TypeFifo, Name: "f"}), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"device", tarball(t, tar.Header{Typeflag: tar.TypeChar, Name: "f"}), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"hard link to nothing", tarball(t, tar.Header{Typeflag: tar.TypeLink, Name: "f", Linkname: "g"}), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"hard link outside", tarball(t, tar.Header{Typeflag: tar.TypeLink, Name: "f", Linkname: "../g"}), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"hard link to a link", tarball(t, link, tar.Header{Typeflag: tar.TypeLink, Name: "f", Linkname: "l"}), source.ReadArchiveOptions{}, source.ErrUnsafePath},
		{"rejected link", tarball(t, link), source.ReadArchiveOptions{RejectSymlinks: true}, source.ErrUnsafePath},
		{"links", tarball(t, link, link), source.ReadArchiveOptions{Limits: source.Limits{Files: 1}}, source.ErrLimit},
		{"file", tarball(t, file("a", "12345")), source.ReadArchiveOptions{Limits: source.Limits{File: 4}}, source.ErrLimit},
		{"unpacked", tarball(t, file("a", "123"), file("b", "123")), source.ReadArchiveOptions{Limits: source.Limits{Unpacked: 5}}, source.ErrLimit},
		{"unpacked by hard links", tarball(t, file("a", "123"), tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}), source.ReadArchiveOptions{Limits: source.Limits{Unpacked: 5}}, source.ErrLimit},
		{"files", tarball(t, file("a/b/c", "")), source.ReadArchiveOptions{Limits: source.Limits{Files: 2}}, source.ErrLimit},
		{"depth", tarball(t, file("a/b/c", "")), source.ReadArchiveOptions{Limits: source.Limits{Depth: 1}}, source.ErrLimit},
		{"download", tarball(t, file("a", "")), source.ReadArchiveOptions{Limits: source.Limits{Download: 600}}, source.ErrLimit},
		{"bad limit", nil, source.ReadArchiveOptions{Limits: source.Limits{Files: -2}}, source.ErrInvalidSpec},
		{"zstd", []byte("\x28\xb5\x2f\xfd rest"), source.ReadArchiveOptions{}, source.ErrUnverified},
		{"no tar", []byte(strings.Repeat("x", 600)), source.ReadArchiveOptions{}, source.ErrUnverified},
		{"empty", nil, source.ReadArchiveOptions{}, source.ErrUnavailable},
	} {
		if _, err := unpack(t, test.blob, &test.opts); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	limits := source.Limits{Download: -1, File: 5, Unpacked: 5, Files: 3, Depth: 2}
	if _, err := unpack(t, tarball(t, file("a/b/c", "12345")), &source.ReadArchiveOptions{Limits: limits}); err != nil {
		t.Errorf("exactly at the limits: %v", err)
	}
	unlimited := source.Limits{Download: -1, File: -1, Unpacked: -1, Files: -1, Depth: -1}
	if _, err := unpack(t, tarball(t, file("a/b/c", "12345")), &source.ReadArchiveOptions{Limits: unlimited}); err != nil {
		t.Errorf("unlimited: %v", err)
	}
}

// A bomb is stopped by what it inflates to, also where the bytes belong to no file that is kept.
func TestReadArchiveBomb(t *testing.T) {
	block := tarball(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 100_000)}})
	block = block[:len(block)-1024] // without the end
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		zip := gzip.NewWriter(w)
		var err error
		for err == nil { // entries that are left out, for ever
			_, err = zip.Write(block)
		}
		w.CloseWithError(err)
	}()
	_, err := source.ReadArchive(t.Context(), source.Revision{}, r, &source.ReadArchiveOptions{Limits: source.Limits{Unpacked: 1 << 20, Files: 10}})
	if !errors.Is(err, source.ErrLimit) {
		t.Errorf("got %v", err)
	}
}

func TestReadArchiveDamaged(t *testing.T) {
	tree := fstest.MapFS{"a/b": {Data: bytes.Repeat([]byte("0123456789"), 300)}, "c": {Data: []byte("x")}}
	whole := archive(t, tree, nil)
	for n := range whole {
		if _, err := unpack(t, whole[:n], nil); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
		damaged := bytes.Clone(whole)
		damaged[n] ^= 0xff
		a, err := unpack(t, damaged, nil)
		if err == nil { // bytes 4 to 9 are a time and two hints that mean nothing
			if n < 4 || n > 9 {
				t.Errorf("the inverted byte %d was not noticed", n)
			}
			continue
		}
		if a != nil || !errors.Is(err, source.ErrUnverified) && !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("inverted byte %d: %v", n, err)
		}
	}
	broken := io.MultiReader(bytes.NewReader(whole[:50]), iotest.ErrReader(errors.New("connection reset")))
	_, err := source.ReadArchive(t.Context(), source.Revision{}, broken, nil)
	if !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("failing reader: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.ReadArchive(ctx, source.Revision{}, bytes.NewReader(whole), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestReadArchiveOfGit reads what git archive writes, global header included.
func TestReadArchiveOfGit(t *testing.T) {
	dir := writeTree(t, map[string]string{"a/b.yaml": "kind: List\n", "c": "1"})
	git(t, dir, nil, "init", "-q")
	git(t, dir, nil, "add", ".")
	git(t, dir, nil, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "x")
	git(t, dir, nil, "archive", "--prefix=app/", "-o", "out.tgz", "HEAD")
	blob, err := os.ReadFile(filepath.Join(dir, "out.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := unpack(t, blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := source.ContentDigest(t.Context(), fstest.MapFS{"app/a/b.yaml": {Data: []byte("kind: List\n")}, "app/c": {Data: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Digest(t.Context()); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestMapFS(t *testing.T) {
	tree, err := source.MapFS(map[string][]byte{"a": []byte("1"), "b/c": nil})
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a", "b/c"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "/a", "a/", "a//b", "../x", "a/../b", `a\b`, "a\x00", "a\xff", "f/x"} {
		if _, err := source.MapFS(map[string][]byte{name: nil, "f": nil}); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzReadArchive(f *testing.F) {
	f.Add(archive(f, fstest.MapFS{"a/b": {Data: []byte("1")}, "c": {Mode: 0o755}}, nil))
	f.Add(tarball(f, file("a", "1"), tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}))
	f.Add(tarball(f, tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../x"}))
	f.Fuzz(func(t *testing.T, blob []byte) {
		limits := source.Limits{Unpacked: 1 << 16, Files: 20, Depth: 5}
		a, err := unpack(t, blob, &source.ReadArchiveOptions{Limits: limits})
		if err != nil {
			for _, class := range []error{source.ErrLimit, source.ErrUnsafePath, source.ErrUnverified, source.ErrUnavailable} {
				if errors.Is(err, class) {
					return
				}
			}
			t.Fatalf("an error without a class: %v", err)
		}
		again, err := unpack(t, archive(t, a, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		d1, err1 := a.Digest(t.Context())
		d2, err2 := again.Digest(t.Context())
		if d1 != d2 || err1 != nil || err2 != nil {
			t.Errorf("%s, %v became %s, %v", d1, err1, d2, err2)
		}
	})
}
