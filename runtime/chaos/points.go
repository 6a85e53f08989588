package chaos

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Points are named places in a program where a test lets it fail, stop or die. A nil *Points is what a program has in
// production: reaching a point of it is one comparison. It is safe for concurrent use; it must not be copied.
//
// A program that should not know this package has a field of the type func(ctx context.Context, name string) error,
// which is nil or Points.Reach.
type Points struct {
	// Stops are what happens, and where. All that match a point happen, in order, until one returns an error.
	Stops []Stop

	mu    sync.Mutex
	count map[string]int
	trail []string
}

// Stop is what happens at a point.
type Stop struct {
	// Name is that of the point; "" is any.
	Name string
	// N is at which time of reaching it, counted from 1; 0 is each time.
	N int
	// Do is what happens: [Kill], or a function that returns the error to fail with, waits, or looks at the world.
	Do func(ctx context.Context) error
}

// Reach says that a program has come to a point. It returns the error of the stop that wants the program to fail, and
// nil for a nil *Points.
func (p *Points) Reach(ctx context.Context, name string) error {
	if p == nil {
		return nil
	}
	for _, stop := range p.reach(name) {
		if err := stop.Do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reach counts, and returns the stops that have their turn.
func (p *Points) reach(name string) []Stop {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = map[string]int{}
	}
	p.count[name]++
	p.trail = append(p.trail, name)
	var turn []Stop
	for _, s := range p.Stops {
		n := p.count[name]
		if s.Name == "" {
			n = len(p.trail)
		}
		if s.Do != nil && (s.Name == "" || s.Name == name) && (s.N == 0 || s.N == n) {
			turn = append(turn, s)
		}
	}
	return turn
}

// Trail returns the names of the points that were reached, in order.
func (p *Points) Trail() []string {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.trail)
}

type pointsKey struct{}

// With returns a context whose points are p.
func With(ctx context.Context, p *Points) context.Context {
	return context.WithValue(ctx, pointsKey{}, p)
}

// Point says that a program has come to a point of its context's [Points]; a context has none unless it comes from
// [With].
func Point(ctx context.Context, name string) error {
	p, _ := ctx.Value(pointsKey{}).(*Points)
	return p.Reach(ctx, name)
}

// Kill ends the own process as kill -9 does: nothing is flushed, no deferred function runs. It does not return. Use it
// as [Stop.Do] in a process that the test has started.
func Kill(context.Context) error {
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil {
		return err
	}
	select {}
}

// Killed reports whether the error of exec.Cmd's Run or Wait says that the process was ended by SIGKILL.
func Killed(err error) bool {
	var exit interface {
		error
		Sys() any
	}
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(interface {
		Signaled() bool
		Signal() syscall.Signal
	})
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
