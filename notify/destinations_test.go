package notify_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

const (
	token = "token-canary-0123456789"
	hash  = "4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b"
)

// destinations makes one sender of each kind for an address.
var destinations = map[string]func(address string, o notify.HTTPOptions) (closer, error){
	"webhook": func(a string, o notify.HTTPOptions) (closer, error) { return notify.NewWebhook(a, &o) },
	"signed webhook": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewSignedWebhook(a, []byte(token), &o)
	},
	"slack": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewSlack(a, &notify.SlackOptions{HTTPOptions: o, Token: token, Channel: "channel-canary-1"})
	},
	"discord": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewDiscord(a, &notify.DiscordOptions{HTTPOptions: o})
	},
	"msteams": func(a string, o notify.HTTPOptions) (closer, error) { return notify.NewMSTeams(a, &o) },
	"alertmanager": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewAlertmanager(a, &notify.AlertmanagerOptions{HTTPOptions: o, Token: token})
	},
	"github": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewGitHubStatus("https://git.example.org/o/r", token, &notify.CommitStatusOptions{HTTPOptions: o, API: a})
	},
	"gitlab": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewGitLabStatus("https://git.example.org/o/r", token, &notify.CommitStatusOptions{HTTPOptions: o, API: a})
	},
	"gitea": func(a string, o notify.HTTPOptions) (closer, error) {
		return notify.NewGiteaStatus("https://git.example.org/o/r", token, &notify.CommitStatusOptions{HTTPOptions: o, API: a})
	},
}

type closer interface {
	notify.Sender
	Close() error
}

// withRevision gives events what commit statuses need.
func withRevision(s notify.Sender) notify.Sender {
	return notify.SenderFunc(func(ctx context.Context, e notify.Event) error {
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		e.Metadata["commit"] = hash
		return s.Send(ctx, e)
	})
}

func TestDestinationsKeepTheRules(t *testing.T) {
	for name, connect := range destinations {
		t.Run(name, func(t *testing.T) {
			notifytest.TestHTTPSender(t, notifytest.HTTPSender{
				New: func(t *testing.T, address string) notify.Sender {
					s, err := connect(address, notify.HTTPOptions{Headers: map[string]string{"X-Auth": "header-canary-987"}})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = s.Close() })
					return withRevision(s)
				},
				Secrets: []string{token, "header-canary-987", "channel-canary-1"},
			})
		})
	}
}

