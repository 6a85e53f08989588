package notifytest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecorderKeepsTheRules(t *testing.T) { notifytest.TestSender(t, &notifytest.Recorder{}) }

func TestRecorderAwait(t *testing.T) {
	rec := &notifytest.Recorder{Fail: func(e notify.Event) error {
		if e.Reason == "no" {
			return errors.New("no")
		}
		return nil
	}}
	got := make(chan string)
	go func() {
		e, err := rec.Await(t.Context(), func(e notify.Event) bool { return e.Reason == "wanted" })
		got <- fmt.Sprint(e.Message, err)
	}()
	for _, e := range []notify.Event{{Reason: "no"}, {Reason: "other"}, {Reason: "wanted", Message: "here "}} {
		_ = rec.Send(t.Context(), e)
	}
	if s := <-got; s != "here <nil>" {
		t.Errorf("got %q", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rec.Await(ctx, func(notify.Event) bool { return false }); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "none of 2 events") {
		t.Errorf("got %v", err)
	}
}

func TestServerScript(t *testing.T) {
	s := notifytest.NewServer(t,
		notifytest.Step{Status: 503, Header: map[string]string{"Retry-After": "1"}, Body: "busy"},
		notifytest.Step{Delay: time.Millisecond},
		notifytest.Step{Reset: true},
		notifytest.Step{Hang: true})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(ctx context.Context) string {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/path?q", strings.NewReader(`{"reason":"R"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return "error"
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, resp.Header.Get("Retry-After"), string(body))
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for i, want := range []string{"5031busy", "200", "error", "error", "200"} {
		ctx := t.Context()
		if i == 3 {
			ctx = short
		}
		if got := post(ctx); got != want {
			t.Errorf("request %d: got %s, want %s", i, got, want)
		}
	}
	r := s.Requests()
	if len(r) != 5 || r[0].Path != "/path?q" || r[0].Event(t).Reason != "R" || s.Connections() != 5 {
		t.Errorf("got %d requests, %d connections", len(r), s.Connections())
	}
}
