package notify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

const hmacKey = "hmac-key-canary-0123456789"

func newWebhook(t *testing.T, address string) *notify.Webhook {
	t.Helper()
	w, err := notify.NewSignedWebhook(address, []byte(hmacKey), &notify.HTTPOptions{
		Headers: map[string]string{"Authorization": "Bearer header-canary-987"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestWebhookKeepsTheRules(t *testing.T) {
	notifytest.TestHTTPSender(t, notifytest.HTTPSender{
		New:     func(t *testing.T, address string) notify.Sender { return newWebhook(t, address) },
		Secrets: []string{hmacKey, "header-canary-987"},
	})
}

func TestWebhookRequest(t *testing.T) {
	server := notifytest.NewServer(t)
	want := notifytest.Events()[3]
	if err := newWebhook(t, server.URL+"/hook?x=1").Send(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got := server.Requests()[0]
	if diff := cmp.Diff(want, got.Event(t)); diff != "" {
		t.Error(diff)
	}
	mac := hmac.New(sha256.New, []byte(hmacKey))
	mac.Write(got.Body)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Gotk-Component": "kustomize-controller",
		"X-Signature": "sha256=" + hex.EncodeToString(mac.Sum(nil)), "Authorization": "Bearer header-canary-987",
	} {
		if got.Header.Get(name) != value {
			t.Errorf("header %s: got %q, want %q", name, got.Header.Get(name), value)
		}
	}
	if got.Method != "POST" || got.Path != "/hook?x=1" {
		t.Errorf("got %s %s", got.Method, got.Path)
	}
}

func TestWebhookWithoutKeyIsNotSigned(t *testing.T) {
	server := notifytest.NewServer(t)
	w, err := notify.NewWebhook(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	e := notifytest.Events()[0]
	e.ReportingController = "evil\r\nX-Injected: 1"
	if err := w.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	h := server.Requests()[0].Header
	if _, signed := h["X-Signature"]; signed {
		t.Error("there is a signature without a key")
	}
	if got := h.Get("Gotk-Component"); got != "evilX-Injected: 1" || h.Get("X-Injected") != "" {
		t.Errorf("header injection: %q %q", got, h.Get("X-Injected"))
	}
}

func TestNewWebhookReportsEveryProblem(t *testing.T) {
	_, err := notify.NewSignedWebhook("ftp://host/SECRETPATH", nil, &notify.HTTPOptions{
		Timeout: -1,
		Headers: map[string]string{
			"X-Signature": "SECRETVALUE", "bad name": "SECRETVALUE", "X-A": "SECRET\nVALUE", "a": "1", "A": "2",
		},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"no scheme http", "HMAC key is empty", "Timeout is -1ns", `"bad name" is not a token`, "X-Signature is set by the sender",
		"control character", "A is given twice",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the error shows a secret: %v", err)
	}
	for _, address := range []string{"", "://SECRET", "https://", "host/SECRET", "https://h/SECRET#f", "http://a b/SECRET", "https://u:SECRET@h:x/"} {
		_, err := notify.NewWebhook(address, nil)
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("address %q: got error %v", address, err)
		}
		if e, ok := errors.AsType[*notify.SendError](err); !ok || !e.Terminal() {
			t.Errorf("address %q: got %T, want a terminal *SendError", address, err)
		}
	}
}

func TestWebhookHidesSecretsOfTheAddress(t *testing.T) {
	server := notifytest.NewServer(t)
	server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	w := newWebhook(t, "http://user-canary:pass-canary@"+host+"/path-canary?token=query-canary")
	err := w.Send(t.Context(), notify.Event{})
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", w, w, w, w); strings.Contains(text, "canary") {
		t.Errorf("the webhook shows a secret: %s", text)
	}
	if !strings.Contains(err.Error(), host) {
		t.Errorf("the error does not name the host: %v", err)
	}
}

func TestWebhookFollowsRedirectsOfTheSameServer(t *testing.T) {
	server := notifytest.NewServer(t, notifytest.Step{Status: 307, Header: map[string]string{"Location": "/new"}})
	if err := newWebhook(t, server.URL+"/old").Send(t.Context(), notifytest.Events()[0]); err != nil {
		t.Fatal(err)
	}
	r := server.Requests()
	if len(r) != 2 || r[1].Path != "/new" || r[1].Method != "POST" || len(r[1].Body) == 0 {
		t.Errorf("got %d requests", len(r))
	}
}

// A redirect that would make a GET of the POST, and so lose the event, is an error.
func TestWebhookDoesNotBecomeAGet(t *testing.T) {
	for _, status := range []int{301, 302, 303} {
		server := notifytest.NewServer(t, notifytest.Step{Status: status, Header: map[string]string{"Location": "/new"}})
		err := newWebhook(t, server.URL+"/old").Send(t.Context(), notifytest.Events()[0])
		if e, ok := errors.AsType[*notify.SendError](err); !ok || e.Status != status || !e.Terminal() || len(server.Requests()) != 1 {
			t.Errorf("%d: got %v and %d requests", status, err, len(server.Requests()))
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Errors of a transport may repeat anything of the request.
func TestWebhookRedactsErrorsOfTheTransport(t *testing.T) {
	const secrets = "Bearer header-canary-987 sha key " + hmacKey + " POST /hooks/path-canary?token=query-canary"
	w, err := notify.NewSignedWebhook("https://example.org/hooks/path-canary?token=query-canary", []byte(hmacKey), &notify.HTTPOptions{
		Headers:   map[string]string{"Authorization": "Bearer header-canary-987"},
		Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, fmt.Errorf("cannot %s: %w", secrets, io.EOF) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = w.Send(t.Context(), notify.Event{})
	if !errors.Is(err, io.EOF) {
		t.Errorf("the cause is not found in %v", err)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), "canary") {
			t.Errorf("the error shows a secret: %v", e)
		}
	}
}

func TestWebhookTimeout(t *testing.T) {
	server := notifytest.NewServer(t, notifytest.Step{Hang: true})
	w, err := notify.NewWebhook(server.URL, &notify.HTTPOptions{Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	err = w.Send(t.Context(), notify.Event{})
	if e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); !ok || !e.Timeout() {
		t.Errorf("got %v, want a timeout", err)
	}
}

func TestWebhookReusesConnections(t *testing.T) {
	server := notifytest.NewServer(t)
	w := newWebhook(t, server.URL)
	for range 100 {
		if err := w.Send(t.Context(), notifytest.Events()[0]); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.Connections(); n != 1 {
		t.Errorf("100 events took %d connections, want 1", n)
	}
}
