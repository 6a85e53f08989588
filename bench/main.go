package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// parts are the sections of the table, in its order.
var parts = []string{"requests", "wait", "build", "proof", "runtime"}

func main() {
	only := flag.String("only", "", "the part to run: "+strings.Join(parts, ", ")+"; empty means all")
	file := flag.String("json", "", "a file that the figures with targets are written to, as well")
	assert := flag.Bool("assert", false, "fail if a figure misses its target by more than a fifth, unless that is known")
	small := flag.Bool("small", false, "take a small input, for a quick look")
	flag.Parse()
	if *only != "" && !slices.Contains(parts, *only) {
		fmt.Fprintf(os.Stderr, "bench: unknown part %q: use one of %s\n", *only, strings.Join(parts, ", "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, choice{*only, *file, *small, *assert})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// choice is what the command line asks for.
type choice struct {
	only, json    string
	small, assert bool
}

// run measures one part, or all, and prints the tables.
func run(ctx context.Context, c choice) error {
	open, size, amount := kubePrometheus, fullScale, fullLoad
	if c.small {
		open, size, amount = podinfo, smallScale, smallLoad
	}
	in, err := open(ctx)
	if err != nil {
		return err
	}
	defer in.close() //nolint:errcheck // the figures are already taken
	var t table
	var grids []*grid
	for _, part := range parts {
		if c.only != "" && c.only != part {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s ...\n", part)
		var rows []row
		switch part {
		case "requests":
			rows, err = measureRequests(ctx, in)
		case "wait":
			rows, err = measureWait(ctx)
		case "build":
			rows, err = measureBuild(ctx, in)
		case "proof":
			var more []*grid
			more, err = measureProof(ctx, size)
			grids = append(grids, more...)
		case "runtime":
			var more []*grid
			more, err = measureRuntime(ctx, amount)
			grids = append(grids, more...)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
		t = append(t, rows...)
	}
	if len(t) > 0 {
		fmt.Printf("%s: %d objects\n\n%s", in.name, len(in.objects), t.markdown())
	}
	for _, g := range grids {
		fmt.Printf("\n%s", g.markdown())
	}
	return c.keep(grids)
}

// keep writes the figures to a file, and returns an error for those that must not be.
func (c choice) keep(grids []*grid) error {
	var errs []error
	if c.json != "" {
		data, err := json.MarshalIndent(grids, "", "  ")
		if err == nil {
			err = os.WriteFile(c.json, append(data, '\n'), 0o644)
		}
		errs = append(errs, err)
	}
	for _, g := range grids {
		if missed := g.missed(knownMisses()); c.assert && len(missed) > 0 {
			errs = append(errs, fmt.Errorf("missed: %s", strings.Join(missed, "; ")))
		}
	}
	return errors.Join(errs...)
}
