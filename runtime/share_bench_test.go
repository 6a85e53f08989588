package runtime_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// start runs a loop until the end of the benchmark.
func start(b *testing.B, l *rt.Loop[string]) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkGroups is the cost of an empty pass while all of 10,000 keys are queued, in one group and in many.
func BenchmarkGroups(b *testing.B) {
	for _, groups := range []int{1, 10, 1000} {
		b.Run(strconv.Itoa(groups), func(b *testing.B) {
			var left atomic.Int64
			done := make(chan struct{})
			l := newLoop(b, func(context.Context, pass) rt.Result {
				if n := left.Add(-1); n == 0 {
					close(done)
				} else if n < 0 {
					return rt.OK()
				}
				return rt.Again(0, "")
			}, option{Workers: runtime.GOMAXPROCS(0)})
			for i := range 10_000 {
				set(b, l, strconv.Itoa(i), spec{Group: strconv.Itoa(i % groups), Priority: int8(i % 3)})
			}
			b.ReportAllocs()
			left.Store(int64(b.N))
			b.ResetTimer()
			stop := start(b, l)
			<-done
			b.StopTimer()
			stop()
		})
	}
}

// delays collects how long after their triggers passes began.
type delays struct {
	mu   sync.Mutex
	list []time.Duration
}

func (d *delays) add(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, t)
}

func (d *delays) report(b *testing.B) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.list)
	b.ReportMetric(float64(d.list[len(d.list)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(d.list[len(d.list)-1].Microseconds())/1000, "worst-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHeadOfLine is, in real time, how long 117 keys with passes of 10 ms wait for a worker, each triggered once a
// second, while 11 others wait ten minutes for something; then, while these hold a worker instead.
func BenchmarkHeadOfLine(b *testing.B) {
	for _, holds := range []bool{false, true} {
		b.Run(map[bool]string{false: "waiting", true: "holding a worker"}[holds], func(b *testing.B) {
			var d delays
			release := make(chan struct{})
			l := newLoop(b, func(_ context.Context, p pass) rt.Result {
				if !strings.HasPrefix(p.Key, "slow") {
					time.Sleep(10 * time.Millisecond)
					return rt.OK()
				}
				if !holds {
					return rt.Wait("health", rt.WakeAfter(10*time.Minute))
				}
				if p.Prev.Passes == 0 { // to be known as slow
					time.Sleep(2 * time.Millisecond)
					return rt.OK()
				}
				<-release
				return rt.OK()
			}, option{Workers: 4, SlowLane: rt.SlowLane{SlowerThan: time.Millisecond, Share: 0.5}, Observe: func(o rt.Observation[string]) {
				if !strings.HasPrefix(o.Key, "slow") && o.State.Passes > 1 {
					d.add(o.Queued)
				}
			}})
			stop := start(b, l)
			const keys = 117
			for i := range keys {
				set(b, l, fmt.Sprint(i), spec{})
			}
			for i := range 11 {
				set(b, l, fmt.Sprint("slow", i), spec{})
			}
			for i := range 11 {
				l.Trigger(fmt.Sprint("slow", i), nil) // the second pass
			}
			for i := range keys {
				if _, err := l.Trigger(fmt.Sprint(i), nil).Wait(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			d.list = nil
			for b.Loop() {
				for i := range keys {
					l.Trigger(fmt.Sprint(i), nil)
					time.Sleep(time.Second / keys)
				}
			}
			close(release)
			stop()
			d.report(b)
		})
	}
}

// BenchmarkSmallGroup is, in real time, how long a key waits for a worker whose group is alone with it, while another
// group always has 10,000 keys queued with passes of 1 ms.
func BenchmarkSmallGroup(b *testing.B) {
	var d delays
	var stopped atomic.Bool
	l := newLoop(b, func(_ context.Context, p pass) rt.Result {
		if p.Key == "small" {
			return rt.OK()
		}
		time.Sleep(time.Millisecond)
		if stopped.Load() {
			return rt.OK()
		}
		return rt.Again(0, "")
	}, option{Workers: 4, Observe: func(o rt.Observation[string]) {
		if o.Group == "small" {
			d.add(o.Queued)
		}
	}})
	for i := range 10_000 {
		set(b, l, strconv.Itoa(i), spec{Group: "large"})
	}
	set(b, l, "small", spec{Group: "small"})
	stop := start(b, l)
	for b.Loop() {
		if _, err := l.Trigger("small", nil).Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	stopped.Store(true)
	stop()
	d.report(b)
}

// BenchmarkRestart is setting 10,000 keys with what a store knows of them.
func BenchmarkRestart(b *testing.B) {
	const keys = 10_000
	var store rt.MemoryStore[string]
	var saved []rt.Saved[string]
	now := time.Now()
	for i := range keys {
		saved = append(saved, rt.Saved[string]{Key: strconv.Itoa(i), State: rt.State{
			Outcome: rt.OutcomeOK, Ready: true, Passes: 1, Started: now, Finished: now, LastSuccess: now, Version: "1",
		}})
	}
	if err := store.Save(b.Context(), saved); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l := newLoop(b, func(context.Context, pass) rt.Result { b.Error("a pass"); return rt.OK() }, option{Store: &store})
		for i := range keys {
			set(b, l, strconv.Itoa(i), spec{Interval: time.Hour, Version: "1"})
		}
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if err := l.Run(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
