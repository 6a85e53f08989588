package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/runtime/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issuer gives out numbered tokens that live for an hour.
type issuer struct {
	mu    sync.Mutex
	count int
	err   error
	takes time.Duration
	life  time.Duration
}

func (i *issuer) issue(ctx context.Context) (auth.Token, error) {
	select {
	case <-time.After(i.takes):
	case <-ctx.Done():
		return auth.Token{}, ctx.Err()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	if i.err != nil {
		return auth.Token{}, i.err
	}
	life := i.life
	if life == 0 {
		life = time.Hour
	}
	return auth.Token{Value: fmt.Sprint(i.count), Expires: time.Now().Add(life)}, nil
}

// counts are the events of a cache.
type counts struct {
	mu sync.Mutex
	m  map[auth.Event]int
}

func (c *counts) observe(e auth.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[auth.Event]int{}
	}
	c.m[e]++
}

// TestLife: a token serves for four fifths of its life, then there is a new one.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events counts
		cache, i := &auth.Cache{Observe: events.observe}, &issuer{}
		var got []string
		for range 13 { // at 0, 10, 20 … 120 minutes
			token, err := cache.Get(t.Context(), "a", i.issue)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, token.Value)
			time.Sleep(10 * time.Minute)
		}
		if want := "1 1 1 1 1 2 2 2 2 2 3 3 3"; strings.Join(got, " ") != want {
			t.Errorf("%q, want %q", got, want)
		}
		if diff := cmp.Diff(map[auth.Event]int{auth.Hit: 10, auth.Miss: 3}, events.m); diff != "" {
			t.Error(diff)
		}
		if _, err := cache.Get(t.Context(), "b", i.issue); err != nil || cache.Len() != 2 {
			t.Error(err, cache.Len())
		}
	})
}

// TestSingleFlight: a hundred callers are one question; one who leaves gets the end of its context, and the others the
// token; when all have left, the issuer is told.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache, i := &auth.Cache{}, &issuer{takes: time.Minute}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() { // the first, who asks
			if _, err := cache.Get(impatient, "a", i.issue); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 99 {
			all.Go(func() {
				if token, err := cache.Get(t.Context(), "a", i.issue); err != nil || token.Value != "1" {
					t.Error(token.Value, err)
				}
			})
		}
		all.Wait()
		var told atomic.Bool
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := cache.Get(short, "b", func(ctx context.Context) (auth.Token, error) {
			<-ctx.Done()
			told.Store(true)
			return auth.Token{}, ctx.Err()
		})
		synctest.Wait()
		if !errors.Is(err, context.DeadlineExceeded) || !told.Load() {
			t.Error(err, told.Load())
		}
		if token, err := cache.Get(t.Context(), "b", i.issue); err != nil || token.Value == "" {
			t.Error(err)
		}
		if _, err := cache.Get(short, "a", i.issue); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that is over: %v", err)
		}
	})
}

type rest time.Duration

func (r rest) Error() string             { return "slow down" }
func (r rest) RetryAfter() time.Duration { return time.Duration(r) }

// TestFailures: an old token serves while there is no new one; errors are not kept, unless they ask for rest.
func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events counts
		cache, i := &auth.Cache{Observe: events.observe}, &issuer{}
		get := func() (string, error) {
			token, err := cache.Get(t.Context(), "a", i.issue)
			return token.Value, err
		}
		if _, err := get(); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		i.err = broken
		time.Sleep(50 * time.Minute)
		for range 20 { // within a minute: it is asked twice
			if got, err := get(); got != "1" || err != nil {
				t.Error(got, err)
			}
			time.Sleep(3 * time.Second)
		}
		if i.count != 3 || events.m[auth.Stale] != 2 {
			t.Errorf("asked %d times: %v", i.count, events.m)
		}
		time.Sleep(10 * time.Minute) // now it is over
		for range 3 {
			if got, err := get(); got != "" || !errors.Is(err, broken) {
				t.Error(got, err)
			}
		}
		if i.count != 6 || cache.Len() != 0 {
			t.Errorf("asked %d times, %d are kept", i.count, cache.Len())
		}
		i.err = rest(time.Minute)
		for range 59 {
			if _, err := get(); !errors.Is(err, i.err) {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		if i.count != 7 {
			t.Errorf("asked %d times though it wants rest", i.count-6)
		}
		i.err = nil
		time.Sleep(time.Second)
		if got, err := get(); got != "8" || err != nil {
			t.Error(got, err)
		}
		i.life = -time.Second
		for range 2 { // what is over when it comes is passed on, and not kept
			cache.Forget("a")
			if _, err := get(); err != nil {
				t.Error(err)
			}
		}
		if cache.Len() != 0 {
			t.Error("it is kept")
		}
	})
}

// TestBound: the one that was not used for longest makes room.
func TestBound(t *testing.T) {
	var events counts
	cache, i := &auth.Cache{Max: 2, Observe: events.observe}, &issuer{}
	for _, key := range strings.Fields("a b a c a b") { // b is issued, evicted, and issued again
		if _, err := cache.Get(t.Context(), key, i.issue); err != nil {
			t.Fatal(err)
		}
	}
	if want := map[auth.Event]int{auth.Hit: 2, auth.Miss: 4, auth.Eviction: 2}; i.count != 4 || cache.Len() != 2 || !cmp.Equal(events.m, want) {
		t.Errorf("%d issued, %d kept, %v", i.count, cache.Len(), events.m)
	}
}

// TestForget: what is forgotten is asked for again, also if it is on its way.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache, i := &auth.Cache{}, &issuer{takes: time.Second}
		got := make(chan string, 2)
		ask := func() {
			token, err := cache.Get(t.Context(), "a", i.issue)
			if err != nil {
				t.Error(err)
			}
			got <- token.Value
		}
		go ask()
		synctest.Wait()
		cache.Forget("a")
		time.Sleep(500 * time.Millisecond)
		go ask()
		if first, second := <-got, <-got; first != "1" || second != "2" {
			t.Error(first, second)
		}
		if token, err := cache.Get(t.Context(), "a", i.issue); err != nil || token.Value != "2" {
			t.Errorf("kept: %q, %v", token.Value, err)
		}
	})
}

// TestIssuerEnds: an issuer that leaves its goroutine does not leave its callers waiting.
func TestIssuerEnds(t *testing.T) {
	cache := &auth.Cache{}
	_, err := cache.Get(t.Context(), "a", func(context.Context) (auth.Token, error) {
		runtime.Goexit()
		return auth.Token{}, nil
	})
	if err == nil {
		t.Error("no error")
	}
}

// TestTokenIsSecret, however it is printed.
func TestTokenIsSecret(t *testing.T) {
	token := auth.Token{Value: "canary", Expires: time.Now()}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token)
	for _, s := range []string{fmt.Sprint(token), fmt.Sprintf("%+v %#v %q", token, token, token), log.String(), auth.Token{Value: "canary"}.String()} {
		if strings.Contains(s, "canary") {
			t.Error(s)
		}
	}
}

func Example() {
	cache := &auth.Cache{Observe: func(e auth.Event) { fmt.Println(e) }}
	for range 2 {
		token, err := cache.Get(context.Background(), "robot", func(context.Context) (auth.Token, error) {
			return auth.Token{Value: "secret", Expires: time.Now().Add(time.Hour)}, nil
		})
		fmt.Println(len(token.Value), err)
	}
	// Output:
	// miss
	// 6 <nil>
	// hit
	// 6 <nil>
}
