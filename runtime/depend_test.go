package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestDependentsBeginWhenDependenciesAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(time.Second)
			return rt.OK()
		}, option{})
		set(t, l, "c", spec{DependsOn: rt.On("b", "a")})
		set(t, l, "b", spec{DependsOn: rt.On("a")})
		run(t, l)
		sleep(time.Minute)
		if s := state(t, l, "b"); s.Phase != rt.PhaseBlocked || !cmp.Equal(s.Waiting, []string{"dependency a: not found"}) {
			t.Errorf("got %+v", s)
		}
		if s := state(t, l, "c"); !cmp.Equal(s.Waiting, []string{"dependency b: blocked", "dependency a: not found"}) {
			t.Errorf("got %+v", s)
		}
		set(t, l, "a", spec{})
		sleep(time.Minute)
		j.want(t, "1m0s a added", "1m1s b added+dependency", "1m2s c added+dependency")
	})
}

func TestReadinessIsJudgedOnTheLastEndedPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		var result atomic.Value
		result.Store(rt.OK())
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Key != "a" {
				return rt.OK()
			}
			time.Sleep(time.Minute)
			r, _ := result.Load().(rt.Result)
			return r
		}, option{})
		set(t, l, "a", spec{Version: "1", Retry: rt.Fixed(24 * time.Hour)})
		set(t, l, "b", spec{DependsOn: rt.On("a")})
		run(t, l)
		sleep(time.Hour) // b at 1m
		tick := func() { l.Trigger("b", nil); synctest.Wait() }

		l.Trigger("a", nil) // nothing has changed: b does not wait for the repetition
		tick()
		sleep(time.Hour - time.Nanosecond)
		set(t, l, "a", spec{Version: "2"}) // another version: b waits for it
		tick()
		if s := state(t, l, "b"); !cmp.Equal(s.Waiting, []string{"dependency a: running"}) {
			t.Errorf("got %+v", s)
		}
		sleep(time.Hour + time.Nanosecond)

		for _, tc := range []struct {
			result rt.Result
			want   string
		}{
			{rt.Fail(errors.New("no")), `dependency a: Failed "no"`},
			{rt.Stall(errors.New("bad")), `dependency a: Stalled "bad"`},
			{rt.Again(24*time.Hour, "half"), `dependency a: in progress: half`},
			{rt.OK().NotReady(), `dependency a: not ready`},
			{rt.Wait("pods"), `dependency a: waiting for pods`},
		} {
			result.Store(tc.result)
			l.Trigger("a", nil)
			sleep(2 * time.Minute)
			tick()
			if s := state(t, l, "b"); s.Phase != rt.PhaseBlocked || !cmp.Equal(s.Waiting, []string{tc.want}) {
				t.Errorf("%s: got %+v", tc.want, s)
			}
		}
		if s := state(t, l, "b"); s.Outcome != rt.OutcomeOK || !s.Ready {
			t.Errorf("what a key waits for does not change the outcome of its last pass: %+v", s)
		}
		if err := l.Suspend("a", rt.Suspension{By: "alice"}); err != nil {
			t.Fatal(err)
		}
		if s := state(t, l, "b"); !cmp.Equal(s.Waiting, []string{"dependency a: suspended by alice"}) {
			t.Errorf("got %+v", s)
		}
		if diff := cmp.Diff([]time.Duration{time.Minute, time.Hour, 2*time.Hour + time.Minute - time.Nanosecond}, j.times["b"]); diff != "" {
			t.Error(diff)
		}
	})
}

// A wait of a pass that was ready before, for the same version, does not take readiness away.
func TestWaitKeepsReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Key == "a" && j.count("a") > 1 {
				return rt.Wait("pods")
			}
			return rt.OK()
		}, option{})
		set(t, l, "a", spec{})
		set(t, l, "b", spec{DependsOn: rt.On("a")})
		run(t, l)
		synctest.Wait()
		l.Trigger("a", nil)
		synctest.Wait()
		l.Trigger("b", nil)
		synctest.Wait()
		if n := j.count("b"); n != 2 {
			t.Errorf("got %d passes of b, want 2", n)
		}
	})
}

func TestRemovedDependencyFreesTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{})
		set(t, l, "b", spec{DependsOn: rt.On("a")})
		run(t, l)
		sleep(time.Minute)
		set(t, l, "b", spec{})
		synctest.Wait()
		j.want(t, "1m0s b added+dependency")
	})
}

func TestCycleStallsItsMembersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		observed := map[string]rt.State{}
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{
			Workers: 1, Observe: func(o rt.Observation[string]) { observed[o.Key] = o.State },
		})
		run(t, l)
		for i := range 100 {
			set(t, l, fmt.Sprint(i), spec{})
		}
		if err := l.Set("a", spec{DependsOn: rt.On("b", "0")}); err != nil {
			t.Fatal(err)
		}
		set(t, l, "after", spec{DependsOn: rt.On("a")})
		ticket := l.Trigger("a", nil)
		err := l.Set("b", spec{DependsOn: rt.On("a")})
		if e, ok := errors.AsType[*rt.CycleError](err); !ok || e.Error() != "dependency cycle: b → a → b" || !rt.IsTerminal(err) {
			t.Errorf("got %v", err)
		}
		sleep(time.Minute)
		if _, err := ticket.Wait(t.Context()); err == nil || err.Error() != "dependency cycle: a → b → a" {
			t.Errorf("ticket: %v", err)
		}
		if _, err := l.Trigger("b", nil).Wait(canceled()); err == nil || err.Error() != "dependency cycle: b → a → b" {
			t.Errorf("trigger of a member: %v", err)
		}
		for k, want := range map[string]string{"a": "dependency cycle: a → b → a", "b": "dependency cycle: b → a → b"} {
			s := state(t, l, k)
			if s.Outcome != rt.OutcomeStalled || s.Phase != rt.PhaseBlocked || s.Message != want || observed[k].Message != want {
				t.Errorf("%s: got %+v, observed %+v", k, s, observed[k])
			}
		}
		if s := state(t, l, "after"); !cmp.Equal(s.Waiting, []string{`dependency a: Stalled "dependency cycle: a → b → a"`}) {
			t.Errorf("got %+v", s)
		}
		if len(j.lines) != 100 {
			t.Errorf("%d of 100 other keys have run", len(j.lines))
		}
		set(t, l, "b", spec{})
		synctest.Wait()
		if j.count("a") != 1 || j.count("b") != 1 || j.count("after") != 1 {
			t.Errorf("passes after the cycle was broken: %v", j.lines[100:])
		}
		if s := state(t, l, "a"); s.Outcome != rt.OutcomeOK || s.Err != nil || !s.Ready {
			t.Errorf("got %+v", s)
		}
	})
}

func TestCycleShapes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edges map[string][]string
		order []string
		want  map[string]string
	}{
		{"self", map[string][]string{"a": {"a"}}, []string{"a"}, map[string]string{"a": "a → a"}},
		{"three", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, []string{"a", "b", "c", "d"},
			map[string]string{"a": "a → b → c → a", "b": "b → c → a → b", "c": "c → a → b → c"}},
		{"figure eight", map[string][]string{"a": {"b", "c"}, "b": {"a"}, "c": {"a"}}, []string{"c", "b", "a"},
			map[string]string{"a": "a → b → a", "b": "b → a → b", "c": "c → a → c"}},
		{"diamond is none", map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}, []string{"a", "b", "c", "d"}, map[string]string{}},
		{"unknown key is none", map[string][]string{"a": {"b"}}, []string{"a"}, map[string]string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLoop(t, func(context.Context, pass) rt.Result { return rt.OK() }, option{})
				run(t, l)
				for _, k := range tc.order {
					var cycle *rt.CycleError
					if err := l.Set(k, spec{DependsOn: rt.On(tc.edges[k]...)}); err != nil && !errors.As(err, &cycle) {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				got := map[string]string{}
				for k, s := range l.All() {
					if s.Outcome == rt.OutcomeStalled {
						got[k] = s.Message[len("dependency cycle: "):]
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("stalled (-want +got):\n%s", diff)
				}
				for k := range tc.want {
					l.Delete(k)
				}
				if l.Len() != len(tc.order)-len(tc.want) {
					t.Errorf("%d keys left", l.Len())
				}
			})
		})
	}
}

// A chain of dependencies takes as long as its passes, whatever the order in which it was set.
func TestChain(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const n = 2000
			j := newJournal()
			l := newLoop(t, func(_ context.Context, p pass) rt.Result {
				j.add(p)
				time.Sleep(time.Second)
				return rt.OK()
			}, option{})
			run(t, l)
			for i := range n {
				if reverse {
					i = n - 1 - i
				}
				set(t, l, fmt.Sprint(i), spec{DependsOn: rt.On(fmt.Sprint(i - 1))})
			}
			set(t, l, "-1", spec{})
			sleep((n + 1) * time.Second)
			if at := j.times[fmt.Sprint(n-1)]; len(at) != 1 || at[0] != n*time.Second {
				t.Errorf("the last of the chain began at %v", at)
			}
		})
	}
}
