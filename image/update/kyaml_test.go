package update_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/kube-openapi/pkg/validation/spec"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/image/update"
)

// TestAsKyaml compares with what Flux does: it has kyaml parse a document, sets
// the values whose line or head comment is a marker, and has kyaml print it. The
// objects are the same; the bytes are ours.
func TestAsKyaml(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	changed := 0
	for range 1_500 {
		doc := document(r)
		want, setters := byKyaml(t, doc)
		plan := setters0(t, doc)
		got := doc
		if data, ok := plan.Files()["a.yaml"]; ok {
			got = string(data)
		}
		var names []string
		for _, c := range plan.Changes {
			names = append(names, c.Setter+" "+c.Old+" "+c.New)
		}
		if diff := cmp.Diff(setters, names); diff != "" {
			t.Fatalf("%s\n%s", doc, diff)
		}
		if diff := cmp.Diff(objects(t, want), objects(t, got)); diff != "" {
			t.Fatalf("%s\n%s\n%s", doc, got, diff)
		}
		changed += len(names)
	}
	if changed < 1_000 {
		t.Errorf("only %d changes", changed)
	}
}

func setters0(t *testing.T, doc string) *update.Plan {
	t.Helper()
	return setters(t, fstest.MapFS{"a.yaml": {Data: []byte(doc)}}, nil)
}

// document is a mapping of random values with comments, markers most of them.
func document(r *rand.Rand) string {
	values := []string{"foo:1", `"foo:1"`, "'foo:1'", "1.20", "{a: foo:1}", "[foo:1, b]", "&x foo:1", "null", "true", `"a \"b\" # c"`, "'it''s'", "!!str foo", "é:1", "foo bar"}
	comments := []string{
		`{"$imagepolicy": "automation-ns:policy"}`, `{"$imagepolicy":"automation-ns:policy:tag"}`, `{"$imagepolicy": "automation-ns:policy:name"}`,
		`{"$imagepolicy": "automation-ns:pinned:digest"}`, `{"$imagepolicy": "automation-ns:pinned"}`, `{"$imagepolicy": "automation-ns:gone"}`,
		`note {"$imagepolicy": "automation-ns:policy"}`, `{"$imagepolicy": 1}`, "note", "",
	}
	var out strings.Builder
	for i := range 1 + r.IntN(6) {
		value, comment := values[r.IntN(len(values))], comments[r.IntN(len(comments))]
		if comment != "" {
			comment = strings.Repeat(" ", 1+r.IntN(3)) + "#" + strings.Repeat(" ", r.IntN(2)) + comment
		}
		switch r.IntN(4) {
		case 0:
			fmt.Fprintf(&out, "k%d:\n- %s%s\n- name: %s%s\n", i, value, comment, value, comment)
		case 1:
			fmt.Fprintf(&out, "k%d:\n    deep: %s%s\n\n", i, value, comment)
		case 2:
			fmt.Fprintf(&out, "%s\nk%d: %s\n", strings.TrimSpace(comment), i, value)
		default:
			fmt.Fprintf(&out, "k%d:   %s%s\n", i, value, comment)
		}
	}
	if text := out.String(); !strings.Contains(text, "&x") || strings.Count(text, "&x") == 1 {
		return text
	}
	return strings.ReplaceAll(out.String(), "&x ", "")
}

