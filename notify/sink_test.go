package notify_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

// answers is a server of which every request gets an answer of its own; status 0 means a connection that breaks.
type answers struct {
	status   int
	requests atomic.Int64
}

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	a.requests.Add(1)
	if a.status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: http.NoBody}, nil
}

// A duplicate is not sent again; servers and connections that fail are tried five times altogether.
func TestEventSinkRetries(t *testing.T) {
	for _, tc := range []struct {
		status, times int
		requests      int64
	}{
		{202, 0, 1}, {429, 0, 1}, {400, 0, 1}, {500, 0, 5}, {503, 0, 5}, {0, 0, 5}, {503, 1, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := &answers{status: tc.status}
			sink, err := notify.NewEventSink("http://events.test/SECRET", &notify.HTTPOptions{Transport: server})
			if err != nil {
				t.Fatal(err)
			}
			var lost []notify.Delivery
			b := newBus(t, func(d notify.Delivery) { lost = append(lost, d) }, notify.Route{Sender: sink, Retry: notify.Retry{Times: tc.times}})
			emit(t, b, event("a", "m", notify.SeverityError))
			if _, err := b.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if server.requests.Load() != tc.requests || (len(lost) == 0) != (tc.status == 202) {
				t.Errorf("%d: %d requests, lost %v", tc.status, server.requests.Load(), lost)
			}
			for _, d := range lost {
				if errors.Is(d.Err, notify.ErrDuplicate) != (tc.status == 429) || strings.Contains(d.Err.Error(), "SECRET") {
					t.Errorf("%d: lost with %v", tc.status, d.Err)
				}
			}
		})
	}
}

// The age of an event bounds its retries too.
func TestEventSinkGivesUpOldEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &answers{status: 503}
		sink, err := notify.NewEventSink("http://events.test", &notify.HTTPOptions{Transport: server})
		if err != nil {
			t.Fatal(err)
		}
		b := newBus(t, nil, notify.Route{Sender: sink, Retry: notify.Retry{MaxAge: time.Nanosecond, Min: time.Hour}})
		emit(t, b, event("a", "m", notify.SeverityError))
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if server.requests.Load() > 2 {
			t.Errorf("%d requests", server.requests.Load())
		}
	})
}

// An event server takes what a sink sends, number and all, and tells a repetition by 429.
func TestEventSinkToEventServer(t *testing.T) {
	var got []notify.Event
	server := httptest.NewServer(&notify.EventServer{Emit: func(e notify.Event) error {
		got = append(got, e)
		return nil
	}})
	defer server.Close()
	sink, err := notify.NewEventSink(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	e := notifytest.Events()[3]
	e.Metadata[notify.MetadataCount] = "99"
	if err := sink.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]notify.Event{e}, got); diff != "" {
		t.Error(diff)
	}
	err = sink.Send(t.Context(), e)
	f, ok := errors.AsType[*notify.SendError](err)
	if !errors.Is(err, notify.ErrDuplicate) || !ok || !f.Terminal() || f.Status != http.StatusTooManyRequests {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sink.Send(ctx, e); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNewEventSinkReportsEveryProblem(t *testing.T) {
	_, err := notify.NewEventSink("ftp://host/SECRET", &notify.HTTPOptions{Timeout: -1, Headers: map[string]string{"gotk-component": "SECRET"}})
	if err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"no scheme http", "Timeout is -1ns", "Gotk-Component is set by the sender"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
