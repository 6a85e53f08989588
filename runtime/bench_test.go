package runtime_test

import (
	"context"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func newIntLoop(t testing.TB, f rt.Func[int]) *rt.Loop[int] {
	t.Helper()
	l, err := rt.New(f, &rt.Options[int]{Workers: runtime.GOMAXPROCS(0)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l
}

// BenchmarkPass is the cost of one trigger and the empty pass that answers it, with 1000 keys in turn.
func BenchmarkPass(b *testing.B) {
	var passes atomic.Int64
	l := newIntLoop(b, func(context.Context, rt.Pass[int]) rt.Result { passes.Add(1); return rt.OK() })
	const keys = 1000
	for k := range keys {
		if err := l.Set(k, rt.Spec[int]{Interval: time.Hour}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	var last [keys]*rt.Ticket
	k := 0
	for b.Loop() {
		if t := last[k]; t != nil {
			<-t.Done()
		}
		last[k] = l.Trigger(k, nil)
		k = (k + 1) % keys
	}
}

// BenchmarkRequeue is the cost of a pass that asks for the next at once.
func BenchmarkRequeue(b *testing.B) {
	var left atomic.Int64
	done := make(chan struct{})
	l := newIntLoop(b, func(context.Context, rt.Pass[int]) rt.Result {
		if left.Add(-1) == 0 {
			close(done)
		}
		if left.Load() <= 0 {
			return rt.OK()
		}
		return rt.Again(0, "")
	})
	b.ReportAllocs()
	left.Store(int64(b.N))
	b.ResetTimer()
	for k := range 100 {
		if err := l.Set(k, rt.Spec[int]{}); err != nil {
			b.Fatal(err)
		}
	}
	<-done
}

// BenchmarkAll is a snapshot of 100,000 keys.
func BenchmarkAll(b *testing.B) {
	l, _ := idleKeys(b)
	n := 0
	for b.Loop() {
		for _, s := range l.All() {
			n += s.Passes
		}
	}
}

const idle = 100_000

// idleKeys makes a loop of keys that have had their first pass, and returns the heap they take.
func idleKeys(t testing.TB) (*rt.Loop[int], uint64) {
	t.Helper()
	var passes atomic.Int64
	done := make(chan struct{})
	l := newIntLoop(t, func(context.Context, rt.Pass[int]) rt.Result {
		if passes.Add(1) == idle {
			close(done)
		}
		return rt.OK()
	})
	before := heap()
	for k := range idle {
		if err := l.Set(k, rt.Spec[int]{Interval: 10 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	for k := range idle {
		for s, _ := l.Get(k); s.Phase != rt.PhaseIdle; s, _ = l.Get(k) {
			runtime.Gosched()
		}
	}
	return l, heap() - before
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestIdleKeysAreSmall bounds what an idle key takes besides the key itself, which are 8 bytes in the map and 8 in the
// item.
func TestIdleKeysAreSmall(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	l, bytes := idleKeys(t)
	perKey := float64(bytes)/idle - 16
	t.Logf("%.1f bytes per idle key", perKey)
	if perKey > 105 {
		t.Errorf("an idle key takes %.1f bytes, want at most 105", perKey)
	}
	if n := runtime.NumGoroutine() - goroutines; n > runtime.GOMAXPROCS(0)+1 {
		t.Errorf("%d goroutines for %d workers", n, runtime.GOMAXPROCS(0))
	}
	if n := l.Len(); n != idle {
		t.Errorf("%d keys", n)
	}
}

// BenchmarkIdleKey reports the heap for each idle key.
func BenchmarkIdleKey(b *testing.B) {
	for b.Loop() {
		_, bytes := idleKeys(b)
		b.ReportMetric(float64(bytes)/idle, "B/key")
	}
}

// BenchmarkIdle is what 100,000 idle keys cost in a second: how often goroutines are woken, those of the benchmark and
// of the garbage collector included.
func BenchmarkIdle(b *testing.B) {
	idleKeys(b)
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	wakeups := func() (n uint64) {
		metrics.Read(sample)
		for _, count := range sample[0].Value.Float64Histogram().Counts {
			n += count
		}
		return n
	}
	before := wakeups()
	n := 0
	for b.Loop() {
		time.Sleep(time.Second)
		n++
	}
	b.ReportMetric(float64(wakeups()-before)/float64(n), "wakeups/s")
}

// BenchmarkChain is setting and running a chain of 1000 dependencies, the last key first.
func BenchmarkChain(b *testing.B) {
	for b.Loop() {
		l := newLoop(b, func(context.Context, pass) rt.Result { return rt.OK() }, option{})
		for i := 999; i >= 0; i-- {
			set(b, l, strconv.Itoa(i), spec{DependsOn: rt.On(strconv.Itoa(i - 1))})
		}
		set(b, l, "-1", spec{})
		ticket := l.Trigger("999", nil)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		<-ticket.Done()
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
