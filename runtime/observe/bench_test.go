package observe_test

import (
	"fmt"
	"testing"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

// BenchmarkScrape is a scrape of 10 000 objects (P9).
func BenchmarkScrape(b *testing.B) {
	for _, o := range []observe.Options{{}, {NoObjects: true}, {Flux: true}} {
		b.Run(fmt.Sprintf("flux=%t,objects=%t", o.Flux, !o.NoObjects), func(b *testing.B) {
			registry, m := newMetrics(b, &o)
			defer m.Snapshot("Kustomization", fleet(10_000, time.Now()))()
			for r := range fleet(10_000, time.Now()) {
				m.Pass(observe.Pass{Kind: "Kustomization", Namespace: r.Namespace, Name: r.Name, Outcome: rt.OutcomeOK, Took: time.Second})
			}
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = len(scrape(b, registry))
			}
			b.ReportMetric(float64(size), "bytes/scrape")
		})
	}
}

// BenchmarkPass is what the metrics add to a pass.
func BenchmarkPass(b *testing.B) {
	_, m := newMetrics(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		m.Pass(observe.Pass{Kind: "Kustomization", Namespace: "apps", Name: "web", Outcome: rt.OutcomeOK, Took: time.Second, Why: rt.CauseInterval})
	}
}
