package main

import (
	"fmt"
	"math"
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
