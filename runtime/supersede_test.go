package runtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// A pass that takes the place of one that was waiting answers the triggers of that one: their tickets, their token, and
// that one of them was forced. A pass after that answers none of them.
func TestSupersedingPassAnswersTheTrigger(t *testing.T) {
	for name, interrupt := range map[string]func(t *testing.T, l *rt.Loop[string]){
		"change":  func(t *testing.T, l *rt.Loop[string]) { set(t, l, "a", spec{Version: "2"}) },
		"trigger": func(_ *testing.T, l *rt.Loop[string]) { l.Trigger("a", nil) },
		"drain": func(t *testing.T, l *rt.Loop[string]) {
			all := func(string) bool { return true }
			if err := l.Drain(t.Context(), all); err != nil {
				t.Error(err)
			}
			l.Undrain(all)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				l := newLoop(t, func(_ context.Context, p pass) rt.Result {
					calls++
					switch answers := p.Token == "token" && p.Force; {
					case answers != (calls <= 2):
						t.Errorf("call %d, for %v: token %q, force %v", calls, p.Why, p.Token, p.Force)
					case calls == 1:
						return rt.Wait("health")
					}
					return rt.OK()
				}, option{})
				set(t, l, "a", spec{Version: "1"})
				ticket := l.Trigger("a", &rt.TriggerOptions{Token: "token", Force: true})
				run(t, l)
				sleep(time.Minute)
				interrupt(t, l)
				if s, err := ticket.Wait(t.Context()); err != nil || s.Token != "token" {
					t.Errorf("%+v, %v", s, err)
				}
				synctest.Wait()
				if _, err := l.Trigger("a", nil).Wait(t.Context()); err != nil {
					t.Error(err)
				}
				if s := state(t, l, "a"); calls != 3 || s.Token != "token" {
					t.Errorf("%d calls, %+v", calls, s)
				}
			})
		})
	}
}
