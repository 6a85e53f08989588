package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// roundTripper answers requests with a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// stubLock is a lock whose writes take a time.
type stubLock struct {
	resourcelock.Interface
	takes  time.Duration
	err    error
	holder string
}

func (l *stubLock) Identity() string { return "me" }
func (l *stubLock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: l.holder}, nil, nil
}

func (l *stubLock) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	time.Sleep(l.takes)
	return l.err
}

func (l *stubLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, r)
}

// TestFence opens and closes a fence in all ways that there are.
func TestFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fence{limit: 10 * time.Second}
		stub := &stubLock{}
		lock := &lease{stub, f}
		mine := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}
		g := &gate{fence: f, next: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(""))}, nil
		})}
		send := func(method, path string) error {
			req, err := http.NewRequestWithContext(t.Context(), method, "http://server"+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := g.RoundTrip(req)
			if err == nil {
				err = resp.Body.Close()
			}
			return err
		}
		check := func(what string, open bool) {
			t.Helper()
			synctest.Wait()
			if err := send("PATCH", "/"); open != (err == nil) || !open && !(errors.Is(err, ErrLeadershipLost) && errors.Is(err, rt.ErrStopped)) {
				t.Errorf("%s: %v", what, err)
			}
			if err := send("GET", "/"); err != nil {
				t.Errorf("%s: read: %v", what, err)
			}
		}
		update := func(r resourcelock.LeaderElectionRecord) {
			if err := lock.Update(t.Context(), r); !errors.Is(err, stub.err) {
				t.Fatal(err)
			}
		}
		check("a standby", true)
		stub.holder = "other"
		_, _, _ = lock.Get(t.Context())
		check("a standby sees the leader", true)
		if err := lock.Create(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		check("elected", true)
		time.Sleep(9 * time.Second)
		check("soon to be over", true)
		update(mine)
		time.Sleep(9 * time.Second)
		check("renewed", true)
		stub.err = errors.New("no")
		update(mine)
		ctx, end, err := f.join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer end()
		began := time.Now()
		if err := send("PATCH", "/hang"); !errors.Is(err, ErrLeadershipLost) || time.Since(began) != time.Second {
			t.Errorf("a write that hangs ended with %v after %v", err, time.Since(began))
		}
		check("not renewed", false)
		if !errors.Is(context.Cause(ctx), ErrLeadershipLost) || !errors.Is(context.Cause(ctx), rt.ErrStopped) || !f.lost {
			t.Errorf("cause %v, lost %v", context.Cause(ctx), f.lost)
		}
		stub.err, stub.takes = nil, 11*time.Second
		update(mine)
		check("renewed too slowly", false)
		stub.takes = 4 * time.Second
		update(mine)
		check("renewed after all", true)
		time.Sleep(5 * time.Second)
		check("soon to be over again", true)
		time.Sleep(time.Second)
		check("counted from when it was sent", false)
		update(mine)
		_, _, _ = lock.Get(t.Context())
		check("another one has it", false)
		update(mine)
		check("got back", true)
		update(resourcelock.LeaderElectionRecord{})
		check("released", false)
		update(mine)
		check("nothing after that", false)
		if f.lost || f.enter() {
			t.Error("a release is not a loss, and nothing begins after it")
		}
	})
}

// TestFenceIsShorterThanTheLease takes whole seconds and the defaults into account.
func TestFenceIsShorterThanTheLease(t *testing.T) {
	t.Parallel()
	d := func(d time.Duration) *time.Duration { return &d }
	for _, c := range []struct {
		lease, renew *time.Duration
		want         time.Duration
	}{
		{nil, nil, 10 * time.Second},
		{d(35 * time.Second), d(30 * time.Second), 30 * time.Second},
		{d(2900 * time.Millisecond), d(2800 * time.Millisecond), 1800 * time.Millisecond},
		{d(10 * time.Second), d(9900 * time.Millisecond), 9 * time.Second},
	} {
		if got := limitOf(manager.Options{LeaseDuration: c.lease, RenewDeadline: c.renew}); got != c.want {
			t.Errorf("%v %v: %v, want %v", c.lease, c.renew, got, c.want)
		}
	}
}