func TestDestinationsShowNoSecret(t *testing.T) {
	for name, connect := range destinations {
		const address = "https://user-canary:pass-canary@example.org/path-canary?token=query-canary"
		s, err := connect(address, notify.HTTPOptions{
			Headers: map[string]string{"X-Auth": "header-canary-987"},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("%s %v", r.URL, r.Header)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		err = withRevision(s).Send(t.Context(), notify.Event{Severity: notify.SeverityError})
		if text := fmt.Sprintf("%v %+v %v %+v %#v", err, err, s, s, s); err == nil || strings.Contains(text, "canary") || strings.Contains(text, "Y2FuYXJ5") || strings.Contains(text, "jYW5hcnk") {
			t.Errorf("%s: %s", name, text)
		}
		for _, bad := range []string{"", "ftp://h/SECRET", "https://h/SECRET#f"} {
			if strings.HasPrefix(name, "git") && bad == "" {
				continue // the usual address
			}
			_, err := connect(bad, notify.HTTPOptions{Timeout: -1})
			e, ok := errors.AsType[*notify.SendError](err)
			if !ok || !e.Terminal() || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "Timeout") {
				t.Errorf("%s: address %q: got %v", name, bad, err)
			}
		}
	}
}

// An answer that does not end is left, a success too.
func TestEndlessSuccess(t *testing.T) {
	for _, name := range []string{"slack", "github"} {
		server := notifytest.NewServer(t, notifytest.Step{Endless: true})
		s, err := destinations[name](server.URL, notify.HTTPOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(t.Context(), failedEvent()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = s.Close()
		server.Close()
		if n := server.Written(); n > 32<<20 {
			t.Errorf("%s: %d bytes of an endless answer were read", name, n)
		}
	}
}

// A 403 of a forge may mean too many requests, which is no reason to give up.
func TestForbiddenWithPatienceIsRetried(t *testing.T) {
	for _, tc := range []struct {
		header map[string]string
		want   bool
	}{
		{nil, true},
		{map[string]string{"Retry-After": "60"}, false},
		{map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(time.Now().Add(time.Hour).Unix())}, false},
		{map[string]string{"X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": fmt.Sprint(time.Now().Add(time.Hour).Unix())}, true},
	} {
		server := notifytest.NewServer(t, notifytest.Step{Status: 403, Header: tc.header})
		s, err := destinations["github"](server.URL, notify.HTTPOptions{})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Send(t.Context(), failedEvent())
		_ = s.Close()
		e, ok := errors.AsType[*notify.SendError](err)
		if !ok || e.Terminal() != tc.want || (e.RetryAfter() > 0) == tc.want {
			t.Errorf("%v: got %v, after %v", tc.header, err, e.RetryAfter())
		}
	}
}

// Every destination uses the authority it is given, and no other.
func TestDestinationsUseTheirTLS(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for name, connect := range destinations {
		for _, trusted := range []bool{true, false} {
			o := notify.HTTPOptions{TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}}
			if trusted {
				o.TLS.RootCAs = pool
			}
			s, err := connect(server.URL, o)
			if err != nil {
				t.Fatal(err)
			}
			requests.Store(0)
			err = withRevision(s).Send(t.Context(), failedEvent())
			_ = s.Close()
			if (err == nil) != trusted || (requests.Load() > 0) != trusted {
				t.Errorf("%s: trusted %t: got %v and %d requests", name, trusted, err, requests.Load())
			}
		}
	}
}

// Every destination goes through its proxy, which gets the credentials in the URL.
func TestDestinationsUseTheirProxy(t *testing.T) {
	for name, connect := range destinations {
		proxy := notifytest.NewServer(t)
		u, err := url.Parse(strings.Replace(proxy.URL, "http://", "http://puser:proxy-canary@", 1))
		if err != nil {
			t.Fatal(err)
		}
		s, err := connect("http://destination.invalid/x", notify.HTTPOptions{Proxy: u})
		if err != nil {
			t.Fatal(err)
		}
		if err := withRevision(s).Send(t.Context(), failedEvent()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r := proxy.Requests()
		if len(r) == 0 || r[0].Header.Get("Proxy-Authorization") == "" {
			t.Errorf("%s: the proxy got %d requests", name, len(r))
		}
		proxy.Close()
		if err := withRevision(s).Send(t.Context(), failedEvent()); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", name, err)
		}
		_ = s.Close()
	}
}

// A destination that never answers slows neither Emit nor the others.
func TestDeadDestinationSlowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &notifytest.Recorder{}
		routes := []notify.Route{{Name: "fine", Sender: rec, Parallel: 1}}
		for name, connect := range destinations {
			s, err := connect("https://dead.example.org", notify.HTTPOptions{
				Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			routes = append(routes, notify.Route{Name: name, Sender: withRevision(s), Queue: notify.Queue{Events: 10}})
		}
		b := newBus(t, nil, routes...)
		begin := time.Now()
		for i := range 1000 {
			e := event(fmt.Sprint(i), "failed", notify.SeverityError)
			if err := b.Emit(e); err != nil && !errors.Is(err, notify.ErrFull) {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got, took := len(rec.Events()), time.Since(begin); got != 1000 || took != 0 {
			t.Errorf("%d events delivered elsewhere, after %v", got, took)
		}
		if left, err := b.Close(canceled()); len(left) != 10*len(destinations) || err == nil {
			t.Errorf("%d events left, %v", len(left), err)
		}
	})
}
