package helm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"helm.sh/helm/v3/pkg/chart/loader"

	"github.com/gitopskit/gitopskit/helm"
)

type file struct {
	name, content string
	kind          byte
	link          string
}

func pack(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, f := range files {
		kind := f.kind
		if kind == 0 {
			kind = tar.TypeReg
		}
		err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: kind, Linkname: f.link, Size: int64(len(f.content)), Mode: 0o644})
		if err == nil {
			_, err = w.Write([]byte(f.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var chartFile = file{name: "app/Chart.yaml", content: "apiVersion: v2\nname: app\nversion: 1.0.0\n"}

func TestLoadArchive(t *testing.T) {
	inner := pack(t, file{name: "sub/Chart.yaml", content: "apiVersion: v2\nname: sub\nversion: 1.0.0\n"},
		file{name: "sub/templates/cm.yaml", content: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-sub}\n"})
	data := pack(t, chartFile, file{name: "app/", kind: tar.TypeDir}, file{name: `app\templates\cm.yaml`, content: "\xef\xbb\xbfapiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-app}\n"},
		file{name: "app/charts/sub-1.0.0.tgz", content: string(inner)})
	chart, err := helm.LoadArchive(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	result, err := helm.Render(t.Context(), chart, helm.Release{Name: "a", Namespace: "b"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := loader.LoadArchive(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(toJSON(t, want), toJSON(t, result.Chart)); diff != "" {
		t.Errorf("-helm +ours\n%s", diff)
	}
	if len(result.Objects) != 2 {
		t.Errorf("%d objects", len(result.Objects))
	}
}

func TestLoadArchiveRefuses(t *testing.T) {
	big := strings.Repeat("x", 2000)
	nested := chartFile
	archive := pack(t, nested)
	for range 4 {
		archive = pack(t, chartFile, file{name: "app/charts/sub.tgz", content: string(archive)})
	}
	dirs := make([]file, 3000)
	for i := range dirs {
		dirs[i] = file{name: fmt.Sprintf("app/d%d/", i), kind: tar.TypeDir}
	}
	small := helm.LoadLimits{Unpacked: 4000, File: 1500, Files: 10, Depth: 2, Archive: 10_000}
	cases := map[string]struct {
		data   []byte
		want   error
		limits helm.LoadLimits
	}{
		"not an archive": {[]byte("apiVersion: v2"), helm.ErrInvalid, helm.LoadLimits{}},
		"empty":          {pack(t), helm.ErrInvalid, helm.LoadLimits{}},
		"cut":            {pack(t, chartFile)[:60], helm.ErrInvalid, helm.LoadLimits{}},
		"no directory":   {pack(t, file{name: "Chart.yaml"}), helm.ErrInvalid, helm.LoadLimits{}},
		"up":             {pack(t, file{name: "app/../../etc/passwd"}), helm.ErrUnsafePath, helm.LoadLimits{}},
		"up windows":     {pack(t, file{name: `app\..\..\etc`}), helm.ErrUnsafePath, helm.LoadLimits{}},
		"absolute":       {pack(t, file{name: "app//etc/passwd"}), helm.ErrUnsafePath, helm.LoadLimits{}},
		"drive":          {pack(t, file{name: "app/c:/x"}), helm.ErrUnsafePath, helm.LoadLimits{}},
		"no name":        {pack(t, file{name: "app/."}), helm.ErrUnsafePath, helm.LoadLimits{}},
		"link":           {pack(t, chartFile, file{name: "app/x", kind: tar.TypeSymlink, link: "/etc/passwd"}), helm.ErrUnsupported, helm.LoadLimits{}},
		"hard link":      {pack(t, chartFile, file{name: "app/x", kind: tar.TypeLink, link: "app/Chart.yaml"}), helm.ErrUnsupported, helm.LoadLimits{}},
		"device":         {pack(t, chartFile, file{name: "app/x", kind: tar.TypeChar}), helm.ErrUnsupported, helm.LoadLimits{}},
		"twice":          {pack(t, chartFile, file{name: "app/x"}, file{name: "app/x"}), helm.ErrInvalid, helm.LoadLimits{}},
		"large file":     {pack(t, chartFile, file{name: "app/x", content: big}), helm.ErrLimit, small},
		"bomb":           {pack(t, chartFile, file{name: "app/x", content: big[:1400]}, file{name: "app/y", content: big[:1400]}, file{name: "app/z", content: big[:1400]}), helm.ErrLimit, small},
		"files":          {pack(t, append(make([]file, 0), chartFile, file{name: "app/1"}, file{name: "app/2"})...), helm.ErrLimit, helm.LoadLimits{Files: 2}},
		"directories":    {pack(t, dirs...), helm.ErrLimit, helm.LoadLimits{Files: 10, Unpacked: 10_000}},
		"nested":         {archive, helm.ErrLimit, helm.LoadLimits{Depth: 2}},
		"archive":        {pack(t, chartFile, file{name: "app/x", content: fmt.Sprint(time.Now(), cmp.Diff(1, 2))}), helm.ErrLimit, helm.LoadLimits{Archive: 100}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := helm.LoadArchive(t.Context(), bytes.NewReader(c.data), &helm.LoadOptions{Limits: c.limits})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := helm.LoadArchive(ctx, bytes.NewReader(pack(t, chartFile)), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, minimal(nil)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", dir+"/values.yaml"); err != nil {
		t.Fatal(err)
	}
	if _, err := helm.Load(t.Context(), os.DirFS(dir), ".", nil); !errors.Is(err, helm.ErrUnsupported) {
		t.Errorf("link: %v", err)
	}
	if _, err := helm.Load(t.Context(), os.DirFS(dir), "../x", nil); !errors.Is(err, helm.ErrUnsafePath) {
		t.Errorf("up: %v", err)
	}
	if _, err := helm.Load(t.Context(), os.DirFS(dir), "none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := helm.Load(t.Context(), minimal(map[string]string{"x": "12345"}), ".", &helm.LoadOptions{Limits: helm.LoadLimits{File: 3}}); !errors.Is(err, helm.ErrLimit) {
		t.Errorf("large: %v", err)
	}
	circle := fstest.MapFS{"//x": {}} // lists its root as an entry of itself
	if _, err := helm.Load(t.Context(), circle, ".", &helm.LoadOptions{Limits: helm.LoadLimits{Files: 100}}); !errors.Is(err, helm.ErrLimit) {
		t.Errorf("circle: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := helm.Load(ctx, minimal(nil), ".", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestValuesFiles(t *testing.T) {
	tree := minimal(map[string]string{"values.yaml": "a: 1\nb: 1\n", "prod.yaml": "b: 2\n", "bad.yaml": "- x"})
	load := func(opts helm.LoadOptions) (map[string]any, error) {
		chart, err := helm.Load(t.Context(), tree, ".", &opts)
		if err != nil {
			return nil, err
		}
		return chart.Values(), nil
	}
	got, err := load(helm.LoadOptions{ValuesFiles: []string{"values.yaml", "./prod.yaml", "none.yaml"}, IgnoreMissingValuesFiles: true})
	if diff := cmp.Diff(map[string]any{"a": 1.0, "b": 2.0}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	got, err = load(helm.LoadOptions{ValuesFiles: []string{"prod.yaml"}})
	if diff := cmp.Diff(map[string]any{"b": 2.0}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if _, err := load(helm.LoadOptions{ValuesFiles: []string{"none.yaml"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := load(helm.LoadOptions{ValuesFiles: []string{"bad.yaml"}}); !errors.Is(err, helm.ErrInvalid) {
		t.Errorf("bad: %v", err)
	}
}

func TestChart(t *testing.T) {
	chart, err := helm.Load(t.Context(), os.DirFS("testdata/charts"), "podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := chart.WithVersion("6.9.2+abcdef")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(chart.Name(), " ", chart.AppVersion(), " ", chart.KubeVersion(), " ", chart.Deprecated(), chart.Library(), " ", other.Version())
	if want := "podinfo " + chart.AppVersion() + " >=1.23.0-0 false false 6.9.2+abcdef"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if chart.Version() == other.Version() {
		t.Error("the chart itself changed")
	}
	zero := &helm.Chart{}
	_, err = helm.Render(t.Context(), zero, helm.Release{Name: "a", Namespace: "b"}, nil, nil)
	if !errors.Is(err, helm.ErrInvalid) || zero.Name() != "" || zero.Values() != nil {
		t.Errorf("not loaded: %v", err)
	}
	if _, err := zero.WithVersion("1.0.0"); !errors.Is(err, helm.ErrInvalid) {
		t.Errorf("not loaded: %v", err)
	}
	if _, err := chart.WithVersion("one"); !errors.Is(err, helm.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// FuzzLoadArchive: whatever the bytes, there is a chart that renders or an *Error.
func FuzzLoadArchive(f *testing.F) {
	f.Add(pack(f, chartFile, file{name: "app/templates/a.yaml", content: "a: {{ .Values.a }}"}))
	limits := helm.LoadLimits{Unpacked: 1 << 20, Files: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		chart, err := helm.LoadArchive(t.Context(), bytes.NewReader(data), &helm.LoadOptions{Limits: limits})
		if err == nil {
			_, err = helm.Render(t.Context(), chart, helm.Release{Name: "a", Namespace: "b"}, nil, &helm.RenderOptions{Limits: helm.RenderLimits{Time: time.Second}})
		}
		if typed := (*helm.Error)(nil); err != nil && !errors.As(err, &typed) {
			t.Errorf("%T: %v", err, err)
		}
	})
}

// FuzzLoad is [FuzzLoadArchive] for what is in the files.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"feature_all", "schema_file"} {
		archive, err := os.ReadFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(archive)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		chart, err := helm.Load(t.Context(), mapFS(txtar.Parse(data)), ".", &helm.LoadOptions{Limits: helm.LoadLimits{Files: 100}})
		if err == nil {
			_, err = helm.Render(t.Context(), chart, helm.Release{Name: "a", Namespace: "b"}, nil, &helm.RenderOptions{Limits: helm.RenderLimits{Time: time.Second}})
		}
		if typed := (*helm.Error)(nil); err != nil && !errors.As(err, &typed) {
			t.Errorf("%T: %v", err, err)
		}
	})
}
