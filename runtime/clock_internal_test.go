package runtime

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// settable is a wall clock that can be set. The monotonic one goes on.
type settable struct {
	offset atomic.Int64
	asked  atomic.Int64
}

func (c *settable) now() time.Time {
	c.asked.Add(1)
	return time.Now().Round(0).Add(time.Duration(c.offset.Load()))
}

func (c *settable) set(to time.Time) { c.offset.Store(int64(to.Sub(time.Now().Round(0)))) }

// daily is a window that is open from nine to ten, UTC.
type daily struct{}

func (daily) At(t time.Time) (open bool, change time.Time) {
	t = t.UTC()
	day := t.Truncate(24 * time.Hour)
	switch nine, ten := day.Add(9*time.Hour), day.Add(10*time.Hour); {
	case t.Before(nine):
		return false, nine
	case t.Before(ten):
		return true, ten
	}
	return false, day.Add(33 * time.Hour)
}

// past is a window that was open before a time, and is not any more.
type past time.Time

func (p past) At(t time.Time) (open bool, change time.Time) {
	if t.Before(time.Time(p)) {
		return true, time.Time(p)
	}
	return false, time.Time{}
}

// clocked is a loop with a clock that can be set.
type clocked struct {
	*Loop[string]
	clock  settable
	passes map[string]*atomic.Int64
	last   map[string]*atomic.Int64 // when, since it was made
}

func newClocked(t *testing.T, reconcile func(Pass[string]) Result, keys ...string) *clocked {
	t.Helper()
	c := &clocked{passes: map[string]*atomic.Int64{}, last: map[string]*atomic.Int64{}}
	for _, k := range keys {
		c.passes[k], c.last[k] = &atomic.Int64{}, &atomic.Int64{}
	}
	began := time.Now()
	l, err := New(Func[string](func(_ context.Context, p Pass[string]) Result {
		c.passes[p.Key].Add(1)
		c.last[p.Key].Store(int64(time.Since(began)))
		return reconcile(p)
	}), &Options[string]{Jitter: -1})
	if err != nil {
		t.Fatal(err)
	}
	l.clock = c.clock.now
	c.Loop = l
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *clocked) put(t *testing.T, k string, s Spec[string]) {
	t.Helper()
	if err := c.Set(k, s); err != nil {
		t.Fatal(err)
	}
}

// The wall clock is set: what is planned by it follows within a minute, what is planned by intervals takes no notice,
// and nothing is done more often than it would be without.
func TestWallClockIsSet(t *testing.T) {
	start := time.Date(2026, 3, 4, 8, 30, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return start.Add(d) }
	for _, c := range []struct {
		name string
		to   time.Time // what the clock is set to, five minutes after the start
		due  map[string]bool
	}{
		{"not at all", in(5 * time.Minute), map[string]bool{}},
		{"an hour forward", in(65 * time.Minute), map[string]bool{"window": true, "suspended": true, "wake": true}},
		{"an hour back", in(-55 * time.Minute), map[string]bool{"past": true}},
		{"a little", in(5*time.Minute + 300*time.Millisecond), map[string]bool{}},
		{"1970", time.Unix(0, 0), map[string]bool{"past": true}},
		{"2262", time.Date(2262, 4, 1, 9, 30, 0, 0, time.UTC), map[string]bool{"window": true, "suspended": true, "wake": true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newClocked(t, func(p Pass[string]) Result {
					if p.Key == "wake" && !p.Why.Has(CauseWoken) {
						return Wait("a date", WakeAt(in(50*time.Minute)))
					}
					return OK()
				}, "interval", "window", "past", "suspended", "wake", "both")
				l.clock.set(start)
				l.put(t, "interval", Spec[string]{Interval: 10 * time.Second})
				l.put(t, "window", Spec[string]{Windows: []Window{daily{}}})
				l.put(t, "past", Spec[string]{Windows: []Window{past(in(-time.Minute))}})
				l.put(t, "suspended", Spec[string]{Suspend: &Suspension{Until: in(40 * time.Minute)}})
				l.put(t, "wake", Spec[string]{})
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				before := map[string]int64{}
				for k, n := range l.passes {
					before[k] = n.Load()
				}
				l.clock.set(c.to)
				time.Sleep(time.Minute)
				synctest.Wait()
				for k, n := range l.passes {
					passes, want := n.Load()-before[k], int64(0)
					if k == "interval" {
						want = 6
					} else if c.due[k] {
						want = 1
					}
					if passes != want {
						t.Errorf("%s: %d passes in the minute after, want %d", k, passes, want)
					}
				}
				if at := time.Duration(l.last["interval"].Load()); at != 6*time.Minute {
					t.Errorf("the last pass by interval was at %v", at)
				}
			})
		})
	}
}