func byKyaml(t *testing.T, doc string) (string, []string) {
	t.Helper()
	node, err := kyaml.Parse(doc)
	if err != nil {
		t.Fatalf("%s\n%v", doc, err)
	}
	var done []string
	visit(node.YNode(), func(n *kyaml.Node) {
		for _, comment := range []string{n.LineComment, n.HeadComment} {
			if comment == "" {
				continue
			}
			var fields map[string]string
			if json.Unmarshal([]byte(strings.TrimLeft(comment, "#")), &fields) != nil {
				return
			}
			setter := fields["$imagepolicy"]
			value, ok := map[string]string{
				"automation-ns:policy": "index.repo.fake/updated:v1.0.1", "automation-ns:policy:tag": "v1.0.1", "automation-ns:policy:name": "index.repo.fake/updated",
				"automation-ns:pinned": policies["automation-ns:pinned"].String(), "automation-ns:pinned:digest": policies["automation-ns:pinned"].Digest,
			}[setter]
			if ok && n.Value != value {
				done = append(done, setter+" "+n.Value+" "+value)
				n.Value = value
				n.Tag = ""
				kyaml.FormatNonStringStyle(n, *spec.StringProperty())
			}
			return
		}
	})
	return node.MustString(), done
}

func visit(n *kyaml.Node, scalar func(*kyaml.Node)) {
	switch n.Kind {
	case kyaml.ScalarNode:
		scalar(n)
	case kyaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			visit(n.Content[i], scalar)
		}
	case kyaml.SequenceNode, kyaml.DocumentNode:
		for _, c := range n.Content {
			visit(c, scalar)
		}
	}
}

func objects(t *testing.T, doc string) any {
	t.Helper()
	var all any
	if err := yaml.Unmarshal([]byte(doc), &all); err != nil {
		t.Fatalf("%s\n%v", doc, err)
	}
	return all
}

// What kyaml would put in quotes, so do we.
func TestQuotesAsKyaml(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	const letters = "0123456789.+-_eExabonfyOY"
	for range 5_000 {
		tag := ""
		for range 1 + r.IntN(5) {
			tag += string(letters[r.IntN(len(letters))])
		}
		if tag[0] == '.' || tag[0] == '-' || tag[0] == '+' || strings.Contains(tag, "+") {
			continue // no tag of an image
		}
		data := setAll(t, tag)
		if kyaml.IsYaml1_1NonString(&kyaml.Node{Kind: kyaml.ScalarNode, Value: tag}) && !bytes.Contains(data, []byte(`"`+tag+`" #`)) {
			t.Errorf("%s", data)
		}
		var got map[string]any
		if err := yaml.Unmarshal(data, &got); err != nil || got["a"] != tag {
			t.Errorf("%s is %#v, %v", data, got["a"], err)
		}
	}
}

// FuzzSetters wants each change to be one of the plan, and the rest to stay.
func FuzzSetters(f *testing.F) {
	f.Add("a: foo:1 # {\"$imagepolicy\": \"automation-ns:policy\"}\n")
	f.Add("\ufeffa: {b: 'foo:1', # {\"$imagepolicy\": \"automation-ns:policy:tag\"}\r\n}\r\n---\r\n- &x \"y\" # {\"$imagepolicy\": \"automation-ns:policy:name\"}\r\n")
	f.Fuzz(func(t *testing.T, doc string) {
		plan := setters0(t, doc)
		data, ok := plan.Files()["a.yaml"]
		if !ok {
			if len(plan.Changes) > 0 {
				t.Error("changes without a file")
			}
			return
		}
		if len(plan.Changes) == 0 || string(data) == doc {
			t.Error("a file without changes")
		}
		before, after := values(t, []byte(doc)), values(t, data)
		if len(before) != len(after) {
			t.Fatalf("%d values, %d before", len(after), len(before))
		}
		different := 0
		for i := range before {
			if before[i] != after[i] {
				different++
			}
		}
		if different != len(plan.Changes) {
			t.Errorf("%d values differ, %d are planned", different, len(plan.Changes))
		}
		again := setters0(t, string(data))
		if len(again.Changes) > 0 || len(again.Files()) > 0 {
			t.Errorf("the second run changes something: %v", again.Changes)
		}
	})
}

// values are all scalars of a file.
func values(t *testing.T, data []byte) []string {
	t.Helper()
	var all []string
	decoder := kyaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc kyaml.Node
		if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		visit(&doc, func(n *kyaml.Node) { all = append(all, n.Value) })
	}
}
