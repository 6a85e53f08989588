package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/examples/internal/console"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/cluster"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/meter"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/workload"
)

// The versions of the apps.
const first, second = "1.0.0", "1.1.0"

// benchmark is one run.
type benchmark struct {
	kind        workload.Kind
	apps        int
	timeout     time.Duration
	quiet       time.Duration
	out         *console.Printer
	repository  *workload.Repository
	cluster     *cluster.Cluster
	server      *meter.APIServer
	controllers *meter.Controllers

	names    []string
	digests  map[string]string // what the registry has now
	version  string
	followed *cluster.Followed
	peak     meter.Peak
}

// run measures all phases and cleans up.
func (b *benchmark) run(ctx context.Context, idle time.Duration, keep bool, report *Report) (err error) {
	for i := range b.apps {
		b.names = append(b.names, workload.Name(i))
	}
	if err := b.cluster.Check(ctx, workload.Sources(), b.kind.Consumers()); err != nil {
		return err
	}
	if _, err := b.server.Read(ctx); err != nil {
		return err
	}
	if _, err := b.controllers.Read(ctx); err != nil {
		return err
	}
	if err := b.push(ctx, first); err != nil {
		return err
	}
	if err := b.cluster.CreateNamespace(ctx); err != nil {
		return err
	}
	if !keep {
		defer func() { err = errors.Join(err, b.clean(context.WithoutCancel(ctx))) }()
	}
	if b.followed, err = b.cluster.Follow(ctx, workload.Sources(), b.kind.Consumers()); err != nil {
		return err
	}
	defer b.followed.Stop()
	sampling, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if known, _ := b.controllers.Known(); known {
		wg.Go(func() { b.peak.Sample(sampling, b.controllers) })
	}
	return b.phases(ctx, idle, report)
}

// phases measures one phase after the other.
func (b *benchmark) phases(ctx context.Context, idle time.Duration, report *Report) error {
	before, err := b.settled(ctx)
	if err != nil {
		return err
	}
	for _, phase := range []phase{
		{"install", b.timeout, b.install},
		{"upgrade", b.timeout, b.upgrade},
		{"nothing changed", b.timeout, b.nothing},
		{fmt.Sprintf("idle %g s", idle.Seconds()), idle + b.timeout, func(ctx context.Context) error { return pause(ctx, idle) }},
	} {
		after, took, err := b.measure(ctx, phase)
		if err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		p := newPhase(phase.name, took, b.apps, before, after)
		report.Phases = append(report.Phases, p)
		b.out.Step("phase", "%s: %.2f s, %.1f API requests per app", p.Name, p.Seconds, p.Requests)
		before = after
		if phase.name == "install" {
			if err := b.push(ctx, second); err != nil {
				return err
			}
		}
	}
	return nil
}

// phase is something that controllers are to do.
type phase struct {
	name    string
	timeout time.Duration
	act     func(context.Context) error
}

