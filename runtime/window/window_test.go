package window_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/window"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _, _ rt.Window = (*window.Cron)(nil), window.Not(nil)

func bucharest(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Bucharest")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func TestAt(t *testing.T) {
	const layout = "2006-01-02 15:04:05.999999999 MST"
	zone := bucharest(t)
	office := &window.Cron{Start: "0 9 * * 1-5", Duration: 8 * time.Hour, Zone: "Europe/Bucharest"}
	night := &window.Cron{Start: "30 3 * * *", Duration: 30 * time.Minute, Zone: "Europe/Bucharest"}
	long := &window.Cron{Start: "0 22 * * 6", Duration: 8 * time.Hour, Zone: "Europe/Bucharest"}
	for _, tc := range []struct {
		name   string
		w      window.Window
		at     string
		open   bool
		change string
	}{
		{"before", office, "2026-03-27 08:59:59.999999999 EET", false, "2026-03-27 09:00:00 EET"},
		{"at the start", office, "2026-03-27 09:00:00 EET", true, "2026-03-27 17:00:00 EET"},
		{"before the end", office, "2026-03-27 16:59:59.999999999 EET", true, "2026-03-27 17:00:00 EET"},
		{"at the end, on a Friday before the clocks go forward", office, "2026-03-27 17:00:00 EET", false, "2026-03-30 09:00:00 EEST"},
		{"on the Monday after", office, "2026-03-30 09:00:00 EEST", true, "2026-03-30 17:00:00 EEST"},
		{"on a Friday before they go back", office, "2026-10-23 18:00:00 EEST", false, "2026-10-26 09:00:00 EET"},
		{"on the Monday after that", office, "2026-10-26 16:00:00 EET", true, "2026-10-26 17:00:00 EET"},
		{"a start that is left out", night, "2026-03-29 02:00:00 EET", false, "2026-03-30 03:30:00 EEST"},
		{"a start that comes twice, the first", night, "2026-10-25 03:40:00 EEST", true, "2026-10-25 03:00:00 EET"},
		{"between", night, "2026-10-25 03:10:00 EET", false, "2026-10-25 03:30:00 EET"},
		{"the second", night, "2026-10-25 03:40:00 EET", true, "2026-10-25 04:00:00 EET"},
		{"a night that is shorter", long, "2026-03-28 23:00:00 EET", true, "2026-03-29 07:00:00 EEST"},
		{"a night that is longer", long, "2026-10-24 23:00:00 EEST", true, "2026-10-25 05:00:00 EET"},
		{"turned round", window.Not(office), "2026-03-27 09:00:00 EET", false, "2026-03-27 17:00:00 EET"},
		{"turned round, open", window.Not(office), "2026-03-27 17:00:00 EET", true, "2026-03-30 09:00:00 EEST"},
		{"overlapping starts", &window.Cron{Start: "0 * * * 1", Duration: 90 * time.Minute}, "2026-03-23 12:00:00 UTC", true, "2026-03-24 00:30:00 UTC"},
		{"touching starts", &window.Cron{Start: "0 8,9 * * *", Duration: time.Hour}, "2026-03-23 08:30:00 UTC", true, "2026-03-23 10:00:00 UTC"},
		{"a day that is rare", &window.Cron{Start: "0 0 29 2 *", Duration: time.Hour}, "2026-03-23 08:30:00 UTC", false, "2028-02-29 00:00:00 UTC"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at, err := time.ParseInLocation(layout, tc.at, zone)
			if err != nil {
				t.Fatal(err)
			}
			open, change := tc.w.At(at)
			if got := change.In(at.Location()).Format(layout); open != tc.open || got != tc.change {
				t.Errorf("got %t until %s, want %t until %s", open, got, tc.open, tc.change)
			}
			if again, _ := tc.w.At(change); again == open {
				t.Errorf("nothing changes at %v", change)
			}
			if before, _ := tc.w.At(change.Add(-1)); before != open {
				t.Errorf("something changes before %v", change)
			}
		})
	}
}

