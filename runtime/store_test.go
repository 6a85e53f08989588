package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	rt "github.com/gitopskit/gitopskit/runtime"
)

type memory = rt.MemoryStore[string]

// life runs a loop with the store for a time, as one process would, and returns the passes and the last states.
func life(t *testing.T, store rt.Store[string], d time.Duration, set func(l *rt.Loop[string]), f fn) (*journal, map[string]rt.State) {
	t.Helper()
	j := newJournal()
	l := newLoop(t, func(ctx context.Context, p pass) rt.Result { j.add(p); return f(ctx, p) }, option{Store: store, Jitter: 0.05, Seed: 1})
	set(l)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := l.Run(ctx); err != nil {
		t.Error(err)
	}
	states := map[string]rt.State{}
	for k, s := range l.All() {
		states[k] = s
	}
	return j, states
}

func ok(context.Context, pass) rt.Result { return rt.OK() }

// After a restart 5000 keys are due when they were, but for those whose version has changed.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 5000
		var store memory
		setAll := func(changed ...int) func(l *rt.Loop[string]) {
			return func(l *rt.Loop[string]) {
				for i := range keys {
					s := spec{Interval: 10 * time.Hour, Version: "1"}
					if slices.Contains(changed, i) {
						s.Version = "2"
					}
					set(t, l, fmt.Sprint(i), s)
				}
			}
		}
		var due map[string]rt.State
		_, states := life(t, &store, time.Hour, func(l *rt.Loop[string]) {
			setAll()(l)
			time.AfterFunc(30*time.Minute, func() {
				due = map[string]rt.State{}
				for k, s := range l.All() {
					due[k] = s
				}
			})
		}, func(context.Context, pass) rt.Result { return rt.OK().At("r1").Note("done") })
		time.Sleep(time.Hour)
		var again map[string]rt.State
		j, _ := life(t, &store, time.Second, func(l *rt.Loop[string]) {
			setAll(7, 77, 777)(l)
			time.AfterFunc(500*time.Millisecond, func() {
				again = map[string]rt.State{}
				for k, s := range l.All() {
					again[k] = s
				}
			})
		}, ok)
		synctest.Wait() // for what AfterFunc has begun, which the race detector sees then
		slices.Sort(j.lines)
		j.want(t, "0s 7 changed", "0s 77 changed", "0s 777 changed")
		for i := range keys {
			k := fmt.Sprint(i)
			if d := again[k].Due.Sub(due[k].Due); !slices.Contains([]int{7, 77, 777}, i) && (d < -time.Second || d > time.Second) {
				t.Fatalf("%s was due at %v, now at %v", k, due[k].Due, again[k].Due)
			}
		}
		if diff := cmp.Diff(states["1"], again["1"], cmpopts.IgnoreFields(rt.State{}, "Due")); diff != "" {
			t.Errorf("the state (-before +after):\n%s", diff)
		}
	})
}

