package kustomize_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/kustomize"
)

var update = flag.Bool("update", false, "rewrite the want sections of testdata/*.txtar")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScripts builds the tree of each testdata/*.txtar. The comment gives the
// directory and options as JSON; the file "want" is the expected YAML, or the
// file "error" the expected text.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) < 8 {
		t.Fatalf("found %d scripts: %v", len(scripts), err)
	}
	for _, file := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			call := struct {
				Dir string
				kustomize.Options
			}{}
			if err := json.Unmarshal(archive.Comment, &call); err != nil {
				t.Fatalf("comment: %v", err)
			}
			tree := mapFS(archive)
			objs, err := kustomize.Build(t.Context(), tree, call.Dir, &call.Options)
			got := map[string]string{"want": toYAML(t, objs)}
			if err != nil {
				got = map[string]string{"error": err.Error() + "\n"}
			}
			if *update {
				rewrite(t, file, archive, got)
				return
			}
			want := map[string]string{}
			for _, f := range archive.Files {
				if f.Name == "want" || f.Name == "error" {
					want[f.Name] = string(f.Data)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func mapFS(archive *txtar.Archive) fstest.MapFS {
	tree := fstest.MapFS{}
	for _, f := range archive.Files {
		if f.Name != "want" && f.Name != "error" {
			tree[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	return tree
}

func rewrite(t *testing.T, file string, archive *txtar.Archive, got map[string]string) {
	t.Helper()
	kept := archive.Files[:0]
	for _, f := range archive.Files {
		if f.Name != "want" && f.Name != "error" {
			kept = append(kept, f)
		}
	}
	for name, data := range got {
		kept = append(kept, txtar.File{Name: name, Data: []byte(data)})
	}
	archive.Files = kept
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

func toYAML(t *testing.T, objs []*unstructured.Unstructured) string {
	t.Helper()
	var out []string
	for _, o := range objs {
		data, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(data))
	}
	return strings.Join(out, "---\n")
}

// TestSameAsKustomize compares with kustomize itself, on a real repository:
// overlay trees from disk, printed as YAML and decoded as kubectl would.
func TestSameAsKustomize(t *testing.T) {
	for _, dir := range []string{"kustomize", "bases/backend", "overlays/dev", "overlays/production", "overlays/staging"} {
		t.Run(dir, func(t *testing.T) {
			m, err := krusty.MakeKustomizer(&krusty.Options{
				LoadRestrictions: types.LoadRestrictionsNone, PluginConfig: types.DisabledPluginConfig(),
			}).Run(filesys.MakeFsOnDisk(), filepath.Join("testdata", "podinfo", dir))
			if err != nil {
				t.Fatal(err)
			}
			var want []map[string]any
			for _, r := range m.Resources() {
				var obj map[string]any
				if err := yaml.Unmarshal([]byte(r.MustYaml()), &obj); err != nil {
					t.Fatal(err)
				}
				want = append(want, (&unstructured.Unstructured{Object: obj}).Object)
			}
			objs, err := kustomize.Build(t.Context(), os.DirFS("testdata/podinfo"), dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(want) == 0 || len(want) != len(objs) {
				t.Fatalf("kustomize built %d objects, we %d", len(want), len(objs))
			}
			for i := range want {
				wantJSON, gotJSON := mustJSON(t, want[i]), mustJSON(t, objs[i].Object)
				if diff := cmp.Diff(wantJSON, gotJSON); diff != "" {
					t.Errorf("object %d: -kustomize +we\n%s", i, diff)
				}
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestContentTypes: the values are those that DeepCopy and a JSON round trip
// accept and keep.
func TestContentTypes(t *testing.T) {
	tree := fstest.MapFS{"a.yaml": {Data: []byte(`apiVersion: v1
kind: Widget
metadata: {name: a}
spec: {int: 1, hex: 0x10, exp: 1e3, frac: 0.5, date: 2020-01-01, no: no, "null": null, big: 12345678901234567890, list: [1, x, {y: 2.0}]}
`)}}
	objs, err := kustomize.Build(t.Context(), tree, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	objs[0].DeepCopy() // panics on types that are not JSON
	want := map[string]any{
		"int": int64(1), "hex": int64(16), "exp": int64(1000), "frac": 0.5, "date": "2020-01-01T00:00:00Z",
		"no": "no", "null": nil, "big": 12345678901234567890.0, "list": []any{int64(1), "x", map[string]any{"y": int64(2)}},
	}
	if diff := cmp.Diff(want, objs[0].Object["spec"]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// hostile redefines how the containers of a Deployment merge: as one value, so
// that a strategic merge patch replaces the whole list.
func hostile() fstest.MapFS {
	tree := victim()
	tree["kustomization.yaml"] = &fstest.MapFile{Data: append([]byte("openapi: {path: schema.json}\n"), tree["kustomization.yaml"].Data...)}
	tree["schema.json"] = &fstest.MapFile{Data: []byte(`{"definitions": {"io.k8s.api.apps.v1.Deployment": {
		"type": "object",
		"properties": {"spec": {"type": "object", "properties": {"template": {"type": "object", "properties": {"spec": {"type": "object",
			"properties": {"containers": {"type": "array", "items": {"type": "object"}}}}}}}}},
		"x-kubernetes-group-version-kind": [{"group": "apps", "kind": "Deployment", "version": "v1"}]}}}`)}
	return tree
}

// victim patches one of two containers, which works by the builtin schema only.
func victim() fstest.MapFS {
	return fstest.MapFS{
		"kustomization.yaml": {Data: []byte("resources: [app.yaml]\npatches: [{path: patch.yaml}]\n")},
		"app.yaml": {Data: []byte(`apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec: {template: {spec: {containers: [{name: a, image: a:1}, {name: b, image: b:1}]}}}
`)},
		"patch.yaml": {Data: []byte(`apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec: {template: {spec: {containers: [{name: a, image: a:2}]}}}
`)},
	}
}

func containers(t *testing.T, tree fs.FS) int {
	t.Helper()
	objs, err := kustomize.Build(t.Context(), tree, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := unstructured.NestedSlice(objs[0].Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestSchemaDoesNotLeak: a build with a schema of its own changes neither the
// builds after it nor those beside it (fluxcd/pkg#1237).
func TestSchemaDoesNotLeak(t *testing.T) {
	if n := containers(t, victim()); n != 2 {
		t.Fatalf("victim alone has %d containers, want 2", n)
	}
	if n := containers(t, hostile()); n != 1 {
		t.Fatalf("hostile schema was not used: %d containers, want 1", n)
	}
	if n := containers(t, victim()); n != 2 {
		t.Errorf("victim after hostile has %d containers, want 2", n)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if n := containers(t, hostile()); n != 1 {
					t.Errorf("hostile beside victim has %d containers, want 1", n)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				if n := containers(t, victim()); n != 2 {
					t.Errorf("victim beside hostile has %d containers, want 2", n)
				}
			}
		})
	}
	wg.Wait()
}

// TestSchemaInAnyCase: kustomize ignores the case of field names.
func TestSchemaInAnyCase(t *testing.T) {
	tree := hostile()
	tree["kustomization.yaml"].Data = []byte(strings.Replace(string(tree["kustomization.yaml"].Data), "openapi", "OpenAPI", 1))
	if n := containers(t, tree); n != 1 {
		t.Fatalf("hostile schema was not used: %d containers, want 1", n)
	}
	if n := containers(t, victim()); n != 2 {
		t.Errorf("victim has %d containers, want 2", n)
	}
}

// TestErrorsWithholdInput: what kustomize would quote may be a Secret.
func TestErrorsWithholdInput(t *testing.T) {
	const canary = "hunter2"
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: x}\n"
	for name, tree := range map[string]fstest.MapFS{
		"patch": {
			"kustomization.yaml": {Data: []byte("resources: [s.yaml]\npatches:\n- patch: |\n    apiVersion: v1\n    kynd: Secret\n    metadata: {name: s}\n    stringData: {k: " + canary + "}\n")},
			"s.yaml":             {Data: []byte(secret)},
		},
		"patch file": {
			"kustomization.yaml": {Data: []byte("resources: [s.yaml]\npatches: [{path: p.yaml}]\n")},
			"s.yaml":             {Data: []byte(secret)},
			"p.yaml":             {Data: []byte("apiVersion: v1\nkynd: Secret\nmetadata: {name: s}\nstringData: {k: " + canary + "}\n")},
		},
		"json patch": {
			"kustomization.yaml": {Data: []byte("resources: [s.yaml]\npatches: [{target: {kind: Secret}, patch: '[{op: add, path: /nope/nope, value: " + canary + "}]'}]\n")},
			"s.yaml":             {Data: []byte(secret)},
		},
		"literal":   {"kustomization.yaml": {Data: []byte("secretGenerator: [{name: s, literals: [" + canary + "]}]\n")}},
		"no name":   {"s.yaml": {Data: []byte("apiVersion: v1\nkind: Secret\nstringData: {k: " + canary + "}\n")}},
		"no kind":   {"s.yaml": {Data: []byte("apiVersion: v1\nmetadata: {name: s}\nstringData: {k: " + canary + "}\n")}},
		"duplicate": {"kustomization.yaml": {Data: []byte("secretGenerator: [{name: s, literals: [k=" + canary + ", k=" + canary + "]}]\n")}},
	} {
		_, err := kustomize.Build(t.Context(), tree, "", nil)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v", name, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// TestInputUnchanged: builds write nothing and give out nothing they share.
func TestInputUnchanged(t *testing.T) {
	tree := victim()
	before := mustJSON(t, tree)
	first, err := kustomize.Build(t.Context(), tree, ".", &kustomize.Options{Namespace: "x", NamePrefix: "p-"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, mustJSON(t, tree)); diff != "" {
		t.Error(diff)
	}
	first[0].SetName("changed")
	second, err := kustomize.Build(t.Context(), tree, ".", &kustomize.Options{Namespace: "x", NamePrefix: "p-"})
	if err != nil || second[0].GetName() != "p-app" {
		t.Errorf("second build: %v %v", second[0].GetName(), err)
	}
}

func TestLimits(t *testing.T) {
	many := fstest.MapFS{
		"a.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")},
		"b.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n")},
	}
	for name, limits := range map[string]kustomize.Limits{
		"FileBytes": {FileBytes: 20}, "Bytes": {Bytes: 60}, "Files": {Files: 1}, "Objects": {Objects: 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kustomize.Build(t.Context(), many, "", &kustomize.Options{Limits: limits})
			if !errors.Is(err, kustomize.ErrLimit) || !strings.Contains(err.Error(), "Limits."+name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMultiplyingOverlays: each level refers twice to the next one, under other
// names; without a bound on reads the build would take 2^30 steps.
func TestMultiplyingOverlays(t *testing.T) {
	tree := fstest.MapFS{"level30/kustomization.yaml": {Data: []byte("configMapGenerator: [{name: a, literals: [a=b]}]\n")}}
	for i := range 30 {
		next := fmt.Sprintf("../level%d", i+1)
		for _, side := range []string{"", "/left", "/right"} {
			tree[fmt.Sprintf("level%d%s/kustomization.yaml", i, side)] = &fstest.MapFile{Data: []byte("resources: [" + next + "]\n")}
		}
		tree[fmt.Sprintf("level%d/kustomization.yaml", i)] = &fstest.MapFile{Data: []byte("resources: [" + next + "l, " + next + "r]\n")}
		for _, side := range []string{"l", "r"} {
			tree[fmt.Sprintf("level%d%s/kustomization.yaml", i+1, side)] = &fstest.MapFile{Data: []byte(
				"namePrefix: " + side + "\nresources: [" + fmt.Sprintf("../level%d", i+1) + "]\n")}
		}
	}
	_, err := kustomize.Build(t.Context(), tree, "level0", &kustomize.Options{Limits: kustomize.Limits{Files: 2000}})
	if !errors.Is(err, kustomize.ErrLimit) {
		t.Errorf("got %v", err)
	}
}

// TestAliasBomb: aliases are counted before kustomize would write them out.
func TestAliasBomb(t *testing.T) {
	bomb := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	for name, data := range map[string]string{"nested": bomb, "endless": "a: &a [*a]\n"} {
		_, err := kustomize.Build(t.Context(), fstest.MapFS{"a.yaml": {Data: []byte(data)}}, "", nil)
		if !errors.Is(err, kustomize.ErrLimit) || !strings.Contains(err.Error(), "a.yaml") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	fair := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: &l {app: x}}\nspec: {one: *l, two: {<<: *l, b: c}}\n"
	objs, err := kustomize.Build(t.Context(), fstest.MapFS{"a.yaml": {Data: []byte(fair)}}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"one": map[string]any{"app": "x"}, "two": map[string]any{"app": "x", "b": "c"}}
	if diff := cmp.Diff(want, objs[0].Object["spec"]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := kustomize.Build(ctx, victim(), "", nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var terminal interface{ Terminal() bool }
	if !errors.As(err, &terminal) || terminal.Terminal() {
		t.Error("a cancelled build must be retried")
	}
}

// TestConfined: no reference leaves the tree, whatever it is called.
func TestConfined(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "canary.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: canary}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{
		filepath.Join(outside, "canary.yaml"), "../../../../.." + filepath.Join(outside, "canary.yaml"), "file://" + filepath.Join(outside, "canary.yaml"),
		"/etc/hostname", "../..", "..",
	} {
		objs, err := kustomize.Build(t.Context(), fstest.MapFS{"d/kustomization.yaml": {Data: []byte("resources: [\"" + ref + "\"]\n")}}, "d", nil)
		if err == nil {
			t.Errorf("%s: built %d objects", ref, len(objs))
		}
	}
}

// TestRemote: whatever could make kustomize open a connection or run git is
// refused, and credentials in it are not repeated.
func TestRemote(t *testing.T) {
	for _, file := range []string{
		"resources: ['https://user:hunter2@example.com/x.yaml']",
		"resources: [github.com/org/repo]",
		"resources: ['GitHub.com:org/repo']",
		"resources: ['git@example.com:org/repo.git']",
		"resources: ['git::https://example.com/org/repo']",
		"resources: ['ssh://git@example.com/org/repo']",
		"resources: ['file:///srv/repo']",
		"bases: ['https://example.com/org/repo?ref=main']",
		"components: ['https://example.com/org/repo']",
		"crds: ['http://example.com/crd.json']",
		"configurations: ['http://example.com/c.yaml']",
		"openapi: {path: 'http://example.com/o.json'}",
		"patches: [{path: 'http://example.com/p.yaml'}]",
		"patchesJson6902: [{path: 'http://example.com/p.yaml', target: {kind: A, version: v1, name: b}}]",
		"patchesStrategicMerge: ['http://example.com/p.yaml']",
		"replacements: [{path: 'http://example.com/p.yaml'}]",
		"configMapGenerator: [{name: a, files: ['k=http://example.com/p']}]",
		"configMapGenerator: [{name: a, envs: ['http://example.com/p']}]",
		"secretGenerator: [{name: a, env: 'http://example.com/p'}]",
		"transformers: ['http://example.com/p']",
		"generators: ['https://example.com/p']",
		"validators: ['https://example.com/p']",
		"Resources: ['https://example.com/x']",
		"RESOURCES: ['git@example.com:org/repo.git']",
		"Bases: ['https://example.com/x']",
		"Components: ['https://example.com/x']",
		"Patches: [{Path: 'http://example.com/p.yaml'}]",
		"ConfigMapGenerator: [{Name: a, Files: ['http://example.com/p']}]",
		"OpenAPI: {path: 'http://example.com/o.json'}",
		"Transformers: [transformer.yaml]",
		"transformers: [escaped.yaml]",
		"transformers: [binary.yaml]",
		"generators: [files.yaml]",
		"transformers: ['{apiVersion: builtin, kind: PatchTransformer, metadata: {name: x}, path: \"http://example.com/p\"}']",
		"transformers: [transformer.yaml]",
		"transformers: [\"apiVersion: builtin\\nkind: PatchTransformer\\nmetadata: {name: x}\\npath: http://example.com/p\\n\"]",
	} {
		tree := fstest.MapFS{
			"kustomization.yaml": {Data: []byte(file)},
			"transformer.yaml":   {Data: []byte("apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\npath: http://example.com/p\n")},
			"escaped.yaml":       {Data: []byte("apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\npath: \"\\u0068ttp://example.com/p\"\n")},
			"binary.yaml":        {Data: []byte("apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: x}\nPath: !!binary aHR0cDovL2V4YW1wbGUuY29tL3A=\n")},
			"files.yaml":         {Data: []byte("apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: x}\nfiles: [k=http://example.com/p]\n")},
		}
		_, err := kustomize.Build(t.Context(), tree, "", nil)
		if !errors.Is(err, kustomize.ErrRemote) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", file, err)
		}
	}
}

// TestRemoteInBase: the check covers kustomizations that are reached, not only the top.
func TestRemoteInBase(t *testing.T) {
	tree := fstest.MapFS{
		"kustomization.yaml":      {Data: []byte("resources: [base]\n")},
		"base/Kustomization":      {Data: []byte("resources: ['https://example.com/x']\n")},
		"plug/kustomization.yaml": {Data: []byte("transformers: [../base]\n")},
	}
	_, err := kustomize.Build(t.Context(), tree, "", nil)
	var e *kustomize.Error
	if !errors.As(err, &e) || !errors.Is(err, kustomize.ErrRemote) || e.Path != "base/Kustomization" {
		t.Errorf("got %v", err)
	}
	if _, err := kustomize.Build(t.Context(), tree, "plug", nil); !errors.Is(err, kustomize.ErrUnsupported) {
		t.Errorf("plug-in directory: got %v", err)
	}
}

func FuzzBuild(f *testing.F) {
	f.Add([]byte("resources: [a.yaml]\n"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"))
	f.Add([]byte("configMapGenerator: [{name: a, literals: [a=b]}]\n"), []byte("---\n"))
	f.Add([]byte("resources: [.]\npatches: [{patch: '[{op: add}]'}]\n"), []byte("kind: List\napiVersion: v1\nitems: [1]\n"))
	f.Fuzz(func(t *testing.T, kustomization, manifest []byte) {
		tree := fstest.MapFS{"kustomization.yaml": {Data: kustomization}, "a.yaml": {Data: manifest}}
		objs, err := kustomize.Build(t.Context(), tree, "", &kustomize.Options{Limits: kustomize.Limits{Files: 100}})
		var e *kustomize.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("error of type %T: %v", err, err)
		}
		for _, o := range objs {
			o.DeepCopy()
		}
	})
}

func BenchmarkBuildManifests(b *testing.B) {
	tree := fstest.MapFS{}
	for i := range 100 {
		name := "app" + strings.Repeat("x", i)
		tree[name+".yaml"] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(victim()["app.yaml"].Data), "name: app", "name: "+name))}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kustomize.Build(b.Context(), tree, "", nil); err != nil {
			b.Fatal(err)
		}
	}
}
