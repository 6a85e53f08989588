package kube

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"sigs.k8s.io/controller-runtime/pkg/client"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// An observer that hangs holds up nobody who deletes; the end of an object is told after its last pass and before the
// first one of the next object of the name, once, and never while something else is told of it.
func TestObserverIsToldOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, other := client.ObjectKey{Name: "a"}, client.ObjectKey{Name: "b"}
		var mu sync.Mutex
		told := map[client.ObjectKey][]string{}
		hang := make(chan struct{})
		o := newObserver(func(p rt.Observation[client.ObjectKey]) {
			mu.Lock()
			told[p.Key] = append(told[p.Key], p.State.Phase.String())
			mu.Unlock()
			<-hang
			mu.Lock()
			defer mu.Unlock()
			told[p.Key] = append(told[p.Key], "")
		}, slog.New(slog.DiscardHandler))
		passes := make(chan struct{})
		l, err := rt.New(rt.Func[client.ObjectKey](func(ctx context.Context, _ rt.Pass[client.ObjectKey]) rt.Result {
			select {
			case <-passes:
			case <-ctx.Done():
			}
			return rt.OK()
		}), &rt.Options[client.ObjectKey]{Observe: o.pass})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		set := func(k client.ObjectKey) {
			if err := l.Set(k, rt.Spec[client.ObjectKey]{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		set(key)
		passes <- struct{}{} // its observer hangs
		synctest.Wait()
		o.dropped(key, l.Delete(key)) // does not
		set(key)                      // again, before the end is told
		set(other)
		o.dropped(other, l.Delete(other)) // whose pass is ended for it
		synctest.Wait()
		close(hang)
		synctest.Wait()
		passes <- struct{}{}
		synctest.Wait()
		o.dropped(key, l.Delete(key))
		synctest.Wait()
		if want := []string{"idle", "", "gone", "", "idle", "", "gone", ""}; !slices.Equal(told[key], want) {
			t.Errorf("told %q, want %q", told[key], want)
		}
		if want := []string{"gone", ""}; !slices.Equal(told[other], want) {
			t.Errorf("told %q, want %q", told[other], want)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(o.gone)+len(o.busy) > 0 || o.telling {
			t.Errorf("%v and %v are left", o.gone, o.busy)
		}
	})
}
