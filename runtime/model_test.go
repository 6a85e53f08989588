package runtime_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "run the model test with this seed only")
	modelSeeds = flag.Uint64("model.seeds", 60, "number of seeds of the model test")
	modelTime  = flag.Duration("model.time", 0, "run the model test for so long instead, with one seed after the other")
)

// TestModel makes random calls and checks, from what the passes see alone, what the package promises. A failure names
// its seed.
func TestModel(t *testing.T) {
	from, to := uint64(1), *modelSeeds
	if *modelSeed != 0 {
		from, to = *modelSeed, *modelSeed
	}
	begin, calls, passes := time.Now(), 0, 0
	seed := from
	for ; seed <= to || time.Since(begin) < *modelTime; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				for range 2 { // processes, one after the other
					m.play()
				}
				calls, passes = calls+m.calls, passes+m.passes
			})
		})
	}
	t.Logf("%d seeds, %d calls, %d passes", seed-from, calls, passes)
}

// model is what a caller can know about the keys.
type model struct {
	t       *testing.T
	random  *rand.Rand
	seed    uint64
	store   rt.MemoryStore[string]
	calls   int
	passes  int
	loop    *rt.Loop[string]
	ended   chan struct{}
	workers int

	mu      sync.Mutex
	keys    map[string]*modelKey
	drains  int // calls of Drain and Undrain
	waits   sync.WaitGroup
	tickets []modelTicket
}

type modelKey struct {
	spec      spec
	version   int
	running   bool
	known     bool
	suspended bool      // by a call that has returned, with no call to resume since
	deleted   bool      // Delete was called; the final pass has not been OK
	waiting   bool      // the last call returned Wait
	okVersion string    // of the last ended pass, "-" if it was not OK
	drained   bool      // Drain has returned, with no Undrain since
	touched   time.Time // when Set was called last
	lost      time.Time // when a pass that was not OK returned, which the loop may learn a little later
}

type modelTicket struct {
	*rt.Ticket
	key string
	at  time.Time
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t: t, random: rand.New(rand.NewPCG(seed, 7)), seed: seed, keys: map[string]*modelKey{},
	}
	m.workers = 1 + m.random.IntN(4)
	return m
}

// begin makes the loop of a process, with the keys that the one before had.
func (m *model) begin() {
	m.ended = make(chan struct{})
	m.loop = newLoop(m.t, m.pass, option{
		Workers: m.workers, Grace: time.Minute, Jitter: 0.1, Seed: m.seed, Finalizer: fn(m.final),
		Weights: map[string]int{"a": 2}, Ageing: time.Second, Store: &m.store,
		SlowLane: rt.SlowLane{Share: 0.6, SlowerThan: 600 * time.Millisecond},
	})
	for i := range 8 {
		name := string(rune('a' + i))
		k := m.key(name)
		if k.deleted || !k.known {
			m.keys[name] = &modelKey{okVersion: "-"}
			continue
		}
		k.waiting, k.suspended, k.drained, k.touched = false, false, false, time.Now()
		m.send(name, k.spec)
	}
}

func (m *model) send(name string, s spec) {
	var cycle *rt.CycleError
	if err := m.loop.Set(name, s); err != nil && !errors.As(err, &cycle) {
		m.t.Error(err)
	}
}

// chance is true in so many of 100 cases; m.mu is held.
func (m *model) chance(percent int) bool { return m.random.IntN(100) < percent }

func (m *model) key(k string) *modelKey {
	if m.keys[k] == nil {
		m.keys[k] = &modelKey{okVersion: "-"}
	}
	return m.keys[k]
}

