package runtime_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func group(k string) string { g, _, _ := strings.Cut(k, "/"); return g }

// used is the worker time that groups have had.
type used struct {
	mu   sync.Mutex
	time map[string]time.Duration
}

// work passes the time of a pass and counts it.
func (u *used) work(k string, d time.Duration) {
	time.Sleep(d)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.time == nil {
		u.time = map[string]time.Duration{}
	}
	u.time[group(k)] += d
}

// A group that always has thousands of keys to run does not keep another waiting: the next worker that is free is for
// the key of the other one.
func TestBusyGroupDoesNotDelayAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, longest = 4, time.Second
		random := rand.New(rand.NewPCG(1, 1))
		var mu sync.Mutex
		var triggered time.Time
		var delays []time.Duration
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			mu.Lock()
			d := time.Duration(random.Int64N(int64(longest)))
			if p.Key == "b/0" {
				delays = append(delays, time.Since(triggered))
				d = time.Millisecond
			}
			mu.Unlock()
			time.Sleep(d)
			if p.Key == "b/0" {
				return rt.OK()
			}
			return rt.Again(0, "more") // triggers itself for ever
		}, option{Workers: workers, SlowLane: rt.SlowLane{Share: 1}})
		for i := range 10_000 {
			k := fmt.Sprint("a/", i)
			set(t, l, k, spec{Group: group(k)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		sleep(time.Minute)
		mu.Lock()
		triggered = time.Now()
		mu.Unlock()
		set(t, l, "b/0", spec{Group: "b"})
		for range 2000 {
			sleep(time.Second)
			mu.Lock()
			triggered = time.Now()
			mu.Unlock()
			l.Trigger("b/0", nil)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		slices.Sort(delays)
		p99 := delays[len(delays)*99/100]
		t.Logf("%d passes of the small group: p99 %v, longest %v", len(delays), p99, delays[len(delays)-1])
		if len(delays) < 2000 || p99 > 2*longest/workers || delays[len(delays)-1] > 2*longest {
			t.Errorf("%d passes began with delays of %v at p99 and %v at most", len(delays), p99, delays[len(delays)-1])
		}
	})
}

func TestGroupsShareWorkerTime(t *testing.T) {
	for _, tc := range []struct {
		name    string
		weights map[string]int
		length  map[string]time.Duration // of the passes of a group
		want    map[string]float64       // parts of the time
		takes   time.Duration
	}{
		{"equal", nil, map[string]time.Duration{"a": time.Second, "b": time.Second}, map[string]float64{"a": 1, "b": 1}, time.Hour},
		{"weights", map[string]int{"a": 3}, map[string]time.Duration{"a": time.Second, "b": time.Second}, map[string]float64{"a": 3, "b": 1}, time.Hour},
		{"slow and quick", nil, map[string]time.Duration{"a": 20 * time.Second, "b": 500 * time.Millisecond, "c": time.Second}, map[string]float64{"a": 1, "b": 1, "c": 1}, 2 * time.Hour},
		{"very slow with weight", map[string]int{"quick": 2}, map[string]time.Duration{"slow": 5 * time.Minute, "quick": 5 * time.Second}, map[string]float64{"slow": 1, "quick": 2}, 10 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var u used
				l := newLoop(t, func(_ context.Context, p pass) rt.Result {
					u.work(p.Key, tc.length[group(p.Key)])
					return rt.Again(0, "more")
				}, option{Workers: 3, Weights: tc.weights, SlowLane: rt.SlowLane{Share: 1}, Grace: time.Hour})
				for g := range tc.length {
					for i := range 50 {
						set(t, l, fmt.Sprint(g, "/", i), spec{Group: g})
					}
				}
				run(t, l)
				sleep(tc.takes)
				u.mu.Lock()
				defer u.mu.Unlock()
				var parts float64
				var all time.Duration
				for g, part := range tc.want {
					parts += part
					all += u.time[g]
				}
				for g, part := range tc.want {
					if got := float64(u.time[g]) / float64(all) * parts; got < part*0.95 || got > part*1.05 {
						t.Errorf("group %s had %.3f parts of the time, want %v ± 5 %%", g, got, part)
					}
				}
			})
		})
	}
}

// Whatever the others do, a group with something to run begins within groups × longest pass / workers, and one pass
// for the one that must end first.
func TestManyGroupsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const groups, workers = 200, 4
		last := map[string]time.Time{}
		var mu sync.Mutex
		worst := time.Duration(0)
		random := rand.New(rand.NewPCG(3, 3))
		begin := time.Now()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			mu.Lock()
			g := group(p.Key)
			if at, ok := last[g]; ok {
				worst = max(worst, time.Since(at))
			} else {
				worst = max(worst, time.Since(begin))
			}
			last[g] = time.Now()
			d := time.Duration(500+random.IntN(500)) * time.Millisecond
			mu.Unlock()
			time.Sleep(d)
			return rt.Again(0, "more")
		}, option{Workers: workers, SlowLane: rt.SlowLane{Share: 1}})
		for i := range groups * 10 {
			k := fmt.Sprint(i%groups, "/", i)
			set(t, l, k, spec{Group: group(k)})
		}
		run(t, l)
		sleep(time.Hour)
		// Passes of half the longest may come twice as often as those of the longest.
		if limit := 2*groups*time.Second/workers + time.Second; worst > limit {
			t.Errorf("a group waited %v for its next pass, want %v at most", worst, limit)
		}
		if len(last) != groups {
			t.Errorf("%d of %d groups had a pass", len(last), groups)
		}
	})
}

