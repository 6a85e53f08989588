package schema_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

const app = `# a comment
apiVersion: v1
kind: ConfigMap
metadata:
  name: config
  labels:
    example.com/a.b: c
data:
  key: |
    a text
--- # the next
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicass: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: &meta
      labels: {app: web}
    spec:
      containers:
      - name: main
        image: example.com/main
        env:
        - {name: A, value: b}
        - name: B
          value: 1
---
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: svc}
  spec:
    ports:
    - port: "80"
`

// TestPositions validates a file with faults in every document.
func TestPositions(t *testing.T) {
	m, err := schema.Decode("app/web.yaml", []byte(app), nil)
	if err != nil {
		t.Fatal(err)
	}
	set := builtin(t, "")
	var got []string
	for _, v := range set.Validate(t.Context(), m.Objects, &schema.ValidateOptions{Manifests: m}) {
		got = append(got, v.String())
	}
	want := []string{
		"app/web.yaml:16: Deployment/web: spec.replicass: unknown field, did you mean replicas?",
		"app/web.yaml:28: Deployment/web: spec.template.spec.containers[0].env[1].value: expected a text, not a number",
		"app/web.yaml:39: Service/svc: spec.ports[0].port: expected an integer of 32 bits, not a text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for path, line := range map[string]int{
		"": 2, "data.key": 9, "data[key]": 9, "metadata.labels[example.com/a.b]": 7, "metadata.labels.example.com/a.b": 7, "data.other": 8, "spec[0]": 2,
	} {
		if file, got := m.Position(m.Objects[0], path); got != line || file != "app/web.yaml" {
			t.Errorf("%q is in %s:%d, want line %d", path, file, got, line)
		}
	}
	// A copy is found by its name; without sources there are no lines.
	moved := m.Objects[1].DeepCopy()
	if _, line := m.Position(moved, "spec.template.spec.containers[0].image"); line != 24 {
		t.Errorf("the copy: line %d", line)
	}
	moved.SetAnnotations(map[string]string{"config.kubernetes.io/origin": "path: ../base/web.yaml\nrepo: x\n"})
	v := set.Validate(t.Context(), []*unstructured.Unstructured{moved}, nil)
	if len(v) != 2 || v[0].File != "../base/web.yaml" || v[0].Line != 0 || !strings.HasPrefix(v[0].String(), "../base/web.yaml: Deployment/web: ") {
		t.Errorf("with an origin: %v", v)
	}
}

// TestPositionsOfMerges follows aliases, merge keys and equal names.
func TestPositionsOfMerges(t *testing.T) {
	m := read(t, `apiVersion: v1
kind: ConfigMap
metadata: &m
  name: a
  labels: &l
    x: "1"
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: b
x: &base {k: v}
data:
  <<: [{one: "1"}, {two: "2"}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
`)
	if _, line := m.Position(m.Objects[1], "data.two"); line != 14 {
		t.Errorf("the merged key is in line %d", line)
	}
	if m.Objects[1].Object["data"].(map[string]any)["two"] != "2" {
		t.Error("the key was not merged")
	}
	if file, line := m.Position(m.Objects[2].DeepCopy(), ""); line != 0 || file != "" {
		t.Errorf("a copy of one of two with the same name is in %s:%d", file, line)
	}
	if _, line := m.Position(m.Objects[2], "metadata.name"); line != 19 {
		t.Errorf("the object itself is in line %d", line)
	}
}

