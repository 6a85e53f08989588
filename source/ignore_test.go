package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/source"
)

func ExampleIgnore() {
	tree := fstest.MapFS{
		".sourceignore":   {Data: []byte("/*\n!/deploy/app.yaml\n")},
		"deploy/app.yaml": {Data: []byte("kind: List\n")}, "deploy/notes.md": {}, "src/main.go": {},
	}
	view, err := source.Ignore(context.Background(), tree, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	names, err := fs.Glob(view, "*/*")
	fmt.Println(names, err)
	// Output: [deploy/app.yaml] <nil>
}

func visible(t testing.TB, tree fs.FS) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
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

func treeOf(names ...string) fstest.MapFS {
	tree := fstest.MapFS{}
	for _, name := range names {
		name, data, _ := strings.Cut(name, "=")
		tree[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return tree
}

func TestIgnore(t *testing.T) {
	for _, test := range []struct {
		name     string
		tree     fstest.MapFS
		patterns string
		want     []string
	}{
		{"defaults", treeOf("a.yaml", "a/b.PNG", "a/b.png", ".github/x", "a/.github/x", ".git/config", "sub/.git", ".gitignore", "a/.sops.yaml", "x.tar.gz"), "",
			[]string{"a/b.PNG", "a.yaml", "sub/.git"}},
		{"patterns replace the defaults but not those of version control", treeOf("a.yaml", "b.png", ".git/config", ".gitattributes", "notes.md"), "*.md",
			[]string{"a.yaml", "b.png"}},
		{"comments are no patterns", treeOf("a.yaml", "b.png"), "# nothing\n\n",
			[]string{"a.yaml"}},
		{"version control can be asked for", treeOf(".gitignore", "a"), "!.gitignore", []string{".gitignore", "a"}},
		{"file of the root", treeOf(".sourceignore=/x\r\n*.md \n", "x/a", "y/x", "y/b.md"), "", []string{".sourceignore", "y/x"}},
		{"file of a directory", treeOf("d/.sourceignore=/x\n!keep.md\n", "d/x", "x", "d/keep.md", "d/other.md", ".sourceignore=*.md"), "",
			[]string{".sourceignore", "d/.sourceignore", "d/keep.md", "x"}},
		{"option after files", treeOf("d/.sourceignore=!a", "d/a", "a"), "a", []string{"d/.sourceignore"}},
		{"no search in excluded directories", treeOf(".sourceignore=d/\n!/d/a", "d/.sourceignore=!b", "d/a", "d/b"), "", []string{".sourceignore", "d/a"}},
		{"inclusion below an excluded directory", treeOf("deploy/a.yaml", "deploy/b.yaml", "c"), "/*\n!/deploy/a.yaml", []string{"deploy/a.yaml"}},
		{"inclusion of a directory", treeOf("deploy/a.yaml", "deploy/d/b.yaml", "c"), "/*\n!/deploy", []string{"deploy/a.yaml", "deploy/d/b.yaml"}},
		{"escapes", treeOf("#a", "!b", "c ", "d*", "dd", "e"), "\\#a\n\\!b\nc\\ \nd\\*\ne   ", []string{"dd"}},
		{"classes", treeOf("a1", "ab", "aZ", "a-"), "a[[:digit:]]\na[!-b1]", []string{"a-", "aZ", "ab"}},
		{"malformed", treeOf("a[", "b"), "a[\n/\n!\n//\nb", []string{"a["}},
		{"byte order mark", treeOf("a", "b"), "\ufeffa", []string{"b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			view, err := source.Ignore(t.Context(), test.tree, test.patterns)
			if err != nil {
				t.Fatal(err)
			}
			got := visible(t, view)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if err := fstest.TestFS(view, got...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestIgnoreHides(t *testing.T) {
	tree := treeOf("a/secret", "a/b", "c/d")
	tree["link"] = &fstest.MapFile{Data: []byte("a/b"), Mode: fs.ModeSymlink}
	view, err := source.ParseIgnore(".", "secret\nc/\nlink").FS(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/secret", "c", "c/d", "link"} {
		_, err1 := view.Open(name)
		_, err2 := fs.ReadFile(view, name)
		_, err3 := fs.Stat(view, name)
		_, err4 := fs.ReadDir(view, name)
		_, err5 := fs.ReadLink(view, name)
		_, err6 := fs.Lstat(view, name)
		for i, err := range []error{err1, err2, err3, err4, err5, err6} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, way %d: %v", name, i, err)
			}
		}
	}
}

func TestIgnoreErrors(t *testing.T) {
	big := treeOf(".sourceignore="+strings.Repeat("x\n", 80_000), "a/.sourceignore="+strings.Repeat("x\n", 80_000))
	if _, err := source.Ignore(t.Context(), big, ""); !errors.Is(err, source.ErrLimit) {
		t.Errorf("too many patterns: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Ignore(ctx, treeOf("a"), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v", err)
	}
	if _, err := (source.IgnoreRules{}).FS(ctx, treeOf("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v", err)
	}
	// A directory in the place of an ignore file has no patterns.
	if view, err := source.Ignore(t.Context(), treeOf(".sourceignore/a", "b.png"), ""); err != nil || len(visible(t, view)) != 1 {
		t.Errorf("%v", err)
	}
}

// TestIgnoreAsGit compares with git check-ignore on random patterns without
// inclusion, which is where the two mean the same. Patterns such as "a**/b" are
// left out: Git drops the "a" first and then takes the rest for "**/b"; so are
// classes that contain a slash.
func TestIgnoreAsGit(t *testing.T) {
	const seed, rounds = 7, 60
	rnd := rand.New(rand.NewPCG(seed, seed))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	part := func() string {
		return pick("a", "b", "ab", "a.b", "*", "a*", "*b", "?", "[ab]", "[!a]", "**", "*b*", `\*`, "b?")
	}
	dir := t.TempDir()
	git(t, dir, nil, "init", "-q")
	paths := map[string]bool{} // to whether it is a directory
	for range 150 {
		var parts []string
		for range 1 + rnd.IntN(4) {
			parts = append(parts, pick("a", "b", "ab", "a.b", "bb", "c", "*"))
			name := strings.Join(parts, "/")
			if isDir, there := paths[name]; there && !isDir {
				break
			}
			if rnd.IntN(3) == 0 && !paths[name] {
				paths[name] = false
				break
			}
			paths[name] = true
		}
	}
	for name, isDir := range paths {
		if !isDir {
			for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
				paths[parent] = true
			}
		}
	}
	var names []string
	for name, isDir := range paths {
		names = append(names, name)
		full := filepath.Join(dir, name)
		if isDir {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	for range rounds {
		var text strings.Builder
		for range 1 + rnd.IntN(3) {
			pattern := pick("", "/") + part()
			for range rnd.IntN(4) {
				pattern += "/" + part()
			}
			text.WriteString(pattern + pick("", "/", " ", "/ ") + "\n")
		}
		if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		out := git(t, dir, []byte(strings.Join(names, "\x00")), "check-ignore", "--no-index", "-z", "--stdin")
		ignored := map[string]bool{}
		for name := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
			ignored[name] = true
		}
		rules := source.ParseIgnore(".", text.String())
		for _, name := range names {
			if got, want := rules.Match(name, paths[name]), ignored[name]; got != want {
				t.Errorf("patterns %q, path %q, directory %v: got %v, git says %v", text.String(), name, paths[name], got, want)
			}
		}
	}
}

func git(t *testing.T, dir string, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1 && args[0] == "check-ignore") {
		t.Fatalf("git %v: %v", args, err)
	}
	return string(out)
}

func FuzzIgnore(f *testing.F) {
	f.Add("a/**/b\n!*.c\n", "a/x/b")
	f.Add("[[:alpha:]]?\\ \n/", "aa ")
	f.Add("**/**/a/**\n", "b/a/c")
	f.Fuzz(func(t *testing.T, text, name string) {
		if !fs.ValidPath(name) {
			return
		}
		rules := source.ParseIgnore(".", text)
		got := rules.Match(name, false)
		if and := (source.IgnoreRules{}).And(rules).Match(name, false); and != got {
			t.Error("And of nothing changes the rules")
		}
		if rules.And(source.ParseIgnore(".", "!*")).Match(name, false) {
			t.Error("an inclusion of everything leaves something out")
		}
		source.ParseIgnore("a/b", text).Match(name, true)
	})
}
