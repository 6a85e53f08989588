package git_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

func TestCommitNoChanges(t *testing.T) {
	srv, url := newWritable(t)
	srv.Config = append(srv.Config, "uploadpack.allowFilter=true")
	if _, err := srv.CommitChange("app.git", gitserver.Change{Branch: "main", Message: "x", Files: map[string]gitserver.File{
		"a": {Data: "1"}, "run": {Data: "2", Mode: "100755"},
	}}); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, url, nil)
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []git.Change{change(nil), change(map[string][]byte{"a": []byte("1"), "run": []byte("2")})} {
		c.Delete = []string{"never/was", "b"}
		if _, err := src.Commit(t.Context(), rev, c); !errors.Is(err, git.ErrNoChanges) {
			t.Errorf("got %v", err)
		}
	}
	c := change(map[string][]byte{"a": []byte("1")})
	c.Executable = []string{"a"}
	if _, err := src.Commit(t.Context(), rev, c); err != nil {
		t.Errorf("only the mode changes: %v", err)
	}
}

// A commit reads directories and sends what is new, not the repository.
func TestCommitIsCheap(t *testing.T) {
	srv, url := newWritable(t)
	srv.Config = append(srv.Config, "uploadpack.allowFilter=true")
	random := make([]byte, 4<<20)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(random)
	commit(t, srv, "main", map[string]string{"big": string(random), "apps/web.yaml": "1"})
	src := newSource(t, url, nil)
	srv.ResetTraffic()
	made := makeCommit(t, src, change(map[string][]byte{"apps/web.yaml": []byte("2")}))
	if _, err := src.Push(t.Context(), made, nil); err != nil {
		t.Fatal(err)
	}
	if got := srv.Traffic(); got.Sent > 4<<10 || got.Received > 4<<10 {
		t.Errorf("received %d and sent %d bytes", got.Sent, got.Received)
	}
	run(t, srv, "fsck", "--strict", "--full")
}

func TestFirstCommit(t *testing.T) {
	srv, url := newWritable(t)
	if err := srv.Init("app.git"); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}})
	made, err := src.Commit(t.Context(), source.Revision{}, change(map[string][]byte{"a/b": []byte("1")}))
	if err != nil {
		t.Fatal(err)
	}
	// The branch of this source is not the parent's, for there is none: it may be made.
	if _, err := src.Push(t.Context(), made, &git.PushOptions{Branch: "main", Force: true}); err != nil {
		t.Fatal(err)
	}
	last := change(nil)
	last.Delete = []string{"a/b"}
	if _, err := src.Push(t.Context(), makeCommit(t, src, last), nil); err != nil {
		t.Fatal(err)
	}
	run(t, srv, "fsck", "--strict", "--full")
	if got := run(t, srv, "ls-tree", "-r", "main"); got != "" {
		t.Errorf("tree is %q", got)
	}
}

func TestCommitRefuses(t *testing.T) {
	srv, url := newWritable(t)
	if _, err := srv.CommitChange("app.git", gitserver.Change{Branch: "main", Message: "x", Files: map[string]gitserver.File{
		"file": {Data: "1"}, "dir/a": {Data: "1"}, "link": {Data: "dir", Mode: "120000"}, "module": {Data: strings.Repeat("1", 40), Mode: "160000"},
	}}); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, url, nil)
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"", ".", "/abs", "../x", "a/../b", "a//b", ".git/config", "a/.GIT/x", "git~1", "a\\b", "a\x00", "a\xff", "dir", "link", "link/x", "module", "module/x", "file/x",
	} {
		if _, err := src.Commit(t.Context(), rev, change(map[string][]byte{name: []byte("x")})); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("write %q: %v", name, err)
		}
		c := change(nil)
		c.Delete = []string{name}
		if _, err := src.Commit(t.Context(), rev, c); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("delete %q: %v", name, err)
		}
	}
	ok := change(map[string][]byte{"x": nil})
	for name, f := range map[string]func(*git.Change){
		"no author":      func(c *git.Change) { c.Author = git.Person{} },
		"injection":      func(c *git.Change) { c.Author.Name = "a\ncommitter x" },
		"angle brackets": func(c *git.Change) { c.Committer = git.Person{Email: "<a>"} },
		"no message":     func(c *git.Change) { c.Message = " \n" },
		"NUL":            func(c *git.Change) { c.Message = "a\x00" },
		"before 1970":    func(c *git.Change) { c.When = time.Unix(-5, 0) },
		"executable":     func(c *git.Change) { c.Executable = []string{"y"} },
		"both":           func(c *git.Change) { c.Delete = []string{"x"} },
		"file and dir":   func(c *git.Change) { c.Files = map[string][]byte{"n": nil, "n/m": nil} },
		"signer": func(c *git.Change) {
			c.Signer = git.SignerFunc(func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no key") })
		},
		"signature": func(c *git.Change) {
			c.Signer = git.SignerFunc(func(context.Context, []byte) ([]byte, error) { return []byte("x"), nil })
		},
	} {
		c := ok
		f(&c)
		if _, err := src.Commit(t.Context(), rev, c); !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := src.Commit(t.Context(), source.Revision{Ref: "main", Digest: "sha1:" + "0123456789012345678901234567890123456789"}, ok); err == nil {
		t.Error("a parent that is not there")
	}
	made, err := src.Commit(t.Context(), rev, ok)
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []git.PushOptions{{Branch: "a..b"}, {Refs: []string{"heads/x"}}, {Refs: []string{"refs/x"}}, {Options: []string{"a\nb"}}} {
		if _, err := src.Push(t.Context(), made, &opts); !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	tag := newSource(t, url, &git.Options{Ref: git.Ref{Tag: "v1"}})
	if _, err := tag.Push(t.Context(), made, nil); !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), "PushOptions.Branch") {
		t.Errorf("a tag: %v", err)
	}
	if _, err := src.Push(t.Context(), nil, nil); !errors.Is(err, source.ErrInvalidSpec) {
		t.Errorf("no commit: %v", err)
	}
}

