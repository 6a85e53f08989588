package ssa_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
)

const compareOld = `---
apiVersion: v1
kind: ConfigMap
metadata: {name: stays, namespace: ns}
data: {a: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: changes, namespace: ns, labels: {a/b~c: x}}
data: {a: "1", gone: "1", same: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: goes, namespace: ns}
---
apiVersion: v1
kind: Secret
metadata: {name: secret, namespace: ns}
data: {password: b2xk, same: c2FtZQ==}
`

const compareNew = `---
apiVersion: v1
kind: ConfigMap
metadata: {name: stays, namespace: ns}
data: {a: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: changes, namespace: ns, labels: {a/b~c: z}}
data: {a: "2", same: "1", new: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: comes, namespace: ns}
---
apiVersion: v1
kind: Secret
metadata: {name: secret, namespace: ns}
data: {password: bmV3, same: c2FtZQ==}
`

// TestCompare: two sets are compared with no cluster, as data, as a JSON patch
// that makes one of the other, and as text; Secrets are masked.
func TestCompare(t *testing.T) {
	set, err := ssa.Compare(objects(t, compareOld), objects(t, compareNew), nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "actions", actions(set), []string{"ConfigMap/changes configured", "ConfigMap/comes created", "ConfigMap/goes deleted", "ConfigMap/stays unchanged", "Secret/secret configured"})
	var text strings.Builder
	if err := set.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	want := `~ ConfigMap/ns/changes configured
    ~ data.a: "1" -> "2"
    - data.gone: "1"
    + data.new: "1"
    ~ metadata.labels["a/b~c"]: "x" -> "z"
+ ConfigMap/ns/comes created
- ConfigMap/ns/goes deleted
~ Secret/ns/secret configured
    ~ data.password: "*** (before)" -> "*** (after)"
`
	same(t, "text", text.String(), want)
	patch, err := json.Marshal(set.Changes[0].Patch())
	if err != nil {
		t.Fatal(err)
	}
	checkPatch(t, patch, objects(t, compareOld)[1], objects(t, compareNew)[1])
	if p := set.Changes[3].Patch(); len(p) != 0 {
		t.Errorf("a patch of nothing: %v", p)
	}
	shown, err := ssa.Compare(objects(t, compareOld), objects(t, compareNew), &ssa.CompareOptions{ShowSecrets: true, Ignore: []ssa.IgnoreRule{{Paths: []string{"/data/a", "/data/gone", "/data/new", "/metadata/labels/a~1b~0c"}}}})
	if err != nil || shown.Changes[0].Action != ssa.Unchanged {
		t.Fatalf("%v %v", actions(shown), err)
	}
	if patch, err = json.Marshal(shown.Changes[4].Patch()); err != nil {
		t.Fatal(err)
	}
	checkPatch(t, patch, objects(t, compareOld)[3], objects(t, compareNew)[3])

	// The same index twice is the same item, whatever goes before it.
	ports := "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: ns}\nspec: {ports: [{port: 1}, {port: 2}, {port: PORT}]}\n"
	rules := []ssa.IgnoreRule{{Paths: []string{"/spec/ports/0", "/spec/ports/1"}}, {Paths: []string{"/spec/ports/0"}}}
	indexed, err := ssa.Compare(objects(t, strings.Replace(ports, "PORT", "3", 1)), objects(t, strings.Replace(ports, "PORT", "4", 1)), &ssa.CompareOptions{Ignore: rules})
	if err != nil || indexed.Changes[0].Action != ssa.Configured {
		t.Errorf("%v %v", actions(indexed), err)
	}
	if all, err := ssa.Compare(objects(t, compareOld), objects(t, compareNew), &ssa.CompareOptions{Ignore: []ssa.IgnoreRule{{Paths: []string{""}}}}); err != nil || all.Count(ssa.Configured) != 0 {
		t.Errorf("%v %v", actions(all), err)
	}
	if _, err := ssa.Compare(objects(t, compareOld+compareOld), nil, nil); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "old set") {
		t.Errorf("got %v", err)
	}
	if _, err := ssa.Compare(nil, []*unstructured.Unstructured{nil}, nil); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := ssa.Compare(nil, nil, &ssa.CompareOptions{Ignore: []ssa.IgnoreRule{{Paths: []string{"x"}}}}); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// checkPatch applies a patch with an independent implementation.
func checkPatch(t *testing.T, patch []byte, old, new *unstructured.Unstructured) {
	t.Helper()
	before, err := old.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := p.Apply(before)
	if err != nil {
		t.Fatalf("%s: %v", patch, err)
	}
	got := &unstructured.Unstructured{}
	if err := got.UnmarshalJSON(after); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(new.Object, got.Object); diff != "" {
		t.Errorf("%s\n%s", patch, diff)
	}
}

// FuzzCompare: whatever the manifests and the pointer, a comparison ends, and
// its patch makes the new object of the old one.
func FuzzCompare(f *testing.F) {
	for _, pointer := range []string{"", "/data", "/data/a", "/spec/containers/0/name", "/a~0b/~1", "/spec/x/-1", "/metadata/labels"} {
		f.Add(pointer, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {b: c}}\ndata: {a: b}\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: c}\nspec: {containers: [{name: x}, {name: y}]}\n")
	}
	f.Fuzz(func(t *testing.T, pointer, a, b string) {
		old, err1 := ssa.ReadObjects(strings.NewReader(a))
		new, err2 := ssa.ReadObjects(strings.NewReader(b))
		if err1 != nil || err2 != nil || len(old) != 1 || len(new) != 1 {
			return
		}
		before := old[0].DeepCopy()
		set, err := ssa.Compare(old, new, &ssa.CompareOptions{ShowSecrets: true, Ignore: []ssa.IgnoreRule{{Paths: []string{pointer}}}})
		if diff := cmp.Diff(before.Object, old[0].Object); diff != "" {
			t.Fatalf("the input was changed: %s", diff)
		}
		if err != nil {
			return
		}
		for i := range set.Changes {
			if _, err := json.Marshal(set.Changes[i].Patch()); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.WriteText(io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
