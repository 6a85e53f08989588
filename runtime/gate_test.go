package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// window is open in the given hours of the day.
type window struct{ from, to int }

func (w window) At(t time.Time) (bool, time.Time) {
	day := t.Truncate(24 * time.Hour)
	from, to := day.Add(time.Duration(w.from)*time.Hour), day.Add(time.Duration(w.to)*time.Hour)
	switch {
	case t.Before(from):
		return false, from
	case t.Before(to):
		return true, to
	}
	return false, from.AddDate(0, 0, 1)
}

type windowFunc func(time.Time) (bool, time.Time)

func (f windowFunc) At(t time.Time) (bool, time.Time) { return f(t) }

func TestWindowsKeepPassesFromBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fake time begins at midnight UTC
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			switch p.Key {
			case "waits":
				if p.Why != rt.CauseWoken {
					return rt.Wait("health", rt.WakeAfter(3*time.Hour))
				}
			case "fails":
				return rt.Fail(errors.New("no"))
			}
			return rt.OK()
		}, option{Finalizer: fn(func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() })})
		two := []rt.Window{window{9, 10}, window{20, 21}}
		set(t, l, "interval", spec{Interval: 15 * time.Hour, Windows: two})
		set(t, l, "waits", spec{Windows: two})
		set(t, l, "fails", spec{Windows: two, Retry: rt.Fixed(2 * time.Hour)})
		set(t, l, "forced", spec{Windows: two})
		set(t, l, "deleted", spec{Windows: two})
		set(t, l, "freed", spec{Windows: two})
		set(t, l, "never", spec{Windows: []rt.Window{windowFunc(func(time.Time) (bool, time.Time) { return false, time.Time{} })}})
		set(t, l, "panics", spec{Windows: []rt.Window{windowFunc(func(time.Time) (bool, time.Time) { panic("no") }), window{1, 2}}})
		run(t, l)
		sleep(30 * time.Minute)
		for k, want := range map[string]string{"waits": "a window that opens at 2000-01-01T09:00:00Z", "never": "a window that opens"} {
			if s := state(t, l, k); s.Phase != rt.PhaseIdle || !cmp.Equal(s.Waiting, []string{want}) {
				t.Errorf("%s: got %+v", k, s)
			}
		}
		forced := l.Trigger("forced", &rt.TriggerOptions{Force: true})
		if _, err := forced.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := l.Delete("deleted").Wait(t.Context()); err != nil {
			t.Error(err)
		}
		set(t, l, "freed", spec{})
		sleep(9*time.Hour + 15*time.Minute)
		l.Trigger("waits", nil) // it waits since 9:00, and begins anew
		sleep(time.Hour)        // after 10:00
		late := l.Trigger("forced", nil)
		sleep(36 * time.Hour)
		if _, err := late.Wait(canceled()); err != nil {
			t.Error(err)
		}
		got := map[string][]time.Duration{}
		for k, at := range j.times {
			for _, d := range at {
				got[k] = append(got[k], d.Truncate(time.Minute))
			}
		}
		h := time.Hour
		if diff := cmp.Diff(map[string][]time.Duration{
			"interval": {9 * h, 33 * h},
			"waits":    {9 * h, 9*h + 45*time.Minute, 12*h + 45*time.Minute},
			"fails":    {9 * h, 20 * h, 33 * h, 44 * h},
			"forced":   {30 * time.Minute, 20 * h},
			"deleted":  {30 * time.Minute},
			"freed":    {30 * time.Minute},
			"panics":   {h},
		}, got); diff != "" {
			t.Errorf("passes (-want +got):\n%s", diff)
		}
	})
}

// A wait that goes on when the windows have closed is not broken off for a pass that may not begin.
func TestTriggerOutsideWindowsLeavesTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Why != rt.CauseWoken && !p.Force {
				return rt.Wait("health", rt.WakeAfter(3*time.Hour))
			}
			return rt.OK()
		}, option{})
		s := spec{Version: "1", Windows: []rt.Window{window{0, 1}}}
		set(t, l, "a", s)
		set(t, l, "b", s)
		run(t, l)
		sleep(2 * time.Hour)
		s.Version = "2"
		set(t, l, "a", s)
		set(t, l, "b", s)
		ticket := l.Trigger("a", nil)
		l.Trigger("b", &rt.TriggerOptions{Force: true})
		if st, err := ticket.Wait(t.Context()); err != nil || st.Version != "2" {
			t.Errorf("got %+v, %v", st, err)
		}
		sleep(time.Hour)
		j.want(t, "0s a added", "0s b added", "2h0m0s b changed+requested", "3h0m0s a woken", "24h0m0s a changed+requested", "27h0m0s a woken")
	})
}

// A key that is queued when the window closes waits for the next.
func TestWindowClosesWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(2 * time.Hour)
			return rt.OK()
		}, option{Workers: 1, Grace: 3 * time.Hour})
		set(t, l, "a", spec{})
		set(t, l, "b", spec{Windows: []rt.Window{window{0, 1}}})
		run(t, l)
		sleep(30 * time.Hour)
		j.want(t, "0s a added", "24h0m0s b added")
	})
}

func TestDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); time.Sleep(time.Second); return rt.OK() }, option{})
		s := spec{Interval: 10 * time.Minute, Debounce: 30 * time.Second}
		set(t, l, "a", s)
		run(t, l)
		sleep(time.Minute)
		first := l.Trigger("a", nil)
		for i := range 10 { // a burst: one pass, 30 s after its beginning
			sleep(5 * time.Second)
			l.Trigger("a", nil)
			s.Version = fmt.Sprint(i)
			set(t, l, "a", s)
		}
		if st, err := first.Wait(canceled()); err != nil || st.Finished.Sub(j.begin) != 91*time.Second {
			t.Errorf("got %+v, %v", st, err)
		}
		sleep(time.Minute)
		l.Trigger("a", nil)
		sleep(time.Second)
		l.Trigger("a", &rt.TriggerOptions{Force: true})
		sleep(11 * time.Minute)
		j.want(t, "0s a added", "1m30s a changed+requested", "2m1s a changed+requested", "2m51s a requested", "12m52s a interval")
	})
}

// Dep.Ready decides, is asked again after every pass of the dependency, and may stall the key.
func TestJudgedDependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		revision := ""
		asked := 0
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			if p.Key == "a" {
				return rt.Of(nil).At(revision).NotReady()
			}
			j.add(p)
			return rt.OK()
		}, option{})
		ready := func(s rt.State) error {
			asked++
			switch s.Revision {
			case "r3":
				return nil
			case "bad":
				return behaves{terminal: true}
			case "panic":
				panic("no")
			}
			return fmt.Errorf("has revision %q, want r3", s.Revision)
		}
		set(t, l, "b", spec{DependsOn: []rt.Dep[string]{{Key: "a", Ready: ready}}})
		run(t, l)
		synctest.Wait()
		waits := func(outcome rt.Outcome, want string) {
			t.Helper()
			if s := state(t, l, "b"); s.Phase != rt.PhaseBlocked || s.Outcome != outcome || !cmp.Equal(s.Waiting, []string{want}) {
				t.Errorf("got %+v, want %s", s, want)
			}
		}
		waits(rt.OutcomeNone, "dependency a: not found")
		set(t, l, "a", spec{})
		synctest.Wait()
		waits(rt.OutcomeNone, `dependency a: has revision "", want r3`)
		pass := func(r string) {
			revision = r
			l.Trigger("a", nil)
			synctest.Wait()
		}
		pass("r2")
		waits(rt.OutcomeNone, `dependency a: has revision "r2", want r3`)
		pass("bad")
		waits(rt.OutcomeStalled, "dependency a: behaves")
		if s, err := l.Trigger("b", nil).Wait(canceled()); err == nil || err.Error() != "behaves" || s.Outcome != rt.OutcomeStalled {
			t.Errorf("got %+v, %v", s, err)
		}
		pass("panic")
		waits(rt.OutcomeNone, "dependency a: panic in Dep.Ready: no")
		if asked != 4 {
			t.Errorf("asked %d times, want once for each pass", asked)
		}
		pass("r3")
		if s := state(t, l, "b"); !s.Ready || s.Passes != 1 {
			t.Errorf("got %+v", s)
		}
		j.want(t, "0s b added+dependency+requested")
	})
}

// The question does not hold the loop up, and what changes while it is asked is not overlooked.
func TestDependencyChangesWhileItIsJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{Observe: func(rt.Observation[string]) {}})
		set(t, l, "a", spec{Version: "1"})
		slow := func(s rt.State) error {
			time.Sleep(time.Minute)
			if s.Version == "1" {
				return errors.New("old")
			}
			return nil
		}
		run(t, l)
		synctest.Wait()
		set(t, l, "b", spec{DependsOn: []rt.Dep[string]{{Key: "a", Ready: slow}}})
		set(t, l, "c", spec{DependsOn: []rt.Dep[string]{{Key: "a", Ready: slow}}})
		sleep(time.Second)
		set(t, l, "a", spec{Version: "2"})
		set(t, l, "c", spec{})
		if s := state(t, l, "a"); s.Passes != 1 {
			t.Errorf("got %+v", s)
		}
		sleep(time.Hour)
		j.want(t, "0s a added", "1s a changed", "1m0s c added", "2m0s b added")
	})
}

// A new version supersedes a pass as a trigger does: one that runs is told, one that waits is made anew at once.
func TestNewVersionSupersedes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			switch p.Version {
			case "1":
				<-p.Superseded
				return rt.Wait("never mind")
			case "2":
				return rt.Wait("health", rt.WakeAfter(10*time.Minute))
			}
			return rt.OK()
		}, option{})
		for i := range 3 {
			set(t, l, "a", spec{Version: fmt.Sprint(i + 1)})
			if i == 0 {
				run(t, l)
			}
			sleep(time.Minute)
		}
		sleep(time.Hour)
		j.want(t, "0s a added", "1m0s a changed", "2m0s a changed")
	})
}

func TestBadShares(t *testing.T) {
	_, err := rt.New(fn(ok), &option{
		Weights: map[string]int{"a": 0, "b": -1, "c": 1}, Ageing: 10_000 * time.Hour, SlowLane: rt.SlowLane{Share: 1.5, SlowerThan: -1},
	})
	for _, want := range []string{`Weights["a"] is 0`, `Weights["b"] is -1`, "Ageing is 10000h0m0s", "SlowLane.Share is 1.5", "SlowLane.SlowerThan is -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
	l := newLoop(t, ok, option{})
	err = l.Set("k", spec{Debounce: -1, Windows: []rt.Window{nil}})
	for _, want := range []string{"Debounce is -1ns", "Windows[0] is nil"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
}