func TestRestoredStates(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first fn
		wait  time.Duration // from one process to the next
		spec  spec          // of the second process
		want  []string
		state rt.State
	}{
		{
			name: "failed", first: func(context.Context, pass) rt.Result { return rt.Fail(errors.New("no")) },
			wait: time.Second, spec: spec{Retry: rt.Fixed(time.Minute)},
			want:  []string{"49s a retry"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 2},
		},
		{
			name: "stalled", first: func(context.Context, pass) rt.Result { return rt.Stall(errors.New("bad")) },
			spec:  spec{Interval: time.Minute},
			state: rt.State{Outcome: rt.OutcomeStalled, Message: "bad", Err: &rt.RestoredError{Message: "bad"}, Passes: 1, Failures: 1},
		},
		{
			name: "again", first: func(context.Context, pass) rt.Result { return rt.Again(time.Hour, "half") }, spec: spec{},
			want:  []string{"59m50s a again"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 2},
		},
		{
			name: "overdue", first: ok, wait: 24 * time.Hour, spec: spec{Interval: 2 * time.Hour},
			want:  []string{"0s a interval"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 2},
		},
		{
			name: "waiting", spec: spec{}, first: func(_ context.Context, p pass) rt.Result {
				if p.Prev.Passes > 0 {
					return rt.Wait("health")
				}
				return rt.Again(0, "first")
			},
			want:  []string{"0s a restored"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 2},
		},
		{
			name: "interrupted", spec: spec{}, first: func(ctx context.Context, p pass) rt.Result {
				if p.Prev.Passes > 0 {
					<-ctx.Done()
					return rt.Fail(ctx.Err())
				}
				return rt.Again(0, "first")
			},
			want:  []string{"0s a restored"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 2},
		},
		{
			name: "never ended", spec: spec{}, first: func(context.Context, pass) rt.Result { return rt.Wait("health") },
			want:  []string{"0s a added"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 1},
		},
		{
			name: "forgotten", spec: spec{}, first: func(context.Context, pass) rt.Result { return rt.Forget() },
			want:  []string{"0s a added"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 1},
		},
		{
			name: "changed", first: ok, spec: spec{Version: "2"},
			want:  []string{"0s a changed"},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 2, Version: "2"},
		},
		{
			name: "suspended", first: ok, spec: spec{Version: "2", Suspend: &rt.Suspension{By: "alice"}},
			state: rt.State{Phase: rt.PhaseSuspended, Outcome: rt.OutcomeOK, Passes: 1, Suspended: &rt.Suspension{By: "alice"}},
		},
		{
			name: "blocked", first: ok, spec: spec{Version: "2", DependsOn: rt.On("b")},
			state: rt.State{Phase: rt.PhaseBlocked, Outcome: rt.OutcomeOK, Passes: 1, Waiting: []string{"dependency b: not found"}},
		},
		{
			name: "revision", first: func(context.Context, pass) rt.Result { return rt.OK().At("r").Note("n") }, spec: spec{},
			state: rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 1, Revision: "r", Message: "n"},
		},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, " set late: ", late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var store memory
					life(t, &store, 10*time.Second, func(l *rt.Loop[string]) {
						set(t, l, "a", spec{Retry: rt.Fixed(time.Minute)})
					}, tc.first)
					time.Sleep(tc.wait)
					j, states := life(t, &store, 90*time.Minute, func(l *rt.Loop[string]) {
						if !late {
							set(t, l, "a", tc.spec)
							return
						}
						time.AfterFunc(0, func() { set(t, l, "a", tc.spec) })
					}, ok)
					// The intervals of the second process come on top.
					j.lines = slices.DeleteFunc(j.lines, func(line string) bool { return strings.HasSuffix(line, "interval") && tc.name != "overdue" })
					if diff := cmp.Diff(tc.want, j.lines, cmpopts.EquateEmpty()); diff != "" {
						t.Errorf("passes (-want +got):\n%s", diff)
					}
					times := cmpopts.IgnoreFields(rt.State{}, "Interval", "Started", "Finished", "LastSuccess", "Due")
					got := states["a"]
					if tc.state.Phase == rt.PhaseBlocked { // the loop has stopped
						got.Phase, got.Waiting = tc.state.Phase, tc.state.Waiting
					}
					if diff := cmp.Diff(tc.state, got, times); diff != "" {
						t.Errorf("state (-want +got):\n%s", diff)
					}
				})
			})
		}
	}
}

// Wherever the clock has been moved while the process was down, a key has its next pass within its interval, and no
// more passes than usual.
func TestRestartWithAnotherClock(t *testing.T) {
	for _, jump := range []struct {
		name  string
		moved func(time.Time) time.Time
	}{
		{"an hour back", func(at time.Time) time.Time { return at.Add(time.Hour) }},
		{"an hour forward", func(at time.Time) time.Time { return at.Add(-time.Hour) }},
		{"saved in 1970", func(at time.Time) time.Time { return time.Unix(at.Unix()%1000, 0) }},
		{"saved in 2262", func(at time.Time) time.Time { return at.AddDate(262, 0, 0) }},
		{"saved in 9999", func(at time.Time) time.Time { return at.AddDate(7999, 0, 0) }},
	} {
		for _, outcome := range []rt.Outcome{rt.OutcomeOK, rt.OutcomeFailed, rt.OutcomeProgressing} {
			t.Run(fmt.Sprint(jump.name, " ", outcome), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					now := time.Now()
					s := rt.State{
						Outcome: outcome, Passes: 3, Failures: 2,
						Started: jump.moved(now.Add(-2 * time.Minute)), Finished: jump.moved(now.Add(-time.Minute)), Due: jump.moved(now.Add(9 * time.Minute)),
					}
					var store memory
					if err := store.Save(t.Context(), []rt.Saved[string]{{Key: "a", State: s}}); err != nil {
						t.Fatal(err)
					}
					j, states := life(t, &store, time.Hour, func(l *rt.Loop[string]) {
						set(t, l, "a", spec{Interval: 10 * time.Minute})
					}, ok)
					at := j.times["a"]
					if len(at) < 5 || len(at) > 7 || at[0] > 11*time.Minute {
						t.Errorf("passes at %v", at)
					}
					if s := states["a"]; s.Finished.After(time.Now()) {
						t.Errorf("got %+v", s)
					}
				})
			})
		}
	}
}

