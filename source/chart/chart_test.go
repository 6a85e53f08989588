package chart_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	helm "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/values"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
)

func TestMain(m *testing.M) {
	// Not ours: the peer's logging library starts it when it is loaded.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

const appChart = "apiVersion: v2\nname: app\nversion: 1.2.3\nappVersion: \"4.5\"\ndescription: An app\n"

// files is a tree with one chart in it.
func files(more map[string]string) fstest.MapFS {
	tree := fstest.MapFS{}
	for name, text := range map[string]string{
		"charts/app/Chart.yaml":             appChart,
		"charts/app/values.yaml":            "# ours\nreplicas: 1\nimage: {name: app, tag: v1}\nports: [80]\n",
		"charts/app/values.schema.json":     "{}",
		"charts/app/templates/app.yaml":     "kind: {{ .Values.replicas }}\n",
		"charts/app/templates/.hidden":      "never",
		"charts/app/templates/_helpers.tpl": "{{/* x */}}",
		"charts/app/crds/crd.yaml":          "kind: CustomResourceDefinition\n",
		"charts/app/README.md":              "read me",
		"charts/app/.helmignore":            "*.bak\n/docs/\n",
		"charts/app/a.bak":                  "left out",
		"charts/app/docs/x.md":              "left out",
		"envs/production.yaml":              "replicas: 3\nimage: {tag: v2}\nports: [443]\nextra: null\nbig: 12345678901234567\n",
	} {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range more {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return tree
}

func build(t testing.TB, tree fs.FS, at string, opts *chart.Options) *chart.Package {
	t.Helper()
	p, err := chart.Build(t.Context(), tree, at, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// write puts a tree on disk, for the peer.
func write(t testing.TB, tree fs.FS) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, tree); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t testing.TB, data []byte) *helm.Chart {
	t.Helper()
	c, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// describe is everything that makes a chart, in order.
func describe(c *helm.Chart) map[string]any {
	all := map[string]any{"metadata": c.Metadata, "values": c.Values, "schema": string(c.Schema), "lock": c.Lock}
	for _, list := range [][]*helm.File{c.Templates, c.Files} {
		for _, f := range list {
			all["file "+f.Name] = string(f.Data)
		}
	}
	for _, d := range c.Dependencies() {
		all["dependency "+d.Name()] = describe(d)
	}
	return all
}

// A package is what "helm package" makes of the same directory, to Helm.
func TestSameAsHelm(t *testing.T) {
	child := files(nil)
	vendored := build(t, fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: packed\nversion: 0.1.0\n")}, "templates/p.yaml": {Data: []byte("p")}}, ".", nil)
	for name, tree := range map[string]fstest.MapFS{
		"plain": child,
		"dependencies": files(map[string]string{
			"charts/app/Chart.yaml":                    appChart + "dependencies:\n- {name: packed, version: 0.x}\n- {name: dir, version: 1.0.0, repository: 'https://example.com'}\n",
			"charts/app/charts/packed-0.1.0.tgz":       string(vendored.Data),
			"charts/app/charts/dir/Chart.yaml":         "apiVersion: v2\nname: dir\nversion: 1.0.0\n",
			"charts/app/charts/dir/templates/dir.yaml": "d",
			"charts/app/charts/_ignored/x":             "x",
		}),
		"for helm 2": {
			"charts/app/Chart.yaml":            {Data: []byte("name: app\nversion: 1.0.0\napiVersion: v1\n")},
			"charts/app/requirements.yaml":     {Data: []byte("dependencies:\n- {name: dir, version: 1.0.0}\n")},
			"charts/app/charts/dir/Chart.yaml": {Data: []byte("apiVersion: v1\nname: dir\nversion: 1.0.0\n")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours := build(t, tree, "charts/app", nil)
			theirs, err := loader.LoadDir(filepath.Join(write(t, tree), "charts/app"))
			if err != nil {
				t.Fatal(err)
			}
			saved, err := chartutil.Save(theirs, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(saved)
			if err != nil {
				t.Fatal(err)
			}
			want := describe(load(t, data))
			got := describe(load(t, ours.Data))
			delete(got, "file .helmignore") // Helm leaves it out or not, by what it finds
			delete(want, "file .helmignore")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if ours.Filename() != filepath.Base(saved) {
				t.Errorf("%s, and Helm says %s", ours.Filename(), saved)
			}
		})
	}
}

func TestPackage(t *testing.T) {
	p := build(t, files(nil), "charts/app", nil)
	if again := build(t, files(nil), "charts/app", nil); !bytes.Equal(p.Data, again.Data) {
		t.Error("the same chart gives other bytes")
	}
	a := p.Artifact()
	defer a.Close()
	if err := fstest.TestFS(a, "Chart.yaml", "templates/app.yaml"); err != nil {
		t.Error(err)
	}
	if p.Name != "app" || p.Version != "1.2.3" || p.AppVersion != "4.5" || a.Revision.Ref != "1.2.3" {
		t.Errorf("%s %s %s %s", p.Name, p.Version, p.AppVersion, a.Revision)
	}
	opened, err := chart.Open(t.Context(), p.Data, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := p.Artifact().Digest(t.Context())
	if got, _ := opened.Artifact().Digest(t.Context()); got != want || opened.Revision() != p.Revision() {
		t.Errorf("opened %s, built %s", got, want)
	}
}

// Merged values are those of "helm template -f a -f b".
func TestValues(t *testing.T) {
	tree := files(map[string]string{"empty.yaml": "", "list.yaml": "image: [1]\n"})
	dir := write(t, tree)
	for _, names := range [][]string{
		{"charts/app/values.yaml"},
		{"charts/app/values.yaml", "envs/production.yaml"},
		{"envs/production.yaml", "charts/app/values.yaml"},
		{"charts/app/values.yaml", "empty.yaml", "list.yaml"},
		{"list.yaml", "charts/app/values.yaml"},
	} {
		var at []string
		for _, name := range names {
			at = append(at, filepath.Join(dir, name))
		}
		want, err := (&values.Options{ValueFiles: at}).MergeValues(nil)
		if err != nil {
			t.Fatal(err)
		}
		p := build(t, tree, "charts/app", &chart.Options{ValuesFiles: names})
		if diff := cmp.Diff(want, load(t, p.Data).Values); diff != "" {
			t.Errorf("%v: %s", names, diff)
		}
	}
	p := build(t, tree, "charts/app", &chart.Options{ValuesFiles: []string{"envs/production.yaml", "none.yaml"}, IgnoreMissing: true})
	data, _ := fs.ReadFile(p.FS(), "values.yaml")
	if !strings.Contains(string(data), "big: 12345678901234567\n") {
		t.Errorf("a number changed:\n%s", data)
	}
	p = build(t, tree, "charts/app", &chart.Options{ValuesFiles: []string{"none.yaml"}, IgnoreMissing: true})
	if data, _ := fs.ReadFile(p.FS(), "values.yaml"); !strings.HasPrefix(string(data), "# ours") {
		t.Errorf("no values file, and values.yaml changed:\n%s", data)
	}
}

func TestVersion(t *testing.T) {
	for _, test := range []struct{ chart, version, metadata, want string }{
		{"1.2.3", "", "5394cb7f4833", "1.2.3+5394cb7f4833"},
		{"1.2.3", "", "5394cb7f4833.7", "1.2.3+5394cb7f4833.7"},
		{"1.2.3+old", "", "new", "1.2.3+new"},
		{"1.2.3-rc.1", "", "a", "1.2.3-rc.1+a"},
		{"1.2.3", "2.0.0", "", "2.0.0"},
		{"1.2.3", "2.0.0", "a", "2.0.0+a"},
		{"v1.2", "", "1", "1.2.0+1"},
	} {
		tree := files(map[string]string{"charts/app/Chart.yaml": strings.Replace(appChart, "1.2.3", test.chart, 1)})
		p := build(t, tree, "charts/app", &chart.Options{Version: test.version, Metadata: test.metadata})
		m := load(t, p.Data).Metadata
		if p.Version != test.want || m.Version != test.want || m.Description != "An app" || m.AppVersion != "4.5" {
			t.Errorf("%+v: %s, %+v", test, p.Version, m)
		}
	}
}

func TestAlreadyPackaged(t *testing.T) {
	p := build(t, files(nil), "charts/app", nil)
	tree := fstest.MapFS{"dist/app.tgz": {Data: p.Data}, "extra.yaml": {Data: []byte("replicas: 9\n")}}
	if same := build(t, tree, "dist/app.tgz", nil); !bytes.Equal(same.Data, p.Data) {
		t.Error("a package was changed without a reason")
	}
	changed := build(t, tree, "dist/app.tgz", &chart.Options{ValuesFiles: []string{"extra.yaml"}, Metadata: "m"})
	if c := load(t, changed.Data); c.Values["replicas"] != float64(9) || c.Metadata.Version != "1.2.3+m" {
		t.Errorf("%v %v", c.Values, c.Metadata)
	}
}

func TestRefuses(t *testing.T) {
	dep := func(s string) map[string]string {
		return map[string]string{"charts/app/Chart.yaml": appChart + "dependencies:\n- " + s + "\n"}
	}
	for _, test := range []struct {
		name  string
		more  map[string]string
		at    string
		opts  *chart.Options
		class error
		want  string
	}{
		{"no chart", nil, "charts/none", nil, source.ErrNotFound, "charts/none"},
		{"no Chart.yaml", nil, "envs", nil, source.ErrNotFound, "Chart.yaml"},
		{"path out", nil, "../app", nil, source.ErrUnsafePath, "root of the tree"},
		{"name is a path", map[string]string{"charts/app/Chart.yaml": "apiVersion: v2\nname: ../x\nversion: 1.0.0\n"}, "", nil, source.ErrInvalidSpec, "name"},
		{"name is ..", map[string]string{"charts/app/Chart.yaml": "apiVersion: v2\nname: ..\nversion: 1.0.0\n"}, "", nil, source.ErrInvalidSpec, "name"},
		{"no version", map[string]string{"charts/app/Chart.yaml": "apiVersion: v2\nname: a\nversion: x\n"}, "", nil, source.ErrInvalidSpec, "version"},
		{"malformed", map[string]string{"charts/app/Chart.yaml": "a: [\n"}, "", nil, source.ErrInvalidSpec, "Chart.yaml"},
		{"no values file", nil, "", &chart.Options{ValuesFiles: []string{"none.yaml"}}, source.ErrNotFound, "none.yaml"},
		{"values file out", nil, "", &chart.Options{ValuesFiles: []string{"../x.yaml"}, IgnoreMissing: true}, source.ErrUnsafePath, "../x.yaml"},
		{"values file malformed", map[string]string{"v.yaml": "- a\n"}, "", &chart.Options{ValuesFiles: []string{"v.yaml"}}, source.ErrInvalidSpec, "v.yaml"},
		{"metadata", nil, "", &chart.Options{Metadata: "a_b"}, source.ErrInvalidSpec, "Metadata"},
		{"version", nil, "", &chart.Options{Version: "x"}, source.ErrInvalidSpec, "version"},
		{"dependency outside", dep("{name: l, version: 1, repository: 'file://../../../l'}"), "", nil, source.ErrUnsafePath, "leaves the tree"},
		{"dependency absolute", dep("{name: l, version: 1, repository: 'file:///etc'}"), "", nil, source.ErrUnsafePath, "leaves the tree"},
		{"dependency missing", dep("{name: l, version: 1, repository: 'file://../l'}"), "", nil, source.ErrNotFound, "charts/l"},
		{"dependency of another version", dep("{name: app, version: 9.x, repository: 'file://../../other'}"), "", nil, source.ErrNotFound, "other"},
		{"dependency on itself", dep("{name: app, version: 1.x, repository: 'file://.'}"), "", nil, source.ErrInvalidSpec, "itself"},
		{"dependencies in a circle", map[string]string{
			"charts/app/Chart.yaml": appChart + "dependencies:\n- {name: b, version: 1.x, repository: 'file://../b'}\n",
			"charts/b/Chart.yaml":   "apiVersion: v2\nname: b\nversion: 1.0.0\ndependencies:\n- {name: app, version: 1.x, repository: 'file://../app'}\n",
		}, "", nil, source.ErrInvalidSpec, "itself"},
		{"dependencies without end", chain(12), "", nil, source.ErrLimit, "more than 8 times"},
		{"dependency by alias", dep("{name: l, version: 1, repository: '@stable'}"), "", nil, source.ErrInvalidSpec, "@stable"},
		{"dependency of nowhere", dep("{name: l, version: 1}"), "", nil, source.ErrInvalidSpec, "no repository"},
		{"dependency of a repository", dep("{name: l, version: 1, repository: 'https://example.com'}"), "", nil, source.ErrInvalidSpec, "Options.Dependencies"},
		{"dependency with a bad range", dep("{name: l, version: 'x y'}"), "", nil, source.ErrInvalidSpec, "x y"},
		{"large file", nil, "", &chart.Options{Limits: source.Limits{File: 20}}, source.ErrLimit, ""},
		{"large chart", nil, "", &chart.Options{Limits: source.Limits{Unpacked: 100}}, source.ErrLimit, "Unpacked"},
		{"many files", nil, "", &chart.Options{Limits: source.Limits{Files: 3}}, source.ErrLimit, "3 files"},
		{"deep", map[string]string{"charts/app/a/b/c/d": ""}, "", &chart.Options{Limits: source.Limits{Depth: 2}}, source.ErrLimit, "2 directories"},
		{"large package", nil, "", &chart.Options{Limits: source.Limits{Download: 100}}, source.ErrLimit, "Download"},
		{"bad limits", nil, "", &chart.Options{Limits: source.Limits{Files: -3}}, source.ErrInvalidSpec, "Files"},
		{"file in charts", map[string]string{"charts/app/charts/README": "x"}, "", nil, source.ErrInvalidSpec, "README"},
		{"directory in charts", map[string]string{"charts/app/charts/x/y": "x"}, "", nil, source.ErrInvalidSpec, "charts/x"},
		{"junk in charts", map[string]string{"charts/app/charts/x.tgz": "junk"}, "", nil, nil, "x.tgz"},
		{"bad ignore rules", map[string]string{"charts/app/.helmignore": "a/**/b\n"}, "", nil, source.ErrInvalidSpec, ".helmignore"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.at == "" {
				test.at = "charts/app"
			}
			tree := files(test.more)
			tree["other/Chart.yaml"] = &fstest.MapFile{Data: []byte(appChart)}
			_, err := chart.Build(t.Context(), tree, test.at, test.opts)
			if err == nil || test.class != nil && !errors.Is(err, test.class) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("want %v with %q, got %v", test.class, test.want, err)
			}
			var typed *source.Error
			if !errors.As(err, &typed) {
				t.Errorf("not a *source.Error: %v", err)
			}
		})
	}
}

// chain is a chart that depends on one that depends on one ...
func chain(n int) map[string]string {
	charts := map[string]string{"charts/app/Chart.yaml": appChart + "dependencies:\n- {name: c0, version: 1.x, repository: 'file://../c0'}\n"}
	for i := range n {
		charts[fmt.Sprintf("charts/c%d/Chart.yaml", i)] = fmt.Sprintf("apiVersion: v2\nname: c%d\nversion: 1.0.0\ndependencies:\n- {name: c%d, version: 1.x, repository: 'file://../c%d'}\n", i, i+1, i+1)
	}
	return charts
}

// A chart has files, and nothing that is read otherwise.
func TestPipe(t *testing.T) {
	tree := files(nil)
	tree["charts/app/templates/pipe"] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o644}
	if _, err := chart.Build(t.Context(), tree, "charts/app", nil); !errors.Is(err, source.ErrUnsafePath) {
		t.Error(err)
	}
}

// Links lead nowhere, wherever they are.
func TestLinks(t *testing.T) {
	for name, target := range map[string]string{
		"charts/app/templates/passwd": "/etc/passwd",
		"charts/app/values.yaml":      "../../envs/production.yaml",
		"charts/app/Chart.lock":       "/etc/passwd",
		"envs/link":                   "/etc",
		"charts/lib":                  "../envs",
	} {
		dir := write(t, files(map[string]string{"charts/app/Chart.yaml": appChart + "dependencies:\n- {name: l, version: 1, repository: 'file://../lib'}\n"}))
		at := filepath.Join(dir, filepath.FromSlash(name))
		_ = os.Remove(at)
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
		opts := &chart.Options{}
		if name == "envs/link" {
			opts.ValuesFiles = []string{"envs/link/passwd"}
		}
		if _, err := chart.Build(t.Context(), os.DirFS(dir), "charts/app", opts); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := chart.Build(ctx, files(nil), "charts/app", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, tree := range map[string]map[string]string{
		"nothing":         {},
		"two directories": {"a/Chart.yaml": appChart, "b/Chart.yaml": appChart},
		"no directory":    {"Chart.yaml": appChart},
		"no chart":        {"a/b": ""},
		"bad chart":       {"a/Chart.yaml": "name: ..\n"},
	} {
		all := fstest.MapFS{}
		for n, text := range tree {
			all[n] = &fstest.MapFile{Data: []byte(text)}
		}
		var buf bytes.Buffer
		if err := source.WriteArchive(t.Context(), &buf, all, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := chart.Open(t.Context(), buf.Bytes(), source.Limits{}); !errors.Is(err, source.ErrNotFound) && !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := build(t, files(nil), "charts/app", nil)
	for _, data := range [][]byte{nil, []byte("junk"), p.Data[:len(p.Data)/2], append([]byte("x"), p.Data...)} {
		if _, err := chart.Open(t.Context(), data, source.Limits{}); !errors.Is(err, source.ErrUnverified) && !errors.Is(err, source.ErrNotFound) {
			t.Errorf("%.9q: %v", data, err)
		}
	}
	if _, err := chart.Open(t.Context(), p.Data, source.Limits{File: 5}); !errors.Is(err, source.ErrLimit) {
		t.Errorf("limit: %v", err)
	}
}

// Whatever Chart.yaml and values say, the package is one that Helm loads.
func FuzzBuild(f *testing.F) {
	f.Add(appChart, "a: 1\n", "b: {c: [1]}\n", "*.x\n")
	f.Add("apiVersion: v2\nname: a\nversion: 1.0.0\ndependencies:\n- {name: app, version: '*', repository: 'file://.'}\n", "", "- 1", "")
	f.Add("name: ../x\nversion: 1", "a: &a [*a]", "x: y", "!a")
	f.Fuzz(func(t *testing.T, meta, base, over, ignored string) {
		tree := fstest.MapFS{
			"c/Chart.yaml": {Data: []byte(meta)}, "c/values.yaml": {Data: []byte(base)}, "c/.helmignore": {Data: []byte(ignored)}, "over.yaml": {Data: []byte(over)},
		}
		p, err := chart.Build(t.Context(), tree, "c", &chart.Options{ValuesFiles: []string{"c/values.yaml", "over.yaml"}, Metadata: "m"})
		var typed *source.Error
		if err != nil {
			if !errors.As(err, &typed) {
				t.Fatal(err)
			}
			return
		}
		if c := load(t, p.Data); c.Name() != p.Name || c.Metadata.Version != p.Version {
			t.Fatalf("Helm reads %s %s of %s %s", c.Name(), c.Metadata.Version, p.Name, p.Version)
		}
	})
}

func Example() {
	tree := fstest.MapFS{
		"app/Chart.yaml":  {Data: []byte("apiVersion: v2\nname: app\nversion: 1.2.3\n")},
		"app/values.yaml": {Data: []byte("replicas: 1\n")},
		"production.yaml": {Data: []byte("replicas: 3\n")},
	}
	p, err := chart.Build(context.Background(), tree, "app", &chart.Options{
		ValuesFiles: []string{"app/values.yaml", "production.yaml"},
		Metadata:    "5394cb7f4833",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	values, err := fs.ReadFile(p.FS(), "values.yaml")
	fmt.Print(p.Filename(), "\n", string(values))
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// app-1.2.3+5394cb7f4833.tgz
	// replicas: 3
}
