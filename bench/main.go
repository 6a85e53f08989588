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
var parts = []string{"requests", "wait", "build"}

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
	open := kubePrometheus
	if small {
		open = podinfo
	}
	in, err := open(ctx)
	if err != nil {
		return err
	}
	defer in.close() //nolint:errcheck // the figures are already taken
	var t table
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
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
		t = append(t, rows...)
	}
	fmt.Printf("%s: %d objects\n\n", in.name, len(in.objects))
	fmt.Print(t.markdown())
	return nil
}
