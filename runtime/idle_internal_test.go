package runtime

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// Nothing of a loop that has nothing to do wakes up before something is due: the test has its lock meanwhile, so that
// whatever wakes would wait for it, and fake time would not go on.
func TestIdleLoopSleeps(t *testing.T) {
	for _, due := range []int{0, idleKeys / 2} { // keys of which a pass is due after the day
		t.Run(strconv.Itoa(due), func(t *testing.T) { idleDay(t, due) })
	}
}

const idleKeys = 10_000

func idleDay(t *testing.T, due int) {
	stuck := time.AfterFunc(time.Minute, func() { panic("something of an idle loop has woken up") }) // in real time
	defer stuck.Stop()
	synctest.Test(t, func(t *testing.T) {
		passes := make(chan struct{}, 3*idleKeys)
		l, err := New(Func[int](func(context.Context, Pass[int]) Result { passes <- struct{}{}; return OK() }), nil)
		if err != nil {
			t.Fatal(err)
		}
		for k := range idleKeys {
			spec := Spec[int]{}
			if k < due {
				spec.Interval = 48 * time.Hour
			}
			if err := l.Set(k, spec); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		synctest.Wait()
		if len(passes) != idleKeys {
			t.Fatalf("%d passes", len(passes))
		}
		l.mu.Lock()
		time.Sleep(24 * time.Hour)
		l.mu.Unlock()
		synctest.Wait()
		if len(passes) != idleKeys {
			t.Errorf("%d passes of idle keys", len(passes)-idleKeys)
		}
		time.Sleep(27 * time.Hour)
		synctest.Wait()
		if len(passes) != idleKeys+due {
			t.Errorf("%d passes at the interval", len(passes)-idleKeys)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