// TestCommitsAsGit applies random edits with Git and with us: the trees are the same.
func TestCommitsAsGit(t *testing.T) {
	srv, url := newWritable(t)
	srv.Config = append(srv.Config, "uploadpack.allowFilter=true")
	rnd := rand.New(rand.NewPCG(3, 3))
	tree := fstest.MapFS{}
	names := []string{"a", "a.b", "a-b", "a0", "b/a", "b/a.c", "b.a", "b-c/d/e", "b-c/d", "c/a/b/c", "c/a.b", "ü/ß", "ab/x", "ab.x", "ab/x/y"}
	set := map[string]string{"start": "1"}
	commit(t, srv, "main", set)
	tree["start"] = &fstest.MapFile{Data: []byte("1")}
	src := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}})
	for i := range 12 {
		c := change(map[string][]byte{})
		c.Message = fmt.Sprint("change ", i)
		before := maps.Clone(tree)
		for _, name := range names {
			_, there := tree[name]
			switch {
			case there && rnd.IntN(3) == 0:
				c.Delete = append(c.Delete, name)
				delete(tree, name)
			case rnd.IntN(4) == 0 && fits(tree, name) && fits(before, name):
				data := []byte(fmt.Sprint(rnd.IntN(3)))
				c.Files[name] = data
				tree[name] = &fstest.MapFile{Data: data}
			}
		}
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		made, err := src.Commit(t.Context(), rev, c)
		if errors.Is(err, git.ErrNoChanges) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Push(t.Context(), made, nil); err != nil {
			t.Fatal(err)
		}
		want, err1 := source.ContentDigest(t.Context(), tree)
		got, err2 := get(t, src).Digest(t.Context())
		if got != want || err1 != nil || err2 != nil {
			t.Fatalf("after change %d: %s %v, want %s %v", i, got, err2, want, err1)
		}
		// Git makes the same tree object of the same files.
		dir := t.TempDir()
		if err := os.CopyFS(dir, tree); err != nil {
			t.Fatal(err)
		}
		index := "--work-tree=" + dir
		run(t, srv, index, "read-tree", "--empty")
		run(t, srv, index, "add", "--all", ".")
		if got, want := run(t, srv, "rev-parse", "main^{tree}"), run(t, srv, "write-tree"); got != want {
			t.Fatalf("after change %d: tree %s, Git makes %s", i, got, want)
		}
	}
	run(t, srv, "fsck", "--strict", "--full")
}

// fits says whether a file of that name leaves every path a file or a directory.
func fits(tree fstest.MapFS, name string) bool {
	for other := range tree {
		if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			return false
		}
	}
	return true
}

// Commit needs no more than an fs.FS to change files in: this is how a consumer uses it.
func TestCommitFromFS(t *testing.T) {
	srv, url := newWritable(t)
	commit(t, srv, "main", map[string]string{"a.yaml": "image: x:1\n", "b.yaml": "image: y:1\n"})
	src := newSource(t, url, nil)
	a := get(t, src)
	files := map[string][]byte{}
	err := fs.WalkDir(a, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(a, name)
		files[name] = bytes.ReplaceAll(data, []byte("x:1"), []byte("x:2"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := src.Commit(t.Context(), a.Revision, change(files))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Push(t.Context(), made, nil); err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(run(t, srv, "diff", "--name-only", "main~1", "main"))
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a.yaml"}, got); diff != "" {
		t.Error(diff)
	}
}
