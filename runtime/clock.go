package runtime

import "time"

// maxUnseen is after what time a jump of the wall clock is noticed, while a key waits for a time of it.
const maxUnseen = time.Minute

// until is how long it is by the wall clock to t. Unlike time.Until it takes no notice of the monotonic clock, which
// does not go on while the machine sleeps and does not follow when somebody sets the time.
func (l *Loop[K]) until(t time.Time) time.Duration { return t.Round(0).Sub(l.clock().Round(0)) }

// skew is how far the wall clock has moved against the clock of the loop.
func (l *Loop[K]) skew(now int64) time.Duration {
	return l.clock().Round(0).Sub(l.base.Round(0)) - time.Duration(now)
}

// heed plans it for a time of the wall clock, and has it looked at again when that is set; the zero time is never, as
// far as one knows.
func (l *Loop[K]) heed(it *item[K], at time.Time) {
	if l.heeding == nil {
		l.heeding = make(map[*item[K]]struct{})
	}
	l.heeding[it] = struct{}{}
	if len(l.heeding) == 1 {
		l.nudge()
	}
	due := int64(0)
	if !at.IsZero() {
		due = later(l.now(), l.until(at))
	}
	l.plan(it, due)
}

// nudge has keepTime look at what is due.
func (l *Loop[K]) nudge() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// heeds returns when it is due by the wall clock as that is now, and whether it waits for a time of it at all.
func (l *Loop[K]) heeds(it *item[K], now int64) (due int64, some bool) {
	switch {
	case l.items[it.key] != it || it.more == nil && it.act == nil:
	case it.phase == PhaseWaiting:
		if p := it.act.park; !p.at.IsZero() {
			due = later(now, l.until(p.at))
			if p.due != 0 {
				due = min(due, p.due)
			}
			return due, true
		}
	case it.phase != PhaseIdle || it.has(flagDeleting):
	case it.suspended() != nil:
		if until := it.more.suspend.Until; !until.IsZero() {
			return later(now, l.until(until)), true
		}
	}
	return 0, false
}

// waitsForWindow reports whether a key has something to do when a window opens.
func (it *item[K]) waitsForWindow() bool {
	return it.phase == PhaseIdle && it.has(flagPending) && !it.has(flagDrained) && it.more != nil && it.more.windowed
}

// watchClock has keys that wait for a time of the wall clock follow it, once a minute and when it has jumped, and
// returns by when it is to be called again; 0 is never.
func (l *Loop[K]) watchClock(now int64) (again time.Duration) {
	if len(l.heeding) == 0 {
		return 0
	}
	const slew = time.Second // by so much the clocks may drift apart; what is due is compared once more
	skew := l.skew(now)
	jumped := (skew - l.skewed).Abs() >= slew
	if left := l.looked + int64(maxUnseen) - now; !jumped && left > 0 {
		return time.Duration(left)
	}
	l.looked = now
	if jumped {
		l.skewed = skew
	}
	for it := range l.heeding {
		due, some := l.heeds(it, now)
		switch {
		case some:
			l.delayed.set(it, due)
		case l.items[it.key] != it || !it.waitsForWindow():
			delete(l.heeding, it)
		case jumped:
			l.enqueue(it) // which asks the windows again
		}
	}
	if len(l.heeding) == 0 {
		return 0
	}
	return maxUnseen
}
