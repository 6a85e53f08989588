package helm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/helm"
)

// objects is a lookup in a map of "Kind/name", and counts.
type objects struct {
	data  map[string]map[string][]byte
	calls []string
}

func (o *objects) lookup(_ context.Context, kind, name string) (map[string][]byte, error) {
	o.calls = append(o.calls, kind+"/"+name)
	data, ok := o.data[kind+"/"+name]
	if !ok {
		return nil, fmt.Errorf("%s %s: %w", kind, name, fs.ErrNotExist)
	}
	return data, nil
}

func newObjects() *objects {
	return &objects{data: map[string]map[string][]byte{
		"ConfigMap/base": {
			"values.yaml": []byte("a: {x: 1, w: 1}\nlist: [1, 2]\nbig: 12345678901234567890\n"),
			"more.yaml":   []byte("a: {w: 2}\nlist: [3]\nnothing: null\n"),
			"broken":      []byte("a: hunter2\n  b: hunter2"),
			"list":        []byte("- hunter2"),
			"empty":       nil,
		},
		"Secret/login": {
			"password": []byte("hunter2"),
			"number":   []byte("42"),
			"quoted":   []byte("'42'"),
			"set":      []byte("{a,b}"),
			"literal":  []byte("{a},b\\c\nd='e' \\, true"),
			"huge":     []byte(strings.Repeat("x", 2<<20)),
			"binary":   []byte("\xff\xfe"),
		},
	}}
}

