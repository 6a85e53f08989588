package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// cost is what one pass took.
type cost struct {
	traffic
	time      time.Duration
	allocated float64 // bytes, by the contender and what else goes on in this process
	cpu       float64 // seconds, of the API server with its etcd, also for what it does by itself
}

// meter takes the costs of one contender.
type meter struct {
	wire   wire
	client *http.Client // not counted
	url    string
}

func newMeter(config *rest.Config) (*meter, error) {
	client, err := rest.HTTPClientFor(config)
	return &meter{client: client, url: config.Host + "/metrics"}, err
}

// serverCPU returns the processor seconds that the API server used since its start.
func (m *meter) serverCPU(ctx context.Context) (seconds float64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := m.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(body.Bytes(), []byte("\nprocess_cpu_seconds_total "))
	value, _, _ := bytes.Cut(after, []byte("\n"))
	return strconv.ParseFloat(string(value), 64)
}

// passes calls pass n times, each with a copy of what objects returns for its number, and returns the middle of the
// times, the most of the requests, and the mean of everything else. Copies are made before the clock starts.
func (m *meter) passes(ctx context.Context, n int, objects func(i int) []*unstructured.Unstructured, pass func(i int, objects []*unstructured.Unstructured) error) (cost, error) {
	inputs := make([][]*unstructured.Unstructured, n)
	for i := range inputs {
		inputs[i] = clone(objects(i))
	}
	var total cost
	times := make([]time.Duration, n)
	m.wire.take()
	cpu, err := m.serverCPU(ctx)
	if err != nil {
		return total, err
	}
	for i := range n {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		err := pass(i, inputs[i])
		times[i] = time.Since(start)
		runtime.ReadMemStats(&after)
		if err != nil {
			return total, err
		}
		inputs[i] = nil
		t := m.wire.take()
		total.requests = max(total.requests, t.requests)
		total.discovery = max(total.discovery, t.discovery)
		total.bytes += t.bytes / int64(n)
		total.allocated += float64(after.TotalAlloc-before.TotalAlloc) / float64(n)
	}
	end, err := m.serverCPU(ctx)
	total.cpu = (end - cpu) / float64(n)
	slices.Sort(times)
	total.time = times[n/2]
	return total, err
}

// life is what one contender needs for a set of objects: to create it, to find it unchanged, to change one of it,
// and to find it unchanged when it knows nothing yet.
type life struct {
	create, unchanged, changed, cold cost
}

// repeats is how often changed and cold are played.
const repeats = 3

// live plays the life of objects, with unchanged passes for as long as measured says. What a contender does between its
// passes counts for the next of them.
func live(ctx context.Context, fresh func(*rest.Config) (contender, error), config *rest.Config, objects []*unstructured.Unstructured, measured time.Duration) (l life, err error) {
	m, err := newMeter(config)
	if err != nil {
		return l, err
	}
	counted := m.wire.config(config)
	c, err := fresh(counted)
	if err != nil {
		return l, err
	}
	defer func() {
		if c != nil {
			err = errors.Join(err, c.close())
		}
	}()
	always := func(int) []*unstructured.Unstructured { return objects }
	reconcile := func(_ int, objects []*unstructured.Unstructured) error { return c.reconcile(ctx, objects) }
	if l.create, err = m.passes(ctx, 1, always, reconcile); err != nil {
		return l, fmt.Errorf("create: %w", err)
	}
	if err := settle(ctx, &m.wire, c, objects); err != nil {
		return l, err
	}
	first, err := m.passes(ctx, 1, always, reconcile)
	if err != nil {
		return l, fmt.Errorf("unchanged: %w", err)
	}
	if l.unchanged, err = m.passes(ctx, enough(first.time, measured), always, reconcile); err != nil {
		return l, fmt.Errorf("unchanged: %w", err)
	}
	another := func(i int) []*unstructured.Unstructured { return edited(objects, fmt.Sprint("value ", i)) }
	if l.changed, err = m.passes(ctx, repeats, another, reconcile); err != nil {
		return l, fmt.Errorf("one changed: %w", err)
	}
	objects = another(repeats - 1)
	if err := settle(ctx, &m.wire, c, objects); err != nil {
		return l, err
	}
	l.cold, err = m.passes(ctx, repeats, func(int) []*unstructured.Unstructured { return objects }, func(_ int, objects []*unstructured.Unstructured) error {
		if err := c.close(); err != nil {
			return err
		}
		if c, err = fresh(counted); err != nil {
			return err
		}
		return c.reconcile(ctx, objects)
	})
	return l, err
}

// settle makes passes until one needs no request, or as many as the one before of a contender that asks about every
// object: who follows the cluster has caught up with it then.
func settle(ctx context.Context, w *wire, c contender, objects []*unstructured.Unstructured) error {
	last := int64(-1)
	for ctx.Err() == nil {
		w.take()
		if err := c.reconcile(ctx, clone(objects)); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
		now := w.take().requests
		if now == 0 || now == last && now >= int64(len(objects)) {
			return nil
		}
		last = now
	}
	return ctx.Err()
}

// enough returns how many passes of a length fill the time that is measured. Processor time is counted in hundredths of
// a second.
func enough(pass, measured time.Duration) int {
	return min(max(repeats, int(measured/max(pass, time.Millisecond))), 100)
}
