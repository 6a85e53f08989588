package kube_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

var unrelated = flag.Int("kube.unrelated", 1000, "how many Secrets that nothing refers to are created")

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestUnrelatedSecrets creates Secrets that nothing refers to, beside one that is: not even their metadata, of 16 KiB
// each, is kept. It runs alone: all that the process keeps counts. The Secret that is referred to still begins passes,
// until nothing refers to it any more.
func TestUnrelatedSecrets(t *testing.T) {
	w, tap := byName(t)
	secret := func(name string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace, Annotations: map[string]string{"large": strings.Repeat("x", 16<<10)}}}
	}
	used := secret("used")
	if err := w.client.Create(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	w.create("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "used" })
	w.eventually("app", "ready", ready)
	create := func(from, to int) {
		var creators sync.WaitGroup
		for worker := range 8 {
			creators.Go(func() {
				for i := from + worker; i < to; i += 8 {
					if err := w.client.Create(t.Context(), secret(fmt.Sprintf("unrelated-%d", i))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		creators.Wait()
	}
	create(0, 100) // connections, buffers
	before := heap()
	began := time.Now()
	create(100, *unrelated)
	used.Annotations["large"] = "y"
	if err := w.client.Update(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	w.until("a pass for the Secret", func() bool { return w.logic.count("app") == 2 })
	grown := int64(heap()) - int64(before)
	t.Logf("%d Secrets in %v, heap %+d KiB", *unrelated, time.Since(began), grown>>10)
	if grown > 5<<20 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
	w.update("app", func(k *kustomizev1.Kustomization) { k.Spec.Path = "" })
	w.until("nothing is watched", func() bool { return len(tap.names()) == 0 })
}

// TestFirstPasses creates objects one after the other: each is reconciled for the first time after one request, for the
// finalizer, and one pass, without the pause that a pass which begins anew would make.
func TestFirstPasses(t *testing.T) {
	const objects, pause = 20, 750 * time.Millisecond
	var mu sync.Mutex
	seen := map[string][]string{} // what the loop did, by object
	w := newWorld(t, func(o *kube.Options[*kustomizev1.Kustomization]) {
		o.Observe = func(s rt.Observation[client.ObjectKey]) {
			mu.Lock()
			defer mu.Unlock()
			seen[s.Key.Name] = append(seen[s.Key.Name], fmt.Sprintf("%v %v %v", s.Why, s.State.Phase, s.State.Outcome))
		}
	})
	type start struct {
		name   string
		at     time.Time
		writes []string
	}
	started := make(chan start, objects)
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, _ *kube.Pass) kube.Result {
		started <- start{k.Name, time.Now(), w.writes(k.Name)}
		return kube.Ready("done")
	})
	var took []time.Duration
	for i := range objects {
		name := fmt.Sprintf("app-%d", i)
		began := time.Now()
		w.create(name, nil)
		s := <-started
		took = append(took, s.at.Sub(began))
		if want := []string{http.MethodPatch + " " + name}; s.name != name || !slices.Equal(s.writes, want) {
			t.Errorf("%s was reconciled after %v, want %v", s.name, s.writes, want)
		}
		w.eventually(name, "ready", ready)
	}
	slices.Sort(took)
	t.Logf("median %v, longest %v", took[objects/2], took[objects-1])
	if took[objects/2] >= pause*2/3 {
		t.Errorf("half of the objects were reconciled after more than %v", took[objects/2])
	}
	w.until("told", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == objects })
	mu.Lock()
	defer mu.Unlock()
	for name, s := range seen {
		if !slices.Equal(s, []string{"added idle ok"}) {
			t.Errorf("%s: %v", name, s)
		}
	}
}
