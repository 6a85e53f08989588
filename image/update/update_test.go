package update_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/image/update"
)

var rewrite = flag.Bool("update", false, "rewrite what testdata/*.txtar want")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// policies are those of the scripts.
var policies = map[string]image.Ref{
	"automation-ns:policy":    {Name: "index.repo.fake/updated", Tag: "v1.0.1"},
	"automation-ns:unchanged": {Name: "image", Tag: "v1.0.0"},
	"automation-ns:pinned":    {Name: "image", Tag: "v1.0.0", Digest: "sha256:6745aaad46d795c9836632e1fb62f24b7e7f4c843144da8e47a5465c411a14be"},
}

// TestScripts updates the files below in/ of each testdata/*.txtar. Below want/ are
// those that change, and in report all that the plan says.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, file := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tree, want := fstest.MapFS{}, map[string]string{}
			kept := &txtar.Archive{Comment: archive.Comment}
			for _, f := range archive.Files {
				if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
					tree[name] = &fstest.MapFile{Data: f.Data}
					kept.Files = append(kept.Files, f)
				} else {
					want[f.Name] = string(f.Data)
				}
			}
			got := map[string]string{}
			plan := setters(t, tree, nil)
			for name, data := range plan.Files() {
				got["want/"+name] = string(data)
			}
			got["report"] = report(plan)
			if diff := cmp.Diff(want, got); diff != "" && !*rewrite {
				t.Error(diff)
			} else if diff != "" {
				for _, name := range slices.Sorted(maps.Keys(got)) {
					kept.Files = append(kept.Files, txtar.File{Name: name, Data: []byte(got[name])})
				}
				if err := os.WriteFile(file, txtar.Format(kept), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			again := fstest.MapFS{}
			maps.Copy(again, tree)
			for name, data := range plan.Files() {
				again[name] = &fstest.MapFile{Data: data}
			}
			if plan := setters(t, again, nil); len(plan.Changes) > 0 {
				t.Errorf("the second run changes something: %v", plan.Changes)
			}
		})
	}
}

