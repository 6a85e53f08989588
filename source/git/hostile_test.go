package git_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

// entry is one line of a tree made by hand.
type entry struct{ mode, name, hash string }

// plant writes a tree with entries Git itself would not make, and puts a
// commit of it on main.
func plant(t testing.TB, srv *gitserver.Server, entries ...entry) {
	t.Helper()
	tree := writeTree(t, srv, entries...)
	commit := run(t, srv, "commit-tree", "-m", "hostile", tree)
	run(t, srv, "update-ref", "refs/heads/main", commit)
}

func writeTree(t testing.TB, srv *gitserver.Server, entries ...entry) string {
	t.Helper()
	var data strings.Builder
	for _, e := range entries {
		raw, err := hex.DecodeString(e.hash)
		if err != nil {
			t.Fatal(err)
		}
		data.WriteString(e.mode + " " + e.name + "\x00" + string(raw))
	}
	tree, err := srv.Git("app.git", data.String(), "hash-object", "-t", "tree", "-w", "--stdin", "--literally")
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func blob(t testing.TB, srv *gitserver.Server, data string) string {
	t.Helper()
	if err := srv.Init("app.git"); err != nil {
		t.Fatal(err)
	}
	hash, err := srv.Git("app.git", data, "hash-object", "-w", "--stdin")
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestHostileNames(t *testing.T) {
	srv, url := newServer(t)
	hash := blob(t, srv, "[core]\n")
	safe := writeTree(t, srv, entry{"100644", "x", hash})
	src := newSource(t, url+"/app.git", nil)
	for _, name := range []string{
		".git", ".GIT", ".Git", "git~1", "GIT~1", ".git.", ".git ", ".git. . ", ".git::$INDEX_ALLOCATION", "git~1:x", ".g\u200cit", "\ufeff.git",
		"..", ".", "a/../b", "/etc", "a/b", "a\\b", "..\\x", ".git\\config", "not utf-8 \xff",
	} {
		for _, mode := range []string{"100644", "40000"} {
			id := hash
			if mode == "40000" {
				id = safe
			}
			plant(t, srv, entry{mode, name, id})
			rev, err := src.Resolve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = src.Fetch(t.Context(), rev)
			if !errors.Is(err, source.ErrUnsafePath) || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
				t.Errorf("%q as %s: got %v, want ErrUnsafePath naming it", name, mode, err)
			}
		}
	}
	// Names that only look alike are fine.
	var fine []entry
	for _, name := range []string{".github", ".gitignore", ".gitmodules", "git", "git~2", "x..", "...", "a.git", "ü"} {
		fine = append(fine, entry{"100644", name, hash})
	}
	plant(t, srv, fine...)
	if n := len(contents(t, get(t, src))); n != len(fine) {
		t.Errorf("%d files, want %d", n, len(fine))
	}
}

func TestHostileTrees(t *testing.T) {
	srv, url := newServer(t)
	hash := blob(t, srv, "1")
	tree := writeTree(t, srv, entry{"100644", "x", hash})
	commit := commit(t, srv, "other", map[string]string{"a": "b"})
	for _, test := range []struct {
		name    string
		entries []entry
		want    error
		text    string
	}{
		{"twice", []entry{{"100644", "a", hash}, {"100644", "a", hash}}, source.ErrUnsafePath, "a is there twice"},
		{"file and directory", []entry{{"100644", "a", hash}, {"40000", "a", tree}}, source.ErrUnsafePath, "a is there twice"},
		{"nested", []entry{{"40000", "sub", writeTree(t, srv, entry{"100644", ".git", hash})}}, source.ErrUnsafePath, "directory sub"},
		{"device", []entry{{"60000", "dev", hash}}, source.ErrUnverified, "dev has the mode 60000"},
		{"commit as a file", []entry{{"100644", "a", commit}}, source.ErrUnverified, ""},
		{"tree as a file", []entry{{"100644", "a", tree}}, source.ErrUnverified, "a tree"},
		{"file as a tree", []entry{{"40000", "a", hash}}, source.ErrUnverified, ""},
	} {
		plant(t, srv, test.entries...)
		src := newSource(t, url+"/app.git", nil)
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = src.Fetch(t.Context(), rev)
		// The server refuses to pack some of these itself.
		if !errors.Is(err, test.want) && !errors.Is(err, source.ErrUnavailable) || err == nil || !strings.Contains(err.Error(), test.text) && !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("%s: got %v, want %v with %q", test.name, err, test.want, test.text)
		}
	}
}

