package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// scale is how large the measurements of the proof are.
type scale struct {
	objects    int           // of the mixed set
	measured   time.Duration // for passes over it when nothing changed
	waiting    int           // Deployments that do not become ready
	wait       time.Duration // for them
	edits      int           // that are repaired
	dependants int
	memory     []int // objects whose heap is taken
	validated  int   // custom resources
}

var (
	fullScale  = scale{objects: 1000, measured: 3 * time.Second, waiting: 100, wait: 11 * time.Second, edits: 100, dependants: 20, memory: []int{1000, 5000}, validated: 1000}
	smallScale = scale{objects: 100, measured: time.Second, waiting: 10, wait: time.Second, edits: 10, dependants: 3, memory: []int{500}, validated: 100}
)

// measureProof measures what it takes to know that nothing has to be done, and compares it with what was aimed at.
func measureProof(ctx context.Context, sc scale) ([]*grid, error) {
	g := &grid{}
	for _, c := range contenders {
		g.sides = append(g.sides, c.name)
	}
	lives, waits := make([]life, len(contenders)), make([]float64, len(contenders))
	for i, c := range contenders {
		err := withServer(ctx, nil, func(config *rest.Config) (err error) {
			lives[i], err = live(ctx, c.new, config, mixed(sc.objects), sc.measured)
			return err
		})
		if err == nil {
			err = withServer(ctx, nil, func(config *rest.Config) (err error) {
				waits[i], err = waitInVain(ctx, c.new, config, sc)
				return err
			})
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	g.addLives(lives, sc.objects)
	g.add("P7", fmt.Sprintf("wait %s for %d Deployments", sc.wait, sc.waiting), "requests", 1, waits...)
	err := withServer(ctx, nil, func(config *rest.Config) error { return g.addReactions(ctx, config, sc) })
	if err != nil {
		return nil, err
	}
	validation, err := measureValidation(ctx, sc.validated)
	if err != nil {
		return nil, err
	}
	g.add("P16", fmt.Sprintf("validate %d custom resources with rules in CEL, offline", sc.validated), "ms", 0.2*float64(sc.validated), milliseconds(validation))
	memory, err := measureMemory(ctx, sc.memory...)
	return []*grid{g, memory}, err
}

// addLives adds the figures of the lives of n objects. The targets are those of a thousand objects, and in proportion.
func (g *grid) addLives(lives []life, n int) {
	each := func(f func(l *life) float64) (out []float64) {
		for i := range lives {
			out = append(out, f(&lives[i]))
		}
		return out
	}
	size := float64(n)
	for _, s := range []struct {
		id, what       string
		of             func(*life) *cost
		requests, time float64 // targets; the time is in seconds
	}{
		{"P6", fmt.Sprintf("create %d objects", n), func(l *life) *cost { return &l.create }, 2*size + 1, lives[1].create.time.Seconds() / 2},
		{"P1", "nothing changed", func(l *life) *cost { return &l.unchanged }, 0, 0.01},
		{"P5", fmt.Sprintf("1 of %d changed", n), func(l *life) *cost { return &l.changed }, 2, none},
		{"P4", "nothing changed, cold start", func(l *life) *cost { return &l.cold }, 2*mixedKinds + size*0.05, none},
	} {
		g.add(s.id, s.what, "requests", s.requests, each(func(l *life) float64 { return float64(s.of(l).requests) })...)
		g.add(s.id, s.what, "requests of discovery", none, each(func(l *life) float64 { return float64(s.of(l).discovery) })...)
		g.add(s.id, s.what, "KiB", none, each(func(l *life) float64 { return float64(s.of(l).bytes) / 1024 })...)
		id, cpu := s.id, none
		if id == "P1" {
			id, cpu = "P2", 20
		}
		g.add(id, s.what, "ms", 1000*s.time, each(func(l *life) float64 { return milliseconds(s.of(l).time) })...)
		if id == "P2" {
			id = "P3"
		}
		g.add(id, s.what, "ms of the server's processor", cpu, each(func(l *life) float64 { return 1000 * s.of(l).cpu })...)
		g.add(s.id, s.what, "MiB allocated", none, each(func(l *life) float64 { return s.of(l).allocated / (1 << 20) })...)
	}
}

// addReactions adds how fast this module reacts to what others do.
func (g *grid) addReactions(ctx context.Context, config *rest.Config, sc scale) (err error) {
	var w wire
	config = w.config(config)
	types, err := newTypes(config)
	if err != nil {
		return err
	}
	f, err := follow(config, types)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	objects := mixed(sc.objects)
	if err := settle(ctx, &w, f, objects); err != nil {
		return err
	}
	repaired, err := measureRepair(ctx, config, f, objects, sc.edits)
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	what := fmt.Sprintf("an edit is repaired, of %d edits", sc.edits)
	g.add("P12", what+": half within", "ms", none, milliseconds(repaired[len(repaired)/2]))
	g.add("P12", what+": 99 % within", "ms", 1000, milliseconds(repaired[len(repaired)*99/100]))
	late, err := measureDependants(ctx, config, sc.dependants)
	if err != nil {
		return fmt.Errorf("dependants: %w", err)
	}
	what = fmt.Sprintf("a dependant is sent after what it needs is ready, of %d", sc.dependants)
	g.add("P14", what+": half within", "ms", none, milliseconds(late[len(late)/2]))
	g.add("P14", what+": all within", "ms", 500, milliseconds(late[len(late)-1]))
	ours, peer, err := measureIdentity(ctx, config, f, []*unstructured.Unstructured{manifest("v1", "ConfigMap", "of-tenant", nil), deployment("of-tenant", 0)})
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	g.add("P15", "second pass as another identity", "requests of discovery", 0, float64(ours), float64(peer))
	return nil
}

// waitInVain returns the requests of a wait for Deployments that nobody makes ready, or none of a contender that does
// not wait.
func waitInVain(ctx context.Context, fresh func(*rest.Config) (contender, error), config *rest.Config, sc scale) (_ float64, err error) {
	var w wire
	c, err := fresh(w.config(config))
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	waits, ok := c.(waiter)
	if !ok {
		return none, nil
	}
	for range 2 { // the first installs, the second is what an interval is
		if err := c.reconcile(ctx, deployments(sc.waiting)); err != nil {
			return none, err
		}
	}
	w.take()
	limited, cancel := context.WithTimeout(ctx, sc.wait)
	defer cancel()
	if err := waits.wait(limited); err == nil {
		return none, errors.New("Deployments are ready and nobody runs them")
	}
	return float64(w.take().requests), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
