package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

// The table of what makes way for what. The queue holds four events besides the one that is being sent.
func TestOverflow(t *testing.T) {
	const trace, info, bad = notify.SeverityTrace, notify.SeverityInfo, notify.SeverityError
	ev := event
	for _, tc := range []struct {
		name string
		emit []notify.Event
		left []string
		full int // how many calls of Emit return ErrFull
	}{
		{"traces first", []notify.Event{ev("a", "1", bad), ev("b", "2", info), ev("c", "3", trace), ev("d", "4", trace), ev("e", "5", info)},
			[]string{"1", "2", "4", "5"}, 0},
		{"then infos that are followed", []notify.Event{ev("a", "1", info), ev("b", "2", info), ev("b", "3", info), ev("c", "4", info), ev("d", "5", info)},
			[]string{"1", "3", "4", "5"}, 0},
		{"then the oldest info", []notify.Event{ev("a", "1", bad), ev("b", "2", info), ev("c", "3", info), ev("d", "4", bad), ev("e", "5", bad)},
			[]string{"1", "3", "4", "5"}, 0},
		{"a recovery is kept like its error", []notify.Event{ev("a", "1", bad), ev("a", "2", info), ev("b", "3", info), ev("c", "4", info), ev("d", "5", info)},
			[]string{"1", "2", "4", "5"}, 0},
		{"errors make way for errors only", []notify.Event{ev("a", "1", bad), ev("b", "2", bad), ev("c", "3", bad), ev("d", "4", bad), ev("e", "5", info), ev("f", "6", trace), ev("g", "7", bad)},
			[]string{"2", "3", "4", "7"}, 2},
		{"a trace displaces no info", []notify.Event{ev("a", "1", info), ev("b", "2", info), ev("c", "3", info), ev("d", "4", info), ev("e", "5", trace)},
			[]string{"1", "2", "3", "4"}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				rec := &notifytest.Recorder{}
				lost := 0
				b := newBus(t, func(d notify.Delivery) {
					lost++
					if !errors.Is(d.Err, notify.ErrFull) {
						t.Errorf("lost with %v", d.Err)
					}
				}, notify.Route{Parallel: 1, Queue: notify.Queue{Events: 5}, Sender: notify.SenderFunc(func(ctx context.Context, e notify.Event) error {
					<-release
					return rec.Send(ctx, e)
				})})
				emit(t, b, ev("first", "first", bad))
				synctest.Wait() // it is being sent
				full := 0
				for _, e := range tc.emit {
					if err := b.Emit(e); errors.Is(err, notify.ErrFull) {
						full++
					} else if err != nil {
						t.Error(err)
					}
				}
				close(release)
				if _, err := b.Close(t.Context()); err != nil {
					t.Error(err)
				}
				got := messages(rec.Events())
				slices.Sort(got) // order is kept for each object, not for all
				if diff := cmp.Diff(append(tc.left, "first"), got); diff != "" {
					t.Errorf("delivered (-want +got):\n%s", diff)
				}
				if full != tc.full || lost != len(tc.emit)-len(tc.left) {
					t.Errorf("%d times ErrFull, %d lost", full, lost)
				}
				settled(t, b, notify.RouteStats{Route: "r0", Delivered: uint64(len(tc.left)) + 1, Dropped: uint64(lost)})
			})
		})
	}
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := notify.SenderFunc(func(context.Context, notify.Event) error { return errDown })
		b := newBus(t, nil, notify.Route{Sender: down, Queue: notify.Queue{Bytes: 64 << 10}})
		for i := range 1000 {
			e := event(fmt.Sprint(i), strings.Repeat("x", i), notify.SeverityInfo)
			e.Metadata = map[string]string{"k": "v"}
			emit(t, b, e)
			if s := b.Stats()[0]; s.Bytes > 64<<10 || s.Bytes < 0 {
				t.Fatalf("%d bytes queued", s.Bytes)
			}
		}
		err := b.Emit(event("big", strings.Repeat("x", 38_000)+strings.Repeat("é", 1000), notify.SeverityError))
		if err != nil {
			t.Error(err) // it fits, when all others make way
		}
		e := event("huge", "m", notify.SeverityError)
		e.Metadata = map[string]string{"k": strings.Repeat("x", 64<<10)}
		if err := b.Emit(e); !errors.Is(err, notify.ErrTooLarge) || !strings.Contains(err.Error(), "r0") {
			t.Errorf("got %v", err)
		}
		if _, err := b.Close(canceled()); err == nil {
			t.Error("nothing left")
		}
	})
}

// An event that waits for a retry is still the oldest one when the queue overflows.
func TestOverflowOfARetriedEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost []string
		down := notify.SenderFunc(func(context.Context, notify.Event) error {
			time.Sleep(time.Second)
			return failure{after: time.Hour}
		})
		b := newBus(t, func(d notify.Delivery) { lost = append(lost, d.Event.Message) },
			notify.Route{Sender: down, Parallel: 1, Queue: notify.Queue{Events: 3}})
		for _, m := range []string{"1", "2", "3", "4", "5"} {
			if m == "4" {
				time.Sleep(2 * time.Second) // the first has failed meanwhile
			}
			emit(t, b, event(m, m, notify.SeverityInfo))
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"1", "2"}, lost); diff != "" {
			t.Error(diff)
		}
		if left, _ := b.Close(canceled()); len(left) != 3 {
			t.Errorf("%d left", len(left))
		}
	})
}
