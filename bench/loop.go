package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// load is how large the measurements of the loop are.
type load struct {
	idle   int           // keys that wait for their interval
	watch  time.Duration // for their processor time
	passes int
	wait   time.Duration // of keys in the way of others
	chain  int           // keys, each of which depends on the one before
	poll   time.Duration // of the other side, for them
}

var (
	fullLoad  = load{idle: 100_000, watch: 20 * time.Second, passes: 300_000, wait: 10 * time.Second, chain: 20, poll: time.Second}
	smallLoad = load{idle: 10_000, watch: 2 * time.Second, passes: 30_000, wait: time.Second, chain: 5, poll: 200 * time.Millisecond}
)

// driver is a loop of one side: it reconciles keys with the function it was made with.
type driver interface {
	// add makes keys known, which begins a pass of each.
	add(keys ...int)
	// trigger begins a pass of a key.
	trigger(key int)
	stop() error
}

// outcome is what a pass of the measurements comes to, in the terms of both sides.
type outcome struct {
	again time.Duration // another pass after this time; 0 means when there is a reason
	wait  time.Duration // first waits for so long for something outside
}

type passFunc func(key int) outcome

// loopSide runs this module's loop.
type loopSide struct {
	loop *rt.Loop[int]
	deps func(key int) []rt.Dep[int]
	done chan error
	end  context.CancelFunc
}

func newLoop(workers int, f passFunc, deps func(key int) []rt.Dep[int]) (*loopSide, error) {
	o := &loopSide{deps: deps, done: make(chan error, 1)}
	var err error
	o.loop, err = rt.New(rt.Func[int](func(_ context.Context, p rt.Pass[int]) rt.Result {
		if p.Why == rt.CauseWoken {
			return rt.OK()
		}
		out := f(p.Key)
		switch {
		case out.wait > 0:
			return rt.Wait("something outside", rt.WakeAfter(out.wait))
		case out.again > 0:
			return rt.Again(out.again, "")
		}
		return rt.OK()
	}), &rt.Options[int]{Workers: workers, Grace: time.Second})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.end = cancel
	go func() { o.done <- o.loop.Run(ctx) }()
	return o, nil
}

func (o *loopSide) add(keys ...int) {
	for _, k := range keys {
		spec := rt.Spec[int]{Interval: time.Hour}
		if o.deps != nil {
			spec.DependsOn = o.deps(k)
		}
		o.loop.Set(k, spec) //nolint:errcheck // the specs are right
	}
}

func (o *loopSide) trigger(key int) { o.loop.Trigger(key, nil) }

func (o *loopSide) stop() error {
	o.end()
	return <-o.done
}

// queueSide runs a controller of controller-runtime, with its priority queue, as Flux's controllers do.
type queueSide struct {
	queue workqueue.TypedRateLimitingInterface[int]
	done  chan error
	end   context.CancelFunc
}

