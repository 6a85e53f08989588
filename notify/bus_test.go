package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newBus(t testing.TB, lost func(notify.Delivery), routes ...notify.Route) *notify.Bus {
	t.Helper()
	for i := range routes {
		if routes[i].Name == "" {
			routes[i].Name = fmt.Sprint("r", i)
		}
	}
	b, err := notify.NewBus(&notify.BusOptions{Lost: lost}, routes...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func emit(t testing.TB, b *notify.Bus, e notify.Event) {
	t.Helper()
	if err := b.Emit(e); err != nil {
		t.Error(err)
	}
}

// event is an event of an object, with its message.
func event(object, message string, s notify.Severity) notify.Event {
	return notify.Event{
		InvolvedObject: notify.Object{Kind: "App", Namespace: "ns", Name: object}, Message: message, Severity: s, Reason: "Test",
	}
}

func messages(events []notify.Event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i] = e.Message
	}
	return list
}

func settled(t testing.TB, b *notify.Bus, want ...notify.RouteStats) {
	t.Helper()
	got := b.Stats()
	for i := range got {
		got[i].LastErr = nil
		if got[i].Delivered+got[i].Dropped+got[i].Failed == 0 && got[i].Queued == 0 {
			t.Errorf("route %s has counted nothing", got[i].Route)
		}
	}
	if want != nil {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("counters (-want +got):\n%s", diff)
		}
	}
}

var errDown = errors.New("down")

func TestEmitNeverBlocksAndQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sending atomic.Int64
		hang := notify.SenderFunc(func(ctx context.Context, _ notify.Event) error {
			sending.Add(1)
			defer sending.Add(-1)
			<-ctx.Done()
			return ctx.Err()
		})
		rec := &notifytest.Recorder{}
		b := newBus(t, nil,
			notify.Route{Name: "hang", Sender: hang, Timeout: time.Hour, Queue: notify.Queue{Events: 50}},
			notify.Route{Name: "fine", Sender: rec, Queue: notify.Queue{Events: 20_000, Bytes: 1 << 30}})
		begin := time.Now()
		for i := range 10_000 {
			emit(t, b, event(fmt.Sprint(i%100), fmt.Sprint(i), notify.SeverityInfo))
		}
		synctest.Wait()
		if d := time.Since(begin); d != 0 {
			t.Errorf("Emit took %v", d)
		}
		if n := len(rec.Events()); n != 10_000 {
			t.Errorf("the other route got %d events", n)
		}
		if n := sending.Load(); n != 4 {
			t.Errorf("%d sends at a time, want 4", n)
		}
		if s := b.Stats()[0]; s.Queued != 50 || s.Dropped != 9950 || s.Bytes <= 0 {
			t.Errorf("got %+v", s)
		}
		left, err := b.Close(canceled())
		if len(left) != 50 || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "50 events not delivered") {
			t.Errorf("left %d, %v", len(left), err)
		}
		if sending.Load() != 0 {
			t.Error("sends go on after Close")
		}
	})
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// The destination is down for five minutes: what was queued arrives, in order, with growing pauses.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(5 * time.Minute)
		attempts := 0
		rec := &notifytest.Recorder{Fail: func(notify.Event) error {
			attempts++
			if time.Now().Before(up) {
				return errDown
			}
			return nil
		}}
		b := newBus(t, func(d notify.Delivery) { t.Errorf("lost: %+v", d) }, notify.Route{Sender: rec})
		var want []string
		for i := range 20 {
			m := fmt.Sprint(i)
			want = append(want, m)
			emit(t, b, event("a", m, notify.SeverityError))
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if s := b.Stats()[0]; s.Queued != 20 || !errors.Is(s.LastErr, errDown) || attempts < 4 || attempts > 60 {
			t.Errorf("%d attempts, %+v", attempts, s)
		}
		if left, err := b.Close(t.Context()); err != nil || left != nil {
			t.Errorf("left %v, %v", left, err)
		}
		if diff := cmp.Diff(want, messages(rec.Events())); diff != "" {
			t.Error(diff)
		}
		if d := time.Since(up); d > time.Minute {
			t.Errorf("delivered %v after the outage", d)
		}
		if s := b.Stats()[0]; s.Delivered != 20 || s.Queued != 0 || s.Bytes != 0 || s.LastErr != nil || s.Retries == 0 {
			t.Errorf("got %+v", s)
		}
	})
}

