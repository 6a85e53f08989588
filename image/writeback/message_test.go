package writeback_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/image/update"
	"github.com/gitopskit/gitopskit/image/writeback"
)

// tree is what the messages are about: two files, one object in both.
var tree = fstest.MapFS{
	"a.yaml": {Data: []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: prod}\na: org/a:1 # {\"$imagepolicy\": \"apps:a\"}\nb: org/b:1 # {\"$imagepolicy\": \"apps:b\"}\n")},
	"b.yaml": {Data: []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: prod}\na: org/a:1 # {\"$imagepolicy\": \"apps:a\"}\n---\nkind: Job\nmetadata: {name: x}\nt: \"1\" # {\"$imagepolicy\": \"apps:b:tag\"}\n")},
}

func both(ctx context.Context, tree fs.FS) (*update.Plan, error) {
	return update.Setters(ctx, tree, map[string]image.Ref{"apps:a": {Name: "org/a", Tag: "2"}, "apps:b": {Name: "org/b", Tag: "3"}}, nil)
}

func render(t testing.TB, template string) (string, error) {
	t.Helper()
	w, err := writeback.New(&fake{tree: tree}, robot, &writeback.Options{Message: writeback.Message{
		Template: template, Automation: writeback.Name{Namespace: "flux-system", Name: "auto"}, Values: map[string]string{"cluster": "prod"},
	}})
	if err != nil {
		return "", err
	}
	result, err := w.Write(t.Context(), both)
	if err != nil {
		return "", err
	}
	return result.Message, nil
}

func TestMessage(t *testing.T) {
	for _, test := range []struct{ name, template, want string }{
		{"default", "", writeback.DefaultTemplate},
		{"automation", "{{ .AutomationObject }} {{ .AutomationObject.Namespace }} {{ .AutomationObject.Name }} {{ .Values.cluster }}", "flux-system/auto flux-system auto prod"},
		{"changes", "{{ range .Changed.Changes }}{{ print .OldValue }} -> {{ println .NewValue }}{{ end }}", "org/a:1 -> org/a:2\norg/b:1 -> org/b:3\n1 -> 3\n"},
		{
			"files",
			"{{ range $filename, $objchange := .Changed.FileChanges }}- {{ $filename }}:\n{{ range $obj, $changes := $objchange }}{{ range $changes }}  {{ $obj.Kind }}/{{ $obj.Namespace }}/{{ $obj.Name }} {{ .Setter }}\n{{ end }}{{ end }}{{ end }}",
			"- a.yaml:\n  Deployment/prod/web apps:a\n  Deployment/prod/web apps:b\n- b.yaml:\n  Job//x apps:b:tag\n  Deployment/prod/web apps:a\n",
		},
		{
			"objects", // those without version come first
			"{{ range $obj, $changes := .Changed.Objects }}{{ $obj.Kind }} {{ len $changes }}\n{{ end }}",
			"Job 1\nDeployment 3\n",
		},
		{
			"functions of sprig",
			`{{ range .Changed.Changes }}{{ if contains "tag" .Setter }}{{ .NewValue | quote | upper | trunc 5 }}{{ end }}{{ end }} {{ keys (dict "b" 1 "a" 2) | join "," }} {{ .Values.none | default "x" }} {{ printf "%03d" 7 }} {{ indent 2 "x" }} {{ repeat 3 "ab" }} {{ regexReplaceAll "a(b)" "ab" "<$1>" }} {{ mustToJson (list 1 "x") }}`,
			`"3" a,b x 007   x ababab <b> [1,"x"]`,
		},
		{"definitions", `{{ define "x" }}<{{ . }}>{{ end }}{{ range .Changed.Changes }}{{ template "x" .NewValue }}{{ else }}none{{ end }}`, "<org/a:2><org/b:3><3>"},
		{"break and variables", `{{ $n := 0 }}{{ range $i, $c := .Changed.Changes }}{{ if eq $i 2 }}{{ break }}{{ end }}{{ $n = add $n 1 }}{{ end }}{{ $n }}`, "2"},
	} {
		for range 3 { // always the same
			if got, err := render(t, test.template); err != nil || got != test.want {
				t.Fatalf("%s: %q, %v", test.name, got, err)
			}
		}
	}
}

