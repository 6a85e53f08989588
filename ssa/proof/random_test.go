package proof_test

import (
	"context"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"github.com/gitopskit/gitopskit/internal/prooftest"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

// The random tests compare the proof with real applies. The whole of what
// docs/conformance.md states takes
//
//	go test ./ssa/proof -run Random -cases 100000 -server-cases 5000 -timeout 60m
var (
	cases       = flag.Int("cases", 4000, "random cases merged in process by the field manager of the API server")
	serverCases = flag.Int("server-cases", 250, "random cases applied to an API server")
	seed        = flag.Uint64("seed", 1, "seed of the random cases")
)

// TestRandomServer changes live objects and manifests at random and holds every
// proof against a real apply.
func TestRandomServer(t *testing.T) {
	c := start(t)
	const workers = 6
	var wg sync.WaitGroup
	var outcomes tally
	for w := range workers {
		objs := c.corpus(t, "-"+string(rune('a'+w)))
		c.applyAll(t, objs)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(w)))
			for range *serverCases / workers {
				i := r.IntN(len(objs))
				c.randomCase(t, r, objs[i], &outcomes)
				if t.Context().Err() != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d cases with seed %d:\n%s", *serverCases, *seed, &outcomes)
	if outcomes.counts["unchanged"] < *serverCases/50 {
		t.Error("the cases prove next to nothing")
	}
}

// randomCase changes an object and its manifest, asks for a proof, and applies.
func (c *cluster) randomCase(t *testing.T, r *rand.Rand, manifest *unstructured.Unstructured, outcomes *tally) {
	ctx := t.Context()
	live, err := c.get(ctx, manifest)
	if err != nil {
		if live, err = c.apply(ctx, manifest, manager); err != nil {
			outcomes.add("not there", "")
			return
		}
	}
	if live.GetDeletionTimestamp() != nil {
		outcomes.add("not there", "")
		return
	}
	for range r.IntN(3) {
		changed := live.DeepCopy()
		prooftest.Mutate(r, changed)
		if updated, err := c.resource(changed).Update(ctx, changed, metav1.UpdateOptions{FieldManager: "rival"}); err == nil {
			live = updated
		}
	}
	desired := manifest.DeepCopy()
	if r.IntN(3) == 0 {
		prooftest.Mutate(r, desired)
	}
	const tries = 3 // controllers may write in between
	for try := range tries {
		if live, err = c.get(ctx, manifest); err != nil {
			outcomes.add("not there", "")
			return
		}
		verdict := proof.NoOp(ctx, live, desired, manager, c.types)
		after, err := c.apply(ctx, desired, manager)
		switch same := err == nil && cmp.Equal(prooftest.Meaning(live), prooftest.Meaning(after)); {
		case isRefusal(err) && verdict.Unchanged:
			t.Errorf("unsound: a refused apply counts as unchanged: %v\nlive: %s\ndesired: %s", err, text(live), text(desired))
		case isRefusal(err):
			outcomes.add("refused", "")
		case err != nil:
			outcomes.add("failed", err.Error())
		case verdict.Unchanged && same:
			outcomes.add("unchanged", "")
		case verdict.Unchanged && try < tries-1 && differsWithoutUs(live, after):
			continue
		case verdict.Unchanged:
			t.Errorf("unsound:\nlive: %s\ndesired: %s\n%s", text(live), text(desired), cmp.Diff(prooftest.Meaning(live), prooftest.Meaning(after)))
		case same:
			outcomes.add("don't know, though nothing changes", verdict.Why)
		default:
			outcomes.add("don't know, and something changes", "")
		}
		break
	}
	if _, err := c.apply(ctx, manifest, manager); err != nil { // back to the manifest; what cannot go back is made anew
		if err := c.resource(manifest).Delete(ctx, manifest.GetName(), metav1.DeleteOptions{}); err != nil {
			outcomes.add("failed", err.Error())
		}
	}
}

// differsWithoutUs reports a difference that another writer made in between: an
// apply that changes something has a new time in its entry.
func differsWithoutUs(live, after *unstructured.Unstructured) bool {
	at := func(obj *unstructured.Unstructured) (t *metav1.Time) {
		for _, e := range obj.GetManagedFields() {
			if e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply {
				t = e.Time
			}
		}
		return t
	}
	return at(live).Equal(at(after))
}

func text(obj *unstructured.Unstructured) string {
	data, err := json.Marshal(obj.Object)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// TestRandomMerge is the same with the API server's own field manager in this
// process, which merges and keeps ownership but neither defaults nor validates.
func TestRandomMerge(t *testing.T) {
	c := start(t)
	objs := c.corpus(t, "-m")
	c.applyAll(t, objs)
	type state struct {
		live, manifest *unstructured.Unstructured
		fields         *managedfields.FieldManager
	}
	var states []state
	for _, obj := range objs {
		live, err := c.get(t.Context(), obj)
		if err != nil {
			t.Fatal(err)
		}
		converter, err := c.types.TypeConverter(t.Context(), obj.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		fields, err := prooftest.FieldManager(converter, obj.GroupVersionKind())
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, state{live: live, manifest: obj, fields: fields})
	}
	const workers = 2
	types := fixedTypes(t.Context(), c.types)
	var wg sync.WaitGroup
	var outcomes tally
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(w)))
			for range *cases / workers {
				s := states[r.IntN(len(states))]
				mergeCase(t, r, s.live.DeepCopy(), s.manifest.DeepCopy(), s.fields, types, &outcomes)
			}
		})
	}
	wg.Wait()
	t.Logf("%d cases with seed %d:\n%s", *cases, *seed, &outcomes)
	if outcomes.counts["unchanged"] < *cases/50 {
		t.Error("the cases prove next to nothing")
	}
}

