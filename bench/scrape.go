package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/fluxcd/pkg/runtime/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

// scraped is how many objects are in a scrape.
const scraped = 10_000

// measureScrape compares what Prometheus reads when every object has had a pass.
func measureScrape(ctx context.Context) (*grid, error) {
	var size, took [2]float64
	for i, record := range []func(*prometheus.Registry) error{recordOurs, recordFlux} {
		registry := prometheus.NewRegistry()
		if err := record(registry); err != nil {
			return nil, err
		}
		var err error
		if size[i], took[i], err = scrape(ctx, registry); err != nil {
			return nil, err
		}
	}
	const mib = 1
	g := &grid{sides: []string{"gitopskit", "fluxcd/pkg/runtime/metrics"}}
	what := fmt.Sprintf("a scrape of %d objects, not compressed", scraped)
	g.add("P9", what, "MiB", mib, size[:]...)
	g.add("P9", what, "ms", took[1], took[:]...)
	return g, nil
}

// scrapedNames lists the objects.
func scrapedNames() iter.Seq2[string, string] {
	return func(yield func(namespace, name string) bool) {
		const each = 40
		for i := range scraped {
			if !yield(fmt.Sprintf("team-%03d", i/each), fmt.Sprintf("app-%05d", i)) {
				return
			}
		}
	}
}

// recordOurs records with the defaults of this module.
func recordOurs(registry *prometheus.Registry) error {
	m, err := observe.New(registry, nil)
	if err != nil {
		return err
	}
	now := time.Now()
	m.Snapshot("Kustomization", func(yield func(observe.Resource) bool) {
		for namespace, name := range scrapedNames() {
			s := rt.State{Ready: true, Outcome: rt.OutcomeOK, Finished: now, Revision: "main@sha1:0123456789abcdef0123456789abcdef01234567"}
			if !yield(observe.Resource{Namespace: namespace, Name: name, State: s}) {
				return
			}
		}
	})
	for namespace, name := range scrapedNames() {
		m.Pass(observe.Pass{Kind: "Kustomization", Namespace: namespace, Name: name, Outcome: rt.OutcomeOK, Took: time.Second, Why: rt.CauseInterval})
	}
	return nil
}

// recordFlux records the durations, as Flux's controllers do; their conditions come from elsewhere.
func recordFlux(registry *prometheus.Registry) error {
	r := metrics.NewRecorder()
	for _, c := range r.Collectors() {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	began := time.Now().Add(-time.Second)
	for namespace, name := range scrapedNames() {
		r.RecordDuration(corev1.ObjectReference{Kind: "Kustomization", Namespace: namespace, Name: name}, began)
	}
	return nil
}

// scrape reads the metrics over HTTP: the size in MiB, and the shortest time of some in ms.
func scrape(ctx context.Context, registry *prometheus.Registry) (size, took float64, err error) {
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	const times, mib = 5, 1 << 20
	for i := range times {
		began := time.Now()
		n, err := get(ctx, client, server.URL)
		if err != nil {
			return 0, 0, err
		}
		d := milliseconds(time.Since(began))
		size = float64(n) / mib
		if i == 0 || d < took {
			took = d
		}
	}
	return size, took, nil
}

// get returns how many bytes the answer has.
func get(ctx context.Context, client *http.Client, address string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("scrape: answer %s", resp.Status)
	}
	return n, errors.Join(err, resp.Body.Close())
}