func TestDecodeProblems(t *testing.T) {
	const object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"key twice":            {object + "data:\n  a: b\n  c: d\n  a: e\n", []string{"f.yaml:7: data.a: the key is there twice, first in line 5"}},
		"keys twice":           {"apiVersion: v1\napiVersion: v1\nkind: X\na: [{b: 1, b: 2}]\n", []string{"f.yaml:2: apiVersion: the key is there twice, first in line 1", "f.yaml:4: a[0].b: the key is there twice, first in line 4"}},
		"syntax":               {object + "---\na: [\n", []string{"f.yaml:5: not YAML: did not find expected node content"}},
		"goes on after syntax": {"a: b: c\n---\n" + object + "---\nx\n", []string{"f.yaml:1: not YAML: mapping values are not allowed in this context", "f.yaml:7: not an object: it has no apiVersion and kind"}},
		"no kind":              {"\n\napiVersion: v1\n", []string{"f.yaml:3: not an object: it has no kind"}},
		"neither":              {"replicas: 1\n", []string{"f.yaml:1: not an object: it has no apiVersion and kind"}},
		"list":                 {"- a\n", []string{"f.yaml:1: not an object: it has no apiVersion and kind"}},
		"kind of wrong type":   {"apiVersion: v1\nkind: 1\n", []string{"f.yaml:1: not an object: it has no kind"}},
		"two without a line":   {object + "--- {a: b}\n", []string{"f.yaml:1: two documents without a line --- between them"}},
		"tab":                  {"a:\n\t- b\n", []string{"f.yaml:2: not YAML: found character that cannot start any token"}},
		"empty":                {"", nil},
		"comments":             {"# a\n---\n# b\n--- # c\nnull\n---\n~\n", nil},
		"json":                 {`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}`, nil},
		"windows":              {strings.ReplaceAll(object+"---\n"+object, "\n", "\r\n"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schema.Decode("f.yaml", []byte(test.text), nil)
			var got []string
			for _, v := range schema.Violations(err) {
				got = append(got, v.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err != nil) != (test.want != nil) || err != nil && !errors.Is(err, schema.ErrInvalid) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestDecodeAgrees holds the objects to those of ssa.ReadObjects.
func TestDecodeAgrees(t *testing.T) {
	text := app + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: yes, b: 0o7, c: 010, d: 1e3, e: .5, f: 2026-01-02, g: !!str 1, h: y}\n"
	m, err := schema.Decode("f.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ssa.ReadObjects(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, m.Objects); diff != "" {
		t.Errorf("(-ssa +schema):\n%s", diff)
	}
}

func TestDecodeLimits(t *testing.T) {
	object := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	bomb := object + "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("%[2]c: &%[2]c [*%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c, *%[1]c]\n", 'a'+i, 'b'+i)
	}
	for name, test := range map[string]struct {
		text   string
		limits schema.Limits
		want   error
	}{
		"bytes":         {object, schema.Limits{FileBytes: 10}, schema.ErrLimit},
		"documents":     {strings.Repeat(object+"---\n", 3), schema.Limits{Documents: 2}, schema.ErrLimit},
		"depth":         {object + "data: {a: {b: {c: {d: e}}}}\n", schema.Limits{Depth: 4}, schema.ErrLimit},
		"depth preset":  {object + "data: " + strings.Repeat("[", 600) + strings.Repeat("]", 600), schema.Limits{}, schema.ErrLimit},
		"nodes":         {object + "data: [1, 2, 3, 4]\n", schema.Limits{Nodes: 10}, schema.ErrLimit},
		"alias bomb":    {bomb, schema.Limits{}, schema.ErrLimit},
		"alias of self": {object + "a: &a [*a]\n", schema.Limits{}, schema.ErrInvalid},
		"just enough":   {object, schema.Limits{FileBytes: int64(len(object)), Documents: 1, Depth: 3, Nodes: 9}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schema.Decode("f.yaml", []byte(test.text), &test.limits)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			var e *schema.Error
			if test.want != nil && (!errors.As(err, &e) || !e.Terminal()) {
				t.Errorf("not terminal: %v", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	object := []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
	fsys := fstest.MapFS{
		"b/2.yaml": {Data: object}, "b/1.yml": {Data: object}, "a.json": {Data: []byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`)},
		"b/kustomization.yaml": {Data: []byte("resources: []\n")}, ".hidden/x.yaml": {Data: []byte("x")}, "README.md": {Data: []byte("x")}, "odd": {Data: object},
	}
	for name, test := range map[string]struct {
		patterns []string
		limits   schema.Limits
		objects  int
		err      error
	}{
		"all":        {nil, schema.Limits{}, 3, nil},
		"directory":  {[]string{"b"}, schema.Limits{}, 2, nil},
		"file":       {[]string{"odd", "odd"}, schema.Limits{}, 1, nil},
		"glob":       {[]string{"b/*.yml", "*.json"}, schema.Limits{}, 2, nil},
		"named":      {[]string{"b/kustomization.yaml"}, schema.Limits{}, 0, schema.ErrInvalid},
		"absent":     {[]string{"c"}, schema.Limits{}, 0, fs.ErrNotExist},
		"pattern":    {[]string{"[a"}, schema.Limits{}, 0, errors.ErrUnsupported},
		"files":      {nil, schema.Limits{Files: 2}, 0, schema.ErrLimit},
		"file size":  {nil, schema.Limits{FileBytes: 20}, 0, schema.ErrLimit},
		"total size": {nil, schema.Limits{TotalBytes: 100}, 1, schema.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := schema.Load(fsys, test.patterns, &test.limits)
			if test.err == errors.ErrUnsupported && err != nil { //nolint:errorlint // any error
				return
			}
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if m != nil && len(m.Objects) != test.objects {
				t.Errorf("%d objects, want %d", len(m.Objects), test.objects)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(app))
	f.Add([]byte("a: &a [*a]\n---\n{a: 1, a: 2}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := schema.Decode("f.yaml", data, &schema.Limits{Nodes: 10000})
		for _, v := range schema.Violations(err) {
			if v.Message == "" || v.Line < 1 {
				t.Errorf("violation %#v", v)
			}
		}
		want, readErr := ssa.ReadObjects(strings.NewReader(string(data)))
		if err == nil && readErr == nil {
			if diff := cmp.Diff(want, m.Objects); diff != "" {
				t.Errorf("(-ssa +schema):\n%s", diff)
			}
		}
		for _, obj := range m.Objects {
			if _, line := m.Position(obj, "metadata.name[0].x"); line < 1 {
				t.Error("no line")
			}
		}
	})
}