// A group does not save up what it did not use, so that it cannot keep others waiting for it later.
func TestIdleGroupSavesNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u used
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			u.work(p.Key, time.Second)
			return rt.Again(0, "more")
		}, option{Workers: 1, SlowLane: rt.SlowLane{Share: 1}})
		set(t, l, "a/1", spec{Group: "a"})
		run(t, l)
		sleep(time.Hour)
		set(t, l, "b/1", spec{Group: "b"})
		sleep(10 * time.Minute)
		u.mu.Lock()
		defer u.mu.Unlock()
		if a := u.time["a"] - time.Hour; a < 290*time.Second || u.time["b"] < 290*time.Second {
			t.Errorf("in 10 minutes a had %v and b %v", a, u.time["b"])
		}
	})
}

func TestPriorityGoesFirstAndWaitingCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(time.Second)
			if strings.HasPrefix(p.Key, "high") {
				return rt.Again(0, "more")
			}
			return rt.OK()
		}, option{Workers: 1, Ageing: 10 * time.Second})
		set(t, l, "low", spec{Priority: -1})
		for i := range 5 {
			set(t, l, fmt.Sprint("high", i), spec{Priority: 2})
		}
		run(t, l)
		sleep(time.Hour)
		// The low key has waited 3 × Ageing longer than a high one that was queued 5 s ago.
		if at := j.times["low"]; len(at) != 1 || at[0] < 30*time.Second || at[0] > 36*time.Second {
			t.Errorf("the low key ran at %v, want about 30 s", at)
		}
		if !strings.HasPrefix(j.lines[0], "0s high") {
			t.Errorf("the first pass was %q", j.lines[0])
		}
	})
}

// A queued key that is given another priority or group moves at once and keeps its waiting time.
func TestPriorityAndGroupOfAQueuedKeyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); time.Sleep(time.Second); return rt.OK() }, option{Workers: 1})
		for i := range 4 {
			set(t, l, fmt.Sprint(i), spec{})
		}
		run(t, l)
		synctest.Wait()
		set(t, l, "3", spec{Priority: 1})
		set(t, l, "1", spec{Group: "own"})
		set(t, l, "1", spec{Group: "other"})
		set(t, l, "1", spec{})
		sleep(time.Minute)
		j.want(t, "0s 0 added", "1s 3 added", "2s 1 added", "3s 2 added")
	})
}

// Keys that were slow leave a worker to the others.
func TestSlowLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		slow, most := 0, 0
		var worst time.Duration
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			if strings.HasPrefix(p.Key, "slow") {
				mu.Lock()
				slow++
				most = max(most, slow)
				mu.Unlock()
				time.Sleep(time.Minute)
				mu.Lock()
				slow--
				mu.Unlock()
				return rt.Again(0, "more")
			}
			time.Sleep(10 * time.Millisecond)
			return rt.OK()
		}, option{Workers: 4, Grace: time.Hour, Observe: func(o rt.Observation[string]) {
			mu.Lock()
			defer mu.Unlock()
			if o.Slow != strings.HasPrefix(o.Key, "slow") {
				t.Errorf("%s: in the slow lane: %t", o.Key, o.Slow)
			}
			if o.Key == "quick" {
				worst = max(worst, o.Queued)
			}
		}})
		for i := range 11 {
			set(t, l, fmt.Sprint("slow", i), spec{})
		}
		run(t, l)
		sleep(10 * time.Minute) // their first passes, which nobody can know to be slow
		set(t, l, "quick", spec{})
		sleep(time.Minute)
		mu.Lock()
		worst, most = 0, 0
		mu.Unlock()
		for range 600 {
			l.Trigger("quick", nil)
			sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if worst > 0 || state(t, l, "quick").Passes != 601 {
			t.Errorf("the quick key waited %v for a worker: %+v", worst, state(t, l, "quick"))
		}
		if most != 3 {
			t.Errorf("%d slow passes at a time, want 3", most)
		}
	})
}

// A key leaves the slow lane with its first pass that is not slow; a wait without a worker is not slow.
func TestSlowLaneGoesByTheTimeOfWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			switch {
			case p.Key == "waits" && p.Why != rt.CauseWoken:
				return rt.Wait("health", rt.WakeAfter(time.Hour))
			case p.Key == "was slow" && p.Prev.Passes == 0:
				time.Sleep(11 * time.Second)
			case p.Key == "twice": // 6 s and 6 s
				time.Sleep(6 * time.Second)
				if p.Why != rt.CauseWoken {
					return rt.Wait("half", rt.WakeAfter(time.Second))
				}
			}
			return rt.OK()
		}, option{Observe: func(o rt.Observation[string]) {
			if o.State.Phase == rt.PhaseIdle {
				got = append(got, fmt.Sprint(o.Key, " ", o.Slow))
			}
		}})
		run(t, l)
		for _, k := range []string{"waits", "was slow", "twice"} {
			set(t, l, k, spec{})
			sleep(2 * time.Hour)
		}
		l.Trigger("was slow", nil)
		sleep(time.Minute)
		if want := []string{"waits false", "was slow true", "twice true", "was slow false"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
