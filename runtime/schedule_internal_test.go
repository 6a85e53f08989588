package runtime

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
)

// A key that leaves the queue and comes back while the workers are busy has one place in it.
func TestQueueHoldsAKeyOnce(t *testing.T) {
	l, err := New(Func[int](func(context.Context, Pass[int]) Result { return OK() }), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Set(1, Spec[int]{}); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if err := errors.Join(l.Suspend(1, Suspension{}), l.Resume(1)); err != nil {
			t.Fatal(err)
		}
	}
	if l.shares.size != 1 {
		t.Errorf("the queue has %d places for one key", l.shares.size)
	}
}

func TestDelayedIsAHeapWithRemoval(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h schedule[int]
	items := make([]*item[int], 300)
	for i := range items {
		items[i] = &item[int]{key: i, index: -1}
	}
	for range 20_000 {
		it := items[random.IntN(len(items))]
		if random.IntN(3) == 0 {
			h.remove(it)
		} else if first := h.set(it, random.Int64N(1000)); first != (h[0] == it) {
			t.Fatal("set does not know the first")
		}
		for i, it := range h {
			if int(it.index) != i || i > 0 && h[(i-1)/2].due > it.due {
				t.Fatalf("not a heap at %d", i)
			}
		}
	}
	for last := int64(0); len(h) > 0; {
		it := h[0]
		if it.due < last {
			t.Fatalf("%d after %d", it.due, last)
		}
		last = it.due
		h.remove(it)
	}
}
