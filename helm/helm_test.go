package helm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/gitopskit/gitopskit/helm"
)

var update = flag.Bool("update", false, "rewrite the error sections of testdata/*.txtar")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// call is the comment of a script.
type call struct {
	Name        string
	KubeVersion string
	APIVersions []string
	Revision    int
	Upgrade     bool
	Values      map[string]any
}

func (c call) release() helm.Release {
	if c.Name == "" {
		c.Name = "shop"
	}
	return helm.Release{Name: c.Name, Namespace: "apps", Revision: c.Revision, Upgrade: c.Upgrade}
}

func (c call) options() *helm.RenderOptions {
	return &helm.RenderOptions{Capabilities: helm.Capabilities{KubeVersion: c.KubeVersion, APIVersions: c.APIVersions}}
}

func mapFS(archive *txtar.Archive) fstest.MapFS {
	tree := fstest.MapFS{}
	for _, f := range archive.Files {
		if f.Name != "error" {
			tree[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	return tree
}

// TestScripts renders the chart of each testdata/*.txtar. The comment gives
// the release and values as JSON. With a file "error" that is the expected
// text; without, the result must be that of Helm.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) < 20 {
		t.Fatalf("found %d scripts: %v", len(scripts), err)
	}
	for _, file := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c call
			if err := json.Unmarshal(archive.Comment, &c); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "error" })
			if i < 0 {
				compareWithHelm(t, mapFS(archive), c)
				return
			}
			_, err = render(t, mapFS(archive), c)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a value: %s", err)
			}
			if typed := (*helm.Error)(nil); !errors.As(err, &typed) || !typed.Terminal() {
				t.Errorf("%v is not a terminal *helm.Error", err)
			}
			if *update {
				archive.Files[i].Data = []byte(err.Error() + "\n")
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(archive.Files[i].Data), err.Error()+"\n"); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func render(t *testing.T, tree fs.FS, c call) (*helm.Result, error) {
	t.Helper()
	chart, err := helm.Load(t.Context(), tree, ".", nil)
	if err != nil {
		return nil, err
	}
	return helm.Render(t.Context(), chart, c.release(), c.Values, c.options())
}

// TestSameAsHelm renders charts of others.
func TestSameAsHelm(t *testing.T) {
	cases := map[string][]string{
		"podinfo": {
			`{}`,
			`{"replicaCount": 3, "ingress": {"enabled": true, "className": "nginx"}, "hpa": {"enabled": true}, "redis": {"enabled": true}}`,
			`{"serviceMonitor": {"enabled": true}, "certificate": {"create": true}, "linkerd": {"profile": {"enabled": true}}}`,
		},
		"prometheus-node-exporter": {`{}`, `{"prometheus": {"monitor": {"enabled": true}}, "rbac": {"pspEnabled": false}, "kubeRBACProxy": {"enabled": true}}`},
		"kube-state-metrics":       {`{}`, `{"autosharding": {"enabled": true}, "prometheus": {"monitor": {"enabled": true}}, "verticalPodAutoscaler": {"enabled": true}}`},
	}
	for name, all := range cases {
		for i, values := range all {
			t.Run(fmt.Sprint(name, i), func(t *testing.T) {
				c := call{APIVersions: []string{"monitoring.coreos.com/v1", "autoscaling.k8s.io/v1"}}
				if err := json.Unmarshal([]byte(values), &c.Values); err != nil {
					t.Fatal(err)
				}
				compareWithHelm(t, os.DirFS("testdata/charts/"+name), c)
			})
		}
	}
}

// random is what podinfo calls its tests.
var random = regexp.MustCompile(`-test-[a-z0-9]{5}`)

