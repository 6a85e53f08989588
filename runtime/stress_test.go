package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// TestStress makes calls from many goroutines in real time, for the race detector.
func TestStress(t *testing.T) {
	var running sync.Map
	l := newLoop(t, func(_ context.Context, p pass) rt.Result {
		if _, twice := running.LoadOrStore(p.Key, true); twice {
			t.Errorf("%s: two passes at a time", p.Key)
		}
		defer running.Delete(p.Key)
		switch rand.IntN(6) {
		case 0:
			return rt.Fail(errors.New("x"))
		case 1:
			return rt.Wait("x", rt.WakeAfter(time.Microsecond), rt.WakeKey("k1"))
		case 2:
			return rt.Wait("x", rt.WakeWhen(func(context.Context) {}))
		}
		return rt.OK()
	}, option{
		Workers: 4, Observe: func(rt.Observation[string]) {},
		Finalizer: fn(func(context.Context, pass) rt.Result { return rt.OK() }),
	})
	run(t, l)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 3000 {
				k := fmt.Sprint("k", rand.IntN(20))
				switch rand.IntN(8) {
				case 0, 1:
					s := spec{Interval: time.Millisecond, Retry: rt.Fixed(time.Millisecond), Version: fmt.Sprint(rand.IntN(3))}
					s.Group, s.Priority = fmt.Sprint(rand.IntN(3)), int8(rand.IntN(3))
					if rand.IntN(3) == 0 {
						s.DependsOn = rt.On(fmt.Sprint("k", rand.IntN(20)))
					}
					var cycle *rt.CycleError
					if err := l.Set(k, s); err != nil && !errors.As(err, &cycle) {
						t.Error(err)
					}
				case 2:
					l.Delete(k)
				case 3:
					_ = l.Suspend(k, rt.Suspension{Until: time.Now().Add(time.Millisecond)})
				case 4:
					l.Wake(k)
				case 5:
					for range l.All() {
					}
					l.Undrain(nil)
				case 6:
					if rand.IntN(50) == 0 {
						if err := l.Drain(context.Background(), func(d string) bool { return d == k }); err != nil {
							t.Error(err)
						}
					}
				default:
					l.Trigger(k, nil)
				}
			}
		})
	}
	callers.Wait()
}
