package main

import (
	"testing"

	"k8s.io/client-go/rest"
)

// TestProof is what the proof promises, counted on a small set: what is unchanged is not asked for, and what is new,
// changed or not yet known costs what it must. The peer asks about each object every time, or nothing was measured.
func TestProof(t *testing.T) {
	const n = 50
	var lives []life
	for _, c := range contenders[:2] {
		err := withServer(t.Context(), nil, func(config *rest.Config) error {
			l, err := live(t.Context(), c.new, config, mixed(n), 0)
			lives = append(lives, l)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	g := &grid{sides: []string{"gitopskit", "peer"}}
	g.addLives(lives, n)
	t.Logf("\n%s", g.markdown())
	ours, peer := lives[0], lives[1]
	// Beside the kinds, the store follows seven that could make its knowledge void; reviews and the inventory come on top.
	const store = 2*mixedKinds + 25
	for _, c := range []struct {
		what       string
		ours, most int64
		peer       int64
	}{
		{"create", ours.create.requests, 2*n + store, peer.create.requests},
		{"unchanged", ours.unchanged.requests + ours.unchanged.discovery, 0, peer.unchanged.requests},
		{"one changed", ours.changed.requests, 2, peer.changed.requests},
		{"cold start", ours.cold.requests, store, peer.cold.requests},
	} {
		if c.ours > c.most {
			t.Errorf("%s: %d requests, more than %d", c.what, c.ours, c.most)
		}
		if c.peer < 2*n {
			t.Errorf("%s: the peer sent %d requests for %d objects: not measured", c.what, c.peer, n)
		}
	}
	if ours.create.requests < n || ours.changed.requests < 1 || ours.cold.requests < mixedKinds {
		t.Errorf("%+v: not measured", ours)
	}
}

// TestKubectl checks that kubectl applies what it is given, and asks for each object.
func TestKubectl(t *testing.T) {
	const n = 10
	err := withServer(t.Context(), nil, func(config *rest.Config) error {
		l, err := live(t.Context(), newKubectl, config, mixed(n), 0)
		if l.create.requests < n || l.unchanged.requests < n {
			t.Errorf("%d and %d requests for %d objects", l.create.requests, l.unchanged.requests, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReactions checks that a wait, a repair, a dependant and another identity cost what they may. Its times are not
// checked, and neither is that of the offline validation, which must accept what is valid.
func TestReactions(t *testing.T) {
	sc := scale{objects: 20, waiting: 5, wait: smallScale.wait, edits: 4, dependants: 1}
	var waits []float64
	for _, c := range contenders[:2] {
		err := withServer(t.Context(), nil, func(config *rest.Config) error {
			requests, err := waitInVain(t.Context(), c.new, config, sc)
			waits = append(waits, requests)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	if waits[0] > 1 || waits[1] < float64(sc.waiting) {
		t.Errorf("waits sent %v requests", waits)
	}
	g := &grid{sides: []string{"gitopskit", "peer"}}
	err := withServer(t.Context(), nil, func(config *rest.Config) error { return g.addReactions(t.Context(), config, sc) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", g.markdown())
	last := g.lines[len(g.lines)-1]
	if last.id != "P15" || last.figures[0] != 0 || last.figures[1] < 1 {
		t.Errorf("discovery of another identity: %v", last)
	}
	if _, err := measureValidation(t.Context(), 10); err != nil {
		t.Error(err)
	}
}

// TestMemory checks that a store knows objects in less than informers of whole objects do.
func TestMemory(t *testing.T) {
	g, err := measureMemory(t.Context(), 200)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", g.markdown())
	last := g.lines[len(g.lines)-1].figures
	if last[0] <= 0 || last[0] > last[1] {
		t.Errorf("KiB an object: %v", last)
	}
}

func TestGrid(t *testing.T) {
	g := &grid{sides: []string{"gitopskit", "peer"}}
	g.add("P1", "nothing", "requests", 0, 0, 200)
	g.add("P2", "nothing", "ms", 10, 12.5)
	g.add("", "nothing", "KiB", none, 1, 2)
	want := `| | | unit | gitopskit | peer | target | |
|---|---|---|---:|---:|---:|---|
| P1 | nothing | requests | 0 | 200 | ≤ 0 | met |
| P2 | nothing | ms | 12.50 | – | ≤ 10 | missed |
|  | nothing | KiB | 1 | 2 | – |  |
`
	if got := g.markdown(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
