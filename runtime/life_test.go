package runtime_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{})
		until := time.Now().Add(time.Hour)
		set(t, l, "a", spec{Interval: time.Minute, Suspend: &rt.Suspension{By: "alice", Until: until, Reason: "change freeze"}})
		run(t, l)
		sleep(30 * time.Minute)
		_, err := l.Trigger("a", &rt.TriggerOptions{Token: "t1"}).Wait(t.Context())
		want := "suspended by alice until " + until.Format(time.RFC3339) + ": change freeze"
		if e, ok := errors.AsType[*rt.SuspendedError](err); !ok || err.Error() != want || e.By != "alice" {
			t.Errorf("got %v", err)
		}
		if s := state(t, l, "a"); s.Phase != rt.PhaseSuspended || s.Suspended == nil || !s.Due.Equal(until) {
			t.Errorf("got %+v", s)
		}
		sleep(30*time.Minute + time.Second)
		if s := state(t, l, "a"); s.Token != "t1" || s.Suspended != nil || s.Phase != rt.PhaseIdle {
			t.Errorf("got %+v", s)
		}
		if err := l.Suspend("a", rt.Suspension{}); err != nil {
			t.Fatal(err)
		}
		sleep(time.Hour)
		if err := errors.Join(l.Resume("a"), l.Resume("a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		j.want(t, "1h0m0s a added+requested+resumed", "2h0m1s a resumed")
		if err := l.Resume("unknown"); !errors.Is(err, rt.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSuspendLeavesTheRunningPassAndAnswersTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Why.Has(rt.CauseWoken) {
				return rt.OK()
			}
			time.Sleep(time.Minute)
			return rt.Wait("pods", rt.WakeAfter(time.Minute))
		}, option{})
		set(t, l, "a", spec{Interval: time.Minute})
		run(t, l)
		synctest.Wait()
		dirty := l.Trigger("a", nil)
		if err := l.Suspend("a", rt.Suspension{By: "bob"}); err != nil {
			t.Fatal(err)
		}
		sleep(time.Hour)
		if _, err := dirty.Wait(t.Context()); err == nil || err.Error() != "suspended by bob" {
			t.Errorf("got %v", err)
		}
		if s := state(t, l, "a"); s.Passes != 1 || s.Phase != rt.PhaseSuspended || !s.Ready {
			t.Errorf("got %+v", s)
		}
		// A Set without suspension resumes; one whose time is over is none.
		set(t, l, "a", spec{Suspend: &rt.Suspension{Until: time.Now()}})
		sleep(time.Hour)
		j.want(t, "0s a added", "2m0s a woken", "1h0m0s a requested+resumed", "1h2m0s a woken")
	})
}

func TestSuspendTakesAQueuedKeyBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); time.Sleep(time.Second); return rt.OK() }, option{Workers: 1})
		for _, k := range []string{"a", "b", "c"} {
			set(t, l, k, spec{})
		}
		run(t, l)
		synctest.Wait()
		if err := errors.Join(l.Suspend("b", rt.Suspension{}), l.Resume("b"), l.Suspend("c", rt.Suspension{})); err != nil {
			t.Fatal(err)
		}
		sleep(time.Minute)
		j.want(t, "0s a added", "1s b added+resumed")
	})
}

func TestDeleteWithoutFinalizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		l := newLoop(t, func(ctx context.Context, p pass) rt.Result {
			if p.Key == "slow" {
				<-ctx.Done()
				cause = context.Cause(ctx)
				time.Sleep(time.Second)
			}
			return rt.OK()
		}, option{})
		set(t, l, "idle", spec{Interval: time.Hour})
		set(t, l, "slow", spec{})
		run(t, l)
		synctest.Wait()
		trigger := l.Trigger("slow", nil)
		begin := time.Now()
		for _, k := range []string{"idle", "slow", "unknown"} {
			if s, err := l.Delete(k).Wait(t.Context()); err != nil || s.Phase != rt.PhaseGone {
				t.Errorf("%s: got %+v, %v", k, s, err)
			}
		}
		if d := time.Since(begin); d != time.Second || !errors.Is(cause, rt.ErrDeleted) || l.Len() != 0 {
			t.Errorf("took %v, cause %v, %d keys", d, cause, l.Len())
		}
		if _, err := trigger.Wait(t.Context()); !errors.Is(err, rt.ErrDeleted) {
			t.Errorf("ticket: %v", err)
		}
	})
}

func TestFinalizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(ctx context.Context, p pass) rt.Result {
			j.add(p)
			if p.Key == "slow" && p.Why.Has(rt.CauseRequested) {
				<-ctx.Done()
			}
			return rt.OK()
		}, option{
			Finalizer: fn(func(_ context.Context, p pass) rt.Result {
				j.add(p)
				if p.Key == "kept" && p.Prev.Suspended == nil {
					t.Error("the final pass does not see the suspension")
				}
				switch {
				case p.Attempt == 0:
					return rt.Fail(errors.New("busy"))
				case !p.Why.Has(rt.CauseWoken):
					return rt.Wait("the rest", rt.WakeAfter(time.Minute))
				}
				return rt.OK()
			}),
		})
		set(t, l, "kept", spec{Interval: time.Hour, DependsOn: rt.On("nothing"), Suspend: &rt.Suspension{}, Retry: rt.Fixed(time.Minute)})
		set(t, l, "slow", spec{Retry: rt.Fixed(time.Minute)})
		run(t, l)
		synctest.Wait()
		l.Trigger("slow", nil)
		synctest.Wait()
		set(t, l, "blocked", spec{DependsOn: rt.On("nothing"), Retry: rt.Fixed(time.Minute)})
		blocked := l.Trigger("blocked", nil)
		l.Delete("blocked")
		if _, err := blocked.Wait(canceled()); !errors.Is(err, rt.ErrDeleted) {
			t.Errorf("the ticket of a deleted key: %v", err)
		}
		gone, again := l.Delete("slow"), l.Delete("slow")
		kept := l.Delete("kept")
		synctest.Wait()
		if s := state(t, l, "slow"); !s.Deleting || s.Outcome != rt.OutcomeFailed || s.Ready {
			t.Errorf("got %+v", s)
		}
		set(t, l, "slow", spec{Version: "new"}) // comes back when the final pass is over
		for _, ticket := range []*rt.Ticket{gone, again, kept} {
			if s, err := ticket.Wait(t.Context()); err != nil || s.Phase != rt.PhaseGone {
				t.Errorf("got %+v, %v", s, err)
			}
		}
		synctest.Wait()
		if s := state(t, l, "slow"); s.Deleting || s.Version != "new" || s.Passes != 1 {
			t.Errorf("got %+v", s)
		}
		var slow []string
		for _, line := range j.lines {
			if strings.Contains(line, "slow") {
				slow = append(slow, line)
			}
		}
		if diff := cmp.Diff([]string{
			"0s slow added", "0s slow requested", "0s slow deleted", "1m0s slow retry+deleted", "2m0s slow woken+deleted", "2m0s slow added",
		}, slow); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTriggerRetriesAStalledFinalPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { return rt.OK() }, option{
			Finalizer: fn(func(_ context.Context, p pass) rt.Result {
				if p.Attempt == 0 {
					return rt.Stall(errors.New("not allowed"))
				}
				return rt.OK()
			}),
		})
		set(t, l, "a", spec{})
		run(t, l)
		gone := l.Delete("a")
		sleep(time.Hour)
		if s := state(t, l, "a"); !s.Deleting || s.Outcome != rt.OutcomeStalled {
			t.Errorf("got %+v", s)
		}
		if _, err := l.Trigger("a", nil).Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := gone.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(time.Second)
			return rt.Forget()
		}, option{Finalizer: fn(func(context.Context, pass) rt.Result { t.Error("final pass"); return rt.OK() })})
		for _, k := range []string{"gone", "triggered", "set"} {
			set(t, l, k, spec{})
		}
		run(t, l)
		synctest.Wait()
		l.Trigger("triggered", nil)
		set(t, l, "set", spec{})
		sleep(1500 * time.Millisecond)
		if _, ok := l.Get("gone"); ok {
			t.Error("the key is still known")
		}
		if s := state(t, l, "set"); s.Phase != rt.PhaseIdle {
			t.Errorf("got %+v", s)
		}
		sleep(time.Minute)
		if _, ok := l.Get("triggered"); ok || j.count("triggered") != 2 {
			t.Errorf("got %d passes", j.count("triggered"))
		}
		if _, err := l.Trigger("set", nil).Wait(t.Context()); err != nil || l.Len() != 0 {
			t.Errorf("got %v, %d keys: the Set counts for the pass it fell into only", err, l.Len())
		}
	})
}

func TestStopLetsPassesFinishThenCancelsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var cause error
		l := newLoop(t, func(ctx context.Context, p pass) rt.Result {
			if ctx.Value(key{}) != "value" {
				t.Error("the values of Run's context are not there")
			}
			switch p.Key {
			case "short":
				time.Sleep(5 * time.Second)
				return rt.OK()
			case "waits":
				return rt.Wait("for ever", rt.WakeOn(nil), rt.WakeWhen(func(ctx context.Context) { <-ctx.Done() }))
			case "late":
				time.Sleep(5 * time.Second)
				return rt.Wait("for ever", rt.WakeWhen(func(context.Context) { t.Error("a waker was started after the stop") }))
			}
			<-ctx.Done()
			cause = context.Cause(ctx)
			return rt.Fail(ctx.Err())
		}, option{Grace: 10 * time.Second})
		for _, k := range []string{"short", "waits", "long", "late"} {
			set(t, l, k, spec{})
		}
		long, short := l.Trigger("long", nil), l.Trigger("short", nil)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d != 11*time.Second || !errors.Is(cause, rt.ErrStopped) {
			t.Errorf("stopped after %v, cause %v", d, cause)
		}
		if s, err := short.Wait(t.Context()); err != nil || s.Outcome != rt.OutcomeOK {
			t.Errorf("got %+v, %v", s, err)
		}
		if s, err := long.Wait(t.Context()); !errors.Is(err, rt.ErrStopped) || s.Outcome != rt.OutcomeNone {
			t.Errorf("an interrupted pass is not a failure: %+v, %v", s, err)
		}
	})
}

func TestStuckPassesAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			switch p.Key {
			case "z", "b":
				<-release
			case "waker":
				return rt.Wait("x", rt.WakeWhen(func(context.Context) { <-release }))
			}
			return rt.OK()
		}, option{Grace: 10 * time.Second})
		for _, k := range []string{"z", "b", "fine", "waker"} {
			set(t, l, k, spec{})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := l.Run(ctx)
		e, ok := errors.AsType[*rt.StuckError](err)
		if !ok || !cmp.Equal(e.Keys, []string{"b", "waker", "z"}) || time.Since(begin) != 21*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		close(release)
	})
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		var l *rt.Loop[string]
		l = newLoop(t, func(_ context.Context, p pass) rt.Result {
			time.Sleep(time.Second)
			switch {
			case p.Attempt == 0 && p.Why.Has(rt.CauseAdded) && p.Key == "b":
				return rt.Fail(errors.New("no"))
			case p.Why.Has(rt.CauseRetry):
				return rt.Wait("pods", rt.WakeAfter(time.Minute))
			}
			return rt.OK().At("r1")
		}, option{
			Observe: func(o rt.Observation[string]) {
				line := []string{o.Key, o.Why.String(), o.State.Phase.String(), o.State.Outcome.String(), o.Took.String()}
				got = append(got, strings.Join(append(line, o.State.Waiting...), " "))
				if s, ok := l.Get(o.Key); !ok || s.Phase != rt.PhaseRunning {
					t.Errorf("during Observe the key is %v", s.Phase)
				}
			},
			Finalizer: fn(func(context.Context, pass) rt.Result { return rt.OK() }),
		})
		set(t, l, "b", spec{DependsOn: rt.On("a")})
		run(t, l)
		synctest.Wait()
		set(t, l, "a", spec{})
		sleep(time.Hour)
		l.Delete("a")
		synctest.Wait()
		if diff := cmp.Diff([]string{
			"b none blocked none 0s dependency a: not found",
			"a added idle ok 1s",
			"b added+dependency idle failed 1s",
			"b retry waiting failed 1s pods",
			"b woken idle ok 1s",
			"a deleted gone ok 0s",
		}, got); diff != "" {
			t.Errorf("observations (-want +got):\n%s", diff)
		}
	})
}

