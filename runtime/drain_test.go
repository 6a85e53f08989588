package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func prefixed(prefix string) func(string) bool {
	return func(k string) bool { return strings.HasPrefix(k, prefix) }
}

// After Drain nothing that matches runs or begins, whatever is asked for; everything else goes on.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drained atomic.Bool
		var mine, others atomic.Int64
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			running := &others
			if strings.HasPrefix(p.Key, "mine") {
				running = &mine
				if drained.Load() {
					t.Errorf("%s: a pass began after Drain", p.Key)
				}
			}
			running.Add(1)
			defer running.Add(-1)
			time.Sleep(30 * time.Second)
			return rt.Again(0, "more")
		}, option{Workers: 50, SlowLane: rt.SlowLane{Share: 1}, Grace: time.Hour})
		for i := range 200 {
			set(t, l, fmt.Sprint("mine", i), spec{Interval: time.Second})
		}
		run(t, l)
		synctest.Wait()
		if n := mine.Load(); n != 50 {
			t.Fatalf("%d passes run", n)
		}
		begin := time.Now()
		if err := l.Drain(t.Context(), prefixed("mine")); err != nil {
			t.Fatal(err)
		}
		drained.Store(true)
		if n, took := mine.Load(), time.Since(begin); n != 0 || took != 30*time.Second {
			t.Errorf("after %v Drain returned with %d passes running", took, n)
		}
		ticket := l.Trigger("mine7", nil)
		set(t, l, "mine8", spec{Version: "2"})
		set(t, l, "mine and new", spec{})
		set(t, l, "other", spec{})
		sleep(time.Hour)
		select {
		case <-ticket.Done():
			t.Error("a ticket of a drained key was answered")
		default:
		}
		if s := state(t, l, "mine and new"); s.Phase != rt.PhaseDrained {
			t.Errorf("got %+v", s)
		}
		if state(t, l, "other").Passes < 100 {
			t.Errorf("another key did not go on: %+v", state(t, l, "other"))
		}
		drained.Store(false)
		l.Undrain(prefixed("mine"))
		if _, err := ticket.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { time.Sleep(time.Hour); return rt.OK() }, option{Grace: 2 * time.Hour})
		set(t, l, "a", spec{Interval: time.Second})
		run(t, l)
		synctest.Wait()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("enough"))
		defer cancel()
		if err := l.Drain(ctx, nil); err == nil || err.Error() != "enough" {
			t.Errorf("got %v", err)
		}
		sleep(2 * time.Hour)
		if s := state(t, l, "a"); s.Passes != 1 || s.Phase != rt.PhaseDrained {
			t.Errorf("the drain is gone: %+v", s)
		}
	})
}

// What was due first begins first after Undrain; a pass that waited is made anew and still answers its ticket.
func TestUndrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Key == "waits" && j.count("waits") == 1 {
				return rt.Wait("health", rt.WakeAfter(time.Minute))
			}
			return rt.OK()
		}, option{Workers: 1, Finalizer: fn(func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() })})
		set(t, l, "waits", spec{})
		waiting := l.Trigger("waits", nil)
		set(t, l, "late", spec{Interval: 3 * time.Hour})
		set(t, l, "early", spec{Interval: time.Hour})
		set(t, l, "much later", spec{Interval: 30 * time.Hour})
		set(t, l, "deleted", spec{})
		set(t, l, "after early", spec{DependsOn: rt.On("new")})
		run(t, l)
		synctest.Wait()
		if err := l.Drain(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		sleep(2 * time.Hour)
		gone := l.Delete("deleted")
		set(t, l, "new", spec{})
		sleep(2 * time.Hour)
		select {
		case <-gone.Done():
			t.Error("the final pass of a drained key was made")
		default:
		}
		l.Undrain(nil)
		synctest.Wait()
		j.want(t, "0s waits added+requested", "0s late added", "0s early added", "0s much later added", "0s deleted added",
			"4h0m0s waits restored", "4h0m0s early interval", "4h0m0s deleted deleted", "4h0m0s new added", "4h0m0s late interval",
			"4h0m0s after early added+dependency")
		if s, err := waiting.Wait(canceled()); err != nil || s.Passes != 1 {
			t.Errorf("got %+v, %v", s, err)
		}
		if s, err := gone.Wait(canceled()); err != nil || s.Phase != rt.PhaseGone {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

// The last of the calls that match a key counts.
func TestDrainsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { return rt.OK() }, option{})
		run(t, l)
		for _, prefix := range []string{"a", "b"} {
			if err := l.Drain(t.Context(), prefixed(prefix)); err != nil {
				t.Fatal(err)
			}
		}
		l.Undrain(prefixed("ab"))
		for _, k := range []string{"a", "ab", "b", "c"} {
			set(t, l, k, spec{})
		}
		synctest.Wait()
		var ran []string
		for k, s := range l.All() {
			if s.Passes > 0 {
				ran = append(ran, k)
			}
		}
		slices.Sort(ran)
		if want := []string{"ab", "c"}; !slices.Equal(ran, want) {
			t.Errorf("%q ran, want %q", ran, want)
		}
		l.Undrain(nil)
		synctest.Wait()
		for k, s := range l.All() {
			if s.Passes != 1 {
				t.Errorf("%s: %+v", k, s)
			}
		}
	})
}

// Suspension and drain hold back independently; a suspended key still answers its tickets.
func TestDrainAndSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(time.Minute)
			return rt.Wait("health")
		}, option{})
		set(t, l, "a", spec{})
		first := l.Trigger("a", nil)
		run(t, l)
		synctest.Wait()
		second := l.Trigger("a", nil)
		if err := l.Suspend("a", rt.Suspension{By: "alice"}); err != nil {
			t.Fatal(err)
		}
		if err := l.Drain(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		var suspended *rt.SuspendedError
		for _, ticket := range []*rt.Ticket{first, second} {
			if s, err := ticket.Wait(canceled()); !errors.As(err, &suspended) || s.Phase != rt.PhaseSuspended {
				t.Errorf("got %+v, %v", s, err)
			}
		}
		if err := l.Resume("a"); err != nil {
			t.Fatal(err)
		}
		sleep(time.Hour)
		if s := state(t, l, "a"); s.Phase != rt.PhaseDrained {
			t.Errorf("got %+v", s)
		}
		l.Undrain(nil)
		sleep(time.Hour)
		j.want(t, "0s a added+requested", "1h1m0s a requested+resumed+restored")
	})
}
