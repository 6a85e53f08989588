package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

type observation = rt.Observation[string]

// A sink that blocks for ever costs the passes no time and a bounded number of places. When it goes on it is told the
// newest of every key.
func TestBlockedSinkHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const passes, keys, size = 10_000, 50, 100
		release := make(chan struct{})
		last := map[string]int{}
		told := 0
		b := rt.Buffered(func(_ context.Context, o observation) error {
			<-release
			told++
			last[o.Key] = o.State.Passes
			return nil
		}, size)
		begin := time.Now()
		var left atomic.Int64
		left.Store(passes)
		l := newLoop(t, func(context.Context, pass) rt.Result {
			time.Sleep(time.Millisecond)
			if left.Add(-1) < 0 {
				return rt.OK()
			}
			return rt.Again(0, "more")
		}, option{Observe: b.Observe, Workers: 4})
		for i := range keys {
			set(t, l, fmt.Sprint(i), spec{})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		sleep(time.Minute)
		end := begin
		want := map[string]int{}
		for k, s := range l.All() {
			want[k] = s.Passes
			if s.Finished.After(end) {
				end = s.Finished
			}
		}
		if took := end.Sub(begin); took > passes*time.Millisecond/4*105/100 {
			t.Errorf("%d passes took %v", passes, took)
		}
		if n := b.Dropped(); n < passes-size-1 {
			t.Errorf("%d dropped", n)
		}
		close(release)
		if err := b.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if told > size+1 {
			t.Errorf("%d were kept", told)
		}
		for k, n := range want {
			if last[k] != n {
				t.Errorf("%s: the last that was told is pass %d of %d", k, last[k], n)
			}
		}
		cancel()
		if err := errors.Join(<-done, b.Close(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

func TestBufferKeepsOrderAndDropsTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		hold := make(chan struct{})
		b := rt.Buffered(func(_ context.Context, o observation) error {
			if o.Key == "first" {
				<-hold
			}
			got = append(got, fmt.Sprint(o.Key, o.Took.Nanoseconds()))
			switch o.Key {
			case "bad":
				return errors.New("no")
			case "worse":
				panic("no")
			case "c":
				goexit()
			}
			return nil
		}, 4)
		tell := func(k string, n int) { b.Observe(observation{Key: k, Took: time.Duration(n)}) }
		tell("first", 0)
		synctest.Wait()
		tell("a", 1)
		tell("b", 2)
		tell("bad", 3)
		tell("a", 4)
		tell("worse", 5) // a1 goes: there is a newer one
		tell("c", 6)     // b2 goes: the oldest
		close(hold)
		if err := b.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if want := []string{"first0", "bad3", "a4", "worse5", "c6"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if b.Dropped() != 2 || b.Failed() != 3 {
			t.Errorf("%d dropped, %d failed", b.Dropped(), b.Failed())
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		tell("late", 7)
		synctest.Wait()
		if len(got) != 5 || b.Dropped() != 3 {
			t.Errorf("got %q", got)
		}
	})
}

func TestBufferCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := rt.Buffered(func(ctx context.Context, _ observation) error { <-ctx.Done(); return ctx.Err() }, 0)
		for i := range 2000 {
			b.Observe(observation{Key: fmt.Sprint(i)})
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("enough"))
		defer cancel()
		if err := b.Flush(ctx); err == nil || err.Error() != "enough" {
			t.Errorf("got %v", err)
		}
		if err := b.Close(ctx); err == nil || err.Error() != "enough" {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if b.Dropped() != 1999 || b.Failed() != 1 {
			t.Errorf("%d dropped, %d failed", b.Dropped(), b.Failed())
		}
	})
}

// What a blocked Buffer holds is bounded by its size, however many keys there are.
func TestBufferIsBounded(t *testing.T) {
	const size = 1000
	b := rt.Buffered(func(ctx context.Context, _ observation) error { <-ctx.Done(); return nil }, size)
	before := heap()
	for i := range 100_000 {
		b.Observe(observation{Key: fmt.Sprint(i % 50_000), State: rt.State{Message: fmt.Sprint("message ", i)}})
	}
	if grown := int64(heap()) - int64(before); grown > size*2048 {
		t.Errorf("%d observations take %d bytes", size, grown)
	}
	if n := b.Dropped(); n < 100_000-size-1 {
		t.Errorf("%d dropped", n)
	}
	if err := b.Close(canceled()); err == nil {
		t.Error("a blocked buffer was flushed")
	}
}
