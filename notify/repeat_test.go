package notify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

// counted lists messages, with the numbers of what they stand for.
func counted(events []notify.Event) []string {
	list := messages(events)
	for i, e := range events {
		if n := e.Metadata[notify.MetadataCount]; n != "" {
			list[i] += " x" + n
		}
	}
	return list
}

func expect(t *testing.T, rec *notifytest.Recorder, want ...string) {
	t.Helper()
	synctest.Wait()
	if diff := cmp.Diff(want, counted(rec.Events())); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

// A hundred identical failures make one event in each window, and their number is told.
func TestRepetitionsMakeOneEventInAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &notifytest.Recorder{}
		b := newBus(t, nil, notify.Route{Sender: rec, Window: time.Minute})
		fail := event("a", "fail", notify.SeverityError)
		for i := range 100 {
			fail.InvolvedObject.ResourceVersion = fmt.Sprint(i)
			emit(t, b, fail)
		}
		expect(t, rec, "fail")
		time.Sleep(time.Minute)
		expect(t, rec, "fail", "fail x99")
		if last := rec.Events()[1]; last.InvolvedObject.ResourceVersion != "99" || len(fail.Metadata) != 0 {
			t.Errorf("not the last one: %+v, or it is that of the caller: %v", last, fail.Metadata)
		}
		for range 3 { // the event that told the number has begun the next window
			emit(t, b, fail)
		}
		expect(t, rec, "fail", "fail x99")
		time.Sleep(time.Minute)
		expect(t, rec, "fail", "fail x99", "fail x3")
		time.Sleep(time.Hour) // without repetitions the windows end
		emit(t, b, fail)
		expect(t, rec, "fail", "fail x99", "fail x3", "fail")
		emit(t, b, fail)
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		expect(t, rec, "fail", "fail x99", "fail x3", "fail", "fail x1")
		settled(t, b, notify.RouteStats{Route: "r0", Delivered: 5, Repeated: 103})
		time.Sleep(time.Hour)
		expect(t, rec, "fail", "fail x99", "fail x3", "fail", "fail x1")
	})
}

// A change is told at once, and after what came before it.
func TestChangesAreNoRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &notifytest.Recorder{}
		b := newBus(t, nil, notify.Route{Sender: rec, Window: time.Minute})
		fail, fine := event("a", "fail", notify.SeverityError), event("a", "fine", notify.SeverityInfo)
		for _, e := range []notify.Event{fail, fail, fail, fine, fail, fine} {
			emit(t, b, e)
		}
		expect(t, rec, "fail", "fail x2", "fine", "fail", "fine")
		other := fine
		other.Reason = "Other"
		worse := other
		worse.Severity = notify.SeverityError
		revision := worse
		revision.Metadata = map[string]string{"revision": "v2"}
		for _, e := range []notify.Event{other, worse, revision} {
			emit(t, b, e)
		}
		if n := len(rec.Events()); n > 8 {
			t.Errorf("%d events", n)
		}
		expect(t, rec, "fail", "fail x2", "fine", "fail", "fine", "fine", "fine", "fine")
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What is held back is bounded in number and bytes: the oldest windows end early, and nothing is lost unsaid.
func TestWindowsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &notifytest.Recorder{}
		b := newBus(t, func(d notify.Delivery) { t.Errorf("lost: %+v", d) },
			notify.Route{Sender: rec, Window: time.Hour, Queue: notify.Queue{Events: 10, Bytes: 20 << 10}})
		defer b.Close(t.Context()) //nolint:errcheck // nothing is left
		for i := range 12 {
			for range 2 {
				emit(t, b, event(fmt.Sprint(i), fmt.Sprint(i), notify.SeverityError))
			}
			synctest.Wait()
		}
		if got := counted(rec.Events()); len(got) != 14 || !strings.Contains(fmt.Sprint(got), "0 x1") || !strings.Contains(fmt.Sprint(got), "1 x1") {
			t.Errorf("by number: %v", got)
		}
		big := event("big", strings.Repeat("x", 15<<10), notify.SeverityError)
		emit(t, b, big)
		synctest.Wait()
		emit(t, b, big) // all others end, as together they are too large
		synctest.Wait()
		if n := len(rec.Events()); n < 15+1 {
			t.Errorf("by bytes: %d events", n)
		}
	})
}

// An event that the queue had no room for was not told, so the next one is no repetition.
func TestWhatWasNotTakenIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, nil, notify.Route{Sender: &notifytest.Recorder{}, Window: time.Hour, Queue: notify.Queue{Bytes: 10}})
		for range 2 {
			if err := b.Emit(event("a", "fail", notify.SeverityError)); !errors.Is(err, notify.ErrTooLarge) {
				t.Errorf("got %v", err)
			}
		}
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRetryTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost []notify.Delivery
		down := notify.SenderFunc(func(context.Context, notify.Event) error { return errDown })
		b := newBus(t, func(d notify.Delivery) { lost = append(lost, d) }, notify.Route{Sender: down, Retry: notify.Retry{Times: 2}})
		emit(t, b, event("a", "m", notify.SeverityError))
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if len(lost) != 1 || lost[0].Attempts != 3 || !errors.Is(lost[0].Err, errDown) {
			t.Errorf("lost %+v", lost)
		}
		settled(t, b, notify.RouteStats{Route: "r0", Failed: 1, Retries: 2})
	})
}

// around is a sender around another one.
type around struct{ notify.Sender }

func (a around) Retries() int { return a.Sender.(interface{ Retries() int }).Retries() }

// TestRetriesOfTheSender: a Sender says how often is enough, also through one that is around it, unless the route does.
func TestRetriesOfTheSender(t *testing.T) {
	for times, requests := range map[int]int64{0: 5, 2: 3} {
		synctest.Test(t, func(t *testing.T) {
			server := &answers{status: 503}
			sink, err := notify.NewEventSink("http://events.test", &notify.HTTPOptions{Transport: server})
			if err != nil {
				t.Fatal(err)
			}
			b := newBus(t, nil, notify.Route{Sender: around{sink}, Retry: notify.Retry{Times: times}})
			emit(t, b, event("a", "m", notify.SeverityError))
			if _, err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if server.requests.Load() != requests {
				t.Errorf("%d requests, want %d", server.requests.Load(), requests)
			}
		})
	}
}

// TestAgeOfWhatWasHeldBack: an event that a window has held back for longer than MaxAge is tried nevertheless, and again.
func TestAgeOfWhatWasHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &answers{status: 503}
		hook, err := notify.NewWebhook("http://hook.test", &notify.HTTPOptions{Transport: server})
		if err != nil {
			t.Fatal(err)
		}
		b := newBus(t, nil, notify.Route{Sender: hook, Window: time.Hour, Retry: notify.Retry{Min: time.Second, Max: time.Second, MaxAge: time.Minute}})
		emit(t, b, event("a", "m", notify.SeverityError))
		emit(t, b, event("a", "m", notify.SeverityError))
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		before := server.requests.Load()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := server.requests.Load() - before; n < 10 || b.Stats()[0].Failed != 2 {
			t.Errorf("%d requests for what was held back, %+v", n, b.Stats())
		}
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestWindowAndTimesAreNotNegative(t *testing.T) {
	_, err := notify.NewBus(nil, notify.Route{Name: "r", Sender: &notifytest.Recorder{}, Window: -1, Retry: notify.Retry{Times: -1}})
	if err == nil || !strings.Contains(err.Error(), "Window is negative") || !strings.Contains(err.Error(), "Retry.Times is negative") {
		t.Errorf("got %v", err)
	}
}
