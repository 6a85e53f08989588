package main

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// measureBuild compares memory and time of building the tree and of a diff of the installed objects.
func measureBuild(ctx context.Context, in *input) ([]row, error) {
	var build, plain, diff [2]testing.BenchmarkResult
	for i, s := range sides {
		var err error
		if build[i], err = benchmark(func(b *testing.B) error { return benchBuild(ctx, b, s.build, in) }); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		err = withServer(ctx, nil, func(config *rest.Config) (err error) {
			diff[i], err = benchmark(func(b *testing.B) error { return benchDiff(ctx, b, s.new, config, in.objects) })
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	plain[0] = build[0]
	var err error
	if plain[1], err = benchmark(func(b *testing.B) error { return benchBuild(ctx, b, buildPlain, in) }); err != nil {
		return nil, fmt.Errorf("kustomize: %w", err)
	}
	n := float64(len(in.objects))
	return slices.Concat(
		memoryRows("build", build, n),
		memoryRows("build, peer: kustomize alone", plain, n),
		memoryRows("diff, nothing changed", diff, n),
	), nil
}

// benchmark is [testing.Benchmark] for a body that can fail.
func benchmark(body func(*testing.B) error) (testing.BenchmarkResult, error) {
	var err error
	result := testing.Benchmark(func(b *testing.B) { err = body(b) })
	return result, err
}

// memoryRows compares two benchmarks whose operation handles n objects.
func memoryRows(what string, r [2]testing.BenchmarkResult, n float64) []row {
	both := func(f func(testing.BenchmarkResult) float64) (float64, float64) { return f(r[0]), f(r[1]) }
	rows := []row{
		{what: what, unit: "allocations per object"},
		{what: what, unit: "KiB allocated per object"},
		{what: what, unit: "milliseconds"},
	}
	rows[0].ours, rows[0].peer = both(func(r testing.BenchmarkResult) float64 { return float64(r.AllocsPerOp()) / n })
	rows[1].ours, rows[1].peer = both(func(r testing.BenchmarkResult) float64 { return float64(r.AllocedBytesPerOp()) / n / 1024 })
	rows[2].ours, rows[2].peer = both(func(r testing.BenchmarkResult) float64 { return float64(r.NsPerOp()) / 1e6 })
	return rows
}

type buildFunc func(context.Context, *input) ([]*unstructured.Unstructured, error)

// benchBuild builds the tree again and again; what a process does only once, it has done before.
func benchBuild(ctx context.Context, b *testing.B, build buildFunc, in *input) error {
	objects, err := build(ctx, in)
	if err != nil {
		return err
	}
	if objects, err = flat(objects); err != nil {
		return err
	}
	if len(objects) != len(in.objects) {
		return fmt.Errorf("built %d objects, want %d", len(objects), len(in.objects))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := build(ctx, in); err != nil {
			return err
		}
	}
	b.ReportMetric(float64(len(objects)), "objects")
	return nil
}

// benchDiff installs objects and then asks again and again what an apply would change, which is nothing.
func benchDiff(ctx context.Context, b *testing.B, newSide func(*rest.Config) (side, error), config *rest.Config, objects []*unstructured.Unstructured) error {
	var w wire
	s, err := newSide(w.config(config))
	if err != nil {
		return err
	}
	if err := s.reconcile(ctx, clone(objects)); err != nil {
		return err
	}
	w.take()
	b.ReportAllocs()
	passes := 0.0
	for b.Loop() {
		passes++
		b.StopTimer()
		fresh := clone(objects)
		b.StartTimer()
		n, err := s.diff(ctx, fresh)
		if err != nil {
			return err
		}
		if n != 0 {
			return fmt.Errorf("%d objects differ from what was just applied", n)
		}
	}
	b.ReportMetric(float64(w.take().requests)/passes/float64(len(objects)), "requests/object")
	return nil
}
