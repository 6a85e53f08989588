package share_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/share"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream counts what is fetched and what is closed.
type upstream struct {
	fetched, closed atomic.Int64
	size            int
	hold            chan struct{} // a fetch takes until it is closed, or its context ends
	err             error
}

func (u *upstream) Resolve(context.Context) (source.Revision, error) { return revision(), nil }

func (u *upstream) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	u.fetched.Add(1)
	if u.hold != nil {
		select {
		case <-u.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if u.err != nil {
		return nil, u.err
	}
	tree := fstest.MapFS{"a.yaml": {Data: make([]byte, u.size)}}
	return source.NewArtifact(rev, tree, &source.ArtifactOptions{
		Metadata: map[string]string{"a": "b"}, Verified: []source.Evidence{{Kind: "ssh"}},
		Close: func() error { u.closed.Add(1); return nil },
	}), nil
}

func revision() source.Revision {
	return source.Revision{Ref: "main", Digest: digest.Digest("sha1:5394cb7f48332b2de7c17dd8b8384bbc84b7e738")}
}

func (u *upstream) want(t *testing.T, fetched, closed int64) {
	t.Helper()
	synctest.Wait()
	if u.fetched.Load() != fetched || u.closed.Load() != closed {
		t.Errorf("fetched %d, closed %d, want %d and %d", u.fetched.Load(), u.closed.Load(), fetched, closed)
	}
}

func get(t *testing.T, c *share.Cache, key string, u *upstream) *source.Artifact {
	t.Helper()
	a, err := c.Fetch(t.Context(), key, revision(), u)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestOneFetch: everybody who comes while the content is there, or is coming,
// shares it; a copy that is closed does not disturb the others.
func TestOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, c := &upstream{hold: make(chan struct{})}, &share.Cache{}
		const users = 50
		got := make(chan *source.Artifact, users)
		for range users {
			go func() {
				a, err := c.Fetch(t.Context(), "k", revision(), u)
				if err != nil {
					t.Error(err)
				}
				got <- a
			}()
		}
		synctest.Wait()
		close(u.hold)
		first := <-got
		if first.Metadata["a"] != "b" || len(first.Verified) != 1 || first.Revision != revision() {
			t.Errorf("got %+v", first)
		}
		first.Metadata["a"] = "changed"
		if err := errors.Join(first.Close(), first.Close()); err != nil {
			t.Error(err)
		}
		for range users - 1 {
			a := <-got
			if _, err := fs.ReadFile(a, "a.yaml"); err != nil || a.Metadata["a"] != "b" {
				t.Error(err, a.Metadata)
			}
			_ = a.Close()
		}
		late := get(t, c, "k", u)
		u.want(t, 1, 0)
		_ = late.Close()
		time.Sleep(time.Minute) // of the bubble's clock
		u.want(t, 1, 1)
		_ = get(t, c, "k", u).Close()
		u.want(t, 2, 1)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		u.want(t, 2, 2)
	})
}

// TestKeys: another key is another fetch.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, c := &upstream{}, &share.Cache{}
		a, b := get(t, c, "robot", u), get(t, c, "nobody", u)
		u.want(t, 2, 0)
		if err := errors.Join(a.Close(), b.Close(), c.Close()); err != nil {
			t.Error(err)
		}
		u.want(t, 2, 2)
	})
}

// TestFailure is told to all who wait, and forgotten.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, c := &upstream{err: source.ErrUnauthorized}, &share.Cache{}
		for i := range 2 {
			if _, err := c.Fetch(t.Context(), "k", revision(), u); !errors.Is(err, source.ErrUnauthorized) {
				t.Errorf("got %v", err)
			}
			u.want(t, int64(i+1), 0)
		}
	})
}

// TestLeave: a fetch ends with the last who waits for it, not with the first.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, c := &upstream{hold: make(chan struct{})}, &share.Cache{}
		defer c.Close() //nolint:errcheck // nothing is kept
		cause := errors.New("enough")
		var leaves [2]context.CancelCauseFunc
		ended := make(chan error, len(leaves))
		for i := range leaves {
			ctx, cancel := context.WithCancelCause(t.Context())
			leaves[i] = cancel
			go func() {
				_, err := c.Fetch(ctx, "k", revision(), u)
				ended <- err
			}()
		}
		synctest.Wait()
		leaves[0](cause)
		if err := <-ended; !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
		u.want(t, 1, 0)
		leaves[1](cause)
		if err := <-ended; !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
		close(u.hold)
		_ = get(t, c, "k", u).Close()
		u.want(t, 2, 0)
		if _, err := c.Fetch(func() context.Context { ctx, end := context.WithCancel(t.Context()); end(); return ctx }(), "k", revision(), u); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestIdle keeps no more than it may.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, c := &upstream{size: 1000}, &share.Cache{Idle: 4000}
		for i := range 5 { // of 1512 bytes each: two stay
			_ = get(t, c, fmt.Sprint(i), u).Close()
		}
		u.want(t, 5, 3)
		_ = get(t, c, "4", u).Close()
		_ = get(t, c, "3", u).Close()
		u.want(t, 5, 3)
		large := &upstream{size: 5000}
		_ = get(t, c, "large", large).Close()
		large.want(t, 1, 1)
		u.want(t, 5, 3)
		held := get(t, c, "3", u)
		_ = c.Close()
		u.want(t, 5, 4)
		if _, err := fs.ReadFile(held, "a.yaml"); err != nil {
			t.Error(err)
		}
		_ = held.Close()
		u.want(t, 5, 5)
		none := &share.Cache{Idle: -1}
		_ = get(t, none, "a", large).Close()
		large.want(t, 2, 2)
	})
}

func ExampleCache() {
	src, cache := &upstream{size: 1000}, &share.Cache{}
	for range 3 {
		a, err := cache.Fetch(context.Background(), "https://example.com/app robot", revision(), src)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = a.Close()
	}
	_ = cache.Close()
	fmt.Println(src.fetched.Load(), "fetch")
	// Output: 1 fetch
}
