package kustomize_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/kustomize"
)

func lookup(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestExpand(t *testing.T) {
	vars := map[string]string{
		"v": "abcABC", "empty": "", "path": "/usr/lib/a.tar.gz", "u": "héllo", "n": "3", "_x1": "y", "x.y": "never", "ß": "eszett",
	}
	for text, want := range map[string]string{
		"plain $ text $5 {x}":          "plain $ text $5 {x}",
		"a${v}b${n}":                   "aabcABCb3",
		"$${v} $$$${v}":                "${v} $${v}",
		"${_x1}${ß}":                   "yeszett",
		"${#v}${#empty}${#u}":          "606",
		"${v^} ${v^^} ${v,} ${v,,}":    "AbcABC ABCABC abcABC abcabc",
		"${u^^}${empty^}":              "HÉLLO",
		"${v:2}|${v:2:2}|${v:-9}":      "cABC|cA|abcABC",
		"${v:0:-2}|${v: -1}|${v:9}":    "abcA|abcABC|",
		"${v:${n}}|${v:1:${n}}":        "ABC|bcA",
		"${v:2:99999999999999}|${v:x}": "cABC|abcABC",
		"${empty=d}${no:=e}${no:-f}":   "def",
		"${v:-d}${no:+g}${v:+h}":       "abcABCgabcABC",
		"${no:-a${v}b${no:-c}}":        "aabcABCbc",
		"${no:-}|${no:=$v $$}":         "|$v $$",
		"${v:?must be set}${empty:?e}": "abcABCe",
		"${v/b/-}|${v//[abc]/-}":       "a-cABC|abcABC",
		"${v/#abc/x}|${v/%ABC/x}":      "xABC|abcx",
		"${v/#ABC/x}|${v/%abc/x}":      "abcABC|abcABC",
		"${path//\\//-}|${path/\\//}":  "-usr-lib-a.tar.gz|usr/lib/a.tar.gz",
		"${v/a/\\\\}|${v/${n}/${v}}":   "\\bcABC|abcABC",
		"${path##*/}|${path#*/}":       "a.tar.gz|usr/lib/a.tar.gz",
		"${path%.*}|${path%%.*}":       "/usr/lib/a.tar|/usr/lib/a",
		"${path#/usr}|${path%gz}":      "/lib/a.tar.gz|/usr/lib/a.tar.",
		"${v#[a-b]?}|${v#[}|${v#no}":   "cABC|abcABC|abcABC",
		"${v%${v:3}}":                  "abc",
		"é${v}é":                       "éabcABCé",
		strings.Repeat("${no:-", 60) + "x" + strings.Repeat("}", 60): "x",
	} {
		got, err := kustomize.Expand(text, lookup(vars))
		if err != nil || got != want {
			t.Errorf("Expand(%q) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestExpandRefuses(t *testing.T) {
	vars := map[string]string{"v": "abc", "big": strings.Repeat("x", 9<<10), "long": strings.Repeat("y", 500)}
	for text, want := range map[string]error{
		"${}": kustomize.ErrInvalid, "${v": kustomize.ErrInvalid, "${ v}": kustomize.ErrInvalid, "${v }": kustomize.ErrInvalid,
		"${v-x}": kustomize.ErrInvalid, "${v?x}": kustomize.ErrInvalid, "${v:}": kustomize.ErrInvalid, "${v#}": kustomize.ErrInvalid,
		"${v/a}": kustomize.ErrInvalid, "${v/a/b": kustomize.ErrInvalid, "${v//b}": kustomize.ErrInvalid, "${v^,}": kustomize.ErrInvalid,
		"${v:=x": kustomize.ErrInvalid, "${#}": kustomize.ErrInvalid, "${v.w}": kustomize.ErrInvalid, "${v:1:}": kustomize.ErrInvalid,
		"${no}": kustomize.ErrUnset, "${#no}": kustomize.ErrUnset, "${no^^}": kustomize.ErrUnset, "${no:1}": kustomize.ErrUnset,
		"${no/a/b}": kustomize.ErrUnset, "${no#a}": kustomize.ErrUnset, "${v:-${no}}": kustomize.ErrUnset, "${no:?text}": kustomize.ErrUnset,
		"${v#${long}}": kustomize.ErrLimit, "${v:-" + strings.Repeat("${big}", 2000) + "}": kustomize.ErrLimit,
		"${big#a}":                     kustomize.ErrLimit,
		strings.Repeat("${big}", 2000): kustomize.ErrLimit,
		"${big//x/" + strings.Repeat("y", 2000) + "}":          kustomize.ErrLimit,
		strings.Repeat("${no:-", 70) + strings.Repeat("}", 70): kustomize.ErrLimit,
	} {
		if got, err := kustomize.Expand(text, lookup(vars)); !errors.Is(err, want) {
			t.Errorf("Expand(%.60q) = %.60q, %v; want %v", text, got, err, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("${a:-${b^^}}$${c}${d:1:2}", "value")
	f.Add("${a//x/${b}}${#a}${a%%.*}", "a.b.c")
	f.Fuzz(func(t *testing.T, text, value string) {
		got, err := kustomize.Expand(text, func(string) (string, bool) { return value, true })
		if err == nil && !strings.Contains(text, "$") && got != text {
			t.Errorf("%q became %q", text, got)
		}
	})
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestSubstitute(t *testing.T) {
	in := object(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: "${name}-config", namespace: apps}
data: {replicas: "${n}", quoted: "'${n}'", "${key:=level}": info}`)
	off := object(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: script, annotations: {kustomize.toolkit.fluxcd.io/substitute: disabled}}
data: {run: "${HOME}"}`)
	in.Object["number"] = int64(9007199254740993) // beyond what a float holds
	before := in.DeepCopy()
	got, err := kustomize.Substitute(t.Context(), []*unstructured.Unstructured{in, off}, map[string]string{"name": "po\nd", "n": "3"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := object(t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: pod-config, namespace: apps}
data: {replicas: 3, quoted: "'3'", level: info}`)
	want.Object["number"] = int64(9007199254740993)
	want.Object["data"].(map[string]any)["replicas"] = int64(3)
	if diff := cmp.Diff(want.Object, got[0].Object); diff != "" {
		t.Error("-want +got\n", diff)
	}
	if got[1] != off {
		t.Error("an object that is opted out was touched")
	}
	if diff := cmp.Diff(before.Object, in.Object); diff != "" {
		t.Error("the input was changed", diff)
	}
}

func TestSubstituteWithoutVariables(t *testing.T) {
	in := []*unstructured.Unstructured{object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: "${v:=d}"}}`)}
	for always, want := range map[bool]string{false: "${v:=d}", true: "d"} {
		got, err := kustomize.Substitute(t.Context(), in, nil, &kustomize.SubstituteOptions{Always: always})
		if err != nil {
			t.Fatal(err)
		}
		if v, _, _ := unstructured.NestedString(got[0].Object, "data", "k"); v != want {
			t.Errorf("always %v: %q, want %q", always, v, want)
		}
	}
}

func TestSubstituteErrors(t *testing.T) {
	const secret = "hunter2: [" // breaks the YAML it is put into
	in := []*unstructured.Unstructured{
		object(t, `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: apps}, stringData: {list: ["${missing}"]}}`),
		object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, data: {k: "${secret}"}}`),
		object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {k: "${bad"}}`),
		object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: "${empty}"}}`),
	}
	_, err := kustomize.Substitute(t.Context(), in, map[string]string{"secret": secret, "empty": ""}, nil)
	want := strings.Join([]string{
		`kustomize: substitute in Secret apps/a: stringData.list[0]: variable is not set: "missing"`,
		`kustomize: substitute in ConfigMap b: invalid kustomization: with the values of the variables it is no YAML object, line 3 of its text: quote the expression, or its value`,
		`kustomize: substitute in ConfigMap c: data.k: invalid kustomization: ${bad is not closed by }, or uses an operator that does not exist`,
		`kustomize: substitute in ConfigMap ${empty}: invalid kustomization: with the values of the variables it has no apiVersion, kind or metadata.name`,
	}, "\n")
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error("-want +got\n", diff)
	}
	var of *kustomize.SubstituteError
	if !errors.As(err, &of) || of.Field != "stringData.list[0]" || !errors.Is(err, kustomize.ErrUnset) {
		t.Errorf("%+v", of)
	}
	if _, err := kustomize.Substitute(t.Context(), in[:1], map[string]string{"a-b": ""}, nil); !errors.Is(err, kustomize.ErrInvalid) || !strings.Contains(err.Error(), `"a-b"`) {
		t.Errorf("bad name: %v", err)
	}
	got, err := kustomize.Substitute(t.Context(), in[:1], nil, &kustomize.SubstituteOptions{Always: true, AllowUnset: true})
	if v, _, _ := unstructured.NestedSlice(got[0].Object, "stringData", "list"); err != nil || v[0] != nil {
		t.Errorf("AllowUnset: %v, %v", v, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kustomize.Substitute(ctx, in, map[string]string{"secret": ""}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestSetMetadata(t *testing.T) {
	in := object(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, labels: {team: x, app: a}}, spec: {selector: {matchLabels: {app: a}}}}`)
	kustomize.SetMetadata([]*unstructured.Unstructured{in}, map[string]string{"team": "new"}, map[string]string{"note": "z"})
	want := object(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, labels: {team: new, app: a}, annotations: {note: z}}, spec: {selector: {matchLabels: {app: a}}}}`)
	if diff := cmp.Diff(want.Object, in.Object); diff != "" {
		t.Error("-want +got\n", diff)
	}
}