// Set back, the clock comes to the time that was waited for later, and it is waited for that long.
func TestWallClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2026, 3, 4, 8, 30, 0, 0, time.UTC)
		l := newClocked(t, func(p Pass[string]) Result {
			if p.Key == "wake" && !p.Why.Has(CauseWoken) {
				return Wait("a date", WakeAt(start.Add(30*time.Minute)), WakeAfter(3*time.Hour))
			}
			if p.Key == "after" && !p.Why.Has(CauseWoken) {
				return Wait("a date", WakeAt(start.Add(30*time.Minute)), WakeAfter(time.Hour))
			}
			return OK()
		}, "window", "suspended", "wake", "after")
		l.clock.set(start)
		l.put(t, "window", Spec[string]{Windows: []Window{daily{}}})
		l.put(t, "suspended", Spec[string]{Suspend: &Suspension{Until: start.Add(30 * time.Minute)}})
		l.put(t, "wake", Spec[string]{})
		l.put(t, "after", Spec[string]{})
		time.Sleep(10 * time.Minute)
		l.clock.set(start.Add(-50 * time.Minute)) // an hour back
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for k, want := range map[string]time.Duration{"window": 90 * time.Minute, "suspended": 90 * time.Minute, "wake": 90 * time.Minute, "after": time.Hour} {
			if at := time.Duration(l.last[k].Load()); at != want {
				t.Errorf("%s: the last pass was at %v, want %v", k, at, want)
			}
		}
		if s, _ := l.Get("suspended"); s.Suspended != nil || l.passes["suspended"].Load() != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A loop that waits for no time of the wall clock, any more, does not look at it; one that does, once a minute.
func TestWallClockIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newClocked(t, func(Pass[string]) Result { return OK() }, "idle", "suspended", "window")
		asked := func(d time.Duration) int64 {
			synctest.Wait()
			before := l.clock.asked.Load()
			time.Sleep(d)
			synctest.Wait()
			return l.clock.asked.Load() - before
		}
		l.put(t, "idle", Spec[string]{})
		if n := asked(time.Hour); n != 0 {
			t.Errorf("looked %d times", n)
		}
		l.clock.set(time.Date(2026, 3, 4, 10, 30, 0, 0, time.UTC))
		l.put(t, "suspended", Spec[string]{Suspend: &Suspension{Until: l.clock.now().Add(100 * time.Hour)}})
		l.put(t, "window", Spec[string]{Windows: []Window{daily{}}})
		if n := asked(time.Hour); n < 60 || n > 4*60 {
			t.Errorf("looked %d times in an hour", n)
		}
		if err := l.Resume("suspended"); err != nil {
			t.Fatal(err)
		}
		l.Delete("window")
		time.Sleep(2 * time.Minute) // until it is noticed
		if n := asked(time.Hour); n != 0 {
			t.Errorf("looked %d times when nothing waited any more", n)
		}
	})
}

// What a store has of the time before the clock was set keeps nothing waiting for longer than it was to wait.
func TestRestoredUnderAnotherClock(t *testing.T) {
	for _, year := range []int{1970, 2025, 2262} {
		t.Run(fmt.Sprint(year), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				then := time.Date(year, 2, 1, 0, 0, 0, 0, time.UTC)
				store := &MemoryStore[string]{}
				state := State{Phase: PhaseIdle, Outcome: OutcomeOK, Ready: true, Passes: 1, Started: then, Finished: then, Due: then.Add(time.Minute), Interval: time.Minute}
				failed := state
				failed.Outcome, failed.Failures = OutcomeFailed, 1
				if err := store.Save(t.Context(), []Saved[string]{{"ok", state}, {"failed", failed}}); err != nil {
					t.Fatal(err)
				}
				passes := map[string]*atomic.Int64{"ok": {}, "failed": {}}
				l, err := New(Func[string](func(_ context.Context, p Pass[string]) Result {
					passes[p.Key].Add(1)
					return OK()
				}), &Options[string]{Jitter: -1, Store: store})
				if err != nil {
					t.Fatal(err)
				}
				for k := range passes {
					if err := l.Set(k, Spec[string]{Interval: time.Minute}); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
				defer cancel()
				if err := l.Run(ctx); err != nil {
					t.Fatal(err)
				}
				for k, n := range passes {
					if got := n.Load(); got < 10 || got > 11 {
						t.Errorf("%s: %d passes in ten minutes", k, got)
					}
				}
			})
		})
	}
}
