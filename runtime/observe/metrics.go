// Package observe has the metrics of Flux for whatever reconciles objects.
//
//	metrics, err := observe.New(registry)
//	...
//	metrics.Pass("Kustomization", "apps", "web", took)
//	metrics.Gone("Kustomization", "apps", "web")
//
// gotk_reconcile_duration_seconds{kind,name,namespace} is a histogram of how
// long passes take, in seconds, with Flux's ten buckets from 10 ms to half an
// hour: existing dashboards go on working. It has one series of buckets for
// each object, and none for objects that are gone.
//
// # Errors and concurrency
//
// [New] fails if the registry has such metrics already. Metrics are safe for
// concurrent use.
//
// # What it does not do
//
// It serves nothing; the registry is the caller's. Traces and dashboards are
// not here yet.
package observe

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics records passes. It comes from [New].
type Metrics struct {
	duration *prometheus.HistogramVec
}

// New registers the metrics.
func New(registry prometheus.Registerer) (*Metrics, error) {
	const shortest, longest, buckets = 10e-3, 1800, 10 // of Flux
	m := &Metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gotk_reconcile_duration_seconds", Help: "The duration in seconds of a GitOps Toolkit resource reconciliation.",
		Buckets: prometheus.ExponentialBucketsRange(shortest, longest, buckets),
	}, []string{"kind", "name", "namespace"})}
	if err := registry.Register(m.duration); err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	return m, nil
}

// Pass records how long a pass took.
func (m *Metrics) Pass(kind, namespace, name string, took time.Duration) {
	m.duration.WithLabelValues(kind, name, namespace).Observe(took.Seconds())
}

// Gone forgets an object.
func (m *Metrics) Gone(kind, namespace, name string) {
	m.duration.DeleteLabelValues(kind, name, namespace)
}

// Unregister takes the metrics off a registry, so that they can be registered again.
func (m *Metrics) Unregister(registry prometheus.Registerer) { registry.Unregister(m.duration) }
