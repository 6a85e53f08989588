package observe_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gitopskit/gitopskit/runtime/observe"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := observe.New(registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := observe.New(registry); err == nil {
		t.Error("registered twice")
	}
	m.Pass("Kustomization", "apps", "web", 20*time.Millisecond)
	m.Pass("Kustomization", "apps", "web", 20*time.Second)
	m.Pass("Kustomization", "apps", "gone", time.Second)
	m.Gone("Kustomization", "apps", "gone")
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	got := families[0]
	if got.GetName() != "gotk_reconcile_duration_seconds" || len(got.GetMetric()) != 1 {
		t.Fatalf("%v", got)
	}
	h := got.GetMetric()[0].GetHistogram()
	if h.GetSampleCount() != 2 || h.GetSampleSum() != 20.02 || len(h.GetBucket()) != 10 || h.GetBucket()[0].GetUpperBound() != 0.01 || h.GetBucket()[9].GetUpperBound() < 1799 {
		t.Errorf("%v", h)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func Example() {
	registry := prometheus.NewRegistry()
	m, err := observe.New(registry)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Pass("GitRepository", "apps", "web", 3*time.Second)
	families, _ := registry.Gather()
	fmt.Println(families[0].GetName())
	// Output: gotk_reconcile_duration_seconds
}
