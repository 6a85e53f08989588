package runtime

import (
	"runtime/debug"
	"time"
)

// shutOut makes a key wait that may begin a pass only in a window, if none is open.
func (l *Loop[K]) shutOut(it *item[K]) bool {
	x := it.more
	if x == nil {
		return false
	}
	x.windowed = false
	if it.underway() {
		return false
	}
	opens, barred := l.barred(it)
	if !barred {
		return false
	}
	it.phase = PhaseIdle
	it.put(flagPending, true)
	x.windowed, x.shut = true, opens
	l.heed(it, opens)
	return true
}

// barred reports whether a new pass may not begin because no window is open, and when the first opens.
func (l *Loop[K]) barred(it *item[K]) (opens time.Time, barred bool) {
	if it.more == nil || len(it.more.windows) == 0 || it.has(flagDeleting) || it.forced() {
		return time.Time{}, false
	}
	opens, open := l.opens(it.more.windows, l.clock())
	return opens, !open
}

// opens returns whether a window is open at the time, and if not, when the first opens; zero if none does.
func (l *Loop[K]) opens(windows []Window, at time.Time) (opens time.Time, open bool) {
	for _, w := range windows {
		open, change := l.ask(w, at)
		if open {
			return time.Time{}, true
		}
		if change.After(at) && (opens.IsZero() || change.Before(opens)) {
			opens = change
		}
	}
	return opens, false
}

// ask takes a window that panics for one that does not open.
func (l *Loop[K]) ask(w Window, at time.Time) (open bool, change time.Time) {
	defer func() {
		if v := recover(); v != nil {
			l.opts.Log.Error("panic in a Window", "panic", v, "stack", string(debug.Stack()))
			open, change = false, time.Time{}
		}
	}()
	return w.At(at)
}

// closed says for people what a key waits for that is outside its windows.
func (x *details[K]) closed() string {
	if x.shut.IsZero() {
		return "a window that opens"
	}
	return "a window that opens at " + x.shut.Format(time.RFC3339)
}
