package observe

import (
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say what [New] records; nil means the defaults.
type Options struct {
	// Flux adds metrics under the names of Flux. They have a histogram for each
	// object.
	Flux bool
	// NoObjects leaves gitopskit_resource_info out, which has a series for each
	// object.
	NoObjects bool
	// Revisions adds the label revision to gitopskit_resource_info: a new series
	// with each revision of each object.
	Revisions bool
	// MaxObjects bounds how many objects have series of their own, in each
	// metric that has them; 0 means 20 000, about 2 MB in a scrape.
	MaxObjects int
	// MaxSeries bounds the label values of every other metric; 0 means 1000:
	// far more than kinds and outcomes make.
	MaxSeries int
	// Now tells the time, for tests; nil means time.Now.
	Now func() time.Time
}

const (
	defaultMaxObjects = 20_000
	defaultMaxSeries  = 1000
	namespace         = "gitopskit"
)

// Metrics records what is reconciled. It comes from [New]. It is one
// [prometheus.Collector].
type Metrics struct {
	opts Options

	pass      *prometheus.HistogramVec
	wait      *prometheus.HistogramVec
	delivery  *prometheus.HistogramVec
	requests  *prometheus.HistogramVec
	triggers  *prometheus.CounterVec
	coalesced *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	guards    map[any]*guard
	flux      *flux // nil without Options.Flux

	mu        sync.Mutex
	snapshots map[*snapshot]struct{}
}

type snapshot struct {
	kind  string
	all   iter.Seq[Resource]
	began atomic.Pointer[time.Time] // when it began, or had no objects: a replica that is not the leader has none
}

// New registers the metrics.
func New(registry prometheus.Registerer, o *Options) (*Metrics, error) {
	m := &Metrics{guards: make(map[any]*guard), snapshots: make(map[*snapshot]struct{})}
	if o != nil {
		m.opts = *o
	}
	if m.opts.MaxObjects < 0 || m.opts.MaxSeries < 0 {
		return nil, fmt.Errorf("observe: new: MaxObjects is %d and MaxSeries %d, want 0 or more", m.opts.MaxObjects, m.opts.MaxSeries)
	}
	if m.opts.MaxObjects == 0 {
		m.opts.MaxObjects = defaultMaxObjects
	}
	if m.opts.MaxSeries == 0 {
		m.opts.MaxSeries = defaultMaxSeries
	}
	if m.opts.Now == nil {
		m.opts.Now = time.Now
	}
	m.makeVectors()
	if m.opts.Flux {
		m.flux = newFlux(m.opts)
	}
	if err := registry.Register(m); err != nil {
		return nil, fmt.Errorf("observe: new: %w", err)
	}
	return m, nil
}

func (m *Metrics) makeVectors() {
	passes := []float64{.005, .025, .1, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	waits := []float64{.001, .01, .1, .5, 1, 5, 15, 30, 60, 300, 1800}
	deliveries := []float64{.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14400}
	m.pass = histogram("pass_seconds", "How long passes take, in seconds.", passes, "kind", "outcome")
	m.wait = histogram("queue_wait_seconds", "How long objects wait for a worker before a pass, in seconds.", waits, "kind", "lane")
	m.delivery = histogram("delivery_seconds", "How long it takes from when a revision is seen at its origin until an object is ready at it, in seconds.", deliveries, "kind")
	m.requests = histogram("api_requests_per_pass", "How many requests a pass sends, by verb, and altogether (all).", []float64{0, 1, 2, 3, 5, 8, 13, 21, 50, 100, 500}, "kind", "verb")
	m.triggers = counter("triggers_total", "Causes of passes.", "kind", "cause")
	m.coalesced = counter("coalesced_total", "Causes of passes that had another cause already.", "kind", "cause")
	m.dropped = counter("dropped_events_total", "Events that were not delivered.", "kind", "cause")
	for _, v := range []any{m.pass, m.wait, m.delivery, m.requests, m.triggers, m.coalesced, m.dropped} {
		m.guards[v] = &guard{limit: m.opts.MaxSeries}
	}
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	const factor, most, reset = 1.1, 100, time.Hour // of native histograms, as Prometheus' manual has them
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: factor, NativeHistogramMaxBucketNumber: most, NativeHistogramMinResetDuration: reset,
	}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// vectors lists what is recorded when it happens.
func (m *Metrics) vectors() []prometheus.Collector {
	all := []prometheus.Collector{m.pass, m.wait, m.delivery, m.requests, m.triggers, m.coalesced, m.dropped}
	if m.flux != nil {
		all = append(all, m.flux.collectors()...)
	}
	return all
}

// Describe is for the registry.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vectors() {
		v.Describe(ch)
	}
	for _, d := range gauges() {
		ch <- d
	}
	if !m.opts.NoObjects {
		ch <- infoDesc()
	}
	if m.flux != nil {
		ch <- fluxInfoDesc()
	}
}

// Collect is for the registry.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.vectors() {
		v.Collect(ch)
	}
	m.collectResources(ch)
}

// Unregister takes the metrics off a registry, so that they can be registered again.
func (m *Metrics) Unregister(registry prometheus.Registerer) { registry.Unregister(m) }

// Snapshot has every scrape list the objects of a kind. The objects of one kind
// may come from several functions. They must be safe for concurrent use, and
// must not change what they hand out. The returned function ends it.
func (m *Metrics) Snapshot(kind string, all iter.Seq[Resource]) (stop func()) {
	s := &snapshot{kind: clean(kind), all: all}
	now := m.opts.Now()
	s.began.Store(&now)
	m.mu.Lock()
	m.snapshots[s] = struct{}{}
	m.mu.Unlock()
	return func() {
		m.mu.Lock()
		delete(m.snapshots, s)
		m.mu.Unlock()
	}
}
