package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestTriggersDuringAPassLeadToOneFurtherPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			select {
			case <-p.Superseded:
			case <-time.After(time.Minute):
			}
			time.Sleep(time.Second)
			if p.Why.Has(rt.CauseRequested) && (p.Token != "999" || !p.Force || p.Version != "2") {
				t.Errorf("got token %q, force %t, version %q", p.Token, p.Force, p.Version)
			}
			return rt.OK().At("rev").Note("fine")
		}, option{})
		set(t, l, "a", spec{Version: "1"})
		run(t, l)
		synctest.Wait()
		set(t, l, "a", spec{Version: "2"})
		tickets := map[*rt.Ticket]bool{}
		for i := range 1000 {
			tickets[l.Trigger("a", &rt.TriggerOptions{Token: fmt.Sprint(i), Force: i == 0})] = true
		}
		for ticket := range tickets {
			s, err := ticket.Wait(t.Context())
			if err != nil || s.Token != "999" || s.Passes != 2 || s.Revision != "rev" || s.Version != "2" || s.Message != "fine" {
				t.Errorf("got %+v, %v", s, err)
			}
		}
		sleep(time.Hour)
		j.want(t, "0s a added", "1s a changed+requested")
	})
}

// A trigger that falls together with the end of a pass is answered by a pass that begins after it.
func TestTriggerAtTheEndOfAPassIsNotLost(t *testing.T) {
	var passes atomic.Int64
	l := newLoop(t, func(context.Context, pass) rt.Result { passes.Add(1); return rt.OK() }, option{Workers: 2})
	set(t, l, "a", spec{})
	run(t, l)
	for range 100_000 {
		before := passes.Load()
		if _, err := l.Trigger("a", nil).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if passes.Load() <= before {
			t.Fatal("a ticket was answered by a pass that began before its trigger")
		}
	}
}

func TestTicketsThatNoPassAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(ctx context.Context, p pass) rt.Result {
			if p.Key == "slow" {
				<-ctx.Done()
			}
			return rt.OK()
		}, option{Grace: time.Second})
		if _, err := l.Trigger("x", nil).Wait(t.Context()); !errors.Is(err, rt.ErrNotFound) {
			t.Errorf("unknown key: %v", err)
		}
		set(t, l, "slow", spec{})
		set(t, l, "queued", spec{})
		ctx, cancel := context.WithCancel(t.Context())
		queued := l.Trigger("queued", nil)
		if _, err := queued.Wait(canceled()); !errors.Is(err, context.Canceled) {
			t.Errorf("context: %v", err)
		}
		cancel()
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
		if _, err := queued.Wait(t.Context()); !errors.Is(err, rt.ErrStopped) {
			t.Errorf("stopped: %v", err)
		}
		for _, ticket := range []*rt.Ticket{l.Trigger("queued", nil), l.Delete("queued")} {
			if _, err := ticket.Wait(t.Context()); !errors.Is(err, rt.ErrStopped) {
				t.Errorf("after the stop: %v", err)
			}
		}
		for _, err := range []error{l.Set("x", spec{}), l.Resume("queued"), l.Suspend("queued", rt.Suspension{})} {
			if !errors.Is(err, rt.ErrStopped) {
				t.Errorf("after the stop: %v", err)
			}
		}
		if err := l.Run(t.Context()); !errors.Is(err, rt.ErrRunning) {
			t.Errorf("second Run: %v", err)
		}
	})
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestPanicsAndGoexitAreFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var observed atomic.Int64
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			switch p.Key {
			case "panic":
				panic("boom")
			case "error":
				panic(fmt.Errorf("bad: %w", errCause))
			case "goexit":
				goexit()
			}
			return rt.OK()
		}, option{Workers: 1, Observe: func(rt.Observation[string]) { observed.Add(1); panic("observer") }})
		for _, k := range []string{"panic", "error", "goexit", "fine"} {
			set(t, l, k, spec{Retry: rt.Fixed(time.Minute)})
		}
		run(t, l)
		sleep(10*time.Minute + time.Second)
		for k, want := range map[string]string{
			"panic": "panic in the pass: boom", "error": "panic in the pass: bad: cause", "goexit": "runtime.Goexit",
		} {
			s := state(t, l, k)
			if s.Failures != 11 || !strings.Contains(s.Message, want) {
				t.Errorf("%s: %d failures, %s", k, s.Failures, s.Message)
			}
			e, ok := errors.AsType[*rt.PanicError](s.Err)
			if !ok || (k != "goexit" && !strings.Contains(string(e.Stack), "trigger_test.go")) {
				t.Errorf("%s: no stack of the pass: %v", k, s.Err)
			}
		}
		if s := state(t, l, "error"); !errors.Is(s.Err, errCause) {
			t.Error("the error that was the panic's value is not found")
		}
		if s := state(t, l, "fine"); s.Outcome != rt.OutcomeOK || observed.Load() != 34 {
			t.Errorf("got %v, %d observations", s.Outcome, observed.Load())
		}
	})
}

var errCause = errors.New("cause")

// A key that was woken but waits for a worker is triggered: that makes one new pass, not two calls.
func TestTriggerOfAWokenKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			switch {
			case p.Key == "busy":
				time.Sleep(time.Minute)
			case p.Why == rt.CauseAdded:
				return rt.Wait("Wake")
			}
			return rt.OK()
		}, option{Workers: 1})
		set(t, l, "a", spec{})
		set(t, l, "busy", spec{})
		run(t, l)
		synctest.Wait()
		l.Wake("a")
		if s, err := l.Trigger("a", nil).Wait(t.Context()); err != nil || s.Passes != 1 {
			t.Errorf("got %+v, %v", s, err)
		}
		sleep(time.Hour)
		j.want(t, "0s a added", "0s busy added", "1m0s a requested")
	})
}

func TestRetryAfterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { return rt.Fail(behaves{after: 1000 * time.Hour}) }, option{})
		set(t, l, "a", spec{})
		run(t, l)
		synctest.Wait()
		if d := time.Until(state(t, l, "a").Due); d != 24*time.Hour {
			t.Errorf("due in %v, want 24h", d)
		}
	})
}

// The failures of a key are not those of its final pass.
func TestDeleteBeginsCountingAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { return rt.Fail(errCause) }, option{
			Finalizer: fn(func(_ context.Context, p pass) rt.Result {
				if p.Attempt != 0 {
					t.Errorf("attempt %d", p.Attempt)
				}
				return rt.OK()
			}),
		})
		set(t, l, "a", spec{})
		run(t, l)
		sleep(time.Hour)
		if _, err := l.Delete("a").Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