func newQueue(workers int, f passFunc) (*queueSide, error) {
	anyName := true
	c, err := controller.NewTypedUnmanaged("bench", controller.TypedOptions[int]{
		MaxConcurrentReconciles: workers, SkipNameValidation: &anyName, Logger: logr.Discard(),
		Reconciler: reconcile.TypedFunc[int](func(ctx context.Context, key int) (reconcile.Result, error) {
			out := f(key)
			if out.wait > 0 {
				select {
				case <-time.After(out.wait):
				case <-ctx.Done():
				}
			}
			again := out.again
			if again == 0 {
				again = time.Hour
			}
			return reconcile.Result{RequeueAfter: again}, nil
		}),
	})
	if err != nil {
		return nil, err
	}
	t := &queueSide{done: make(chan error, 1)}
	ready := make(chan struct{})
	err = c.Watch(source.TypedFunc[int](func(_ context.Context, q workqueue.TypedRateLimitingInterface[int]) error {
		t.queue = q
		close(ready)
		return nil
	}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.end = cancel
	go func() { t.done <- c.Start(ctx) }()
	<-ready
	return t, nil
}

func (t *queueSide) add(keys ...int) {
	for _, k := range keys {
		t.queue.Add(k)
	}
}

func (t *queueSide) trigger(key int) { t.queue.Add(key) }

func (t *queueSide) stop() error {
	t.end()
	return <-t.done
}

// drivers are both sides, in the order of the table.
func drivers(workers int, f passFunc) ([]func() (driver, error), []string) {
	return []func() (driver, error){
		func() (driver, error) { return newLoop(workers, f, nil) },
		func() (driver, error) { return newQueue(workers, f) },
	}, []string{"gitopskit", "controller-runtime"}
}

// measureLoop compares the loop with a controller of controller-runtime.
func measureLoop(size load) (*grid, error) {
	g := &grid{sides: []string{"gitopskit", "controller-runtime"}}
	for _, measure := range []func(*grid, load) error{(*grid).addIdle, (*grid).addThroughput, (*grid).addHeadOfLine, (*grid).addChain} {
		if err := measure(g, size); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// addIdle measures keys that have had a pass and wait for the next.
func (g *grid) addIdle(size load) error {
	var heap, cpu [2]float64
	var left atomic.Int64
	done := make(chan struct{}, 1)
	sides, _ := drivers(4, func(int) outcome {
		if left.Add(-1) == 0 {
			done <- struct{}{}
		}
		return outcome{}
	})
	keys := make([]int, size.idle)
	for i := range keys {
		keys[i] = i
	}
	for i, start := range sides {
		before := heapInUse()
		left.Store(int64(size.idle))
		e, err := start()
		if err != nil {
			return err
		}
		e.add(keys...)
		<-done
		heap[i] = float64(heapInUse()-before) / float64(size.idle)
		began := processorTime()
		time.Sleep(size.watch)
		const percent = 100
		cpu[i] = percent * (processorTime() - began).Seconds() / size.watch.Seconds()
		if err := e.stop(); err != nil {
			return err
		}
	}
	what := strconv.Itoa(size.idle) + " idle keys"
	const share = 0.6
	g.add("P4", what, "bytes of heap a key", share*heap[1], heap[:]...)
	g.add("P4", what, "% of a processor", 0.2, cpu[:]...)
	return nil
}

// addThroughput measures empty passes, of a thousand keys in turn.
func (g *grid) addThroughput(size load) error {
	var rate [2]float64
	var left atomic.Int64
	done := make(chan struct{}, 1)
	sides, _ := drivers(runtime.GOMAXPROCS(0), func(int) outcome {
		if left.Add(-1) == 0 {
			done <- struct{}{}
		}
		return outcome{}
	})
	const keys = 1000
	for i, start := range sides {
		e, err := start()
		if err != nil {
			return err
		}
		left.Store(keys)
		for k := range keys {
			e.add(k)
		}
		<-done
		began := time.Now()
		for n := 0; n < size.passes; n += keys {
			left.Store(keys)
			for k := range keys {
				e.trigger(k)
			}
			<-done
		}
		rate[i] = float64(time.Since(began).Microseconds()) / float64(size.passes)
		if err := e.stop(); err != nil {
			return err
		}
	}
	g.add("P5", "an empty pass and its trigger", "µs", rate[1]/2, rate[:]...)
	return nil
}

// addHeadOfLine measures how long others wait for a worker while some keys wait for something outside.
func (g *grid) addHeadOfLine(size load) error {
	const keys, waiting, workers = 128, 11, 4
	var p99 [2]float64
	var mu sync.Mutex
	triggered := make([]time.Time, keys)
	var late []time.Duration
	var all sync.WaitGroup
	warm := true
	sides, _ := drivers(workers, func(key int) outcome {
		mu.Lock()
		defer mu.Unlock()
		if warm {
			all.Done()
			return outcome{}
		}
		if key < waiting {
			return outcome{wait: size.wait}
		}
		late = append(late, time.Since(triggered[key]))
		all.Done()
		return outcome{}
	})
	for i, start := range sides {
		e, err := start()
		if err != nil {
			return err
		}
		warm, late = true, nil
		all.Add(keys)
		for k := range keys {
			e.add(k)
		}
		all.Wait()
		mu.Lock()
		warm = false
		mu.Unlock()
		all.Add(keys - waiting)
		for k := range keys {
			mu.Lock()
			triggered[k] = time.Now()
			mu.Unlock()
			e.trigger(k)
		}
		all.Wait()
		slices.Sort(late)
		const slowest = 99
		p99[i] = milliseconds(late[len(late)*slowest/100])
		if err := e.stop(); err != nil {
			return err
		}
	}
	g.add("P6", fmt.Sprintf("%d of %d keys wait %s, %d workers: 99 %% of the others begin within", waiting, keys, size.wait, workers), "ms", 50, p99[:]...)
	return nil
}

// addChain measures a chain of keys, each of which depends on the one before and takes 10 ms. The other side asks again
// and again, as Flux's controllers do, but not only every 30 seconds.
func (g *grid) addChain(size load) error {
	const pass = 10 * time.Millisecond
	var took [2]float64
	done := make(chan struct{}, 1)
	last := size.chain - 1
	mine, err := newLoop(4, func(key int) outcome {
		time.Sleep(pass)
		if key == last {
			done <- struct{}{}
		}
		return outcome{}
	}, func(key int) []rt.Dep[int] {
		if key == 0 {
			return nil
		}
		return rt.On(key - 1)
	})
	if err != nil {
		return err
	}
	began := time.Now()
	for k := range size.chain {
		mine.add(last - k) // the last first
	}
	<-done
	took[0] = milliseconds(time.Since(began))
	var mu sync.Mutex
	ready := map[int]bool{-1: true}
	other, err := newQueue(4, func(key int) outcome {
		mu.Lock()
		may := ready[key-1]
		mu.Unlock()
		if !may {
			return outcome{again: size.poll}
		}
		time.Sleep(pass)
		mu.Lock()
		ready[key] = true
		mu.Unlock()
		if key == last {
			done <- struct{}{}
		}
		return outcome{}
	})
	if err != nil {
		return errors.Join(err, mine.stop())
	}
	began = time.Now()
	for k := range size.chain {
		other.add(last - k)
	}
	<-done
	took[1] = milliseconds(time.Since(began))
	const slack = 100
	g.add("P7", fmt.Sprintf("a chain of %d dependencies, 10 ms each; the peer asks every %s, Flux every 30s", size.chain, size.poll), "ms",
		milliseconds(pass)*float64(size.chain)+slack, took[:]...)
	return errors.Join(mine.stop(), other.stop())
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
