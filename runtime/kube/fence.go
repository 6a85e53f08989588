package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// ErrLeadershipLost says that this replica is not the leader any more although
// nobody has told it to end: it could not renew its lease in time, or another
// one holds it. It is the cause of the contexts of passes that are ended for
// it, together with rt.ErrStopped, the error of writes that are not made for
// it, and that of Start of the managers of [NewManager]. By then all passes
// have returned, unless the error holds an *rt.StuckError too: a new manager
// may be made in the same process.
var ErrLeadershipLost = errors.New("leadership lost")

// errFenced is the cause of what a fence ends.
var errFenced = fmt.Errorf("kube: %w: %w", ErrLeadershipLost, rt.ErrStopped)

// fence keeps a replica from writing when its lease may be another's. The lease
// is good for the renew deadline after the last renewal was sent, and not one
// moment longer, whatever the leader election is doing: that, for one, goes on
// until its deadline after the renewal which fails, and then tries to release
// the lease before it says that it is lost.
//
// The methods of a nil fence, of a manager without leader election, do nothing.
type fence struct {
	limit time.Duration // less than others wait

	mu      sync.Mutex
	led     bool // has been the leader
	down    bool // has stepped down, or the manager has ended
	lost    bool
	until   time.Time       // end of the lease
	timer   *time.Timer     // that
	term    context.Context //nolint:containedctx // it is what ends
	end     context.CancelCauseFunc
	running int
	idle    chan struct{} // closed when nothing runs any more
	stuck   error
}

// limitOf returns how long after a renewal writes are allowed. Leases have whole
// seconds, and clocks do not run at the same speed.
func limitOf(opts manager.Options) time.Duration {
	const lease, renew = 15 * time.Second, 10 * time.Second // what controller-runtime has
	l, r := lease, renew
	if opts.LeaseDuration != nil {
		l = *opts.LeaseDuration
	}
	if opts.RenewDeadline != nil {
		r = *opts.RenewDeadline
	}
	const tenths = 10
	return min(r, l.Truncate(time.Second)*(tenths-1)/tenths)
}

// renewed opens the fence after a renewal that was sent at a time.
func (f *fence) renewed(sent time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := time.Until(sent.Add(f.limit))
	if f.down || left <= 0 {
		return
	}
	if f.until = sent.Add(f.limit); f.timer == nil {
		f.timer = time.AfterFunc(left, f.expire)
	} else {
		f.timer.Reset(left)
	}
	if f.term == nil || f.term.Err() != nil {
		f.term, f.end = context.WithCancelCause(context.Background()) //nolint:forbidigo // a term begins with a lease, not with a call
	}
	f.led, f.lost = true, false
}

// expire closes the fence if its time is over.
func (f *fence) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check()
}

// check closes the fence if its time is over, and reports whether it is closed;
// f.mu is held.
func (f *fence) check() (closed bool) {
	if !f.led {
		return f.down
	}
	if f.down || !time.Now().Before(f.until) {
		f.lost = f.lost || !f.down
		f.end(errFenced)
		return true
	}
	return f.term.Err() != nil
}

// leads reports whether this replica is the leader.
func (f *fence) leads() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.led && !f.check()
}

// seized closes the fence because another one holds the lease.
func (f *fence) seized() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = time.Time{}
	f.check()
}

// stepDown closes the fence for good.
func (f *fence) stepDown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check() // first of all, whether it is lost
	f.down = true
	f.check()
	if f.timer != nil {
		f.timer.Stop()
	}
}

// join returns the context of something that may go on as long as this replica
// is the leader, or, before it was, for as long as it likes. The end is to be
// called when it is over.
func (f *fence) join(ctx context.Context) (joined context.Context, end func(), err error) {
	if f == nil {
		return ctx, func() {}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.check() {
		return ctx, nil, errFenced
	}
	if f.term == nil {
		return ctx, func() {}, nil
	}
	joined, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(f.term, func() { cancel(errFenced) })
	return joined, func() { stop(); cancel(nil) }, nil
}

// enter counts a controller in that begins to run; it reports false when the
// manager has ended.
func (f *fence) enter() bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return false
	}
	f.running++
	return true
}

// leave counts it out.
func (f *fence) leave(err error) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = errors.Join(f.stuck, err)
	if f.running--; f.running == 0 && f.idle != nil {
		close(f.idle)
	}
}

// left closes the fence for good and returns a channel that is closed when no
// controller runs any more.
func (f *fence) left() <-chan struct{} {
	f.stepDown()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle = make(chan struct{})
	if f.running == 0 {
		close(f.idle)
	}
	return f.idle
}

// elected is a manager whose replica may not be the leader, or not for ever.
type elected struct {
	manager.Manager
	fence *fence
}

// Start runs the manager. If leadership is lost it returns when the controllers
// have ended; controller-runtime does not wait for them.
func (m *elected) Start(ctx context.Context) error {
	err := m.Manager.Start(ctx)
	if err == nil || ctx.Err() != nil {
		m.fence.stepDown()
		return err
	}
	idle := m.fence.left()
	m.fence.mu.Lock()
	lost := m.fence.lost
	m.fence.mu.Unlock()
	if !lost {
		return err
	}
	<-idle
	return errors.Join(fmt.Errorf("kube: %w: the lease could not be renewed in time, or another replica has it", ErrLeadershipLost), m.fence.stuck)
}

// fenceOf returns the fence of a manager, nil if it has none.
func fenceOf(mgr manager.Manager) *fence {
	if m, ok := mgr.(*elected); ok {
		return m.fence
	}
	return nil
}

// fenced makes a pass that ends with the leadership.
func (c *Controller[T]) fenced(ctx context.Context, p rt.Pass[client.ObjectKey]) rt.Result {
	ctx, end, err := c.fence.join(ctx)
	if err != nil {
		return c.trouble(p, "no pass was made", err)
	}
	defer end()
	return c.pass(ctx, p)
}

// gate lets writes pass while the fence is open. Those that are on their way
// when it closes are given up. Reads always pass.
type gate struct {
	next  http.RoundTripper
	fence *fence
}

// WrappedRoundTripper is how client-go finds the transport below.
func (g *gate) WrappedRoundTripper() http.RoundTripper { return g.next }

func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodOptions {
		return g.next.RoundTrip(req)
	}
	ctx, end, err := g.fence.join(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := g.next.RoundTrip(req.WithContext(ctx))
	switch {
	case err != nil:
		if errors.Is(context.Cause(ctx), ErrLeadershipLost) {
			err = errFenced
		}
		end()
		return nil, err
	case resp.StatusCode != http.StatusSwitchingProtocols: // whose body is a connection; that ends with the leadership
		resp.Body = &fencedBody{resp.Body, end}
	}
	return resp, nil
}

// fencedBody is an answer that can be read until leadership is lost.
type fencedBody struct {
	io.ReadCloser
	end func()
}

func (b *fencedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
