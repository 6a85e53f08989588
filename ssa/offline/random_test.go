package offline_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// The long run: go test ./ssa/offline -run TestRandom -offline.cases 5000 -timeout 60m.
var (
	cases = flag.Int("offline.cases", 150, "how many random sequences TestRandom tries")
	seed  = flag.Uint64("offline.seed", 1, "where the random sequences of TestRandom begin")
)

// TestRandomSequences does random things to random objects, here and there.
func TestRandomSequences(t *testing.T) {
	w := newTwins(t)
	var pool []*unstructured.Unstructured
	for _, obj := range fromFile(t, "testdata/kinds.yaml") {
		switch obj.GetKind() {
		case "CustomResourceDefinition":
			if _, diff := w.do(t, obj.GroupVersionKind(), applying(obj, "setup", false)); diff != "" {
				t.Fatal(diff)
			}
			awaitServed(t, w.real)
		case "Namespace", "FlowSchema", "PriorityLevelConfiguration": // controllers of the server change them at the same time
		case "LimitRange", "ResourceQuota": // the server applies them to the other objects
		default:
			pool = append(pool, obj)
		}
	}
	counts := map[string]int{}
	for n := range uint64(*cases) {
		r := rand.New(rand.NewPCG(*seed, n))
		obj := pool[r.IntN(len(pool))].DeepCopy()
		obj.SetName(fmt.Sprintf("%s%d", strings.TrimSuffix(obj.GetName(), "."), n))
		if obj.GetKind() == "CSIDriver" {
			obj.SetName(fmt.Sprintf("a%d.example.com", n))
		}
		w.sequence(t, r, n, obj, counts)
	}
	t.Logf("outcomes: %v", counts)
	if missed := counts["refused by the server alone"]; missed > *cases*12/100 {
		t.Errorf("in %d of %d sequences the server refused what the offline cluster took", missed, *cases)
	}
}

// sequence does one random sequence of steps to one object.
func (w *twins) sequence(t *testing.T, r *rand.Rand, n uint64, obj *unstructured.Unstructured, counts map[string]int) {
	t.Helper()
	gvk := obj.GroupVersionKind()
	wanted := map[string]*unstructured.Unstructured{"a": obj, "b": obj.DeepCopy(), "c": obj.DeepCopy()}
	var history []string
	for range 3 + r.IntN(6) {
		manager := []string{"a", "a", "b", "c"}[r.IntN(4)]
		name, f := w.step(r, manager, wanted)
		history = append(history, name)
		real, diff := w.do(t, gvk, f)
		counts[fmt.Sprintf("%d%s", real.Code, real.Reason)]++
		if real.Code >= http.StatusUnprocessableEntity && strings.Contains(diff, "\noffline: 0 ") && gvk.Group != "example.com" {
			counts["refused by the server alone"]++ // by a rule of its code that no schema states
			return
		}
		if (gvk.Kind == "NetworkPolicy" || gvk.Kind == "LimitRange") && diff != "" && strings.Contains(strings.Join(history, ""), "[]") {
			counts["an empty list is another thing than none"]++ // inside an atomic list, for the server
			return
		}
		if diff != "" {
			t.Errorf("case %d, %s: %s\n%s", n, obj.GetKind(), strings.Join(history, "\n  then "), diff)
			return
		}
	}
}

