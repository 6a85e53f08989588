package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// The phases of keys survive a restart: with the same seed a process that goes on where another one ended makes each
// pass at the moment at which that one would have made it.
func TestPhasesSurviveARestart(t *testing.T) {
	const keys, long = 200, 6 * time.Hour
	lives := func(restarts ...time.Duration) (times map[string][]time.Time, due map[string]time.Time) {
		synctest.Test(t, func(t *testing.T) {
			var store memory
			times, due = map[string][]time.Time{}, map[string]time.Time{}
			for _, d := range restarts {
				j, states := life(t, &store, d, func(l *rt.Loop[string]) {
					for i := range keys {
						set(t, l, fmt.Sprint(i), spec{Interval: 40 * time.Minute, Version: "1"})
					}
				}, ok)
				for k, at := range j.times {
					for _, d := range at {
						times[k] = append(times[k], j.begin.Add(d).Round(time.Millisecond))
					}
				}
				for k, s := range states {
					due[k] = s.Started // the loop has ended, so that nothing is due any more
				}
			}
		})
		return times, due
	}
	// A process that ends in the very moment of a pass makes it anew: the moments are odd.
	one, last := lives(long + time.Second)
	many, lastOfMany := lives(95*time.Minute+7*time.Nanosecond, 70*time.Minute+5*time.Nanosecond, long+time.Second-165*time.Minute-12*time.Nanosecond)
	if diff := cmp.Diff(one, many); diff != "" {
		t.Errorf("passes of one process and of three (-one +three):\n%.2000s", diff)
	}
	phases := map[time.Time]bool{}
	for k, at := range last {
		phases[at] = true
		if d := at.Sub(lastOfMany[k]); d < -time.Millisecond || d > time.Millisecond {
			t.Errorf("%s: last begun %v and %v", k, at, lastOfMany[k])
		}
	}
	if len(one["0"]) < 8 || len(phases) < keys/2 {
		t.Errorf("%d passes of a key, %d phases of %d keys", len(one["0"]), len(phases), keys)
	}
}

// A hundred thousand triggers, at random moments around the end of passes that end in every way. None is lost: each
// ticket is resolved, by a pass that has begun after the trigger. A ticket that is not would leave nothing that can go
// on, which fails the test.
func TestTriggersAroundTheEndOfPasses(t *testing.T) {
	const callers, each = 50, 2000
	synctest.Test(t, func(t *testing.T) {
		keys := []string{"a", "b", "c"}
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(4, 4))
		begun := map[string]int{}
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			mu.Lock()
			if p.Why != rt.CauseWoken {
				begun[p.Key]++
			}
			took, how := time.Duration(random.IntN(4)), random.IntN(5)
			mu.Unlock()
			time.Sleep(took)
			switch how {
			case 0:
				return rt.Fail(errors.New("no"))
			case 1:
				return rt.Again(time.Duration(took), "more")
			case 2:
				return rt.Wait("something", rt.WakeAfter(took))
			}
			return rt.OK()
		}, option{Workers: 2})
		for _, k := range keys {
			set(t, l, k, spec{Retry: rt.Fixed(2)})
		}
		run(t, l)
		var callersDone sync.WaitGroup
		for caller := range callers {
			callersDone.Go(func() {
				random := rand.New(rand.NewPCG(4, uint64(caller)))
				for i := range each {
					time.Sleep(time.Duration(random.IntN(5)))
					k, token := keys[random.IntN(len(keys))], fmt.Sprint(caller, "/", i)
					mu.Lock()
					before := begun[k]
					ticket := l.Trigger(k, &rt.TriggerOptions{Token: token})
					mu.Unlock()
					<-ticket.Done()
					mu.Lock()
					after := begun[k]
					mu.Unlock()
					if after <= before {
						t.Errorf("%s: answered by pass %d, which had begun before", token, after)
						return
					}
				}
			})
		}
		callersDone.Wait()
		t.Logf("%d triggers, passes %v", callers*each, begun)
	})
}

// What a key waits for is said anew when its dependency is deleted, whether that had failed or been fine.
func TestDependencyIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			if p.Key == "broken" {
				return rt.Fail(errors.New("no luck"))
			}
			return rt.OK()
		}, option{})
		waits := func(k, want string) {
			t.Helper()
			if s := state(t, l, k); s.Phase != rt.PhaseBlocked || !cmp.Equal(s.Waiting, []string{"dependency " + want}) {
				t.Errorf("%s: %v %q, want %q", k, s.Phase, s.Waiting, want)
			}
		}
		set(t, l, "broken", spec{Retry: rt.Fixed(24 * time.Hour)})
		set(t, l, "fine", spec{})
		set(t, l, "a", spec{DependsOn: rt.On("broken")})
		set(t, l, "b", spec{DependsOn: rt.On("fine")})
		run(t, l)
		synctest.Wait()
		waits("a", `broken: Failed "no luck"`)
		if s := state(t, l, "b"); s.Passes != 1 || s.Phase != rt.PhaseIdle {
			t.Errorf("b: %+v", s)
		}
		l.Delete("broken")
		l.Delete("fine")
		synctest.Wait()
		waits("a", "broken: not found")
		l.Trigger("b", nil)
		synctest.Wait()
		waits("b", "fine: not found")
		set(t, l, "broken-not", spec{}) // somebody else changes nothing
		set(t, l, "fine", spec{})
		synctest.Wait()
		waits("a", "broken: not found")
		if s := state(t, l, "b"); s.Passes != 2 || s.Phase != rt.PhaseIdle {
			t.Errorf("b: %+v", s)
		}
	})
}

