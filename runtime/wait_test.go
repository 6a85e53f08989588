package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestWaitHoldsNoWorkerAndNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 10_000
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Key == "quick" || p.Why.Has(rt.CauseWoken) {
				return rt.OK()
			}
			return rt.Wait("the others")
		}, option{Workers: 1})
		run(t, l)
		for i := range keys {
			set(t, l, fmt.Sprint(i), spec{})
		}
		synctest.Wait()
		for i := range keys {
			if s := state(t, l, fmt.Sprint(i)); s.Phase != rt.PhaseWaiting || s.Waiting[0] != "the others" || s.Passes != 0 {
				t.Fatalf("got %+v", s)
			}
		}
		set(t, l, "quick", spec{})
		synctest.Wait()
		if s := state(t, l, "quick"); s.Outcome != rt.OutcomeOK {
			t.Errorf("the eleventh key did not run at once: %+v", s)
		}
		if !l.Wake("77") || l.Wake("quick") || l.Wake("unknown") {
			t.Error("Wake reports the wrong keys")
		}
		synctest.Wait()
		if len(j.lines) != keys+2 || j.lines[keys+1] != "0s 77 woken" {
			t.Errorf("got %d passes, the last %q", len(j.lines), j.lines[len(j.lines)-1])
		}
	})
}

func TestWakers(t *testing.T) {
	for _, tc := range []struct {
		name string
		wake func(fire <-chan struct{}) []rt.Waker
		want string
	}{
		{"channel", func(fire <-chan struct{}) []rt.Waker { return []rt.Waker{rt.WakeOn(fire)} }, "5s"},
		{"time", func(<-chan struct{}) []rt.Waker { return []rt.Waker{rt.WakeAt(time.Now().Add(3 * time.Second))} }, "3s"},
		{"past", func(<-chan struct{}) []rt.Waker { return []rt.Waker{rt.WakeAt(time.Unix(1, 0))} }, "0s"},
		{"after", func(<-chan struct{}) []rt.Waker { return []rt.Waker{rt.WakeAfter(4 * time.Second)} }, "4s"},
		{"key", func(<-chan struct{}) []rt.Waker { return []rt.Waker{rt.WakeKey("b")} }, "7s"},
		{"when", func(fire <-chan struct{}) []rt.Waker {
			return []rt.Waker{rt.WakeWhen(func(context.Context) { <-fire })}
		}, "5s"},
		{"panic", func(<-chan struct{}) []rt.Waker { return []rt.Waker{rt.WakeWhen(func(context.Context) { panic("x") })} }, "0s"},
		{"first of many", func(fire <-chan struct{}) []rt.Waker {
			return []rt.Waker{{}, rt.WakeKey("b"), rt.WakeAfter(time.Minute), rt.WakeOn(fire), rt.WakeWhen(func(ctx context.Context) { <-ctx.Done() })}
		}, "5s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJournal()
				fire := make(chan struct{})
				l := newLoop(t, func(_ context.Context, p pass) rt.Result {
					if p.Key == "b" {
						time.Sleep(7 * time.Second)
						return rt.OK()
					}
					j.add(p)
					if p.Why == rt.CauseWoken {
						return rt.OK()
					}
					return rt.Wait("something", tc.wake(fire)...)
				}, option{})
				set(t, l, "a", spec{})
				set(t, l, "b", spec{})
				run(t, l)
				sleep(5 * time.Second)
				close(fire)
				sleep(time.Hour)
				j.want(t, "0s a added", tc.want+" a woken")
			})
		})
	}
}

func TestWakeKeyMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			if p.Key != "a" {
				return rt.OK()
			}
			j.add(p)
			time.Sleep(time.Minute) // b ends a pass meanwhile, c is dropped in the second call
			switch j.count("a") {
			case 1:
				return rt.Wait("b", rt.WakeKey("b"))
			case 2:
				return rt.Wait("c", rt.WakeKey("c"))
			case 3:
				return rt.Wait("never set", rt.WakeKey("d"))
			}
			return rt.OK()
		}, option{})
		for _, k := range []string{"a", "b", "c"} {
			set(t, l, k, spec{})
		}
		run(t, l)
		sleep(30 * time.Second)
		l.Trigger("b", nil)
		sleep(time.Minute)
		l.Delete("c")
		sleep(time.Hour)
		if s := state(t, l, "a"); s.Phase != rt.PhaseWaiting || s.Waiting[0] != "never set" {
			t.Errorf("got %+v", s)
		}
		set(t, l, "d", spec{})
		sleep(time.Hour)
		j.want(t, "0s a added", "1m0s a woken", "2m0s a woken", "1h1m30s a woken")
	})
}

func TestWakeKeyOfTheWrongTypeIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { return rt.Wait("x", rt.WakeKey(7)) }, option{})
		set(t, l, "a", spec{})
		run(t, l)
		synctest.Wait()
		if s := state(t, l, "a"); s.Outcome != rt.OutcomeFailed || !strings.Contains(s.Message, "key of type int in a loop with keys of type string") {
			t.Errorf("got %+v", s)
		}
	})
}

func TestWakeDuringTheCallIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Why.Has(rt.CauseWoken) {
				return rt.OK()
			}
			time.Sleep(time.Second)
			return rt.Wait("Wake")
		}, option{})
		set(t, l, "a", spec{})
		run(t, l)
		synctest.Wait()
		if !l.Wake("a") {
			t.Error("Wake reports false during a pass")
		}
		sleep(time.Hour)
		j.want(t, "0s a added", "1s a woken")
	})
}

func TestTimeoutCoversCallsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		ended := 0
		l := newLoop(t, func(ctx context.Context, p pass) rt.Result {
			j.add(p)
			if deadline, ok := ctx.Deadline(); !ok || deadline.Sub(j.begin) != 5*time.Minute {
				t.Errorf("deadline %v", deadline)
			}
			return rt.Wait("health of Deployment/a/b", rt.WakeAfter(2*time.Minute), rt.WakeWhen(func(ctx context.Context) {
				<-ctx.Done()
				ended++
			}))
		}, option{})
		set(t, l, "a", spec{Timeout: 5 * time.Minute, Retry: rt.Fixed(24 * time.Hour)})
		ticket := l.Trigger("a", nil)
		run(t, l)
		s, err := ticket.Wait(t.Context())
		if want := "timeout after 5m0s waiting for health of Deployment/a/b"; err == nil || err.Error() != want || s.Message != want {
			t.Errorf("got %v, %+v", err, s)
		}
		if !errors.Is(err, context.DeadlineExceeded) || s.Outcome != rt.OutcomeFailed || s.Failures != 1 {
			t.Errorf("got %v, %+v", err, s)
		}
		synctest.Wait()
		if ended != 3 {
			t.Errorf("%d of 3 wakers were told that the wait is over", ended)
		}
		j.want(t, "0s a added+requested", "2m0s a woken", "4m0s a woken")
	})
}

func TestTimeoutEndsTheContextOfARunningPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(ctx context.Context, _ pass) rt.Result {
			<-ctx.Done()
			return rt.Fail(context.Cause(ctx))
		}, option{})
		set(t, l, "a", spec{Timeout: time.Minute})
		run(t, l)
		sleep(time.Minute + time.Millisecond)
		s := state(t, l, "a")
		if e, ok := errors.AsType[*rt.TimeoutError](s.Err); !ok || e.After != time.Minute || s.Message != "timeout after 1m0s" {
			t.Errorf("got %+v", s)
		}
	})
}

// A trigger makes a new pass of one that waits, with a new timeout; the tickets of both are answered by it.
func TestTriggerSupersedesAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		var wakers sync.WaitGroup
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if j.count("a") == 1 {
				wakers.Add(1)
				return rt.Wait("health", rt.WakeWhen(func(ctx context.Context) { <-ctx.Done(); wakers.Done() }))
			}
			return rt.Wait("more health", rt.WakeAfter(4*time.Minute))
		}, option{})
		set(t, l, "a", spec{Timeout: 5 * time.Minute})
		first := l.Trigger("a", nil)
		run(t, l)
		sleep(4 * time.Minute)
		second := l.Trigger("a", nil)
		wakers.Wait()
		synctest.Wait()
		select {
		case <-first.Done():
			t.Error("the first ticket was answered by a wait")
		default:
		}
		_, err1 := first.Wait(t.Context())
		_, err2 := second.Wait(t.Context())
		if want := "timeout after 5m0s waiting for more health"; err1.Error() != want || err2.Error() != want {
			t.Errorf("got %v, %v", err1, err2)
		}
		j.want(t, "0s a added+requested", "4m0s a requested", "8m0s a woken")
	})
}

func TestTriggerDuringACallThatThenWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if j.count("a") == 1 {
				<-p.Superseded
				return rt.Wait("health", rt.WakeAfter(time.Hour))
			}
			return rt.OK()
		}, option{})
		set(t, l, "a", spec{})
		run(t, l)
		synctest.Wait()
		if s, err := l.Trigger("a", nil).Wait(t.Context()); err != nil || s.Passes != 1 {
			t.Errorf("got %+v, %v", s, err)
		}
		sleep(2 * time.Hour)
		j.want(t, "0s a added", "0s a requested")
	})
}

// One worker, keys that wait: every other key starts at once.
func TestHeadOfLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var worst time.Duration
		begin := time.Now()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			if strings.HasPrefix(p.Key, "slow") {
				return rt.Wait("health", rt.WakeAfter(10*time.Minute))
			}
			worst = max(worst, time.Since(begin))
			time.Sleep(10 * time.Millisecond)
			return rt.OK()
		}, option{Workers: 1})
		for i := range 11 {
			set(t, l, fmt.Sprint("slow", i), spec{})
		}
		for i := range 117 {
			set(t, l, fmt.Sprint("fast", i), spec{})
		}
		run(t, l)
		sleep(time.Minute)
		if worst > 1200*time.Millisecond {
			t.Errorf("the last key began after %v", worst)
		}
	})
}