func TestSymlinks(t *testing.T) {
	srv, url := newServer(t)
	if _, err := srv.CommitChange("app.git", gitserver.Change{Branch: "main", Files: map[string]gitserver.File{
		"file":     {Data: "1"},
		"passwd":   {Data: "/etc/passwd", Mode: "120000"},
		"dir/loop": {Data: "../dir", Mode: "120000"},
	}}); err != nil {
		t.Fatal(err)
	}
	a := get(t, newSource(t, url+"/app.git", nil))
	if got := contents(t, a); len(got) != 1 || a.Metadata[git.MetaSkipped] != "dir/loop\npasswd" {
		t.Errorf("files %v, metadata %v", got, a.Metadata)
	}
	src := newSource(t, url+"/app.git", &git.Options{Symlinks: git.RejectSymlinks})
	_, err := src.Fetch(t.Context(), a.Revision)
	if !errors.Is(err, source.ErrUnsafePath) || !strings.Contains(err.Error(), "dir/loop is a symbolic link") {
		t.Errorf("got %v, want ErrUnsafePath naming a link", err)
	}
}

func TestSubmodulesAreEmptyDirectories(t *testing.T) {
	srv, url := newServer(t)
	if _, err := srv.CommitChange("app.git", gitserver.Change{Branch: "main", Files: map[string]gitserver.File{
		"file":    {Data: "1"},
		"lib/sub": {Data: strings.Repeat("1", 40), Mode: "160000"},
	}}); err != nil {
		t.Fatal(err)
	}
	a := get(t, newSource(t, url+"/app.git", nil))
	list, err := a.ReadDir("lib/sub")
	if err != nil || len(list) != 0 || a.Metadata[git.MetaSubmodules] != "lib/sub" {
		t.Errorf("entries %v, %v, metadata %v", list, err, a.Metadata)
	}
}

func TestLimits(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"a/b/c/file": strings.Repeat("x", 1000), "a/b/other": strings.Repeat("y", 500)})
	fetchWith := func(l source.Limits) error {
		src := newSource(t, url+"/app.git", &git.Options{Limits: l})
		rev, err := src.Resolve(t.Context())
		if err != nil {
			return err
		}
		a, err := src.Fetch(t.Context(), rev)
		if err != nil {
			return err
		}
		return a.Close()
	}
	for name, l := range map[string]source.Limits{
		"Download": {Download: 400}, "File": {File: 999}, "Unpacked": {Unpacked: 1499}, "Files": {Files: 4}, "Depth": {Depth: 2},
	} {
		if err := fetchWith(l); !errors.Is(err, source.ErrLimit) {
			t.Errorf("%s: got %v, want ErrLimit", name, err)
		}
	}
	for name, l := range map[string]source.Limits{
		"exact":     {File: 1000, Unpacked: 1500, Files: 5, Depth: 3},
		"unlimited": {Download: -1, File: -1, Unpacked: -1, Files: -1, Depth: -1},
	} {
		if err := fetchWith(l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A few kilobytes that stand for 10^10 files, and 3,000 directories deep.
func TestTreeBombs(t *testing.T) {
	srv, url := newServer(t)
	hash := blob(t, srv, "boom")
	wide := writeTree(t, srv, entry{"100644", "f", hash})
	for range 10 {
		var entries []entry
		for i := range 10 {
			entries = append(entries, entry{"40000", fmt.Sprint("d", i), wide})
		}
		wide = writeTree(t, srv, entries...)
	}
	plant(t, srv, entry{"40000", "bomb", wide})
	src := newSource(t, url+"/app.git", nil)
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrLimit) {
		t.Errorf("wide: got %v, want ErrLimit", err)
	}
	// Without a limit on files it still costs nothing to open: subtrees are shared.
	unlimited := newSource(t, url+"/app.git", &git.Options{Limits: source.Limits{Files: -1, Unpacked: -1}})
	if _, err := fetch(t, unlimited, rev).Stat("bomb/d1/d2/d3/d4/d5/d6/d7/d8/d9/d0/f"); err != nil {
		t.Errorf("unlimited: %v", err)
	}

	var in strings.Builder
	in.WriteString("commit refs/heads/main\ncommitter x <x> 0 +0000\ndata 0\nM 100644 inline " + strings.Repeat("d/", 3000) + "f\ndata 0\ndone\n")
	if _, err := srv.Git("app.git", in.String(), "fast-import", "--quiet", "--done", "--force"); err != nil {
		t.Fatal(err)
	}
	if rev, err = src.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrLimit) || len(err.Error()) > 600 {
		t.Errorf("deep: got %v, want a short ErrLimit", err)
	}
}

func TestSHA256Repository(t *testing.T) {
	srv, url := newServer(t)
	dir, err := srv.Dir("app.git")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Git(".", "", "init", "-q", "--bare", "--object-format=sha256", "--initial-branch=main", dir); err != nil {
		t.Fatal(err)
	}
	commit(t, srv, "main", map[string]string{"a": "1"})
	for _, v0 := range []bool{false, true} {
		srv.ForceV0 = v0
		_, err = newSource(t, url+"/app.git", nil).Resolve(t.Context())
		if !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("v0=%v: got %v, want ErrInvalidSpec naming SHA-256", v0, err)
		}
	}
}