func TestCompose(t *testing.T) {
	cases := map[string]struct {
		inline string
		refs   []helm.Reference
		want   string
	}{
		"nothing": {`null`, nil, `{}`},
		"inline wins, maps merge, lists replace": {
			`{"a": {"x": 9}}`,
			[]helm.Reference{{Kind: "ConfigMap", Name: "base"}, {Kind: "ConfigMap", Name: "base", ValuesKey: "more.yaml"}},
			`{"a": {"x": 9, "w": 2}, "list": [3], "big": 12345678901234567890, "nothing": null}`,
		},
		"empty value":      {`{"a": 1}`, []helm.Reference{{Kind: "ConfigMap", Name: "base", ValuesKey: "empty"}}, `{"a": 1}`},
		"optional object":  {`{}`, []helm.Reference{{Kind: "Secret", Name: "none", Optional: true}}, `{}`},
		"optional key":     {`{}`, []helm.Reference{{Kind: "Secret", Name: "login", Optional: true}}, `{}`},
		"target, at root":  {`{"p": "inline"}`, []helm.Reference{{Kind: "Secret", Name: "login", ValuesKey: "password", TargetPath: "p"}}, `{"p": "hunter2"}`},
		"target, nested":   {`{"a": {"p": "inline", "q": 1}}`, []helm.Reference{{Kind: "Secret", Name: "login", ValuesKey: "password", TargetPath: "a.p"}}, `{"a": {"p": "hunter2", "q": 1}}`},
		"target and merge": {`{"a": {"x": "inline"}}`, []helm.Reference{{Kind: "Secret", Name: "login", ValuesKey: "number", TargetPath: "a.x"}, {Kind: "ConfigMap", Name: "base", ValuesKey: "more.yaml"}}, `{"a": {"x": 42, "w": 2}, "list": [3], "nothing": null}`},
		"types":            {`{}`, []helm.Reference{{Kind: "Secret", Name: "login", ValuesKey: "quoted", TargetPath: "s"}, {Kind: "Secret", Name: "login", ValuesKey: "set", TargetPath: "l[1]"}}, `{"s": "42", "l": [null, ["a", "b"]]}`},
		"escaped":          {`{}`, []helm.Reference{{Kind: "Secret", Name: "login", ValuesKey: "number", TargetPath: `a\.b.c`}}, `{"a.b": {"c": 42}}`},
		"literal":          {`{}`, []helm.Reference{{Kind: "Secret", Name: "login", ValuesKey: "literal", TargetPath: `a\.b`, Literal: true}}, `{"a.b": "{a},b\\c\nd='e' \\, true"}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var inline, before map[string]any
			for _, m := range []*map[string]any{&inline, &before} {
				if err := json.Unmarshal([]byte(c.inline), m); err != nil {
					t.Fatal(err)
				}
			}
			store := newObjects()
			got, err := helm.Compose(t.Context(), store.lookup, inline, c.refs...)
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(canonical(t, c.want), canonical(t, string(data))); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff(before, inline); diff != "" {
				t.Errorf("the inline values changed\n%s", diff)
			}
			seen := map[string]bool{}
			for _, call := range store.calls {
				if seen[call] {
					t.Errorf("%s was looked up twice", call)
				}
				seen[call] = true
			}
		})
	}
}

// canonical reads JSON and keeps the digits of numbers.
func canonical(t *testing.T, data string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(data))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestComposeRefuses(t *testing.T) {
	down := errors.New("connection refused")
	secret := helm.Reference{Kind: "Secret", Name: "login", ValuesKey: "password", TargetPath: "a"}
	with := func(change func(*helm.Reference)) helm.Reference {
		ref := secret
		change(&ref)
		return ref
	}
	cases := map[string]struct {
		ref  helm.Reference
		want error
	}{
		"kind":               {helm.Reference{Kind: "Deployment", Name: "x"}, helm.ErrValues},
		"no object":          {helm.Reference{Kind: "Secret", Name: "none"}, helm.ErrNotFound},
		"no key":             {helm.Reference{Kind: "Secret", Name: "login"}, helm.ErrKeyNotFound},
		"broken":             {helm.Reference{Kind: "ConfigMap", Name: "base", ValuesKey: "broken"}, helm.ErrValues},
		"broken, optional":   {helm.Reference{Kind: "ConfigMap", Name: "base", ValuesKey: "broken", Optional: true}, helm.ErrValues},
		"list":               {helm.Reference{Kind: "ConfigMap", Name: "base", ValuesKey: "list"}, helm.ErrValues},
		"not YAML":           {helm.Reference{Kind: "Secret", Name: "login", ValuesKey: "password"}, helm.ErrValues},
		"index":              {with(func(r *helm.Reference) { r.TargetPath = "a[70000]" }), helm.ErrValues},
		"negative":           {with(func(r *helm.Reference) { r.TargetPath = "a[-1]" }), helm.ErrValues},
		"deep":               {with(func(r *helm.Reference) { r.TargetPath = "a" + strings.Repeat(".a", 40) }), helm.ErrValues},
		"long":               {with(func(r *helm.Reference) { r.TargetPath = strings.Repeat("a", 2000) }), helm.ErrValues},
		"two assignments":    {with(func(r *helm.Reference) { r.TargetPath = "a=1,b" }), helm.ErrValues},
		"does not fit":       {with(func(r *helm.Reference) { r.TargetPath = "text.b" }), helm.ErrValues},
		"huge":               {with(func(r *helm.Reference) { r.ValuesKey = "huge" }), helm.ErrValues},
		"binary":             {with(func(r *helm.Reference) { r.ValuesKey = "binary"; r.Literal = true }), helm.ErrValues},
		"lookup is at fault": {helm.Reference{Kind: "ConfigMap", Name: "down"}, down},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			lookup := newObjects().lookup
			if c.ref.Name == "down" {
				lookup = func(context.Context, string, string) (map[string][]byte, error) { return nil, down }
			}
			_, err := helm.Compose(t.Context(), lookup, map[string]any{"text": "x"}, c.ref)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if typed := (*helm.ReferenceError)(nil); !errors.As(err, &typed) || typed.Ref != c.ref {
				t.Errorf("%v does not name its reference", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a value: %s", err)
			}
		})
	}
	if _, err := helm.Compose(t.Context(), nil, nil, secret); !errors.Is(err, helm.ErrNotFound) {
		t.Errorf("without a lookup: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := helm.Compose(ctx, newObjects().lookup, nil, secret); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestDigestValues: testdata/digests.txt holds values and their digests as
// github.com/fluxcd/pkg/chartutil v1.27.2 computes them.
func TestDigestValues(t *testing.T) {
	data, err := os.ReadFile("testdata/digests.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		want, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		var values map[string]any
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		got, err := helm.DigestValues(digest.SHA256, values)
		if err != nil || got.String() != want {
			t.Errorf("%s: got %s, want %s: %v", text, got, want, err)
		}
		n++
	}
	if n != 200 {
		t.Errorf("%d lines", n)
	}
	empty, err := helm.DigestValues(digest.SHA256, nil)
	if err != nil || empty != digest.FromString("") {
		t.Errorf("empty: %s, %v", empty, err)
	}
	if _, err := helm.DigestValues("md5", nil); !errors.Is(err, helm.ErrValues) {
		t.Errorf("got %v", err)
	}
}

// TestDigestOfComposed: numbers that were read from YAML count as those that were inline.
func TestDigestOfComposed(t *testing.T) {
	values, err := helm.ReadValues([]byte("a: 1\nb: [{z: 1.5, w: x}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := helm.DigestValues(digest.SHA256, values)
	if err != nil {
		t.Fatal(err)
	}
	want, err := helm.DigestValues(digest.SHA256, map[string]any{"b": []any{map[string]any{"w": "x", "z": 1.5}}, "a": 1.0})
	if err != nil || got != want {
		t.Errorf("got %s, want %s: %v", got, want, err)
	}
}

func FuzzCompose(f *testing.F) {
	f.Add([]byte("a: {b: 1}"), "a.b[0]", "x", false)
	f.Add([]byte("a: [1]"), `a\.b`, "{1,2}", true)
	f.Fuzz(func(t *testing.T, inline []byte, path, value string, literal bool) {
		values, err := helm.ReadValues(inline)
		if err != nil {
			return
		}
		before, err := helm.DigestValues(digest.SHA256, values)
		if err != nil {
			t.Fatal(err)
		}
		lookup := func(context.Context, string, string) (map[string][]byte, error) {
			return map[string][]byte{"k": []byte(value)}, nil
		}
		_, err = helm.Compose(t.Context(), lookup, values, helm.Reference{Kind: "Secret", Name: "s", ValuesKey: "k", TargetPath: path, Literal: literal})
		if typed := (*helm.ReferenceError)(nil); err != nil && !errors.As(err, &typed) {
			t.Errorf("%T: %v", err, err)
		}
		after, err := helm.DigestValues(digest.SHA256, values)
		if err != nil || before != after {
			t.Errorf("the values changed: %v", err)
		}
	})
}