// broken is a store that can be made to fail.
type broken struct {
	memory
	mu    sync.Mutex
	err   error
	load  []error
	hang  bool
	takes time.Duration
	saves int
}

func (b *broken) fails(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saves++
	time.Sleep(b.takes)
	if b.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if b.err != nil && b.err.Error() == "panic" {
		panic(b.err)
	}
	return b.err
}

func (b *broken) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *broken) Load(ctx context.Context) iter.Seq2[rt.Saved[string], error] {
	return func(yield func(rt.Saved[string], error) bool) {
		for _, err := range b.load {
			if err.Error() == "panic" {
				panic(err)
			}
			if !yield(rt.Saved[string]{}, err) {
				return
			}
		}
		for s, err := range b.memory.Load(ctx) {
			if !yield(s, err) {
				return
			}
		}
	}
}

func (b *broken) Save(ctx context.Context, s []rt.Saved[string]) error {
	if err := b.fails(ctx); err != nil {
		return err
	}
	return b.memory.Save(ctx, s)
}

func (b *broken) Delete(ctx context.Context, k []string) error {
	if err := b.fails(ctx); err != nil {
		return err
	}
	return b.memory.Delete(ctx, k)
}

func (b *broken) keys() (keys []string) {
	for s, err := range b.memory.Load(context.Background()) {
		if err == nil {
			keys = append(keys, s.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

// A store that fails, panics or hangs does not stop the loop; what was not saved is saved when it works again.
func TestBrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &broken{err: errors.New("disk full"), load: []error{errors.New("record of b is damaged"), errors.New("panic")}}
		l := newLoop(t, ok, option{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil)), Grace: time.Second})
		set(t, l, "a", spec{Interval: time.Second})
		set(t, l, "gone", spec{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		sleep(time.Minute)
		if s := state(t, l, "a"); s.Passes != 61 {
			t.Errorf("got %+v", s)
		}
		if store.saves > 8 { // 1 s, 2 s, 4 s, 8 s, 16 s, 32 s
			t.Errorf("%d tries in a minute", store.saves)
		}
		l.Delete("gone")
		store.set(errors.New("panic"))
		sleep(time.Minute)
		store.set(nil)
		sleep(2 * time.Minute)
		if got := store.keys(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("the store has %q", got)
		}
		for _, want := range []string{"record of b is damaged", "panic in the Store", "cannot save the states of keys", "disk full", "saved again"} {
			if n := strings.Count(log.String(), want); n == 0 || want == "disk full" && n > 1 {
				t.Errorf("the log mentions %q %d times:\n%s", want, n, log.String())
			}
		}
		store.mu.Lock()
		store.hang = true
		store.mu.Unlock()
		set(t, l, "new", spec{})
		synctest.Wait()
		begin := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("Run returned after %v, want after Grace", took)
		}
	})
}

// Passes do not wait for the store, and many of them are saved together.
func TestStoreHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &broken{hang: true}
		l := newLoop(t, ok, option{Store: store, Workers: 1, Grace: time.Second})
		for i := range 3000 {
			set(t, l, fmt.Sprint(i), spec{})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		synctest.Wait()
		for k, s := range l.All() {
			if s.Passes != 1 {
				t.Fatalf("%s: %+v", k, s)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		store := &broken{takes: 100 * time.Millisecond}
		life(t, store, time.Minute, func(l *rt.Loop[string]) {
			for i := range 3000 {
				set(t, l, fmt.Sprint(i), spec{})
			}
		}, func(context.Context, pass) rt.Result { time.Sleep(time.Millisecond); return rt.OK() })
		if n := len(store.keys()); n != 3000 || store.saves > 40 {
			t.Errorf("%d keys were saved in %d calls", n, store.saves)
		}
	})
}
