package main

import (
	"context"
)

// measureRuntime compares the loop with controller-runtime, and what is below it with fluxcd/pkg/runtime.
func measureRuntime(ctx context.Context, size load) ([]*grid, error) {
	loop, err := measureLoop(size)
	if err != nil {
		return nil, err
	}
	conventions, err := measureConventions(ctx)
	if err != nil {
		return nil, err
	}
	scrapes, err := measureScrape(ctx)
	if err != nil {
		return nil, err
	}
	return []*grid{loop, conventions, scrapes}, nil
}
