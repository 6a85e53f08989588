package main

import (
	"encoding/json"
	"slices"
	"testing"
)

// TestTargets holds what does not depend on the speed of a machine against the targets of docs/benchmarks.md.
func TestTargets(t *testing.T) {
	g, err := measureConventions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + g.markdown())
	for _, missed := range g.missed(knownMisses(), "requests", "allocations", "KiB allocated", "KiB of heap") {
		t.Error(missed)
	}
	scrape, err := measureScrape(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, missed := range scrape.missed(nil, "MiB") {
		t.Error(missed)
	}
}

// TestMissed: a figure may be a fifth above its target, or above what is known.
func TestMissed(t *testing.T) {
	g := &grid{sides: []string{"ours", "peer"}}
	g.add("P1", "fine", "requests", 10, 12, 100)
	g.add("P2", "bad", "requests", 10, 12.1, 100)
	g.add("P3", "other", "ms", 10, 100)
	g.add("P4", "known", "requests", 10, 24)
	g.add("P5", "worse", "requests", 10, 25)
	g.add("", "no target", "requests", none, 1000)
	known := map[string]float64{"P4 known, requests": 20, "P5 worse, requests": 20}
	if got, want := g.missed(known, "requests"), []string{"P2 bad: 12.10 requests, target 10", "P5 worse: 25 requests, target 10"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := g.missed(known); len(got) != 3 {
		t.Errorf("got %q", got)
	}
	data, err := json.Marshal([]*grid{g})
	if err != nil {
		t.Fatal(err)
	}
	var back [][]struct {
		ID, Verdict string
		Figures     map[string]float64
		Target      *float64
	}
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if l := back[0][0]; len(back[0]) != 6 || l.ID != "P1" || l.Verdict != "missed" || l.Figures["peer"] != 100 || *l.Target != 10 || back[0][5].Target != nil {
		t.Errorf("%s", data)
	}
}
