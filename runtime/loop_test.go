package runtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestIntervalExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes := 0
		l, err := rt.New(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result {
			passes++
			return rt.OK()
		}), &rt.Options[string]{Jitter: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Set("a", rt.Spec[string]{Interval: 10 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour+time.Second)
		defer cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if passes != 145 {
			t.Errorf("got %d passes in 24 h, want 145", passes)
		}
	})
}
