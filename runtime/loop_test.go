package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	pass   = rt.Pass[string]
	spec   = rt.Spec[string]
	fn     = rt.Func[string]
	option = rt.Options[string]
)

// newLoop makes a loop without jitter.
func newLoop(t testing.TB, f fn, o option) *rt.Loop[string] {
	t.Helper()
	if o.Jitter == 0 {
		o.Jitter = -1
	}
	l, err := rt.New(f, &o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run starts the loop, and stops it at the end of the test.
func run(t testing.TB, l *rt.Loop[string]) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// sleep lets time pass in a synctest bubble, and what happens at its end.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func set(t testing.TB, l *rt.Loop[string], k string, s spec) {
	t.Helper()
	if err := l.Set(k, s); err != nil {
		t.Fatal(err)
	}
}

func state(t testing.TB, l *rt.Loop[string], k string) rt.State {
	t.Helper()
	s, ok := l.Get(k)
	if !ok {
		t.Fatalf("key %s is not known", k)
	}
	return s
}

// journal records the times of passes since it was made.
type journal struct {
	mu    sync.Mutex
	begin time.Time
	lines []string
	times map[string][]time.Duration
}

func newJournal() *journal {
	return &journal{begin: time.Now(), times: map[string][]time.Duration{}}
}

func (j *journal) add(p pass) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at := time.Since(j.begin)
	j.times[p.Key] = append(j.times[p.Key], at)
	j.lines = append(j.lines, fmt.Sprintf("%v %s %v", at, p.Key, p.Why))
}

func (j *journal) count(k string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.times[k])
}

func (j *journal) want(t testing.TB, lines ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if diff := cmp.Diff(lines, j.lines); diff != "" {
		t.Errorf("passes (-want +got):\n%s", diff)
	}
}

func TestIntervalIsExactWithoutJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{})
		set(t, l, "a", spec{Interval: 10 * time.Minute})
		run(t, l)
		sleep(24*time.Hour + time.Second)
		if n := j.count("a"); n != 145 {
			t.Errorf("got %d passes in 24 h, want 145", n)
		}
	})
}

func TestJitterIsBoundedAndDeterministic(t *testing.T) {
	sequence := func(seed uint64) (gaps []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			j := newJournal()
			l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() },
				option{Jitter: 0.05, Seed: seed})
			set(t, l, "a", spec{Interval: 10 * time.Minute})
			run(t, l)
			sleep(24 * time.Hour)
			times := j.times["a"]
			for i := range times[1:] {
				gaps = append(gaps, times[i+1]-times[i])
			}
		})
		return gaps
	}
	first := sequence(1)
	distinct := map[time.Duration]bool{}
	for _, gap := range first {
		distinct[gap] = true
		if gap < 570*time.Second || gap > 630*time.Second {
			t.Errorf("gap %v is outside of 10m ± 5 %%", gap)
		}
	}
	if len(distinct) < 100 {
		t.Errorf("only %d different gaps in %d", len(distinct), len(first))
	}
	if diff := cmp.Diff(first, sequence(1)); diff != "" {
		t.Errorf("same seed, other sequence: %s", diff)
	}
	if cmp.Equal(first, sequence(2)) {
		t.Error("another seed gives the same sequence")
	}
}

func TestJitterSpreadsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result { j.add(p); return rt.OK() }, option{Jitter: 0.05})
		for i := range 1000 {
			set(t, l, fmt.Sprintf("team-%03d", i), spec{Interval: 10 * time.Minute})
		}
		run(t, l)
		sleep(time.Hour)
		perSecond := map[int]int{}
		for _, times := range j.times {
			for _, at := range times[1:] {
				perSecond[int(at/time.Second)]++
			}
		}
		for second, n := range perSecond {
			if n > 30 {
				t.Errorf("%d of 1000 passes in second %d, want at most 30", n, second)
			}
		}
	})
}

func TestIntervalCountsFromTheEndAndFollowsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			time.Sleep(time.Minute)
			return rt.OK()
		}, option{})
		set(t, l, "a", spec{Interval: 10 * time.Minute})
		run(t, l)
		sleep(13 * time.Minute) // passes at 0 and 11
		set(t, l, "a", spec{Interval: 2 * time.Minute})
		set(t, l, "a", spec{Interval: 2 * time.Minute})
		sleep(2 * time.Minute) // at 14
		set(t, l, "a", spec{})
		sleep(24 * time.Hour)
		j.want(t, "0s a added", "11m0s a interval", "14m0s a interval")
	})
}

func TestBackoffDoublesIsCappedAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		var healed atomic.Bool
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			if p.Attempt != j.count("a") && !healed.Load() {
				t.Errorf("attempt %d in pass %d", p.Attempt, j.count("a"))
			}
			j.add(p)
			if healed.Load() {
				return rt.OK()
			}
			return rt.Fail(errors.New("no"))
		}, option{})
		set(t, l, "a", spec{})
		run(t, l)
		sleep(48 * time.Hour)
		times := j.times["a"]
		for i, want := range []time.Duration{0, 750, 2250, 5250, 11250} {
			if times[i] != want*time.Millisecond { //nolint:durationcheck // the list is in milliseconds
				t.Errorf("pass %d at %v, want %v ms", i, times[i], want)
			}
		}
		if last := times[len(times)-1] - times[len(times)-2]; last != 15*time.Minute {
			t.Errorf("longest pause: got %v, want 15m", last)
		}
		if s := state(t, l, "a"); s.Outcome != rt.OutcomeFailed || s.Failures != len(times) || s.Message != "no" || s.Ready {
			t.Errorf("got %+v", s)
		}
		healed.Store(true)
		if s, err := l.Trigger("a", nil).Wait(t.Context()); err != nil || s.Failures != 0 || s.Err != nil || !s.Ready {
			t.Errorf("after the success: got %+v, %v", s, err)
		}
	})
}

type behaves struct {
	terminal bool
	after    time.Duration
}

func (e behaves) Error() string             { return "behaves" }
func (e behaves) Terminal() bool            { return e.terminal }
func (e behaves) RetryAfter() time.Duration { return e.after }

func TestFailureBehaviours(t *testing.T) {
	for _, tc := range []struct {
		name   string
		retry  rt.Backoff
		result rt.Result
		want   []string
		out    rt.Outcome
	}{
		{"fixed", rt.Fixed(2 * time.Minute), rt.Fail(errors.New("x")), []string{"0s", "2m0s", "4m0s", "6m0s", "8m0s", "10m0s"}, rt.OutcomeFailed},
		{"retry after", rt.Backoff{}, rt.Fail(fmt.Errorf("get: %w", behaves{after: 3 * time.Minute})), []string{"0s", "3m0s", "6m0s", "9m0s"}, rt.OutcomeFailed},
		{"retry after is bounded", rt.Backoff{}, rt.Fail(behaves{after: 10000 * time.Hour}), []string{"0s"}, rt.OutcomeFailed},
		{"terminal", rt.Backoff{}, rt.Fail(fmt.Errorf("get: %w", behaves{terminal: true})), []string{"0s"}, rt.OutcomeStalled},
		{"stall", rt.Backoff{}, rt.Stall(errors.New("x")), []string{"0s"}, rt.OutcomeStalled},
		{"zero result", rt.Fixed(8 * time.Minute), rt.Result{}, []string{"0s", "8m0s"}, rt.OutcomeFailed},
		{"fail nil", rt.Fixed(8 * time.Minute), rt.Fail(nil), []string{"0s", "8m0s"}, rt.OutcomeFailed},
		{"stall nil", rt.Backoff{}, rt.Stall(nil), []string{"0s"}, rt.OutcomeStalled},
		{"again", rt.Backoff{}, rt.Again(4*time.Minute, "half"), []string{"0s", "4m0s", "8m0s"}, rt.OutcomeProgressing},
		{"of nil", rt.Backoff{}, rt.Of(nil), []string{"0s"}, rt.OutcomeOK},
		{"of error", rt.Fixed(8 * time.Minute), rt.Of(errors.New("x")), []string{"0s", "8m0s"}, rt.OutcomeFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []string
				begin := time.Now()
				l := newLoop(t, func(context.Context, pass) rt.Result {
					got = append(got, time.Since(begin).String())
					return tc.result
				}, option{})
				set(t, l, "a", spec{Retry: tc.retry})
				run(t, l)
				sleep(10*time.Minute + time.Second)
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("passes at (-want +got):\n%s", diff)
				}
				s := state(t, l, "a")
				if s.Outcome != tc.out || s.Ready != (tc.out == rt.OutcomeOK) || (s.Err != nil) != (tc.out > rt.OutcomeProgressing) {
					t.Errorf("got %+v", s)
				}
				if s.Err != nil && s.Message == "" {
					t.Error("a failure without a message")
				}
			})
		})
	}
}

func TestRetryAfterDoesNotEscalateTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		l := newLoop(t, func(_ context.Context, p pass) rt.Result {
			j.add(p)
			if p.Attempt < 5 {
				return rt.Fail(behaves{after: time.Minute})
			}
			return rt.Fail(errors.New("x"))
		}, option{})
		set(t, l, "a", spec{})
		run(t, l)
		sleep(5*time.Minute + 751*time.Millisecond)
		j.want(t, "0s a added", "1m0s a retry", "2m0s a retry", "3m0s a retry", "4m0s a retry", "5m0s a retry", "5m0.75s a retry")
	})
}

// Times beyond what can be counted mean never, and not at once.
func TestHugeDurations(t *testing.T) {
	for name, tc := range map[string]struct {
		spec   spec
		result rt.Result
	}{
		"interval": {spec{Interval: math.MaxInt64}, rt.OK()},
		"timeout":  {spec{Timeout: math.MaxInt64}, rt.Wait("x")},
		"retry":    {spec{Retry: rt.Fixed(math.MaxInt64)}, rt.Fail(errCause)},
		"again":    {spec{}, rt.Again(math.MaxInt64, "")},
		"after":    {spec{}, rt.Wait("x", rt.WakeAfter(math.MaxInt64))},
		"at":       {spec{}, rt.Wait("x", rt.WakeAt(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))},
		"until":    {spec{Suspend: &rt.Suspension{Until: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}}, rt.OK()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newJournal()
				l := newLoop(t, func(_ context.Context, p pass) rt.Result {
					j.add(p)
					if j.count("a") > 3 {
						return rt.Stall(errCause)
					}
					return tc.result
				}, option{Jitter: 0.5})
				set(t, l, "a", tc.spec)
				run(t, l)
				sleep(1000 * time.Hour)
				if n := j.count("a"); n > 1 {
					t.Errorf("got %d passes, want 1", n)
				}
			})
		})
	}
}

func TestBackoffDelay(t *testing.T) {
	for _, tc := range []struct {
		b        rt.Backoff
		failures int
		want     time.Duration
	}{
		{rt.Backoff{}, 0, 0},
		{rt.Backoff{}, -1, 0},
		{rt.Backoff{}, 1, 750 * time.Millisecond},
		{rt.Backoff{}, 1 << 30, 15 * time.Minute},
		{rt.Backoff{Min: time.Hour}, 9, time.Hour},
		{rt.Backoff{Min: 1<<62 + 1, Max: 1<<63 - 1}, 9, 1<<63 - 1},
		{rt.Backoff{Max: time.Second}, 2, time.Second},
		{rt.Fixed(time.Minute), 7, time.Minute},
	} {
		if got := tc.b.Delay(tc.failures); got != tc.want {
			t.Errorf("%+v after %d: got %v, want %v", tc.b, tc.failures, got, tc.want)
		}
	}
}

func TestErrorBehaviourIsFoundInTrees(t *testing.T) {
	plain, terminal := errors.New("plain"), behaves{terminal: true}
	network := &rt.TimeoutError{}
	for _, tc := range []struct {
		name     string
		err      error
		terminal bool
		after    time.Duration
	}{
		{"nil", nil, false, 0},
		{"plain", plain, false, 0},
		{"wrapped", fmt.Errorf("x: %w", terminal), true, 0},
		{"class and cause", fmt.Errorf("%w: %w", plain, terminal), true, 0},
		{"joined with a retry", errors.Join(terminal, behaves{after: time.Second}), false, time.Second},
		{"joined with a network error", errors.Join(terminal, network), false, 0},
		{"longest", errors.Join(behaves{after: time.Second}, behaves{after: time.Minute}), false, time.Minute},
		{"cycle", &rt.CycleError{}, true, 0},
	} {
		after, some := rt.RetryAfter(tc.err)
		if rt.IsTerminal(tc.err) != tc.terminal || after != tc.after || some != (tc.after > 0) {
			t.Errorf("%s: got %t, %v, %t", tc.name, rt.IsTerminal(tc.err), after, some)
		}
	}
}
