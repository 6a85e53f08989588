package main

import (
	"fmt"
	"strings"
)

// row is one figure of both sides.
type row struct {
	what       string
	unit       string
	ours, peer float64
}

// table is what the program prints.
type table []row

// markdown returns the table. The ratio is ours divided by the peer's: below one, this side needs less.
func (t table) markdown() string {
	var b strings.Builder
	b.WriteString("| | unit | gitopskit | peer | ratio |\n|---|---|---:|---:|---:|\n")
	for _, r := range t {
		ratio := "–"
		if r.peer != 0 {
			ratio = fmt.Sprintf("%.2f", r.ours/r.peer)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.what, r.unit, figure(r.ours), figure(r.peer), ratio)
	}
	return b.String()
}

// figure returns a number with as many digits as mean something.
func figure(v float64) string {
	if v == float64(int64(v)) || v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