func TestMistakesNameTheirField(t *testing.T) {
	l, err := rt.New(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result { return rt.OK() }), nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, w := range map[string]rt.Window{
		`runtime: set k: Windows[1]: Start: "often":`:                    &window.Cron{Start: "often", Duration: 1},
		`Windows[1]: Start: "": `:                                        &window.Cron{Duration: 1},
		`Windows[1]: Start: "@every 1h": want times`:                     &window.Cron{Start: "@every 1h", Duration: 1},
		`Windows[1]: Start: "TZ=UTC 0 9 * * *": name the zone`:           &window.Cron{Start: "TZ=UTC 0 9 * * *", Duration: 1},
		`Windows[1]: Start: "0 0 30 2 *": comes on no day`:               &window.Cron{Start: "0 0 30 2 *", Duration: 1},
		`Windows[1]: Start: an expression of 2000 bytes`:                 &window.Cron{Start: strings.Repeat("0", 2000), Duration: 1},
		`Windows[1]: Zone: "Mars": want the IANA name`:                   &window.Cron{Start: "@daily", Duration: 1, Zone: "Mars"},
		`Windows[1]: Zone: "Local": want the IANA name`:                  &window.Cron{Start: "@daily", Duration: 1, Zone: "Local"},
		`Windows[1]: Duration: 0s, want more than 0; Zone: "../etc": wa`: &window.Cron{Start: "@daily", Zone: "../etc"},
		`Windows[1]: Duration: -1ns`:                                     window.Not(&window.Cron{Start: "@daily", Duration: -1}),
		`Windows[1]: Not: no window`:                                     window.Not(nil),
		`Windows[1] is nil`:                                              nil,
	} {
		ok := &window.Cron{Start: "@daily", Duration: time.Hour}
		err := l.Set("k", rt.Spec[string]{Windows: []rt.Window{ok, w}})
		var spec *rt.SpecError
		var bad *window.Error
		if !errors.As(err, &spec) || !strings.Contains(err.Error(), want) || w != nil && (!errors.As(err, &bad) || !bad.Terminal()) {
			t.Errorf("got %v, want %s", err, want)
		}
		if w != nil {
			if open, change := w.At(time.Now()); open || !change.IsZero() {
				t.Errorf("%s: it opens", want)
			}
		}
	}
	if l.Len() != 0 {
		t.Error("the key was set")
	}
}

// A change on a Saturday is carried out on Monday at nine, a forced trigger now; on the weekends when the clocks are
// changed, too.
func TestLoopKeepsToOfficeHours(t *testing.T) {
	zone := bucharest(t)
	for name, friday := range map[string]time.Time{
		"clocks go forward": time.Date(2026, 3, 27, 12, 0, 0, 0, zone),
		"clocks go back":    time.Date(2026, 10, 23, 12, 0, 0, 0, zone),
		"summer":            time.Date(2026, 7, 3, 12, 0, 0, 0, zone),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(friday))
				var passes []string
				l, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
					passes = append(passes, time.Now().In(zone).Format("Mon 15:04 ")+p.Why.String())
					return rt.OK()
				}), &rt.Options[string]{Jitter: -1})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- l.Run(ctx) }()
				spec := rt.Spec[string]{Interval: 3 * time.Hour, Windows: []rt.Window{
					&window.Cron{Start: "0 9 * * 1-5", Duration: 8 * time.Hour, Zone: "Europe/Bucharest"},
				}}
				set := func() {
					if err := l.Set("a", spec); err != nil {
						t.Error(err)
					}
				}
				set()
				time.Sleep(27 * time.Hour) // to Saturday
				spec.Version = "2"
				set()
				ticket := l.Trigger("a", nil)
				time.Sleep(time.Hour)
				s, _ := l.Get("a")
				monday := time.Date(friday.Year(), friday.Month(), friday.Day()+3, 9, 0, 0, 0, zone)
				if want := "a window that opens at " + monday.Format(time.RFC3339); len(s.Waiting) != 1 || s.Waiting[0] != want || !s.Due.Equal(monday) {
					t.Errorf("got %+v, want %s", s, want)
				}
				if _, err := ticket.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Until(monday.Add(10 * time.Hour)))
				if _, err := l.Trigger("a", &rt.TriggerOptions{Force: true}).Wait(t.Context()); err != nil {
					t.Error(err)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				got := strings.Join(passes, ", ")
				want := "Fri 12:00 added, Fri 15:00 interval, Mon 09:00 changed+interval+requested, Mon 12:00 interval, Mon 15:00 interval, Mon 19:00 interval+requested"
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		})
	}
}

func FuzzCron(f *testing.F) {
	f.Add("0 9 * * 1-5", "Europe/Bucharest", int64(8*time.Hour), int64(0))
	f.Add("*/7 1-5,7 1 * ?", "", int64(time.Second), int64(1<<40))
	f.Add("@daily", "America/Sao_Paulo", int64(100*24*time.Hour), int64(-1<<40))
	f.Fuzz(func(t *testing.T, start, zone string, d, at int64) {
		c := &window.Cron{Start: start, Zone: zone, Duration: time.Duration(d)}
		now := time.Unix(at%(1<<34), 0)
		open, change := c.At(now)
		if c.Validate() != nil && (open || !change.IsZero()) {
			t.Error("a window with a mistake opens")
		}
		if !change.IsZero() && !change.After(now) {
			t.Errorf("at %v the next change is %v", now, change)
		}
	})
}
