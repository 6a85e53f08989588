package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// waited is the number of Deployments that measureWait waits for.
const waited = 20

// measureWait counts what both sides ask while Deployments become ready on simulated nodes, each on a fresh server.
func measureWait(ctx context.Context) ([]row, error) {
	var cost [2]traffic
	var took [2]time.Duration
	for i, s := range sides {
		err := withServer(ctx, &testenv.Options{SimulatedNodes: 2}, func(config *rest.Config) (err error) {
			cost[i], took[i], err = waitForDeployments(ctx, s.new, config)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	what := fmt.Sprintf("wait for %d Deployments", waited)
	return []row{
		{what, "API requests", float64(cost[0].requests), float64(cost[1].requests)},
		{what, "API KiB", float64(cost[0].bytes / 1024), float64(cost[1].bytes / 1024)},
		{what, "seconds, from the start of the apply", took[0].Seconds(), took[1].Seconds()},
	}, nil
}

// waitForDeployments applies Deployments and returns what the wait for them cost, and how long both took together: a
// side that applies slowly has less to wait for.
func waitForDeployments(ctx context.Context, newSide func(*rest.Config) (side, error), config *rest.Config) (traffic, time.Duration, error) {
	var w wire
	s, err := newSide(w.config(config))
	if err != nil {
		return traffic{}, 0, err
	}
	start := time.Now()
	if err := s.reconcile(ctx, deployments(waited)); err != nil {
		return traffic{}, 0, err
	}
	w.take()
	err = s.wait(ctx)
	return w.take(), time.Since(start), err
}

// deployments returns n Deployments of two pods each.
func deployments(n int) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for i := range n {
		out = append(out, deployment(fmt.Sprintf("app-%02d", i), 2))
	}
	return out
}
