package tenancy

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// TestWorkers: fifty objects of a cluster that gives no answer share two workers with one of another cluster. That one
// waits for a worker no longer than a request's patience, and most of the time not at all.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := &reaching{reach: &reach{host: "dead"}, patience: 30 * time.Second, base: tripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		ask := func(ctx context.Context) error {
			r, err := http.NewRequestWithContext(ctx, "GET", "https://dead", nil)
			if err != nil {
				return err
			}
			resp, err := way.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		var mu sync.Mutex
		var good []time.Time
		ctx, cancel := context.WithCancel(t.Context())
		loop, err := rt.New(rt.Func[string](func(ctx context.Context, p rt.Pass[string]) rt.Result {
			if strings.HasPrefix(p.Key, "dead") {
				return rt.Of(ask(ctx))
			}
			mu.Lock()
			defer mu.Unlock()
			good = append(good, time.Now())
			return rt.OK()
		}), &rt.Options[string]{Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			if err := loop.Set("dead"+string(rune('A'+i)), rt.Spec[string]{Retry: rt.Backoff{Min: time.Second, Max: time.Second}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := loop.Set("good", rt.Spec[string]{Interval: time.Second}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- loop.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var longest time.Duration
		for i := 1; i < len(good); i++ {
			longest = max(longest, good[i].Sub(good[i-1]))
		}
		if longest > 32*time.Second || len(good) < 1700 { // of 1800
			t.Errorf("%d passes in 1800 seconds, the longest pause is %s", len(good), longest)
		}
	})
}
