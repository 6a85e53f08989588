package ssa

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
)

// settings returns a live ConfigMap that "us" applied.
func settings(uid, version string, data map[string]any) *unstructured.Unstructured {
	owned := map[string]any{}
	for k := range data {
		owned["f:"+k] = map[string]any{}
	}
	delete(owned, "f:foreign")
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"name": "a", "namespace": "n", "uid": uid, "resourceVersion": version,
			"labels": map[string]any{DefaultGroup + "/name": "app", DefaultGroup + "/namespace": "n"},
			"managedFields": []any{map[string]any{
				"manager": "us", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
				"fieldsV1": map[string]any{"f:data": owned},
			}},
		},
		"data": data,
	}}
}

// TestRecords: whatever comes in which order, the store never says of an object
// that it is unchanged when it is not.
func TestRecords(t *testing.T) {
	key := types.NamespacedName{Namespace: "n", Name: "a"}
	body := sum{1}
	v := func(value string) map[string]any { return map[string]any{"k": value} }
	foreign := map[string]any{"k": "1", "foreign": "x"}
	event := func(uid, version string, data map[string]any) func(*kindStore) {
		return func(k *kindStore) { k.take(settings(uid, version, data), false) }
	}
	gone := func(version string) func(*kindStore) {
		return func(k *kindStore) { k.take(nameOnly(key, version), true) }
	}
	applied := func(uid, version string, data map[string]any, proven bool) func(*kindStore) {
		return func(k *kindStore) {
			k.confirm(confirmation{live: settings(uid, version, data), body: body, manager: "us", turn: k.now(), proven: proven})
		}
	}
	connected := func(version string) func(*kindStore) { return func(k *kindStore) { k.connected(version) } }
	for _, c := range []struct {
		name  string
		steps []func(*kindStore)
		want  standing
	}{
		{"not listed", []func(*kindStore){applied("u", "5", v("1"), true)}, unknown},
		{"listed before the apply", []func(*kindStore){connected("4"), applied("u", "5", v("1"), true)}, unchanged},
		{"listed after the apply", []func(*kindStore){applied("u", "5", v("1"), true), event("u", "5", v("1")), connected("6")}, unchanged},
		{"never applied", []func(*kindStore){event("u", "5", v("1")), connected("6")}, unknown},
		{"does not exist", []func(*kindStore){connected("6")}, missing},
		{"own event", []func(*kindStore){connected("4"), applied("u", "5", v("1"), false), event("u", "5", v("1"))}, unchanged},
		{"older event", []func(*kindStore){connected("3"), applied("u", "5", v("1"), false), event("u", "4", v("0"))}, unchanged},
		{"older deletion", []func(*kindStore){connected("3"), applied("u", "5", v("1"), false), gone("4")}, unchanged},
		{"older list without it", []func(*kindStore){applied("u", "5", v("1"), false), gone("4"), connected("4")}, unchanged},
		{"deletion", []func(*kindStore){connected("3"), applied("u", "5", v("1"), false), gone("6")}, missing},
		{"late answer after the deletion", []func(*kindStore){connected("3"), event("u", "5", v("1")), gone("6"), applied("u", "5", v("1"), false)}, missing},
		{"late answer, not in the list", []func(*kindStore){connected("6"), applied("u", "5", v("1"), false)}, missing},
		{"late answer, recreated", []func(*kindStore){connected("3"), event("w", "7", v("1")), applied("u", "5", v("1"), false)}, unknown},
		{"recreated", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), event("w", "7", v("1"))}, unknown},
		{"foreign field, proven", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), event("u", "6", foreign)}, unchanged},
		{"foreign field, not proven", []func(*kindStore){connected("3"), applied("u", "5", v("1"), false), event("u", "6", foreign)}, stale},
		{"changed", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), event("u", "6", v("2"))}, drifted},
		{"changed and changed back", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), event("u", "6", v("2")), event("u", "7", v("1"))}, drifted},
		{"changed before the answer came", []func(*kindStore){connected("3"), event("u", "6", v("2")), applied("u", "5", v("1"), true)}, drifted},
		{"status before the answer came", []func(*kindStore){connected("3"), event("u", "6", v("1")), applied("u", "5", v("1"), true)}, unchanged},
		{"void", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), (*kindStore).expire}, stale},
		{"disconnected", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), (*kindStore).lost}, unknown},
		{"connected again", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), (*kindStore).lost, connected("5")}, unchanged},
		{"no order of versions", []func(*kindStore){connected("x"), applied("u", "y", v("1"), true), event("u", "z", v("2"))}, unknown},
		{"being deleted", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), func(k *kindStore) {
			obj := settings("u", "6", v("1"))
			obj.Object["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
			k.take(obj, false)
		}}, unknown},
		{"restored from a backup", []func(*kindStore){connected("3"), applied("u", "50", v("1"), true), event("u", "50", v("1")), func(k *kindStore) { k.listing("9") }, event("u", "8", v("0")), connected("9")}, unknown},
		{"restored and applied again", []func(*kindStore){connected("3"), applied("u", "50", v("1"), true), event("u", "50", v("1")), func(k *kindStore) { k.listing("9") }, event("u", "8", v("0")), connected("9"), applied("u", "10", v("1"), true)}, unchanged},
		{"vanished", []func(*kindStore){connected("3"), applied("u", "5", v("1"), true), (*kindStore).vanish}, missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Store{epoch: &epoch{}}
			k := newKindStore(s, kindKey{}, schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"})
			for _, step := range c.steps {
				step(k)
			}
			if got, _ := k.standing(key, "n/app", "us", body); got != c.want {
				t.Errorf("standing %d, want %d", got, c.want)
			}
			if got, _ := k.standing(key, "n/other", "us", body); got == unchanged {
				t.Error("another owner is told")
			}
			if got, _ := k.standing(key, "n/app", "them", body); got == unchanged {
				t.Error("another manager is told")
			}
			if got, _ := k.standing(key, "n/app", "us", sum{2}); got == unchanged {
				t.Error("another body is told")
			}
			s.epoch.missing = map[string]bool{"x": true}
			if got, _ := k.standing(key, "n/app", "us", body); got != unknown {
				t.Error("it answers without knowing what makes it void")
			}
		})
	}
}