// 200 objects fail and recover through a destination with random failures: no recovery overtakes its failure.
func TestOrderOfAnObjectIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		n := 0
		rec := &notifytest.Recorder{Fail: func(notify.Event) error {
			mu.Lock()
			defer mu.Unlock()
			n++
			if n%3 == 0 || n%7 == 0 {
				return errDown
			}
			return nil
		}}
		b := newBus(t, nil, notify.Route{Sender: rec, Parallel: 8, Queue: notify.Queue{Events: 10_000}})
		for i := range 200 {
			emit(t, b, event(fmt.Sprint(i), "failed", notify.SeverityError))
		}
		for i := range 200 {
			e := event(fmt.Sprint(i), "recovered", notify.SeverityInfo)
			e.InvolvedObject.ResourceVersion = "2" // still the same object
			emit(t, b, e)
		}
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		last := map[string]string{}
		for _, e := range rec.Events() {
			if e.Message == "recovered" && last[e.InvolvedObject.Name] != "failed" {
				t.Errorf("%s recovered before it failed", e.InvolvedObject.Name)
			}
			last[e.InvolvedObject.Name] = e.Message
		}
		settled(t, b, notify.RouteStats{Route: "r0", Delivered: 400, Retries: b.Stats()[0].Retries})
	})
}

func TestOneBadEventHoldsUpItsObjectOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost []string
		rec := &notifytest.Recorder{Fail: func(e notify.Event) error {
			if e.Message == "poison" {
				return errDown
			}
			return nil
		}}
		b := newBus(t, func(d notify.Delivery) {
			lost = append(lost, fmt.Sprintf("%s %s %v", d.Route, d.Event.Message, d.Err))
			if d.Attempts < 50 {
				t.Errorf("given up after %d attempts", d.Attempts)
			}
		}, notify.Route{Sender: rec, Parallel: 1})
		emit(t, b, event("a", "poison", notify.SeverityInfo))
		emit(t, b, event("a", "after", notify.SeverityInfo))
		emit(t, b, event("b", "other", notify.SeverityInfo))
		synctest.Wait()
		if diff := cmp.Diff([]string{"other"}, messages(rec.Events())); diff != "" {
			t.Error(diff)
		}
		time.Sleep(62 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{"other", "after"}, messages(rec.Events())); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"r0 poison down"}, lost); diff != "" {
			t.Error(diff)
		}
		if s := b.Stats()[0]; s.Failed != 1 || s.Delivered != 2 {
			t.Errorf("got %+v", s)
		}
	})
}

type failure struct {
	terminal bool
	after    time.Duration
}

func (f failure) Error() string             { return "failure" }
func (f failure) Terminal() bool            { return f.terminal }
func (f failure) RetryAfter() time.Duration { return f.after }

func TestErrorsDecideAboutRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		var lost []notify.Delivery
		first := true
		rec := &notifytest.Recorder{Fail: func(e notify.Event) error {
			switch e.Message {
			case "terminal":
				return fmt.Errorf("send: %w", failure{terminal: true})
			case "panic":
				panic("boom")
			}
			at = append(at, time.Since(begin))
			if first {
				first = false
				return failure{after: 7 * time.Second}
			}
			return nil
		}}
		b := newBus(t, func(d notify.Delivery) { lost = append(lost, d) }, notify.Route{Sender: rec, Parallel: 1})
		emit(t, b, event("t", "terminal", notify.SeverityError))
		emit(t, b, event("p", "panic", notify.SeverityError))
		emit(t, b, event("a", "a", notify.SeverityError))
		emit(t, b, event("b", "b", notify.SeverityError)) // the pause is for the whole destination
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]time.Duration{0, 7 * time.Second, 7 * time.Second}, at); diff != "" {
			t.Error(diff)
		}
		if len(lost) != 2 || lost[0].Attempts != 1 || !strings.Contains(lost[1].Err.Error(), "panic in the sender: boom") {
			t.Errorf("lost %+v", lost)
		}
		settled(t, b, notify.RouteStats{Route: "r0", Delivered: 2, Failed: 2, Retries: 1})
	})
}