func TestBadArguments(t *testing.T) {
	_, err := rt.New[string](nil, &option{Workers: -1, Grace: -1, Jitter: 1})
	for _, want := range []string{"runtime: new: ", "Reconciler is nil", "Workers is -1", "Grace is -1ns", "Jitter is 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
	l := newLoop(t, func(context.Context, pass) rt.Result { return rt.OK() }, option{})
	err = l.Set("k", spec{Interval: -1, Timeout: -1, Retry: rt.Backoff{Min: -1, Max: -1}})
	for _, want := range []string{"runtime: set k: ", "Interval is -1ns", "Timeout is -1ns", "Retry.Min is -1ns", "Retry.Max is -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
	if err := l.Set("k", spec{Retry: rt.Backoff{Min: 2, Max: 1}}); err == nil || l.Len() != 0 {
		t.Errorf("got %v, %d keys", err, l.Len())
	}
}

// What the caller keeps of a Spec, and what it gets as a State, are not shared with the loop.
func TestSnapshotsShareNothing(t *testing.T) {
	l := newLoop(t, func(context.Context, pass) rt.Result { return rt.OK() }, option{})
	deps, suspension := rt.On("b"), &rt.Suspension{By: "alice"}
	set(t, l, "a", spec{DependsOn: deps, Suspend: suspension})
	deps[0].Key, suspension.By = "c", "mallory"
	s := state(t, l, "a")
	s.Suspended.By = "mallory"
	if got := state(t, l, "a").Suspended.By; got != "alice" {
		t.Errorf("got %s", got)
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		rt.Cause(0).String():                     "none",
		(rt.CauseAdded | rt.CauseWoken).String(): "added+woken",
		rt.PhaseGone.String():                    "gone",
		rt.Phase(99).String():                    "unknown(99)",
		rt.OutcomeStalled.String():               "stalled",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The wall clock does not matter to intervals, only to Suspension.Until and WakeAt; keys of any comparable type work.
func TestKeysOfOtherTypes(t *testing.T) {
	type name struct{ namespace, name string }
	synctest.Test(t, func(t *testing.T) {
		var passes atomic.Int64
		l, err := rt.New(rt.Func[name](func(_ context.Context, p rt.Pass[name]) rt.Result {
			passes.Add(1)
			return rt.Wait("x", rt.WakeKey(name{"ns", "b"}))
		}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Set(name{"ns", "a"}, rt.Spec[name]{Interval: time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Run(ctx); err != nil || passes.Load() != 1 {
			t.Errorf("got %v, %d passes", err, passes.Load())
		}
	})
}

// A trigger that comes while a key is on its way out is answered: with ErrDeleted, or by the pass of the key that is
// set anew.
func TestTriggerDuringTheFinalPass(t *testing.T) {
	for _, anew := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			l, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
				return rt.OK().Note("token " + p.Token)
			}), &rt.Options[string]{Finalizer: rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result {
				<-release
				return rt.OK()
			})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			if err := l.Set("a", rt.Spec[string]{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			gone := l.Delete("a")
			synctest.Wait()
			ticket := l.Trigger("a", &rt.TriggerOptions{Token: "t"})
			if anew {
				if err := l.Set("a", rt.Spec[string]{}); err != nil {
					t.Fatal(err)
				}
			}
			close(release)
			if _, err := gone.Wait(ctx); err != nil {
				t.Error(err)
			}
			state, err := ticket.Wait(ctx)
			if anew && (err != nil || state.Message != "token t" || state.Token != "t") {
				t.Errorf("set anew: %+v, %v", state, err)
			}
			if !anew && !errors.Is(err, rt.ErrDeleted) {
				t.Errorf("gone: %+v, %v", state, err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// The same where no final pass is made, while a dependency is being judged; and a judge that ends its goroutine ends
// nothing else.
func TestTriggerWhileJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		l, err := rt.New(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result { return rt.OK() }), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		judged := func(key string, ready func(rt.State) error) {
			t.Helper()
			if err := l.Set(key, rt.Spec[string]{DependsOn: []rt.Dep[string]{{Key: "b", Ready: ready}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Set("b", rt.Spec[string]{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		judged("a", func(rt.State) error { <-release; return nil })
		judged("ends", func(rt.State) error { runtime.Goexit(); return nil })
		synctest.Wait()
		gone, ticket := l.Delete("a"), l.Trigger("a", nil)
		close(release)
		if _, err := gone.Wait(ctx); err != nil {
			t.Error(err)
		}
		if _, err := ticket.Wait(ctx); !errors.Is(err, rt.ErrDeleted) && !errors.Is(err, rt.ErrNotFound) {
			t.Error(err)
		}
		synctest.Wait()
		if s, _ := l.Get("ends"); s.Phase != rt.PhaseBlocked {
			t.Errorf("%+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
