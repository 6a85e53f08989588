package observe

import (
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Info is what gotk_resource_info says about an object besides its name, its
// namespace and its state, all of it optional.
type Info struct {
	// Group and Version are those of the API of the object.
	Group, Version string
	// Labels has the labels that Flux's monitoring example has for the kind, by
	// their names there: source_name, url, chart_name, chart_source_name,
	// chart_version, bucket_name, endpoint, image. Others are left out, among
	// them webhook_path, which is a secret; so are credentials and queries of a
	// url or endpoint.
	Labels map[string]string
}

// flux is what is recorded under the names of Flux.
type flux struct {
	duration *prometheus.HistogramVec
	guard    guard
	caches   map[string]*cacheVectors
}

// names of the caches of Flux, as prefixes of metrics.
const (
	prefixCache = "gotk_"
	prefixToken = "gotk_token_"
)

type cacheVectors struct {
	events    *prometheus.CounterVec
	requests  *prometheus.CounterVec
	evictions prometheus.Counter
	items     prometheus.Gauge
	guard     guard
}

func newFlux(o Options) *flux {
	const shortest, longest, buckets = 10e-3, 1800, 10 // of Flux
	f := &flux{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gotk_reconcile_duration_seconds", Help: "The duration in seconds of a GitOps Toolkit resource reconciliation.",
			Buckets: prometheus.ExponentialBucketsRange(shortest, longest, buckets),
		}, []string{"kind", "name", "namespace"}),
		guard:  guard{limit: o.MaxObjects},
		caches: make(map[string]*cacheVectors),
	}
	f.caches[prefixCache] = newCacheVectors(prefixCache, o, "event_type", "kind", "name", "namespace")
	f.caches[prefixToken] = newCacheVectors(prefixToken, o, "event_type", "kind", "name", "namespace", "operation")
	return f
}

func newCacheVectors(prefix string, o Options, labels ...string) *cacheVectors {
	return &cacheVectors{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "cache_events_total", Help: "Total number of cache retrieval events for a Gitops Toolkit resource reconciliation.",
		}, labels),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "cache_requests_total", Help: "Total number of cache requests partioned by success or failure.",
		}, []string{"status"}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "cache_evictions_total", Help: "Total number of cache evictions."}),
		items:     prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "cached_items", Help: "Total number of items in the cache."}),
		guard:     guard{limit: o.MaxObjects},
	}
}

func (f *flux) collectors() []prometheus.Collector {
	all := []prometheus.Collector{f.duration}
	for _, c := range f.caches {
		all = append(all, c.events, c.requests, c.evictions, c.items)
	}
	return all
}

func (f *flux) pass(p Pass) {
	v := f.guard.admit(p.Kind, p.Name, p.Namespace)
	f.duration.WithLabelValues(v...).Observe(p.Took.Seconds())
}

// gone forgets an object; one that was counted with others stays among them.
func (f *flux) gone(kind, namespace, name string) {
	id := [3]string{clean(kind), clean(name), clean(namespace)}
	if f.guard.release(id) && id != [3]string{other, other, other} {
		f.duration.DeleteLabelValues(id[0], id[1], id[2])
	}
	for _, c := range f.caches {
		if c.guard.release(id) && id != [3]string{other, other, other} {
			c.events.DeletePartialMatch(prometheus.Labels{"kind": id[0], "name": id[1], "namespace": id[2]})
		}
	}
}

// Cache records what one of Flux's caches does. It comes from
// [Metrics.IndexCache] or [Metrics.TokenCache]; without Options.Flux it records
// nothing.
type Cache struct {
	vectors *cacheVectors
	token   bool
}

// IndexCache records for the cache of indexes: gotk_cache_events_total,
// gotk_cache_requests_total, gotk_cache_evictions_total, gotk_cached_items.
func (m *Metrics) IndexCache() *Cache { return m.cache(prefixCache) }

// TokenCache records for the cache of tokens: gotk_token_cache_events_total,
// gotk_token_cache_requests_total, gotk_token_cache_evictions_total,
// gotk_token_cached_items.
func (m *Metrics) TokenCache() *Cache { return m.cache(prefixToken) }

func (m *Metrics) cache(prefix string) *Cache {
	if m.flux == nil {
		return &Cache{}
	}
	return &Cache{vectors: m.flux.caches[prefix], token: prefix == prefixToken}
}

// CacheEvent is a look-up for an object.
type CacheEvent struct {
	// Kind, Namespace and Name name the object.
	Kind, Namespace, Name string
	// Operation is what the pass was doing, a word of the program; only the
	// cache of tokens has it.
	Operation string
	// Hit reports whether the cache had what was looked for.
	Hit bool
}

// Event records a look-up.
func (c *Cache) Event(e CacheEvent) {
	if c.vectors == nil {
		return
	}
	event := "cache_miss"
	if e.Hit {
		event = "cache_hit"
	}
	values := append([]string{event}, c.vectors.guard.admit(e.Kind, e.Name, e.Namespace)...)
	if c.token {
		values = append(values, clean(e.Operation))
	}
	c.vectors.events.WithLabelValues(values...).Inc()
}

// Request records a request to the cache, which failed if err is not nil.
func (c *Cache) Request(err error) {
	if c.vectors == nil {
		return
	}
	status := "success"
	if err != nil {
		status = "failure"
	}
	c.vectors.requests.WithLabelValues(status).Inc()
}

// Evicted records that an item made way for another.
func (c *Cache) Evicted() {
	if c.vectors != nil {
		c.vectors.evictions.Inc()
	}
}

// Items records how many items there are.
func (c *Cache) Items(n int) {
	if c.vectors != nil {
		c.vectors.items.Set(float64(n))
	}
}

func fluxInfoDesc() *prometheus.Desc {
	return prometheus.NewDesc("gotk_resource_info", "The current state of a GitOps Toolkit resource.",
		[]string{"customresource_group", "customresource_kind", "customresource_version", "exported_namespace", "name", "ready", "revision", "suspended"}, nil)
}

// fluxLabels are those that kube-state-metrics gives, by the configuration in
// Flux's monitoring example.
func fluxLabels(kind string, r *Resource) labels {
	l := labels{}
	l.add("customresource_kind", kind)
	l.add("exported_namespace", r.Namespace)
	l.add("name", r.Name)
	l.add("ready", r.ready())
	l.add("revision", r.State.Revision)
	if r.State.Suspended != nil {
		l.add("suspended", "true")
	}
	if r.Flux != nil {
		l.add("customresource_group", r.Flux.Group)
		l.add("customresource_version", r.Flux.Version)
		for _, name := range []string{"bucket_name", "chart_name", "chart_source_name", "chart_version", "endpoint", "image", "source_name", "url"} {
			value := r.Flux.Labels[name]
			if name == "url" || name == "endpoint" {
				value = address(value)
			}
			l.add(name, value)
		}
	}
	slices.SortFunc(l, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
	return l
}

// address returns a URL without what may be secret in it, "" if it cannot be read.
func address(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