// A pause a destination asks for is not longer than an event may wait, and not cut short by a later, shorter one.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		var mu sync.Mutex
		sender := notify.SenderFunc(func(_ context.Context, e notify.Event) error {
			mu.Lock()
			at = append(at, time.Since(begin))
			n := len(at)
			mu.Unlock()
			time.Sleep(time.Duration(n) * time.Second) // both have begun
			switch n {
			case 1:
				return failure{after: 100 * time.Hour}
			case 2:
				return failure{after: time.Second}
			}
			return nil
		})
		b := newBus(t, nil, notify.Route{Sender: sender, Parallel: 2})
		emit(t, b, event("a", "a", notify.SeverityInfo))
		emit(t, b, event("b", "b", notify.SeverityInfo))
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]time.Duration{0, 0, time.Hour + time.Second, time.Hour + time.Second}, at); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRetryPausesAreRandomAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := time.Now()
		var pauses []time.Duration
		sender := notify.SenderFunc(func(context.Context, notify.Event) error {
			pauses = append(pauses, time.Since(last))
			last = time.Now()
			return errDown
		})
		b := newBus(t, nil, notify.Route{Sender: sender, Retry: notify.Retry{Min: time.Second, Max: 8 * time.Second, MaxAge: 10 * time.Minute}})
		emit(t, b, event("a", "a", notify.SeverityError))
		if left, err := b.Close(t.Context()); err != nil || left != nil {
			t.Errorf("left %v, %v", left, err)
		}
		bound := time.Second
		var longest time.Duration
		for i, p := range pauses[1:] {
			if p > bound {
				t.Errorf("pause %d: %v, want at most %v", i, p, bound)
			}
			longest = max(longest, p)
			bound = min(2*bound, 8*time.Second)
		}
		if distinct := len(slices.Compact(slices.Sorted(slices.Values(pauses)))); distinct < len(pauses)/2 || longest < 4*time.Second {
			t.Errorf("pauses are not random up to the bound: %v", pauses)
		}
	})
}

func TestSendIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bounds []time.Duration
		sender := notify.SenderFunc(func(ctx context.Context, _ notify.Event) error {
			deadline, _ := ctx.Deadline()
			bounds = append(bounds, time.Until(deadline))
			<-ctx.Done()
			return failure{terminal: true}
		})
		b := newBus(t, nil, notify.Route{Sender: sender})
		emit(t, b, event("a", "a", notify.SeverityInfo))
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]time.Duration{30 * time.Second}, bounds); diff != "" {
			t.Error(diff)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := notify.SenderFunc(func(ctx context.Context, _ notify.Event) error {
			select {
			case <-time.After(time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		hear := make(chan struct{})
		defer close(hear)
		deaf := notify.SenderFunc(func(context.Context, notify.Event) error { <-hear; return nil })
		down := notify.SenderFunc(func(context.Context, notify.Event) error { return failure{after: time.Hour} })
		b := newBus(t, nil, notify.Route{Sender: slow, Parallel: 2, Timeout: time.Hour}, notify.Route{Sender: deaf}, notify.Route{Sender: down})
		for _, m := range []string{"a", "b", "c"} {
			emit(t, b, event(m, m, notify.SeverityInfo))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		begin := time.Now()
		left, err := b.Close(ctx)
		if d := time.Since(begin); d != 91*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", d, err)
		}
		var got []string
		for _, d := range left {
			got = append(got, d.Route+" "+d.Event.Message)
		}
		want := []string{"r0 c", "r1 a", "r1 b", "r1 c", "r2 a", "r2 b", "r2 c"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		if err := b.Emit(event("a", "late", notify.SeverityError)); !errors.Is(err, notify.ErrClosed) {
			t.Errorf("Emit after Close: %v", err)
		}
		if left, err := b.Close(t.Context()); left != nil || err != nil {
			t.Errorf("second Close: %v, %v", left, err)
		}
		settled(t, b,
			notify.RouteStats{Route: "r0", Delivered: 2, Dropped: 1},
			notify.RouteStats{Route: "r1", Dropped: 3},
			notify.RouteStats{Route: "r2", Dropped: 3})
	})
}

func TestMatchAndCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, bad := &notifytest.Recorder{}, &notifytest.Recorder{}
		b := newBus(t, nil,
			notify.Route{Sender: all},
			notify.Route{Sender: bad, Match: func(e notify.Event) bool { return e.Severity >= notify.SeverityError }})
		e := event("a", strings.Repeat("é", notify.MaxMessage+1), notify.SeverityInfo)
		e.Metadata = map[string]string{"k": "v"}
		e.RelatedObject = &notify.Object{Name: "related"}
		emit(t, b, e)
		e.Metadata["k"], e.RelatedObject.Name = "changed", "changed" // nothing of the event is kept
		emit(t, b, event("a", "bad", notify.SeverityError))
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		got := all.Events()[0]
		if got.Metadata["k"] != "v" || got.RelatedObject.Name != "related" || !got.Timestamp.Equal(time.Now()) {
			t.Errorf("got %v %v %v", got.Metadata, got.RelatedObject, got.Timestamp)
		}
		if runes := []rune(got.Message); len(runes) != notify.MaxMessage || !strings.HasSuffix(got.Message, "é...") {
			t.Errorf("the message has %d characters", len(runes))
		}
		if diff := cmp.Diff([]string{"bad"}, messages(bad.Events())); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNewBusReportsEveryProblem(t *testing.T) {
	_, err := notify.NewBus(nil, notify.Route{}, notify.Route{
		Name: "x", Sender: &notifytest.Recorder{}, Queue: notify.Queue{Events: -1, Bytes: -1}, Timeout: -1, Parallel: -1,
		Retry: notify.Retry{Min: -1, Max: -1, MaxAge: -1},
	}, notify.Route{Name: "y", Sender: &notifytest.Recorder{}, Retry: notify.Retry{Min: 2, Max: 1}},
		notify.Route{Name: "z", Sender: &notifytest.Recorder{}}, notify.Route{Name: "z", Sender: &notifytest.Recorder{}})
	for _, want := range []string{
		"Name is empty", "Sender is nil", "Queue.Events is negative", "Queue.Bytes", "Timeout", "Parallel", "Retry.Min is", "Retry.MaxAge",
		"Retry.Max 1ns is below Retry.Min 2ns", `"z": the name is used twice`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
}

// Many callers in real time, for the race detector: every event is counted once.
func TestBusUnderLoad(t *testing.T) {
	var n atomic.Int64
	sender := notify.SenderFunc(func(context.Context, notify.Event) error {
		switch n.Add(1) % 5 {
		case 0:
			return errDown
		case 1:
			return failure{terminal: true}
		}
		return nil
	})
	var lost atomic.Int64
	b := newBus(t, func(notify.Delivery) { lost.Add(1) },
		notify.Route{Sender: sender, Queue: notify.Queue{Events: 200}, Retry: notify.Retry{Min: time.Microsecond, Max: time.Millisecond}},
		notify.Route{Sender: sender, Queue: notify.Queue{Bytes: 100_000}, Retry: notify.Retry{Min: time.Microsecond, Max: time.Millisecond}})
	const callers, each = 8, 2000
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			for i := range each {
				_ = b.Emit(event(fmt.Sprint(i%50), fmt.Sprint(c), notify.Severity(i%3-1)))
				_ = b.Stats()
			}
		})
	}
	group.Wait()
	if left, err := b.Close(t.Context()); err != nil || left != nil {
		t.Errorf("left %v, %v", left, err)
	}
	var gone uint64
	for _, s := range b.Stats() {
		gone += s.Dropped + s.Failed
		if s.Delivered+s.Dropped+s.Failed != callers*each || s.Queued != 0 || s.Bytes != 0 {
			t.Errorf("got %+v", s)
		}
	}
	if uint64(lost.Load()) != gone {
		t.Errorf("Lost was told of %d events, %d were", lost.Load(), gone)
	}
}

// BenchmarkEmit is the time Emit takes while the destination hangs and the queue is full.
func BenchmarkEmit(b *testing.B) {
	hang := notify.SenderFunc(func(ctx context.Context, _ notify.Event) error { <-ctx.Done(); return ctx.Err() })
	bus := newBus(b, nil, notify.Route{Sender: hang})
	defer func() { _, _ = bus.Close(canceled()) }()
	e := event("a", "a message of the usual length, which names a revision", notify.SeverityInfo)
	e.Metadata = map[string]string{"revision": "main@sha1:4f2a"}
	b.ReportAllocs()
	for b.Loop() {
		_ = bus.Emit(e)
	}
}
