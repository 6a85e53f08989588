package main

import (
	"context"
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
	small := flag.Bool("small", false, "take a small input, for a quick look")
	flag.Parse()
	if *only != "" && !slices.Contains(parts, *only) {
		fmt.Fprintf(os.Stderr, "bench: unknown part %q: use one of %s\n", *only, strings.Join(parts, ", "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *only, *small)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures one part, or all, and prints the table.
func run(ctx context.Context, only string, small bool) error {
	open, size, amount := kubePrometheus, fullScale, fullLoad
	if small {
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
		if only != "" && only != part {
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
	return nil
}