func TestDigests(t *testing.T) {
	base := func() *unstructured.Unstructured { return settings("u", "5", map[string]any{"k": "1"}) }
	set := func(value any, path ...string) func(*unstructured.Unstructured) {
		return func(obj *unstructured.Unstructured) {
			if err := unstructured.SetNestedField(obj.Object, value, path...); err != nil {
				t.Fatal(err)
			}
		}
	}
	entry := func(sub string) func(*unstructured.Unstructured) {
		return func(obj *unstructured.Unstructured) {
			m := obj.Object["metadata"].(map[string]any)
			m["managedFields"] = append(m["managedFields"].([]any), map[string]any{"manager": "x", "operation": "Update", "subresource": sub, "time": "t"})
		}
	}
	type parts struct{ Whole, Content, Owned bool } // that differ
	for _, c := range []struct {
		name string
		edit func(*unstructured.Unstructured)
		want parts
	}{
		{"nothing", func(*unstructured.Unstructured) {}, parts{}},
		{"version", set("6", "metadata", "resourceVersion"), parts{}},
		{"status", set("x", "status"), parts{}},
		{"writer of status", entry("status"), parts{}},
		{"writer of scale", entry("scale"), parts{Whole: true}},
		{"uid", set("w", "metadata", "uid"), parts{Whole: true}},
		{"generation", set(int64(2), "metadata", "generation"), parts{Whole: true}},
		{"deletion", set("t", "metadata", "deletionTimestamp"), parts{Whole: true, Content: true}},
		{"foreign label", set("x", "metadata", "labels", "l"), parts{Whole: true, Content: true}},
		{"foreign data", set("x", "data", "l"), parts{Whole: true, Content: true}},
		{"owned data", set("2", "data", "k"), parts{Whole: true, Content: true, Owned: true}},
		{"owned data of another type", set(int64(1), "data", "k"), parts{Whole: true, Content: true, Owned: true}},
		{"owned data gone", func(obj *unstructured.Unstructured) { unstructured.RemoveNestedField(obj.Object, "data", "k") }, parts{Whole: true, Content: true, Owned: true}},
		{"time of the owner", func(obj *unstructured.Unstructured) {
			obj.Object["metadata"].(map[string]any)["managedFields"].([]any)[0].(map[string]any)["time"] = "t"
		}, parts{}},
		{"owner gone", set([]any{}, "metadata", "managedFields"), parts{Whole: true, Owned: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			obj := base()
			c.edit(obj)
			before, after := digestsOf(base()), digestsOf(obj)
			got := parts{before.whole != after.whole, before.content != after.content, ownedOf(base(), "us") != ownedOf(obj, "us")}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("differ: -want +got\n%s", diff)
			}
		})
	}
}

