package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// step is one reconcile of a scenario, and what it cost one side.
type step struct {
	name    string
	objects []*unstructured.Unstructured
	traffic traffic
	time    time.Duration
}

// scenario is the life of a set of objects: install, nothing new, one changed, one gone.
func scenario(objects []*unstructured.Unstructured) ([]step, error) {
	other, err := changed(objects)
	if err != nil {
		return nil, err
	}
	return []step{
		{name: "install", objects: objects},
		{name: "nothing changed", objects: objects},
		{name: "one object changed", objects: other},
		{name: "one object removed", objects: without(other)},
	}, nil
}

// measureRequests plays the scenario on both sides, each on a fresh server.
func measureRequests(ctx context.Context, in *input) ([]row, error) {
	var played [2][]step
	for i, s := range sides {
		err := withServer(ctx, nil, func(config *rest.Config) (err error) {
			played[i], err = play(ctx, s.new, config, in.objects)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return requestRows(played[0], played[1], float64(len(in.objects))), nil
}

// play reconciles every step of the scenario and counts.
func play(ctx context.Context, newSide func(*rest.Config) (side, error), config *rest.Config, objects []*unstructured.Unstructured) ([]step, error) {
	steps, err := scenario(objects)
	if err != nil {
		return nil, err
	}
	var w wire
	s, err := newSide(w.config(config))
	if err != nil {
		return nil, err
	}
	for i := range steps {
		fresh := clone(steps[i].objects)
		w.take()
		start := time.Now()
		if err := s.reconcile(ctx, fresh); err != nil {
			return nil, fmt.Errorf("%s: %w", steps[i].name, err)
		}
		steps[i].time, steps[i].traffic = time.Since(start), w.take()
	}
	return steps, nil
}

// requestRows compares two plays of n objects.
func requestRows(a, b []step, n float64) []row {
	var rows []row
	for i := range a {
		rows = append(rows,
			row{a[i].name, "API requests", float64(a[i].traffic.requests), float64(b[i].traffic.requests)},
			row{a[i].name, "API requests per object", float64(a[i].traffic.requests) / n, float64(b[i].traffic.requests) / n},
			row{a[i].name, "API KiB", float64(a[i].traffic.bytes / 1024), float64(b[i].traffic.bytes / 1024)},
			row{a[i].name, "discovery requests", float64(a[i].traffic.discovery), float64(b[i].traffic.discovery)},
			row{a[i].name, "seconds", a[i].time.Seconds(), b[i].time.Seconds()},
		)
	}
	return rows
}

// withServer runs f with an API server of its own.
func withServer(ctx context.Context, opts *testenv.Options, f func(*rest.Config) error) error {
	if opts == nil {
		opts = &testenv.Options{}
	}
	opts.Progress = os.Stderr
	server, err := testenv.Launch(ctx, opts)
	if err != nil {
		return err
	}
	return errors.Join(f(server.Config()), server.Stop())
}
