package update

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Whatever goes wrong with the positions of values, no file is damaged.
func TestVerify(t *testing.T) {
	const before = "a: &x v0 # one\nb: 'v0' # two\n---\nc: [v0]\n"
	for _, test := range []struct{ name, after, text string }{
		{"the plan", "a: &x v1 # one\nb: 'v0' # two\n---\nc: [v0]\n", ""},
		{"another value", "a: &x v1 # one\nb: 'v1' # two\n---\nc: [v0]\n", "line 2"},
		{"not the value", "a: &x v2 # one\nb: 'v0' # two\n---\nc: [v0]\n", "line 1"},
		{"another type", "a: &x 1 # one\nb: 'v0' # two\n---\nc: [v0]\n", "line 1"},
		{"a comment", "a: &x v1 # One\nb: 'v0' # two\n---\nc: [v0]\n", "line 1"},
		{"quotes", "a: &x v1 # one\nb: v0 # two\n---\nc: [v0]\n", "line 2"},
		{"an anchor", "a: &y v1 # one\nb: 'v0' # two\n---\nc: [v0]\n", "line 1"},
		{"an item", "a: &x v1 # one\nb: 'v0' # two\n---\nc: [v0, v0]\n", "line 4"},
		{"a document", "a: &x v1 # one\nb: 'v0' # two\n", "documents"},
		{"no yaml", "a: &x v1 # one\nb: [", "yaml"},
	} {
		docs, err := parse([]byte(before))
		if err != nil {
			t.Fatal(err)
		}
		e := &editor{targets: map[*yaml.Node]string{docs[0].Content[0].Content[1]: "v1"}}
		err = e.verify(docs, []byte(test.after))
		if (err == nil) != (test.text == "") || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
