package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// grid is a table of any number of sides, with what was aimed at.
type grid struct {
	sides []string // the first is this module
	lines []line
}

// line is one figure of each side.
type line struct {
	id, what, unit string
	figures        []float64 // none where a side has no such thing, or was not measured
	target         float64   // the most that the first side should need; none if nothing was aimed at
}

// none stands for no figure.
var none = math.NaN()

func (g *grid) add(id, what, unit string, target float64, figures ...float64) {
	for len(figures) < len(g.sides) {
		figures = append(figures, none)
	}
	g.lines = append(g.lines, line{id, what, unit, figures, target})
}

// slack is by how much a figure may be above its target, or above what it was when its target was missed, before
// that counts as a step back: no machine is ours alone.
const slack = 1.2

// missed returns the figures of this module that miss their targets, slack included, those of some units only if any
// are given. A figure that is known to miss its target must not become worse.
func (g *grid) missed(known map[string]float64, units ...string) (out []string) {
	for _, l := range g.lines {
		most := max(l.target, known[l.id+" "+l.what+", "+l.unit])
		if len(units) > 0 && !slices.Contains(units, l.unit) || math.IsNaN(most) || l.figures[0] <= slack*most {
			continue
		}
		out = append(out, fmt.Sprintf("%s %s: %s %s, target %s", l.id, l.what, figure(l.figures[0]), l.unit, figure(l.target)))
	}
	return out
}

// knownMisses are figures as they stand in docs/benchmarks.md, where targets are missed.
func knownMisses() map[string]float64 {
	return map[string]float64{
		"P4 100000 idle keys, bytes of heap a key":                   113,
		" a Kustomization with 20 entries in the cache, KiB of heap": 2.83,
		"P8 readyExpr, evaluated again, allocations":                 73,
	}
}

// MarshalJSON gives each figure with its side, so that results can be kept and compared.
func (g *grid) MarshalJSON() ([]byte, error) {
	type entry struct {
		ID      string             `json:"id,omitempty"`
		What    string             `json:"what"`
		Unit    string             `json:"unit"`
		Figures map[string]float64 `json:"figures"`
		Target  *float64           `json:"target,omitempty"`
		Verdict string             `json:"verdict,omitempty"`
	}
	out := []entry{}
	for _, l := range g.lines {
		e := entry{ID: l.id, What: l.what, Unit: l.unit, Figures: map[string]float64{}, Verdict: l.verdict()}
		for i, v := range l.figures {
			if !math.IsNaN(v) {
				e.Figures[g.sides[i]] = v
			}
		}
		if !math.IsNaN(l.target) {
			e.Target = &l.target
		}
		out = append(out, e)
	}
	return json.Marshal(out)
}

// markdown returns the table.
func (g *grid) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | | unit | %s | target | |\n|---|---|---|%s---:|---|\n", strings.Join(g.sides, " | "), strings.Repeat("---:|", len(g.sides)))
	for _, l := range g.lines {
		fmt.Fprintf(&b, "| %s | %s | %s |", l.id, l.what, l.unit)
		for _, v := range l.figures {
			fmt.Fprintf(&b, " %s |", figureOrDash(v))
		}
		target := "–"
		if !math.IsNaN(l.target) {
			target = "≤ " + figure(l.target)
		}
		fmt.Fprintf(&b, " %s | %s |\n", target, l.verdict())
	}
	return b.String()
}

// verdict says whether the target is met.
func (l line) verdict() string {
	switch {
	case math.IsNaN(l.target):
		return ""
	case l.figures[0] <= l.target:
		return "met"
	default:
		return "missed"
	}
}

func figureOrDash(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return figure(v)
}