// TestOwnedLists: order and values of owned items count, foreign ones do not,
// and what cannot be found has no digest.
func TestOwnedLists(t *testing.T) {
	object := func(items ...any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"managedFields": []any{map[string]any{
				"manager": "us", "operation": "Apply", "apiVersion": "v1",
				"fieldsV1": map[string]any{"f:spec": map[string]any{"f:list": map[string]any{
					`k:{"name":"a","port":80}`: map[string]any{".": map[string]any{}, "f:v": map[string]any{}},
					`k:{"name":"b","port":80}`: map[string]any{".": map[string]any{}, "f:v": map[string]any{}},
				}, "f:set": map[string]any{`v:"x"`: map[string]any{}, `v:1`: map[string]any{}}}},
			}}},
			"spec": map[string]any{"list": items, "set": []any{"x", int64(1), "foreign"}},
		}}
	}
	item := func(name string, v any) any {
		return map[string]any{"name": name, "port": int64(80), "v": v, "foreign": "x"}
	}
	first := ownedOf(object(item("a", "1"), item("b", "2")), "us")
	if first == (sum{}) {
		t.Fatal("no digest")
	}
	for _, c := range []struct {
		name string
		obj  *unstructured.Unstructured
		same bool
	}{
		{"foreign items", object(item("0", "1"), item("a", "1"), item("9", "1"), item("b", "2"), item("c", "3")), true},
		{"order", object(item("b", "2"), item("a", "1")), false},
		{"value", object(item("a", "1"), item("b", "3")), false},
		{"twice", object(item("a", "1"), item("b", "2"), item("a", "1")), false},
	} {
		if got := ownedOf(c.obj, "us"); (got == first) != c.same {
			t.Errorf("%s: same %t, want %t", c.name, got == first, c.same)
		}
	}
	for name, obj := range map[string]*unstructured.Unstructured{
		"missing item":     object(item("a", "1")),
		"missing key":      object(item("a", "1"), map[string]any{"name": "b", "v": "2"}),
		"not a list":       {Object: map[string]any{"metadata": object().Object["metadata"], "spec": map[string]any{"list": "x", "set": []any{"x", int64(1)}}}},
		"no managedFields": {Object: map[string]any{"metadata": map[string]any{}}},
	} {
		if ownedOf(obj, "us") != (sum{}) {
			t.Errorf("%s: there is a digest", name)
		}
	}
}