func TestMessageRefuses(t *testing.T) {
	for _, test := range []struct {
		name, template string
		class          error
		text           string
	}{
		{"removed", "{{ .Updated.Images }}", writeback.ErrRemovedField, "use .Changed"},
		{"removed result", "{{ .Changed.ImageResult.Images }}", writeback.ErrRemovedField, "use .Changed.FileChanges"},
		{"unknown field", "{{ .Secret }}", writeback.ErrTemplate, "Secret"},
		{"environment", `{{ env "HOME" }}`, writeback.ErrInvalid, `"env" not defined`},
		{"network", `{{ getHostByName "x" }}`, writeback.ErrInvalid, "not defined"},
		{"time", `{{ now }}`, writeback.ErrInvalid, "not defined"},
		{"chance", `{{ shuffle "x" }}`, writeback.ErrInvalid, "not defined"},
		{"keys", `{{ genPrivateKey "rsa" }}`, writeback.ErrInvalid, "not defined"},
		{"slow", `{{ derivePassword 1 "long" "a" "b" "c" }}`, writeback.ErrInvalid, "not defined"},
		{"mutation", `{{ set (dict) "a" 1 }}`, writeback.ErrInvalid, "not defined"},
		{"our own tick", `{{ tick -1000000 }}`, writeback.ErrInvalid, "not defined"},
		{"empty", " \n", writeback.ErrTemplate, "empty"},
		{"nothing", "{{/* */}}", writeback.ErrTemplate, ""},
		{"not utf-8", `{{ "\xff" }}`, writeback.ErrTemplate, "UTF-8"},
		{"nul", `a{{ "\x00" }}`, writeback.ErrTemplate, "NUL"},
		{"width", `{{ printf "%9999d" 1 }}`, writeback.ErrTemplate, "width"},
		{"star", `{{ printf "%*d" 5 1 }}`, writeback.ErrTemplate, "star"},
		{"index", `{{ printf "%[1]d" 1 }}`, writeback.ErrTemplate, "index"},
		{"its own error", `{{ fail "no" }}`, writeback.ErrTemplate, "no"},
		{"division", `{{ div 1 0 }}`, writeback.ErrTemplate, "divide"},
	} {
		_, err := render(t, test.template)
		fails(t, err, test.class, test.text)
	}
}

// No template is expensive, whatever it does.
func TestMessageCosts(t *testing.T) {
	double := func(step string) string {
		return `{{ $x := "\\&a" }}{{ range 60 }}{{ $x = ` + step + ` }}{{ end }}{{ len $x }}`
	}
	for name, template := range map[string]string{
		"endless loop":     `{{ range 1000000000000 }}{{ end }}`,
		"nested loops":     `{{ range 100000 }}{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}{{ end }}`,
		"recursion":        `{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`,
		"two recursions":   `{{ define "x" }}{{ template "x" }}{{ template "x" }}{{ end }}{{ range 9 }}{{ template "x" }}{{ end }}`,
		"output":           `{{ range 20000 }}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{{ end }}`,
		"dense loop":       `{{ range 1000000 }}` + strings.Repeat(`{{ 1 }}`, 500) + `{{ end }}`,
		"print":            double(`print $x $x`),
		"printf":           double(`printf "%s%s" $x $x`),
		"printf width":     double(`printf "%9999999d" 1`),
		"printf index":     double(`printf "%[1]s%[1]s" $x`),
		"js":               double(`js $x`),
		"cat":              double(`cat $x $x`),
		"replace":          double(`replace "" $x $x`),
		"join":             double(`join $x (list $x $x $x)`),
		"regexReplaceAll":  double(`regexReplaceAll "" $x $x`),
		"repeat":           `{{ repeat 1000000000 "x" }}`,
		"repeat overflow":  `{{ repeat 1000000000 (repeat 1000000 "x") }}`,
		"indent":           `{{ indent 1000000000 "x" }}`,
		"wide tree":        `{{ $x := list 1 }}{{ range 60 }}{{ $x = list $x $x }}{{ end }}{{ $x }}`,
		"deep tree":        `{{ $x := list 1 }}{{ range 100 }}{{ $x = list $x }}{{ end }}{{ $x }}`,
		"work in the loop": `{{ $x := repeat 1000000 "x" }}{{ range 100000 }}{{ $y := upper $x }}{{ end }}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, template) // without a bound most of these would not end
			fails(t, err, writeback.ErrTemplate)
		})
	}
}

// The caller's values stay what they are.
func TestMessageValues(t *testing.T) {
	values := map[string]string{"a": "1"}
	w := newWriter(t, &fake{tree: tree}, &writeback.Options{Message: writeback.Message{Template: "{{ .Values.a }}", Values: values}})
	values["a"] = "2"
	if got := write(t, w, both); got.Message != "1" {
		t.Error(got.Message)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(`{{ range $o, $c := .Changed.Objects }}{{ range $c }}{{ $o.Kind | lower }} {{ .NewValue }}{{ end }}{{ end }}`)
	f.Add(`{{ define "a" }}{{ . }}{{ end }}{{ with .Values }}{{ template "a" .cluster }}{{ else }}x{{ end }}`)
	f.Fuzz(func(t *testing.T, template string) {
		first, err := render(t, template)
		second, errAgain := render(t, template)
		if first != second || (err == nil) != (errAgain == nil) {
			t.Errorf("%q, %v and %q, %v", first, err, second, errAgain)
		}
		if len(first) > 1<<20 {
			t.Errorf("%d bytes", len(first))
		}
	})
}
