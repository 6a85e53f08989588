package notifytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/notify"
)

// Events returns events of every kind a destination must take: each severity, with and without metadata and related
// object, a message of the greatest length, text in several scripts, and characters that mean something to markup.
func Events() []notify.Event {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	object := notify.Object{
		Kind: "Kustomization", Namespace: "apps", Name: "podinfo", UID: "6d1f0f5e-0000-4000-8000-000000000001",
		APIVersion: "kustomize.toolkit.fluxcd.io/v1", ResourceVersion: "42",
	}
	base := notify.Event{
		InvolvedObject: object, Timestamp: at, Message: "applied revision main@sha1:4f2a", Reason: "ReconciliationSucceeded",
		ReportingController: "kustomize-controller", ReportingInstance: "kustomize-controller-0",
	}
	var events []notify.Event
	add := func(change func(*notify.Event)) {
		e := base
		change(&e)
		events = append(events, e)
	}
	add(func(*notify.Event) {})
	add(func(e *notify.Event) {
		e.Severity, e.Reason, e.Message = notify.SeverityError, "BuildFailed", "no such file"
	})
	add(func(e *notify.Event) { e.Severity, e.Reason = notify.SeverityTrace, "Progressing" })
	add(func(e *notify.Event) {
		e.Metadata = map[string]string{
			"kustomize.toolkit.fluxcd.io/revision": "main@sha1:4f2a", "event.toolkit.fluxcd.io/change_request": "7",
		}
	})
	add(func(e *notify.Event) {
		e.Action, e.RelatedObject = "Syncing", &notify.Object{Kind: "GitRepository", Namespace: "apps", Name: "repo"}
	})
	add(func(e *notify.Event) { e.Message = strings.Repeat("é", notify.MaxMessage) })
	add(func(e *notify.Event) {
		e.Message = "<script> *b* _i_ [l](http://x) @everyone <!here> & \"q\" \\ 漢字 🚀\nline\t2"
	})
	add(func(e *notify.Event) {
		*e = notify.Event{InvolvedObject: notify.Object{Kind: "Node", Name: "n1"}, Timestamp: at}
	})
	return events
}

// TestSender tests that a sender whose destination is well keeps the rules of [notify.Sender]: it takes every kind of
// event, many at a time, leaves them as they are, and returns an error when its context has ended.
func TestSender(t *testing.T, s notify.Sender) {
	t.Helper()
	t.Run("takes every kind of event", func(t *testing.T) {
		for i, e := range Events() {
			if err := s.Send(t.Context(), e); err != nil {
				t.Errorf("event %d (%v %s): %v", i, e.Severity, e.Reason, err)
			}
		}
	})
	t.Run("is safe for concurrent use and leaves events alone", func(t *testing.T) {
		e := Events()[3]
		want := maps.Clone(e.Metadata)
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				if err := s.Send(t.Context(), e); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if !maps.Equal(e.Metadata, want) {
			t.Errorf("Send has changed the metadata: got %v, want %v", e.Metadata, want)
		}
	})
	t.Run("honours the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Send(ctx, Events()[0]); err == nil {
			t.Error("Send returned nil although its context had ended")
		}
	})
}

// HTTPSender is what [TestHTTPSender] tests.
type HTTPSender struct {
	// New returns a sender for an address, which has a secret path. Release what it holds with t.Cleanup.
	New func(t *testing.T, address string) notify.Sender
	// Secrets are the texts that no error may show, besides the path of the address: keys and header values.
	Secrets []string
}

// secretPath is part of the addresses in TestHTTPSender.
const secretPath = "/hooks/T0SECRETPATH"

// TestHTTPSender tests [TestSender]'s rules, and that failures of an HTTP destination are told apart: which may be
// repeated, when, and which not; that hanging and endless answers are left, that a redirect does not carry the
// event or its secrets elsewhere, and that errors show no secrets.
func TestHTTPSender(t *testing.T, s HTTPSender) {
	t.Helper()
	TestSender(t, s.New(t, NewServer(t).URL+secretPath))
	for _, status := range []int{301, 302, 303, 304, 400, 401, 403, 404, 405, 410, 413} {
		s.expect(t, Step{Status: status}, true, 0)
	}
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		s.expect(t, Step{Status: status, Header: map[string]string{"Retry-After": "7"}}, false, 7*time.Second)
		s.expect(t, Step{Status: status}, false, 0)
	}
	s.expect(t, Step{Reset: true}, false, 0)
	t.Run("answers that do not end", s.testEndless)
	t.Run("hanging server", s.testHang)
	t.Run("redirects elsewhere", s.testRedirect)
	t.Run("nobody listens", func(t *testing.T) {
		server := NewServer(t)
		server.Close()
		s.check(t, s.New(t, server.URL+secretPath).Send(t.Context(), Events()[0]), false, 0)
	})
}

// expect tests the error for one answer.
func (s HTTPSender) expect(t *testing.T, step Step, terminal bool, after time.Duration) {
	t.Helper()
	name := fmt.Sprintf("answer %d", step.Status)
	if step.Reset {
		name = "reset"
	}
	if after > 0 {
		name += " with Retry-After"
	}
	t.Run(name, func(t *testing.T) {
		step.Body = strings.Join(s.Secrets, " ") // a server that tells all
		server := NewServer(t, step)
		s.check(t, s.New(t, server.URL+secretPath).Send(t.Context(), Events()[0]), terminal, after)
		if n := len(server.Requests()); n != 1 {
			t.Errorf("the server got %d requests, want 1: retries are not the sender's", n)
		}
	})
}

// check tests what err says by its behaviour and in its text.
func (s HTTPSender) check(t *testing.T, err error, terminal bool, after time.Duration) {
	t.Helper()
	if err == nil {
		t.Fatal("Send returned nil")
	}
	var behaviour struct {
		terminal bool
		after    time.Duration
	}
	if e, ok := errors.AsType[interface {
		error
		Terminal() bool
	}](err); ok {
		behaviour.terminal = e.Terminal()
	}
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		behaviour.after = e.RetryAfter()
	}
	if behaviour.terminal != terminal || behaviour.after != after {
		t.Errorf("got terminal %t, retry after %v; want %t, %v: %v", behaviour.terminal, behaviour.after, terminal, after, err)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, secret := range append([]string{"T0SECRETPATH"}, s.Secrets...) {
			if text := fmt.Sprintf("%v %+v %#v", e, e, e.Error()); strings.Contains(text, secret) {
				t.Errorf("the error shows the secret %q: %s", secret, text)
			}
		}
	}
}

func (s HTTPSender) testEndless(t *testing.T) {
	server := NewServer(t, Step{Status: 500, Endless: true})
	s.check(t, s.New(t, server.URL+secretPath).Send(t.Context(), Events()[0]), false, 0)
	server.Close() // waits for the handler
	if n := server.Written(); n > maxEndless/4 {
		t.Errorf("%d bytes of an endless answer were read", n)
	}
}

func (s HTTPSender) testHang(t *testing.T) {
	server := NewServer(t, Step{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.New(t, server.URL+secretPath).Send(ctx, Events()[0])
	s.check(t, err, false, 0)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a context.DeadlineExceeded", err)
	}
}

func (s HTTPSender) testRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		other := NewServer(t)
		server := NewServer(t, Step{Status: status, Header: map[string]string{"Location": other.URL + "/elsewhere"}})
		s.check(t, s.New(t, server.URL+secretPath).Send(t.Context(), Events()[0]), true, 0)
		if n := len(other.Requests()); n != 0 {
			t.Errorf("redirect %d: the other server got %d requests, want 0", status, n)
		}
	}
}
