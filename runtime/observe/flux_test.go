package observe_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

// testdata/flux.txt has the series of Flux's package cache, and of gotk_resource_info as kube-state-metrics makes it
// with the configuration in Flux's monitoring example. The durations are compared with Flux's own in the module check.
func TestNamesOfFlux(t *testing.T) {
	registry, m := newMetrics(t, &observe.Options{Flux: true, NoObjects: true})
	m.Pass(observe.Pass{Kind: "Kustomization", Namespace: "apps", Name: "web", Outcome: rt.OutcomeOK, Took: 2 * time.Second, Queued: -1})
	for _, c := range []*observe.Cache{m.TokenCache(), m.IndexCache()} {
		c.Event(observe.CacheEvent{Kind: "GitRepository", Namespace: "apps", Name: "web", Operation: "reconcile", Hit: true})
		c.Event(observe.CacheEvent{Kind: "GitRepository", Namespace: "apps", Name: "web", Operation: "reconcile"})
		c.Request(nil)
		c.Request(errors.New("full"))
		c.Evicted()
		c.Items(7)
	}
	m.Snapshot("Kustomization", func(yield func(observe.Resource) bool) {
		_ = yield(observe.Resource{
			Namespace: "apps", Name: "web", State: rt.State{Ready: true, Revision: "main@sha1:0123", Suspended: &rt.Suspension{}},
			Flux: &observe.Info{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Labels: map[string]string{"source_name": "repo", "webhook_path": "/hook/canary"}},
		}) && yield(observe.Resource{
			Namespace: "apps", Name: "repo", State: rt.State{Outcome: rt.OutcomeFailed},
			Flux: &observe.Info{Labels: map[string]string{"url": "https://user:canary@example.org/repo?token=canary", "endpoint": "://canary"}},
		})
	})
	text := scrape(t, registry)
	if strings.Contains(text, "canary") {
		t.Error("a secret is in a label")
	}
	got := ""
	for line := range strings.Lines(text) {
		if strings.Contains(line, "gotk_") {
			got += line
		}
	}
	want, err := os.ReadFile("testdata/flux.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
	lint(t, registry)
}

// Without Options.Flux there is nothing of that.
func TestWithoutFlux(t *testing.T) {
	registry, m := newMetrics(t, nil)
	m.Pass(observe.Pass{Kind: "A", Name: "web"})
	for _, c := range []*observe.Cache{m.TokenCache(), m.IndexCache()} {
		c.Event(observe.CacheEvent{})
		c.Request(nil)
		c.Evicted()
		c.Items(1)
	}
	m.Gone("A", "", "web")
	if text := scrape(t, registry); strings.Contains(text, "gotk_") {
		t.Error(text)
	}
}
