package update

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gitopskit/gitopskit/image"
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

// A value that would break the file, which Setters never lets in, leaves it alone.
func TestEditUnsafe(t *testing.T) {
	const before = `a: "old" # {"$imagepolicy": "a:b"}`
	after, changes, skipped := edit("a.yaml", []byte(before), map[string]image.Ref{"a:b": {Name: `x"y`, Tag: "1"}})
	if string(after) != before || len(changes) > 0 || len(skipped) != 1 || skipped[0].Reason != Unsafe || skipped[0].Line != 1 {
		t.Errorf("%s, %v, %v", after, changes, skipped)
	}
}