func FuzzOwned(f *testing.F) {
	f.Add([]byte(`{"metadata":{"managedFields":[{"manager":"us","operation":"Apply","fieldsV1":{"f:a":{"k:{\"n\":1}":{".":{},"f:v":{}}}}}]},"a":[{"n":1,"v":2}]}`))
	f.Add([]byte(`{"metadata":{"managedFields":[{"manager":"us","operation":"Apply","fieldsV1":{"f:a":{"v:1":{}}}}]},"a":[1,1]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		content := map[string]any{}
		if json.Unmarshal(data, &content) != nil {
			return
		}
		obj := &unstructured.Unstructured{Object: content}
		if ownedOf(obj, "us") != ownedOf(obj.DeepCopy(), "us") || digestsOf(obj) != digestsOf(obj.DeepCopy()) {
			t.Error("two digests of one object differ")
		}
	})
}

func TestEpochTargets(t *testing.T) {
	kind := func(group, resource, kind string) *kindStore {
		return &kindStore{key: kindKey{resource: schema.GroupVersionResource{Group: group, Resource: resource}}, gvk: schema.GroupVersionKind{Group: group, Kind: kind}}
	}
	pods, deployments, widgets := kind("", "pods", "Pod"), kind("apps", "deployments", "Deployment"), kind("example.com", "widgets", "Widget")
	parse := func(text string) *unstructured.Unstructured {
		content := map[string]any{}
		if err := json.Unmarshal([]byte(text), &content); err != nil {
			t.Fatal(err)
		}
		return &unstructured.Unstructured{Object: content}
	}
	for _, c := range []struct {
		name    string
		targets func(*unstructured.Unstructured) []target
		object  string
		want    []bool // pods, deployments, widgets
	}{
		{"webhook", webhookTargets, `{"webhooks":[{"rules":[{"apiGroups":[""],"resources":["pods"]}]},{"rules":[{"apiGroups":["apps"],"resources":["deployments/scale"]}]}]}`, []bool{true, true, false}},
		{"all of a group", webhookTargets, `{"webhooks":[{"rules":[{"apiGroups":["example.com"],"resources":["*/*"]}]}]}`, []bool{false, false, true}},
		{"all groups", webhookTargets, `{"webhooks":[{"rules":[{"apiGroups":["*"],"resources":["widgets","pods"]}]}]}`, []bool{true, false, true}},
		{"policy", policyTargets, `{"spec":{"matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"resources":["*"]}]}}}`, []bool{false, true, false}},
		{"policy of nothing", policyTargets, `{"spec":{}}`, []bool{false, false, false}},
		{"definition", definedTarget, `{"spec":{"group":"example.com","names":{"kind":"Widget"}}}`, []bool{false, false, true}},
		{"binding", epochSources()[3].targets, `{}`, []bool{true, true, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []bool
			for _, k := range []*kindStore{pods, deployments, widgets} {
				matches := false
				for _, target := range c.targets(parse(c.object)) {
					matches = matches || target.matches(k)
				}
				got = append(got, matches)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	with, without := parse(`{"webhooks":[{"name":"a","clientConfig":{"caBundle":"x","url":"u"}}]}`), parse(`{"webhooks":[{"name":"a","clientConfig":{"url":"u"}}]}`)
	if diff := cmp.Diff(webhooks(without), webhooks(with)); diff != "" {
		t.Errorf("a CA bundle counts: %s", diff)
	}
}

func TestContests(t *testing.T) {
	var c contests
	key := contestKey{name: types.NamespacedName{Name: "a"}}
	for i, want := range []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		r := c.repair(key, Rival{Manager: "x"})
		if rest := time.Until(r.Until).Round(time.Second).Seconds(); rest != want || r.Repairs != i+1 {
			t.Errorf("repair %d rests %g s, want %g", r.Repairs, rest, want)
		}
		if _, resting := c.resting(key); !resting {
			t.Error("does not rest")
		}
	}
	if r := c.repair(key, Rival{Manager: "y"}); r.Repairs != 1 {
		t.Errorf("another manager continues: %v", r)
	}
	c.known[key].last = time.Now().Add(-truce - time.Second)
	if r := c.repair(key, Rival{Manager: "y"}); r.Repairs != 1 {
		t.Errorf("a contest lasts for ever: %v", r)
	}
	c.known[key].last = time.Now().Add(-truce - time.Second)
	if c.tidy(); len(c.known) > 0 {
		t.Error("not forgotten")
	}
	if got := fmt.Sprint(Rival{Repairs: 2}); got != "somebody changed its managed fields, repaired 2 times" {
		t.Error(got)
	}
}