func setters(t testing.TB, tree fs.FS, opts *update.Options) *update.Plan {
	t.Helper()
	plan, err := update.Setters(t.Context(), tree, policies, opts)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func report(plan *update.Plan) string {
	var out strings.Builder
	for _, c := range plan.Changes {
		o := c.Object
		fmt.Fprintf(&out, "%s:%d %s/%s/%s/%s %s %s -> %s\n", c.File, c.Line, o.APIVersion, o.Kind, o.Namespace, o.Name, c.Setter, c.Old, c.New)
	}
	for _, s := range plan.Skipped {
		fmt.Fprintf(&out, "%s:%d %s\n", s.File, s.Line, s.Reason)
	}
	return out.String()
}

// Of line ends, byte order marks and missing last lines nothing is lost.
func TestBytesKept(t *testing.T) {
	const mark = ` # {"$imagepolicy": "automation-ns:policy:tag"}`
	for _, test := range []struct{ name, in, want string }{
		{"crlf", "a: 1\r\nb: v0" + mark + "\r\n\r\nc: 2\r\n", "a: 1\r\nb: v1.0.1" + mark + "\r\n\r\nc: 2\r\n"},
		{"cr", "a: 1\rb: v0" + mark + "\rc: 2\r", "a: 1\rb: v1.0.1" + mark + "\rc: 2\r"},
		{"bom", "\ufeffa: v0" + mark + "\nb: v0" + mark, "\ufeffa: v1.0.1" + mark + "\nb: v1.0.1" + mark},
		{"bom and crlf", "\ufeffé: 1\r\nä: \"v0\"" + mark + "\r\n", "\ufeffé: 1\r\nä: \"v1.0.1\"" + mark + "\r\n"},
		{"astral", "\U0001F600: {\U0001F600: x, b: v0" + mark + "\n}\n", "\U0001F600: {\U0001F600: x, b: v1.0.1" + mark + "\n}\n"},
		{"unicode line ends", "a: \"x\u2028y\"\nb: v0" + mark + "\n", "a: \"x\u2028y\"\nb: v1.0.1" + mark + "\n"},
		{"tabs", "a:\tv0\t" + mark + "\t\n", "a:\tv1.0.1\t" + mark + "\t\n"},
		{"escapes", "a: \"v\\\"0\"" + mark + "\nb: 'v''0'" + mark, "a: \"v1.0.1\"" + mark + "\nb: 'v1.0.1'" + mark},
		{"version", "%YAML 1.1\n---\na: v0" + mark, "%YAML 1.1\n---\na: v1.0.1" + mark},
	} {
		plan := setters(t, fstest.MapFS{"a.yaml": {Data: []byte(test.in)}}, nil)
		if got := string(plan.Files()["a.yaml"]); got != test.want || len(plan.Skipped) > 0 {
			t.Errorf("%s: %q\n%+v", test.name, got, plan.Skipped)
		}
	}
}

// A tag that would be a number is a string all the same.
func TestQuotes(t *testing.T) {
	for tag, quoted := range map[string]bool{
		"1.20": true, "1e3": true, "0123": true, "on": true, "YES": true, "y": true, "null": true, "12": true, "1_000": true, "0x1f": true, "0b1": true, "2024-01-02": true,
		"1.2.3": false, "v1": false, "latest": false, "1-alpine": false, "abc123": false, "20240101.1-x": false,
	} {
		want := "a: " + tag + " #"
		if quoted {
			want = `a: "` + tag + `" #`
		}
		if got := string(setAll(t, tag)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", tag, got)
		}
	}
}

// setAll is a file whose only value is set to a tag.
func setAll(t testing.TB, tag string) []byte {
	t.Helper()
	tree := fstest.MapFS{"a.yaml": {Data: []byte(`a: old # {"$imagepolicy": "a:b:tag"}`)}}
	plan, err := update.Setters(t.Context(), tree, map[string]image.Ref{"a:b": {Name: "x", Tag: tag}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Files()["a.yaml"]
}

func TestPath(t *testing.T) {
	marked := &fstest.MapFile{Data: []byte(`a: x # {"$imagepolicy": "automation-ns:policy:tag"}`)}
	tree := fstest.MapFS{"a.yaml": marked, "apps/b.yaml": marked, "apps/deep/c.yml": marked, "apps2/d.yaml": marked}
	for dir, want := range map[string][]string{
		"": {"a.yaml", "apps/b.yaml", "apps/deep/c.yml", "apps2/d.yaml"}, "./": {"a.yaml", "apps/b.yaml", "apps/deep/c.yml", "apps2/d.yaml"},
		"./apps": {"apps/b.yaml", "apps/deep/c.yml"}, "apps/deep/": {"apps/deep/c.yml"}, "apps/../apps2": {"apps2/d.yaml"},
	} {
		plan := setters(t, tree, &update.Options{Path: dir})
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(plan.Files()))); diff != "" {
			t.Errorf("%q: %s", dir, diff)
		}
	}
	for _, dir := range []string{"..", "../apps", "/", "/etc", "apps/../..", `apps\..\..`} {
		_, err := update.Setters(t.Context(), tree, policies, &update.Options{Path: dir})
		fails(t, err, update.ErrInvalid, "out of the tree")
	}
	_, err := update.Setters(t.Context(), tree, policies, &update.Options{Path: "missing"})
	fails(t, err, fs.ErrNotExist, "missing")
}

func fails(t testing.TB, err, class error, texts ...string) {
	t.Helper()
	var typed *update.Error
	if !errors.Is(err, class) || !errors.As(err, &typed) || typed.Terminal() != errors.Is(class, update.ErrInvalid) {
		t.Fatalf("want an *update.Error of %v, got %v", class, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in %v", text, err)
		}
	}
}

// Links lead nowhere, whatever the file system makes of them.
func TestLinks(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside.yaml")
	dir := t.TempDir()
	marked := []byte(`a: x # {"$imagepolicy": "automation-ns:policy:tag"}`)
	err := errors.Join(
		os.WriteFile(outside, marked, 0o644), os.WriteFile(filepath.Join(dir, "a.yaml"), marked, 0o644),
		os.Symlink(outside, filepath.Join(dir, "out.yaml")), os.Symlink("gone", filepath.Join(dir, "dangling.yaml")),
		os.Symlink(".", filepath.Join(dir, "loop")), os.Symlink("/", filepath.Join(dir, "root")),
	)
	if err != nil {
		t.Fatal(err)
	}
	plan := setters(t, os.DirFS(dir), nil)
	if got := report(plan); got != "a.yaml:1 /// automation-ns:policy:tag x -> v1.0.1\ndangling.yaml:0 NotRegular\nout.yaml:0 NotRegular\n" || len(plan.Files()) != 1 {
		t.Error(got)
	}
}

func TestRefuses(t *testing.T) {
	tree := fstest.MapFS{"a.yaml": {Data: []byte("a: x # {\"$imagepolicy\": \"automation-ns:gone\"}\nb: x # {\"$imagepolicy\": \"automation-ns:policy:digest\"}\n")}, "b.yaml": {}}
	for text, bad := range map[string]map[string]image.Ref{
		`policy "a": want namespace:name`:     {"a": {Name: "x", Tag: "1"}},
		`policy "a:b:c": want namespace:name`: {"a:b:c": {Name: "x", Tag: "1"}},
		"has no tag":                          {"a:b": {Name: "x"}},
		"is not a tag":                        {"a:b": {Name: "x", Tag: "1\n  evil: true"}},
		"malformed":                           {"a:b": {Name: "x: y", Tag: "1"}, "c:d": {Name: `x"`, Tag: "1"}},
	} {
		_, err := update.Setters(t.Context(), tree, bad, nil)
		fails(t, err, update.ErrInvalid, text)
	}
	_, err := update.Setters(t.Context(), tree, policies, &update.Options{Limits: update.Limits{Files: -2}})
	fails(t, err, update.ErrInvalid, "Unlimited")
	_, err = update.Setters(t.Context(), tree, policies, &update.Options{Limits: update.Limits{Files: 2}})
	fails(t, err, update.ErrLimit, "Limits.Files")
	_, err = update.Setters(t.Context(), tree, policies, &update.Options{Strict: true})
	fails(t, err, update.ErrUnresolved, "a.yaml:1", "UnknownPolicy", "a.yaml:2", "NoDigest")
	if plan := setters(t, tree, &update.Options{Limits: update.Limits{File: 10, Files: update.Unlimited}}); report(plan) != "a.yaml:0 TooLarge\n" {
		t.Error(report(plan))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = update.Setters(ctx, tree, policies, nil)
	fails(t, err, context.Canceled)
}

// Files gives out copies.
func TestPlanIsSafe(t *testing.T) {
	plan := setters(t, fstest.MapFS{"a.yaml": {Data: []byte(`a: x # {"$imagepolicy": "automation-ns:policy:tag"}`)}}, nil)
	plan.Files()["a.yaml"][0] = 'X'
	if plan.Files()["a.yaml"][0] != 'a' {
		t.Error("the plan changed")
	}
}
