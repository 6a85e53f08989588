package offline

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"

	kinds "github.com/gitopskit/gitopskit/ssa/schema"
)

// TestDefaults: the table parses, and all it names is in the schemas.
func TestDefaults(t *testing.T) {
	table, err := parseDefaults(defaultsText)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for gk, fills := range table {
		k := c.stored(gk)
		if k == nil {
			t.Errorf("%s is not served", gk)
			continue
		}
		for _, f := range fills {
			obj := k.empty()
			obj.SetName("x")
			f.example(obj.Object)
			if _, unknown, err := c.set.Prune(obj); err != nil || len(unknown) > 0 {
				t.Errorf("%s: unknown %v, %v", gk, unknown, err)
			}
		}
	}
	for _, gk := range ruled(rules()) {
		if c.stored(gk) == nil && gk.Kind != "MutatingAdmissionPolicy" && gk.Kind != "MutatingAdmissionPolicyBinding" {
			t.Errorf("there are rules for %s, which is not served", gk)
		}
	}
	for _, gk := range ruled(frozenFields()) {
		if c.stored(gk) == nil {
			t.Errorf("there are immutable fields of %s, which is not served", gk)
		}
	}
}

func ruled[T any](m map[schema.GroupKind]T) (out []schema.GroupKind) {
	for gk := range m {
		out = append(out, gk)
	}
	return out
}

// example makes all of a path, with one item in each list.
func (f fill) example(m map[string]any) {
	for i, s := range f.path {
		last := i == len(f.path)-1
		switch {
		case s.each:
			item := map[string]any{}
			if list, ok := m[s.name].([]any); ok {
				item = list[0].(map[string]any)
			} else {
				m[s.name] = []any{item}
			}
			m = item
		case last && f.block == nil:
			m[s.name] = f.value
		default:
			next, ok := m[s.name].(map[string]any)
			if !ok {
				next = map[string]any{}
				m[s.name] = next
			}
			m = next
		}
	}
	for _, inner := range f.block {
		inner.example(m)
	}
}

func TestParseDefaults(t *testing.T) {
	table, err := parseDefaults("BLOCK:\nb~ = 1\n\nKind group\na.x = \"v\" | a.y == \"w\"\nlist[] + BLOCK\nmaybe?.z = true | no unset\nalways.z = {} | list set\n")
	if err != nil {
		t.Fatal(err)
	}
	obj := map[string]any{"a": map[string]any{"y": "w"}, "list": []any{map[string]any{"b": int64(0)}, map[string]any{"b": int64(2)}, "odd"}}
	for _, f := range table[schema.GroupKind{Group: "group", Kind: "Kind"}] {
		f.apply(obj)
	}
	want := map[string]any{
		"a":      map[string]any{"x": "v", "y": "w"},
		"list":   []any{map[string]any{"b": int64(1)}, map[string]any{"b": int64(2)}, "odd"},
		"always": map[string]any{"z": map[string]any{}},
	}
	if diff := cmp.Diff(want, obj); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for text, want := range map[string]string{
		"Kind\na = x\n":           "line 2",
		"Kind\na = 1 | b < 2\n":   "no condition",
		"Kind\na + NONE\n":        "no block NONE",
		"Kind\nsome words here\n": "neither",
	} {
		if _, err := parseDefaults(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// TestVersions: the cluster can be made of every version that there is.
func TestVersions(t *testing.T) {
	for _, version := range kinds.Versions() {
		set, err := kinds.Builtin(version)
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(set)
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		if _, err := set.TypeConverter(context.Background(), c.stored(namespaceKind()).gvk); err != nil {
			t.Error(err)
		}
	}
}
