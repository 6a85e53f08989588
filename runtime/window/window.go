// Package window has maintenance windows for the loop of package runtime: spans of time that begin by a cron expression
// in a time zone.
//
//	hours := &window.Cron{Start: "0 9 * * 1-5", Duration: 8 * time.Hour, Zone: "Europe/Bucharest"}
//	err := loop.Set("clusters/eu", rt.Spec[string]{
//		Interval: 10 * time.Minute,
//		Windows:  []rt.Window{hours}, // passes begin Monday to Friday from 09:00 to 17:00
//	})
//
// A key may have several windows: it is enough that one of them is open. A [Not] is a freeze.
//
// # Errors
//
// Validate says what is wrong with a window, as a [*Error] that names the field; Set of the loop asks it. A window
// with an error never opens.
//
// # Concurrency
//
// Windows are safe for concurrent use, and must not be changed or copied once they are in use. The time zones are part
// of the package, so that it does not matter whether the machine has any.
//
// # What it does not do
//
// A window does not end a pass that has begun in it, and knows no holidays.
package window

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the zones, for machines that have none

	"github.com/robfig/cron/v3"
)

// Cron is a window that opens by a cron expression. It is used by pointer.
//
// Where clocks are put forward, a start at a time of day that is left out does not take place on that day. Where they
// are put back, a start at a time of day that comes twice takes place twice.
type Cron struct {
	// Start is when the window opens: minute, hour, day of the month, month and day of the week, as in
	// crontab(5), or a descriptor like "@daily". It names no zone and is not "@every".
	Start string
	// Duration is how long the window stays open; more than 0. It is a length of time: on a night when the clocks are
	// changed, a window of 8 hours that opens before closes 8 hours later, by the clock 7 or 9.
	Duration time.Duration
	// Zone is the IANA name of the time zone of Start, for instance "Europe/Bucharest"; "" means UTC.
	Zone string

	once     sync.Once
	schedule *cron.SpecSchedule
	err      error
}

// Error says what is wrong with a field of a window.
type Error struct {
	// Field is the name of the field.
	Field string
	// Err is what is wrong.
	Err error
}

func (e *Error) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Terminal reports true: only another window can help.
func (e *Error) Terminal() bool { return true }

// Validate returns a [*Error] for each field that cannot be, joined; nil if there is none.
func (c *Cron) Validate() error {
	c.once.Do(func() { c.schedule, c.err = c.compile() })
	return c.err
}

func (c *Cron) compile() (*cron.SpecSchedule, error) {
	var errs []error
	bad := func(field string, err error) { errs = append(errs, &Error{field, err}) }
	if c.Duration <= 0 {
		bad("Duration", fmt.Errorf("%v, want more than 0", c.Duration))
	}
	zone, err := location(c.Zone)
	if err != nil {
		bad("Zone", err)
	}
	schedule, err := parse(c.Start)
	if err != nil {
		bad("Start", err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	schedule.Location = zone
	if schedule.Next(time.Now()).IsZero() {
		return nil, &Error{"Start", fmt.Errorf("%q: comes on no day of the next five years", c.Start)}
	}
	return schedule, nil
}

func location(zone string) (*time.Location, error) {
	if zone == "Local" {
		return nil, errors.New(`"Local": want the IANA name of a zone, or "" for UTC`)
	}
	l, err := time.LoadLocation(zone)
	if err != nil {
		return nil, fmt.Errorf("%q: want the IANA name of a zone, like Europe/Bucharest", zone)
	}
	return l, nil
}

// maxStart bounds the expression, which may come from users.
const maxStart = 1024

func parse(start string) (*cron.SpecSchedule, error) {
	if len(start) > maxStart {
		return nil, fmt.Errorf("an expression of %d bytes, want %d at most", len(start), maxStart)
	}
	if strings.HasPrefix(start, "TZ=") || strings.HasPrefix(start, "CRON_TZ=") {
		return nil, fmt.Errorf("%q: name the zone in the field Zone", start)
	}
	schedule, err := cron.ParseStandard(start)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", start, err)
	}
	spec, ok := schedule.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("%q: want times of the clock", start)
	}
	return spec, nil
}

// maxStarts bounds how many overlapping starts are followed to find where a window closes.
const maxStarts = 1000

// At reports whether the window is open at t, and when that changes next, in the window's zone; the zero time if it
// does not change. Where a window opens again before it has closed, it stays open.
func (c *Cron) At(t time.Time) (open bool, change time.Time) {
	if c.Validate() != nil {
		return false, time.Time{}
	}
	// The first start that is less than Duration ago, or the next one. Next is exact to the second, and starts are
	// at whole ones.
	start := c.schedule.Next(t.Add(-c.Duration).In(c.schedule.Location))
	if start.IsZero() || start.After(t) {
		return false, start
	}
	end := start.Add(c.Duration)
	for range maxStarts {
		next := c.schedule.Next(start)
		if next.IsZero() || next.After(end) {
			break
		}
		start, end = next, next.Add(c.Duration)
	}
	return true, end
}

// Window is what the loop asks: whether it is open at a time, and when that changes.
type Window interface {
	At(t time.Time) (open bool, change time.Time)
}

// Not returns the window that is open when w is not, for instance for a change freeze.
func Not(w Window) Window { return not{w} }

type not struct{ w Window }

func (n not) At(t time.Time) (bool, time.Time) {
	if n.Validate() != nil {
		return false, time.Time{}
	}
	open, change := n.w.At(t)
	return !open, change
}

// Validate is that of the window that is turned round.
func (n not) Validate() error {
	if v, ok := n.w.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	if n.w == nil {
		return &Error{"Not", errors.New("no window")}
	}
	return nil
}