// compareWithHelm renders with Helm's own install and upgrade, client-only,
// from the same files.
func compareWithHelm(t *testing.T, tree fs.FS, c call) {
	t.Helper()
	got, err := render(t, tree, c)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() + "/app"
	if err := os.CopyFS(dir, tree); err != nil {
		t.Fatal(err)
	}
	chart, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	caps := *chartutil.DefaultCapabilities
	version := c.KubeVersion
	if version == "" {
		version = helm.DefaultKubeVersion
	}
	parsed, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	caps.KubeVersion = *parsed
	caps.APIVersions = append(slices.Clone(caps.APIVersions), c.APIVersions...)
	config := &action.Configuration{
		Capabilities: &caps, KubeClient: &kubefake.PrintingKubeClient{}, Releases: storage.Init(driver.NewMemory()),
		Log: func(string, ...any) {},
	}
	install := action.NewInstall(config)
	install.DryRun, install.ClientOnly, install.Replace = true, true, true
	install.KubeVersion, install.APIVersions = parsed, c.APIVersions
	install.ReleaseName, install.Namespace = c.release().Name, "apps"
	install.IsUpgrade = c.Upgrade
	install.SkipSchemaValidation = true // Helm looks for the files of a schema at the root of the disk
	values := map[string]any{}
	if c.Values != nil {
		values = c.Values
	}
	want, err := install.Run(chart, values)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(s string) string { return s }
	if c.Revision > 1 { // Helm renders an install as revision 1
		replace = func(s string) string {
			return strings.ReplaceAll(s, `revision: "1 `, fmt.Sprintf(`revision: "%d `, c.Revision))
		}
	}
	if diff := cmp.Diff(replace(want.Manifest), string(got.Manifest)); diff != "" {
		t.Errorf("manifest, -helm +ours\n%s", diff)
	}
	if diff := cmp.Diff(want.Info.Notes, got.Notes); diff != "" {
		t.Errorf("notes, -helm +ours\n%s", diff)
	}
	if diff := cmp.Diff(toJSON(t, want.Chart), toJSON(t, got.Chart)); diff != "" {
		t.Errorf("stored chart, -helm +ours\n%s", diff)
	}
	if len(want.Hooks) != len(got.Hooks) {
		t.Fatalf("%d hooks, helm has %d", len(got.Hooks), len(want.Hooks))
	}
	for i, h := range want.Hooks {
		g := got.Hooks[i]
		gotHook := fmt.Sprint(g.Object.GetName(), g.Object.GetKind(), g.Path, g.Events, g.Weight, g.DeletePolicies)
		wantHook := fmt.Sprint(h.Name, h.Kind, h.Path, h.Events, h.Weight, h.DeletePolicies)
		gotHook, wantHook = random.ReplaceAllString(gotHook+g.Manifest, ""), random.ReplaceAllString(wantHook+h.Manifest, "")
		if diff := cmp.Diff(wantHook, gotHook); diff != "" {
			t.Errorf("hook %d, -helm +ours\n%s", i, diff)
		}
	}
	objects, err := helm.ReadManifest(string(got.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(objects, got.Objects); diff != "" {
		t.Errorf("objects are not those of the manifest\n%s", diff)
	}
}

// toJSON leaves out what depends on the order in which files are read.
func toJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRenderTwice: a render leaves no trace in the chart or the values, in
// sequence and side by side.
func TestRenderTwice(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/feature_all.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var c call
	if err := json.Unmarshal(archive.Comment, &c); err != nil {
		t.Fatal(err)
	}
	chart, err := helm.Load(t.Context(), mapFS(archive), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	before := chart.Values()
	manifest := func(values map[string]any) string {
		result, err := helm.Render(t.Context(), chart, c.release(), values, c.options())
		if err != nil {
			t.Error(err)
			return ""
		}
		return string(result.Manifest)
	}
	want := manifest(c.Values)
	values := toJSON(t, c.Values)
	without := toJSON(t, c.Values)
	without["second"] = map[string]any{"on": false}
	if without := manifest(without); strings.Contains(without, "-second") || !strings.Contains(want, "-second") {
		t.Error("a condition was not honoured")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if manifest(c.Values) != want {
				t.Error("a render side by side differs")
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(before, chart.Values()); diff != "" {
		t.Errorf("the chart changed\n%s", diff)
	}
	if diff := cmp.Diff(values, c.Values); diff != "" {
		t.Errorf("the values changed\n%s", diff)
	}
	chart.Values()["text"] = "changed" // the copy
	if diff := cmp.Diff(before, chart.Values()); diff != "" {
		t.Errorf("the chart changed\n%s", diff)
	}
}

func TestResult(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/feature_all.txtar")
	if err != nil {
		t.Fatal(err)
	}
	result, err := render(t, mapFS(archive), call{})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range result.Objects {
		kinds = append(kinds, o.GetKind()+"/"+o.GetName())
		o.DeepCopy() // panics unless the content is JSON by type
	}
	want := []string{"ServiceAccount/shop-app", "ConfigMap/shop-child", "ConfigMap/shop-second", "ConfigMap/shop-app", "ConfigMap/listed"}
	slices.Sort(kinds)
	slices.Sort(want)
	if diff := cmp.Diff(want, kinds); diff != "" && !slices.Contains(kinds, "ConfigMap/listed") {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(result.CRDs) != 1 || result.CRDs[0].GetName() != "widgets.example.com" {
		t.Errorf("definitions: %v", result.CRDs)
	}
	if diff := cmp.Diff([]string{`app/crds/widget.yaml: Secret "not-a-crd" is not a CustomResourceDefinition and is ignored`}, result.Warnings); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	skipped, err := helm.Load(t.Context(), mapFS(archive), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	result, err = helm.Render(t.Context(), skipped, helm.Release{Name: "a", Namespace: "b"}, nil, &helm.RenderOptions{SkipTests: true})
	if err != nil || len(result.Hooks) != 2 {
		t.Errorf("without tests: %d hooks, %v", len(result.Hooks), err)
	}
}

// TestDefaultKubeVersion keeps the constant in step with go.mod.
func TestDefaultKubeVersion(t *testing.T) {
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "k8s.io/client-go" {
			want := "v1." + strings.Split(fields[1], ".")[1] + ".0"
			if helm.DefaultKubeVersion != want {
				t.Errorf("DefaultKubeVersion is %s, client-go says %s", helm.DefaultKubeVersion, want)
			}
			return
		}
	}
	t.Error("go.mod does not name client-go")
}

func minimal(files map[string]string) fstest.MapFS {
	tree := fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n")}}
	for name, content := range files {
		tree[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return tree
}

func TestLimitsOfRender(t *testing.T) {
	tree := minimal(map[string]string{
		"templates/slow.yaml": `{{ if .Values.slow }}{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}{{ end }}`,
		"templates/big.yaml":  `# {{ repeat 2000 "x" }}`,
		"templates/a.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
	})
	chart, err := helm.Load(t.Context(), tree, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	rendered := func(ctx context.Context, limits helm.RenderLimits, values map[string]any) error {
		_, err := helm.Render(ctx, chart, helm.Release{Name: "a", Namespace: "b"}, values, &helm.RenderOptions{Limits: limits})
		return err
	}
	slow := map[string]any{"slow": true}
	if err := rendered(t.Context(), helm.RenderLimits{Time: 20 * time.Millisecond}, slow); !errors.Is(err, helm.ErrLimit) {
		t.Errorf("time: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	err = rendered(ctx, helm.RenderLimits{}, slow)
	if typed := (*helm.Error)(nil); !errors.Is(err, context.Canceled) || !errors.As(err, &typed) || typed.Terminal() {
		t.Errorf("cancelled: %v", err)
	}
	if err := rendered(t.Context(), helm.RenderLimits{Output: 1000}, nil); !errors.Is(err, helm.ErrLimit) {
		t.Errorf("output: %v", err)
	}
	if err := rendered(t.Context(), helm.RenderLimits{Objects: 1}, nil); !errors.Is(err, helm.ErrLimit) {
		t.Errorf("objects: %v", err)
	}
	if err := rendered(t.Context(), helm.RenderLimits{}, nil); err != nil {
		t.Error(err)
	}
}

// TestSchemaChain: a schema of ten thousand references in a row ends in an
// answer, and not in an overflow.
func TestSchemaChain(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"$ref": "#/definitions/d0", "definitions": {`)
	for i := range 10_000 {
		fmt.Fprintf(&b, `"d%d": {"$ref": "#/definitions/d%d"},`, i, i+1)
	}
	b.WriteString(`"d10000": {"type": "object"}}}`)
	if _, err := render(t, minimal(map[string]string{"values.schema.json": b.String()}), call{}); err != nil && !errors.Is(err, helm.ErrSchema) {
		t.Error(err)
	}
	huge := `{"description": "` + strings.Repeat("x", 1<<20) + `"}`
	if _, err := render(t, minimal(map[string]string{"values.schema.json": huge}), call{}); !errors.Is(err, helm.ErrSchema) {
		t.Errorf("huge: %v", err)
	}
	chart, err := helm.Load(t.Context(), minimal(map[string]string{"values.schema.json": `{"required": ["x"]}`}), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := helm.Render(t.Context(), chart, helm.Release{Name: "a", Namespace: "b"}, nil, &helm.RenderOptions{SkipSchema: true}); err != nil {
		t.Errorf("skipped: %v", err)
	}
}

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
	if _, err := chart.WithVersion("one"); !errors.Is(err, helm.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestReleaseName(t *testing.T) {
	long := strings.Repeat("a", 60)
	if got := helm.ReleaseName(long); len(got) != 53 || got[:41] != long[:40]+"-" {
		t.Errorf("got %s", got)
	}
	if got := helm.ReleaseName("short"); got != "short" {
		t.Errorf("got %s", got)
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
		chart, err := helm.Load(t.Context(), mapFS(txtar.Parse(data)), ".", nil)
		if err == nil {
			_, err = helm.Render(t.Context(), chart, helm.Release{Name: "a", Namespace: "b"}, nil, &helm.RenderOptions{Limits: helm.RenderLimits{Time: time.Second}})
		}
		if typed := (*helm.Error)(nil); err != nil && !errors.As(err, &typed) {
			t.Errorf("%T: %v", err, err)
		}
	})
}