func mergeCase(t *testing.T, r *rand.Rand, live, desired *unstructured.Unstructured, fields *managedfields.FieldManager, types proof.Types, outcomes *tally) {
	for range r.IntN(3) {
		changed := live.DeepCopy()
		prooftest.Mutate(r, changed)
		updated, err := fields.Update(live.DeepCopy(), changed, []string{"rival", manager, "another"}[r.IntN(3)])
		if after, ok := updated.(*unstructured.Unstructured); ok && err == nil {
			live = after
		}
	}
	if r.IntN(20) == 0 { // a forgery: values of now with the ownership of then
		prooftest.Mutate(r, live)
	}
	if r.IntN(3) == 0 {
		prooftest.Mutate(r, desired)
	}
	verdict := proof.NoOp(t.Context(), live, desired, manager, types)
	result, err := fields.Apply(live.DeepCopy(), desired.DeepCopy(), manager, true)
	after, _ := result.(*unstructured.Unstructured)
	switch same := err == nil && cmp.Equal(prooftest.Meaning(live), prooftest.Meaning(after)); {
	case verdict.Unchanged && err != nil:
		t.Errorf("unsound: %v\nlive: %s\ndesired: %s", err, text(live), text(desired))
	case verdict.Unchanged && !same:
		t.Errorf("unsound:\nlive: %s\ndesired: %s\n%s", text(live), text(desired), cmp.Diff(prooftest.Meaning(live), prooftest.Meaning(after)))
	case verdict.Unchanged:
		outcomes.add("unchanged", "")
	case err != nil:
		outcomes.add("refused", "")
	case same:
		outcomes.add("don't know, though nothing changes", verdict.Why)
	default:
		outcomes.add("don't know, and something changes", "")
	}
}

// fixedTypes reads every schema once.
func fixedTypes(ctx context.Context, types proof.Types) proof.Types {
	var mu sync.Mutex
	known := map[schema.GroupVersion]managedfields.TypeConverter{}
	return proof.TypesFunc(func(_ context.Context, gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
		mu.Lock()
		defer mu.Unlock()
		if converter := known[gvk.GroupVersion()]; converter != nil {
			return converter, nil
		}
		converter, err := types.TypeConverter(ctx, gvk)
		known[gvk.GroupVersion()] = converter
		return converter, err
	})
}
