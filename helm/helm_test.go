package helm_test

import (
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

// TestMain gives templates that nobody waits for any more the time to end, which on a busy machine is long.
func TestMain(m *testing.M) {
	code := m.Run()
	left := goleak.Find()
	for range 60 {
		if left == nil {
			break
		}
		left = goleak.Find() // which looks for half a second
	}
	if left != nil {
		fmt.Fprintln(os.Stderr, left)
		code = max(code, 1)
	}
	os.Exit(code)
}

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

func TestReleaseName(t *testing.T) {
	long := strings.Repeat("a", 60)
	if got := helm.ReleaseName(long); len(got) != 53 || got[:41] != long[:40]+"-" {
		t.Errorf("got %s", got)
	}
	if got := helm.ReleaseName("short"); got != "short" {
		t.Errorf("got %s", got)
	}
}
