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
	if l.ready.size != 1 {
		t.Errorf("the queue has %d places for one key", l.ready.size)
	}
}

func TestFIFO(t *testing.T) {
	var q fifo[int]
	next, want := 0, 0
	for round := range 50 {
		for range round * 100 {
			q.push(&item[int]{key: next})
			next++
		}
		for range round*100 - round {
			if it := q.pop(); it.key != want {
				t.Fatalf("got %d, want %d", it.key, want)
			}
			want++
		}
	}
	for it := q.pop(); it != nil; it = q.pop() {
		if it.key != want {
			t.Fatalf("got %d, want %d", it.key, want)
		}
		want++
	}
	if want != next || len(q.ring) > maxSpare {
		t.Errorf("%d of %d came out; the empty queue keeps %d slots", want, next, len(q.ring))
	}
}

func TestDelayedIsAHeapWithRemoval(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h delayed[int]
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