// pass is the reconciler: it checks what must hold when a pass begins, takes its time, and ends at random.
func (m *model) pass(ctx context.Context, p pass) rt.Result {
	m.mu.Lock()
	k := m.key(p.Key)
	m.enter(k, p)
	woken := p.Why == rt.CauseWoken
	switch {
	case woken && !k.waiting:
		m.t.Errorf("%s: woken without a wait", p.Key)
	case !woken && k.suspended:
		m.t.Errorf("%s: a pass began while suspended: %v", p.Key, p.Why)
	case !woken && k.deleted:
		m.t.Errorf("%s: a pass began after Delete: %v", p.Key, p.Why)
	case p.Why == 0 || woken && p.Why != rt.CauseWoken:
		m.t.Errorf("%s: reasons %v", p.Key, p.Why)
	}
	if !woken {
		m.checkDeps(p.Key, k)
		open, _ := odd{}.At(time.Now())
		if len(k.spec.Windows) > 0 && !open && !p.Force && !k.touched.Equal(time.Now()) {
			m.t.Errorf("%s: a pass began outside its windows: %v", p.Key, p.Why)
		}
	}
	took := time.Duration(m.random.IntN(3)) * 500 * time.Millisecond
	m.mu.Unlock()

	select {
	case <-time.After(took):
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leave(k, p)
}

func (m *model) enter(k *modelKey, p pass) {
	if k.running {
		m.t.Errorf("%s: two passes at a time", p.Key)
	}
	select {
	case <-m.ended:
		m.t.Errorf("%s: a pass after Run has returned", p.Key)
	default:
	}
	if k.drained {
		m.t.Errorf("%s: a pass began after Drain: %v", p.Key, p.Why)
	}
	k.running = true
	m.passes++
}

// odd is a window that is open every other minute.
type odd struct{}

func (odd) At(t time.Time) (bool, time.Time) {
	change := t.Truncate(time.Minute).Add(time.Minute)
	return t.Minute()%2 == 1, change
}

// checkDeps is exact where no call is under way: a dependency that has never been OK for its version, is unknown or
// deleted cannot have been ready.
func (m *model) checkDeps(name string, k *modelKey) {
	for _, d := range k.spec.DependsOn {
		dep := m.key(d.Key)
		if !dep.known || dep.okVersion == "-" && !dep.lost.Equal(time.Now()) {
			m.t.Errorf("%s: began although %s was not ready (known %t, ok %q)", name, d.Key, dep.known, dep.okVersion)
		}
	}
}

func (m *model) leave(k *modelKey, p pass) rt.Result {
	k.running, k.waiting = false, false
	bad := func(r rt.Result) rt.Result { k.okVersion, k.lost = "-", time.Now(); return r }
	switch n := m.random.IntN(20); {
	case n < 10:
		k.okVersion = p.Version
		return rt.OK().At(fmt.Sprint(n))
	case n < 12:
		k.waiting = true
		return rt.Wait("luck", rt.WakeAfter(time.Duration(m.random.IntN(5))*time.Second))
	case n < 13:
		k.waiting = true
		return rt.Wait("another", rt.WakeKey(m.name()), rt.WakeAfter(20*time.Second))
	case n < 14:
		k.waiting = true
		return rt.Wait("work", rt.WakeWhen(func(ctx context.Context) { sleepOr(ctx, 3*time.Second) }))
	case n < 17:
		return bad(rt.Fail(errors.New("bad luck")))
	case n < 18:
		return bad(rt.Again(time.Second, "more"))
	case n < 19:
		_ = bad(rt.OK())
		panic("worse luck")
	}
	return bad(rt.Stall(errors.New("no luck")))
}

func sleepOr(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (m *model) final(_ context.Context, p pass) rt.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.key(p.Key)
	m.enter(k, p)
	k.running = false
	if !k.deleted || !p.Why.Has(rt.CauseDeleted) {
		m.t.Errorf("%s: a final pass without Delete: %v", p.Key, p.Why)
	}
	if m.chance(30) {
		return rt.Fail(errors.New("busy"))
	}
	k.deleted, k.known, k.okVersion = false, k.spec.Version != "", "-"
	return rt.OK()
}

func (m *model) name() string { return string(rune('a' + m.random.IntN(8))) }

// play makes random calls for some hours of fake time, then lets the loop come to rest and stops it.
func (m *model) play() {
	m.begin()
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.loop.Run(ctx) }()
	for range 300 {
		m.mu.Lock()
		m.calls++
		pause := time.Duration(m.random.IntN(4)) * 700 * time.Millisecond
		m.step()
		m.mu.Unlock()
		sleep(pause)
		m.compare()
	}
	cancel()
	if err := <-done; err != nil {
		m.t.Error(err)
	}
	close(m.ended)
	m.waits.Wait()
	m.checkTickets()
	m.tickets = nil
	m.checkStore()
}

// checkStore checks that what is kept is what a later process may go by.
func (m *model) checkStore() {
	states := maps.Collect(m.loop.All())
	for saved, err := range m.store.Load(m.t.Context()) {
		s, known := states[saved.Key]
		switch {
		case err != nil:
			m.t.Error(err)
		case !known || s.Deleting:
			m.t.Errorf("%s: a state was kept of a key that is deleted", saved.Key)
		case errors.As(s.Err, new(*rt.CycleError)): // kept is what the last pass has said
		case saved.State.Passes != s.Passes || saved.State.Outcome != s.Outcome || saved.State.Version != s.Version:
			m.t.Errorf("%s: kept %+v of %+v", saved.Key, saved.State, s)
		}
	}
}

// step makes one call. The model changes before the call when it allows more, and after it when it allows less.
func (m *model) step() {
	name := m.name()
	k := m.key(name)
	switch n := m.random.IntN(100); {
	case n < 30:
		m.set(name, k)
	case n < 65:
		at := time.Now()
		o := &rt.TriggerOptions{Force: m.chance(20)}
		m.tickets = append(m.tickets, modelTicket{m.loop.Trigger(name, o), name, at})
	case n < 72:
		if k.known && !k.deleted && m.loop.Suspend(name, rt.Suspension{By: "m"}) == nil {
			k.suspended = true
		}
	case n < 82:
		k.suspended = false
		_ = m.loop.Resume(name) // ErrNotFound
	case n < 90:
		m.loop.Wake(name)
	case n < 95 && k.known && !k.deleted:
		k.deleted, k.suspended, k.okVersion = true, false, "-"
		k.spec = spec{}
		m.tickets = append(m.tickets, modelTicket{m.loop.Delete(name), name, time.Time{}})
	case n < 97:
		m.drain(name)
	case n < 99:
		m.drains++
		for other, k := range m.keys {
			k.drained = k.drained && other < name
		}
		m.loop.Undrain(from(name))
	}
}

