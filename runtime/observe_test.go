package runtime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// What happens while the observer is told is not overlooked: the key is free only after it.

func TestDeleteWhileObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{
			Observe: func(rt.Observation[string]) { time.Sleep(time.Second) },
			Finalizer: fn(func(_ context.Context, p pass) rt.Result {
				j.add(p)
				return rt.OK()
			}),
		})
		set(t, l, "a", spec{})
		set(t, l, "blocked", spec{DependsOn: rt.On("nothing")})
		run(t, l)
		synctest.Wait()
		for _, ticket := range []*rt.Ticket{l.Delete("a"), l.Delete("blocked")} {
			if _, err := ticket.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := j.times; len(got["a"]) != 2 || got["a"][1] != time.Second || len(got["blocked"]) != 1 {
			t.Errorf("got %v", j.lines)
		}
	})
}

func TestDeleteWhileObservedWithoutFinalizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, func(context.Context, pass) rt.Result { return rt.OK() }, option{
			Observe: func(rt.Observation[string]) { time.Sleep(time.Second) },
		})
		set(t, l, "a", spec{})
		trigger := l.Trigger("a", nil)
		run(t, l)
		synctest.Wait()
		if s, err := l.Delete("a").Wait(t.Context()); err != nil || s.Phase != rt.PhaseGone || s.Outcome != rt.OutcomeOK {
			t.Errorf("got %+v, %v", s, err)
		}
		if _, err := trigger.Wait(t.Context()); !errors.Is(err, rt.ErrDeleted) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTriggerAndStopWhileObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{
			Observe: func(rt.Observation[string]) { time.Sleep(time.Second) },
		})
		set(t, l, "a", spec{Interval: time.Hour})
		set(t, l, "blocked", spec{DependsOn: rt.On("nothing")})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		ticket := l.Trigger("a", nil)
		sleep(time.Second)
		lost := l.Trigger("a", nil)
		l.Trigger("blocked", nil)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s, err := ticket.Wait(canceled()); err != nil || s.Passes != 2 {
			t.Errorf("got %+v, %v", s, err)
		}
		if _, err := lost.Wait(canceled()); !errors.Is(err, rt.ErrStopped) {
			t.Errorf("got %v", err)
		}
		j.want(t, "0s a added", "1s a requested")
	})
}

// A dependency that becomes ready just when its dependent is being held back.
func TestReadyWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(time.Second)
			return rt.OK()
		}, option{Observe: func(o rt.Observation[string]) {
			if o.State.Phase == rt.PhaseBlocked {
				time.Sleep(time.Minute) // a ends its pass meanwhile
			}
		}})
		set(t, l, "b", spec{DependsOn: rt.On("a")})
		set(t, l, "a", spec{})
		run(t, l)
		sleep(time.Hour)
		if n := j.count("b"); n != 1 {
			t.Errorf("got %d passes, want 1", n)
		}
	})
}
