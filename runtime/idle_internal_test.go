package runtime

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Nothing of a loop that has nothing to do wakes up before something is due: the test has its lock meanwhile, so that
// whatever wakes would wait for it, and fake time would not go on.
func TestIdleLoopSleeps(t *testing.T) {
	const keys = 10_000
	stuck := time.AfterFunc(time.Minute, func() { panic("something of an idle loop has woken up") }) // in real time
	defer stuck.Stop()
	synctest.Test(t, func(t *testing.T) {
		passes := make(chan struct{}, 3*keys)
		l, err := New(Func[int](func(context.Context, Pass[int]) Result { passes <- struct{}{}; return OK() }), nil)
		if err != nil {
			t.Fatal(err)
		}
		for k := range keys {
			spec := Spec[int]{}
			if k%2 == 0 {
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
		if len(passes) != keys {
			t.Fatalf("%d passes", len(passes))
		}
		l.mu.Lock()
		time.Sleep(24 * time.Hour)
		l.mu.Unlock()
		synctest.Wait()
		if len(passes) != keys {
			t.Errorf("%d passes of idle keys", len(passes)-keys)
		}
		time.Sleep(27 * time.Hour)
		synctest.Wait()
		if len(passes) != keys*3/2 {
			t.Errorf("%d passes at the interval", len(passes)-keys)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
