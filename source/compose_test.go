package source_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/source"
)

// contents lists the files of a tree with their content.
func contents(t *testing.T, tree fs.FS) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCompose(t *testing.T) {
	a := fstest.MapFS{
		"apps/base/x.yaml": {Data: []byte("x")}, "apps/base/deep/y.yaml": {Data: []byte("y")}, "apps/run.sh": {Data: []byte("s"), Mode: 0o755}, "README.md": {Data: []byte("r")},
	}
	b := fstest.MapFS{"x.yaml": {Data: []byte("X")}, "link": {Data: []byte("apps"), Mode: fs.ModeSymlink}}
	for name, c := range map[string]struct {
		steps []source.Copy
		want  map[string]string
	}{
		"content of a directory": {[]source.Copy{{From: a, Pattern: "apps/**", To: ""}}, map[string]string{"base/x.yaml": "x", "base/deep/y.yaml": "y", "run.sh": "s"}},
		"directory into":         {[]source.Copy{{From: a, Pattern: "apps/base/", To: "to/"}}, map[string]string{"to/base/x.yaml": "x", "to/base/deep/y.yaml": "y"}},
		"directory as":           {[]source.Copy{{From: a, Pattern: "apps/base", To: "to"}}, map[string]string{"to/x.yaml": "x", "to/deep/y.yaml": "y"}},
		"file as":                {[]source.Copy{{From: a, Pattern: "README.md", To: "docs/index.md"}}, map[string]string{"docs/index.md": "r"}},
		"file into":              {[]source.Copy{{From: a, Pattern: "README.md", To: "docs/"}}, map[string]string{"docs/README.md": "r"}},
		"matches":                {[]source.Copy{{From: a, Pattern: "apps/*", To: "all"}}, map[string]string{"all/base/x.yaml": "x", "all/base/deep/y.yaml": "y", "all/run.sh": "s"}},
		"everything":             {[]source.Copy{{From: b, Pattern: "**", To: "/"}}, map[string]string{"x.yaml": "X"}},
		"later wins":             {[]source.Copy{{From: a, Pattern: "apps/base/**", To: ""}, {From: b, Pattern: "x.yaml", To: ""}}, map[string]string{"x.yaml": "X", "deep/y.yaml": "y"}},
		"excluded":               {[]source.Copy{{From: a, Pattern: "apps/**", To: "", Exclude: []string{"*.sh", "**/deep/**"}}}, map[string]string{"base/x.yaml": "x"}},
		"excluded below":         {[]source.Copy{{From: a, Pattern: "apps/**", To: "", Exclude: []string{"base/x.yaml", "apps/run.sh"}}}, map[string]string{"base/deep/y.yaml": "y"}},
		"nothing outside":        {[]source.Copy{{From: a, Pattern: "README.md", To: "../../up"}}, map[string]string{"up": "r"}},
	} {
		tree, err := source.Compose(t.Context(), source.Limits{}, c.steps...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, contents(t, tree)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		if err := fstest.TestFS(tree, slices.Collect(maps.Keys(c.want))...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	tree, err := source.Compose(t.Context(), source.Limits{}, source.Copy{From: a, Pattern: "apps/run.sh"})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := fs.Stat(tree, "run.sh"); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("%v, %v; want an executable file", info, err)
	}
}

func TestComposeRefuses(t *testing.T) {
	a := fstest.MapFS{"dir/x": {Data: []byte("x")}, "y": {Data: []byte("yy")}}
	for name, c := range map[string]struct {
		limits source.Limits
		steps  []source.Copy
		want   error
	}{
		"nothing there":   {source.Limits{}, []source.Copy{{From: a, Pattern: "z", To: ""}}, source.ErrNotFound},
		"no match":        {source.Limits{}, []source.Copy{{From: a, Pattern: "*.yaml", To: ""}}, source.ErrNotFound},
		"outside":         {source.Limits{}, []source.Copy{{From: a, Pattern: "../y", To: ""}}, source.ErrInvalidSpec},
		"bad pattern":     {source.Limits{}, []source.Copy{{From: a, Pattern: "[", To: ""}}, source.ErrInvalidSpec},
		"all excluded":    {source.Limits{}, []source.Copy{{From: a, Pattern: "dir/**", To: "", Exclude: []string{"x"}}}, source.ErrInvalidSpec},
		"file, directory": {source.Limits{}, []source.Copy{{From: a, Pattern: "y", To: "dir"}, {From: a, Pattern: "dir/**", To: "dir"}}, source.ErrUnsafePath},
		"no name":         {source.Limits{}, []source.Copy{{From: a, Pattern: "y/**", To: "/"}}, source.ErrUnsafePath},
		"large file":      {source.Limits{File: 1}, []source.Copy{{From: a, Pattern: "y", To: ""}}, source.ErrLimit},
		"large":           {source.Limits{Unpacked: 2}, []source.Copy{{From: a, Pattern: "**", To: ""}}, source.ErrLimit},
		"many":            {source.Limits{Files: 1}, []source.Copy{{From: a, Pattern: "**", To: ""}}, source.ErrLimit},
	} {
		_, err := source.Compose(t.Context(), c.limits, c.steps...)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.steps[len(c.steps)-1].Pattern) {
			t.Errorf("%s: %v, want %v that names the pattern", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Compose(ctx, source.Limits{}, source.Copy{From: a, Pattern: "**"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