// The error about passes that do not return has the stacks of all goroutines, so that it can be seen where they are.
func TestStuckPassesShowWhereTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLoop(t, func(context.Context, pass) rt.Result { standStill(release); return rt.OK() }, option{Grace: time.Second})
		set(t, l, "a", spec{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e, ok := errors.AsType[*rt.StuckError](l.Run(ctx))
		if !ok || !bytes.Contains(e.Stacks, []byte("standStill(")) || strings.Contains(e.Error(), "standStill") {
			t.Errorf("%v\n%s", e, e.Stacks)
		}
		close(release)
	})
}

//go:noinline
func standStill(until <-chan struct{}) { <-until }

// In real time: four workers, eleven keys that wait for ten minutes, and 117 others, each with passes of 10 ms, which
// begin soon after their triggers. Had those that wait kept the workers, none would ever begin.
func TestHeadOfLineInRealTime(t *testing.T) {
	const keys, slow, bound = 117, 11, 10 * time.Second // a machine may be busy with something else
	var mu sync.Mutex
	triggered := map[string]time.Time{}
	var delays []time.Duration
	done := make(chan struct{})
	l := newLoop(t, func(_ context.Context, p pass) rt.Result {
		if strings.HasPrefix(p.Key, "slow") {
			return rt.Wait("health", rt.WakeAfter(10*time.Minute))
		}
		mu.Lock()
		if at, ok := triggered[p.Key]; ok {
			delays = append(delays, time.Since(at))
			delete(triggered, p.Key)
		}
		over := len(delays) == keys
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		if over {
			close(done)
		}
		return rt.OK()
	}, option{Workers: 4})
	run(t, l)
	for i := range slow {
		set(t, l, fmt.Sprint("slow", i), spec{})
	}
	for i := range keys {
		set(t, l, fmt.Sprint(i), spec{})
		if _, err := l.Trigger(fmt.Sprint(i), nil).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keys {
		mu.Lock()
		triggered[fmt.Sprint(i)] = time.Now()
		l.Trigger(fmt.Sprint(i), nil)
		mu.Unlock()
		time.Sleep(4 * time.Millisecond)
	}
	select {
	case <-done:
	case <-time.After(bound):
		t.Fatal("the passes did not begin")
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(delays)
	t.Logf("%d passes began after %v, at most %v", len(delays), delays[keys/2], delays[keys-1])
	if delays[keys/2] > time.Second {
		t.Errorf("half of the passes began more than %v after their trigger", delays[keys/2])
	}
	for i := range slow {
		if s := state(t, l, fmt.Sprint("slow", i)); s.Phase != rt.PhaseWaiting {
			t.Errorf("slow%d is %v", i, s.Phase)
		}
	}
}

// A group that triggers its ten thousand keys all the time does not keep another one waiting, of which one key is
// triggered once a second.
func TestFloodOfTriggersDelaysNoOtherGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, longest, flood, seconds = 4, time.Second, 10_000, 400
		random := rand.New(rand.NewPCG(1, 1))
		var mu sync.Mutex
		var triggered time.Time
		var delays []time.Duration
		passes := 0
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			mu.Lock()
			d := time.Duration(random.Int64N(int64(longest)))
			if passes++; p.Key == "b/0" {
				delays, d = append(delays, time.Since(triggered)), time.Millisecond
			}
			mu.Unlock()
			time.Sleep(d)
			return rt.OK()
		}, option{Workers: workers, SlowLane: rt.SlowLane{Share: 1}})
		keys := make([]string, flood)
		for i := range keys {
			keys[i] = fmt.Sprint("a/", i)
			set(t, l, keys[i], spec{Group: "a"})
		}
		set(t, l, "b/0", spec{Group: "b"})
		run(t, l)
		sleep(10 * time.Second)
		delays = nil
		for range seconds {
			for _, k := range keys {
				l.Trigger(k, nil)
			}
			mu.Lock()
			triggered = time.Now()
			mu.Unlock()
			l.Trigger("b/0", nil)
			sleep(time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(delays)
		p99 := delays[len(delays)*99/100]
		t.Logf("%d passes, %d of the small group: p99 %v, longest %v", passes, len(delays), p99, delays[len(delays)-1])
		if len(delays) < seconds-1 || p99 > 2*longest/workers || passes < seconds*workers {
			t.Errorf("%d passes, %d of the small group, with delays of %v at p99 and %v at most", passes, len(delays), p99, delays[len(delays)-1])
		}
	})
}