// measure says how long a phase took, and what was counted after it.
func (b *benchmark) measure(ctx context.Context, p phase) (*state, time.Duration, error) {
	if _, err := b.peak.Take(); err != nil {
		return nil, 0, fmt.Errorf("memory of the controllers: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("not done after %s", p.timeout))
	defer cancel()
	start := time.Now()
	if err := p.act(limited); err != nil {
		return nil, 0, err
	}
	took := time.Since(start)
	after, err := b.settled(ctx)
	return after, took, err
}

// push publishes a version of every app.
func (b *benchmark) push(ctx context.Context, version string) error {
	b.version, b.digests = version, map[string]string{}
	for _, name := range b.names {
		d, err := b.repository.Push(ctx, b.kind, name, version)
		if err != nil {
			return err
		}
		b.digests[name] = d
	}
	return nil
}

// install creates everything.
func (b *benchmark) install(ctx context.Context) error {
	var sources, consumers []*unstructured.Unstructured
	for _, name := range b.names {
		sources = append(sources, b.repository.Source(b.kind, b.cluster.Namespace, name))
		consumers = append(consumers, b.kind.Consumer(b.cluster.Namespace, name))
	}
	if err := b.cluster.Create(ctx, workload.Sources(), sources); err != nil {
		return err
	}
	if err := b.cluster.Create(ctx, b.kind.Consumers(), consumers); err != nil {
		return err
	}
	return b.ready(ctx)
}

// upgrade has the sources look at the registry.
func (b *benchmark) upgrade(ctx context.Context) error {
	if err := b.cluster.Request(ctx, workload.Sources(), b.names, token()); err != nil {
		return err
	}
	return b.ready(ctx)
}

// nothing asks for a pass of everything.
func (b *benchmark) nothing(ctx context.Context) error {
	at := token()
	if err := b.cluster.Request(ctx, workload.Sources(), b.names, at); err != nil {
		return err
	}
	if err := b.cluster.Request(ctx, b.kind.Consumers(), b.names, at); err != nil {
		return err
	}
	return b.followed.Until(ctx, b.refs(), cluster.ReadyAt(cluster.Answered(at)))
}

// token is a request for a pass, by its time as Flux's clients have it.
func token() string { return time.Now().Format(time.RFC3339Nano) }

// ready waits until every app is ready with what was pushed last.
func (b *benchmark) ready(ctx context.Context) error {
	return b.followed.Until(ctx, b.refs(), cluster.ReadyAt(b.current))
}

// refs are the sources and the consumers.
func (b *benchmark) refs() []cluster.Ref {
	var out []cluster.Ref
	for _, name := range b.names {
		out = append(out, cluster.Ref{Resource: workload.Sources().Resource, Name: name}, cluster.Ref{Resource: b.kind.Consumers().Resource, Name: name})
	}
	return out
}

// current says what an object lacks to be at the version pushed last.
func (b *benchmark) current(r cluster.Ref, o *unstructured.Unstructured) string {
	want := workload.Tag + "@" + b.digests[r.Name]
	path := []string{"status", "artifact", "revision"}
	switch {
	case r.Resource == workload.Sources().Resource:
	case b.kind == workload.Helm:
		return deployed(o, b.version)
	default:
		path = []string{"status", "lastAppliedRevision"}
	}
	if got := cluster.Text(o, path...); got != want {
		return fmt.Sprintf("it is ready at revision %s, not %s", got, want)
	}
	return ""
}

// deployed says what the newest release lacks.
func deployed(o *unstructured.Unstructured, version string) string {
	history, _, err := unstructured.NestedSlice(o.Object, "status", "history")
	if err != nil || len(history) == 0 {
		return "it has no release"
	}
	release, ok := history[0].(map[string]any)
	if got := fmt.Sprint(release["chartVersion"]); !ok || !strings.HasPrefix(got, version) || release["status"] != "deployed" {
		return fmt.Sprintf("its newest release is %v with chart %s, not deployed with %s", release["status"], got, version)
	}
	return ""
}

// clean deletes the consumers, so that they remove what they applied, then the
// sources, then the namespace, and waits until each is gone.
func (b *benchmark) clean(ctx context.Context) error {
	b.out.Step("clean", "deleting the apps and namespace %s", b.cluster.Namespace)
	limited, cancel := context.WithTimeoutCause(ctx, b.timeout, fmt.Errorf("not done after %s", b.timeout))
	defer cancel()
	for _, gvr := range []schema.GroupVersionResource{b.kind.Consumers(), workload.Sources()} {
		if err := b.cluster.Remove(limited, gvr, b.names); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	if err := b.cluster.DeleteNamespace(limited); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// state is what has been counted at a moment.
type state struct {
	requests meter.Counts
	usage    meter.Usage
	known    known
	peak     float64
}

type known struct{ usage, sent bool }

// patience is how many times it is waited for a quiet API server.
const patience = 15

// settled reads the figures when the API server is quiet.
func (b *benchmark) settled(ctx context.Context) (*state, error) {
	requests, err := b.server.Read(ctx)
	for last, tries := -1, 0; err == nil && ofGitOps(requests).Total() != last && tries < patience; tries++ {
		last = ofGitOps(requests).Total()
		if err = pause(ctx, b.quiet); err == nil {
			requests, err = b.server.Read(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	usage, err := b.controllers.Read(ctx)
	if err != nil {
		return nil, err
	}
	peak, err := b.peak.Take()
	if err != nil {
		return nil, fmt.Errorf("memory of the controllers: %w", err)
	}
	s := &state{requests: requests, usage: usage, peak: peak}
	s.known.usage, s.known.sent = b.controllers.Known()
	return s, nil
}