// step chooses what to do next.
func (w *twins) step(r *rand.Rand, manager string, wanted map[string]*unstructured.Unstructured) (string, operation) {
	obj := wanted[manager]
	name := obj.GetName()
	switch r.IntN(10) {
	case 0:
		return "get", getting(name)
	case 1:
		patch := map[string]any{}
		next := obj.DeepCopy()
		what := mutate(r, next)
		for _, key := range []string{"spec", "data", "rules", "webhooks", "value"} {
			if v, ok := next.Object[key]; ok {
				patch[key] = v
			}
		}
		data, err := json.Marshal(patch)
		if err != nil {
			data = []byte("{}")
		}
		return manager + " merges " + string(data) + " with " + what, patching(name, types.MergePatchType, string(data), manager)
	case 2:
		data := fmt.Sprintf(`{"metadata":{"labels":{"l%d":"%d"},"annotations":{"a%d":null,"b":"%s"}}}`, r.IntN(2), r.IntN(2), r.IntN(2), manager)
		return manager + " merges " + data, patching(name, types.MergePatchType, data, manager)
	case 3:
		seed := r.Uint64()
		return manager + " updates", func(ctx context.Context, res dynamic.ResourceInterface) (*unstructured.Unstructured, error) {
			live, err := res.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return nil, err
			}
			mutate(rand.New(rand.NewPCG(seed, 1)), live)
			return res.Update(ctx, live, metav1.UpdateOptions{FieldManager: manager})
		}
	case 4:
		if r.IntN(3) == 0 {
			return "delete", deleting(name)
		}
		return "get", getting(name)
	default:
		what := "as before"
		if r.IntN(3) > 0 {
			next := obj.DeepCopy()
			what = mutate(r, next)
			wanted[manager] = next
			obj = next
		}
		force := r.IntN(2) == 0
		var dryRun []string
		if r.IntN(5) == 0 {
			dryRun = []string{metav1.DryRunAll}
		}
		return fmt.Sprintf("%s applies %s, force %v, dry run %v", manager, what, force, dryRun), applying(obj, manager, force, dryRun...)
	}
}

// mutate changes something in an object and says what.
func mutate(r *rand.Rand, obj *unstructured.Unstructured) string {
	var places []place
	for _, key := range slices.Sorted(maps.Keys(obj.Object)) {
		switch key {
		case "apiVersion", "kind", "metadata", "status":
		default:
			places = append(places, place{parent: obj.Object, key: key, path: key})
			places = collect(obj.Object[key], key, places)
		}
	}
	if len(places) == 0 || r.IntN(8) == 0 {
		labels := obj.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		key := fmt.Sprintf("m%d", r.IntN(3))
		labels[key] = fmt.Sprint(r.IntN(3))
		obj.SetLabels(labels)
		return "label " + key
	}
	return places[r.IntN(len(places))].mutate(r)
}

// place is a value inside an object.
type place struct {
	parent map[string]any
	key    string
	path   string
}

func collect(v any, path string, places []place) []place {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			places = append(places, place{v, key, path + "." + key})
			places = collect(v[key], path+"."+key, places)
		}
	case []any:
		for i, item := range v {
			places = collect(item, fmt.Sprintf("%s[%d]", path, i), places)
		}
	}
	return places
}

func (p place) mutate(r *rand.Rand) string {
	old := p.parent[p.key]
	switch v := old.(type) {
	case string:
		switch r.IntN(6) {
		case 0:
			p.parent[p.key] = v + "x"
		case 1:
			p.parent[p.key] = int64(r.IntN(3))
		case 2:
			p.parent[p.key] = "other"
		default:
			delete(p.parent, p.key)
		}
	case int64:
		p.parent[p.key] = []any{v + 1, int64(0), "1", nil}[r.IntN(4)]
	case bool:
		p.parent[p.key] = !v
	case []any:
		list := slices.Clone(v)
		switch k := r.IntN(5); {
		case k == 0 || len(list) == 0:
			delete(p.parent, p.key)
			return "without " + p.path
		case k == 1:
			list = list[1:]
		case k == 2:
			slices.Reverse(list)
		case k == 3:
			list = append(list, list[0])
		default:
			list = append(list, "odd")
		}
		p.parent[p.key] = list
	case map[string]any:
		switch r.IntN(3) {
		case 0:
			v["surprise"] = "x"
			return "surprise in " + p.path
		case 1:
			p.parent[p.key] = map[string]any{}
		default:
			delete(p.parent, p.key)
		}
	default:
		delete(p.parent, p.key)
	}
	return fmt.Sprintf("%s: %v -> %v", p.path, old, p.parent[p.key])
}