func from(name string) func(string) bool { return func(k string) bool { return k >= name } }

// drain calls Drain for a part of the keys, and waits for it without holding up the calls.
func (m *model) drain(name string) {
	m.drains++
	call := m.drains
	m.waits.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := m.loop.Drain(ctx, from(name)); err != nil {
			m.t.Error(err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.drains != call {
			return // something else was asked for meanwhile
		}
		for i := range 8 {
			if other := string(rune('a' + i)); other >= name {
				k := m.key(other)
				k.drained = true
				if k.running {
					m.t.Errorf("%s: a pass runs after Drain", other)
				}
			}
		}
	})
}

func (m *model) set(name string, k *modelKey) {
	s := spec{Version: fmt.Sprint("v", k.version), Retry: rt.Fixed(2 * time.Second), Timeout: 30 * time.Second}
	if m.chance(50) {
		s.Interval = time.Duration(1+m.random.IntN(10)) * time.Second
	}
	if m.chance(40) {
		k.version++
		s.Version = fmt.Sprint("v", k.version)
	}
	if m.chance(30) {
		s.Group, s.Priority = m.name(), int8(m.random.IntN(5)-2)
	}
	if m.chance(20) {
		s.Debounce = time.Duration(m.random.IntN(5)) * time.Second
	}
	if m.chance(15) {
		s.Windows = []rt.Window{odd{}}
	}
	k.touched = time.Now()
	for m.chance(30) { // dependencies on later keys only, but now and then a cycle
		if d := m.name(); d > name || m.chance(10) {
			dep := rt.Dep[string]{Key: d}
			if m.chance(20) {
				dep.Ready = func(s rt.State) error {
					if !s.Ready {
						return errors.New("not ready enough")
					}
					return nil
				}
			}
			s.DependsOn = append(s.DependsOn, dep)
		}
	}
	if k.spec.Version != s.Version {
		k.okVersion = "-"
	}
	k.spec, k.suspended = s, false
	if !k.deleted {
		k.known = true
	}
	m.send(name, s)
}

// compare checks the states against the model while nothing runs that could change them.
func (m *model) compare() {
	m.mu.Lock()
	defer m.mu.Unlock()
	states := maps.Collect(m.loop.All())
	for name, s := range states {
		k := m.key(name)
		notReady := func(d rt.Dep[string]) bool { return !states[d.Key].Ready }
		if s.Phase == rt.PhaseBlocked && !slices.ContainsFunc(k.spec.DependsOn, notReady) {
			m.t.Errorf("%s: blocked although all it depends on is ready: %q", name, s.Waiting)
		}
		if k.running != (s.Phase == rt.PhaseRunning) {
			m.t.Errorf("%s: running %t, but its phase is %v", name, k.running, s.Phase)
		}
		if s.Ready && k.okVersion != k.spec.Version {
			m.t.Errorf("%s: ready, but the last ended pass was %q and the version is %q", name, k.okVersion, k.spec.Version)
		}
		if s.Phase == rt.PhaseWaiting && !k.waiting {
			m.t.Errorf("%s: waits, but its last call did not", name)
		}
		if s.Phase == rt.PhaseBlocked && len(s.Waiting) == 0 {
			m.t.Errorf("%s: blocked by nothing", name)
		}
		if s.Phase == rt.PhaseQueued && m.running() < max(1, m.workers*6/10) {
			m.t.Errorf("%s: queued although a worker is free, even for a slow key", name)
		}
		if s.Deleting && s.Phase == rt.PhaseIdle && s.Due.IsZero() {
			m.t.Errorf("%s: its final pass will never be made: %+v", name, s)
		}
		if (s.Outcome == rt.OutcomeFailed || s.Outcome == rt.OutcomeProgressing) && s.Phase == rt.PhaseIdle && s.Due.IsZero() {
			m.t.Errorf("%s: will never be tried again: %+v", name, s)
		}
	}
}

// running counts the passes that run.
func (m *model) running() (n int) {
	for _, k := range m.keys {
		if k.running {
			n++
		}
	}
	return n
}

// checkTickets checks that every ticket is resolved, and by a pass that began after its trigger.
func (m *model) checkTickets() {
	for _, ticket := range m.tickets {
		s, err := ticket.Wait(canceled())
		known := []error{rt.ErrStopped, rt.ErrDeleted, rt.ErrNotFound}
		var suspended *rt.SuspendedError
		var cycle *rt.CycleError
		switch {
		case errors.Is(err, context.Canceled):
			m.t.Errorf("%s: a ticket is not resolved", ticket.key)
		case slices.ContainsFunc(known, func(e error) bool { return errors.Is(err, e) }),
			errors.As(err, &suspended), errors.As(err, &cycle):
		case s.Started.Before(ticket.at):
			m.t.Errorf("%s: triggered at %v, answered by a pass of %v", ticket.key, ticket.at, s.Started)
		}
	}
}
