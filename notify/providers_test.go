package notify_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

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

// requestOf returns the requests of one event, their bodies on one line.
func requestOf(t *testing.T, path string, e notify.Event, answer string, connect func(address string) (closer, error)) []notifytest.Request {
	t.Helper()
	server := notifytest.NewServer(t, notifytest.Step{Body: answer})
	s, err := connect(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return server.Requests()
}

// compact puts JSON on one line.
func compact(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return b.String()
}

func failedEvent() notify.Event {
	return notify.Event{
		InvolvedObject: notify.Object{Kind: "Kustomization", Namespace: "apps", Name: "web", APIVersion: "kustomize.toolkit.fluxcd.io/v1"},
		Severity:       notify.SeverityError, Reason: "HealthCheckFailed", Message: "<b> @all [l](http://x) &\nsecond",
		Timestamp: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ReportingController: "kustomize-controller",
		Metadata: map[string]string{"revision": "main@sha1:" + hash, "summary": "prod", "env-1": "eu"},
	}
}

func succeededEvent() notify.Event {
	e := failedEvent()
	e.Severity, e.Reason, e.Message, e.Metadata = notify.SeverityInfo, "ReconciliationSucceeded", "done", map[string]string{"revision": "main@sha1:" + hash}
	return e
}

func TestRequests(t *testing.T) {
	plain := func(make func(string, *notify.HTTPOptions) (closer, error)) func(string) (closer, error) {
		return func(a string) (closer, error) { return make(a, nil) }
	}
	bot := func(a string) (closer, error) {
		return notify.NewSlack(a, &notify.SlackOptions{Token: token, Channel: "ops", Username: "flux"})
	}
	for _, tc := range []struct {
		name, path string
		event      notify.Event
		connect    func(string) (closer, error)
		wantPath   string
		wantAuth   string
		want       string
	}{
		{
			"slack webhook", "/services/x", succeededEvent(), func(a string) (closer, error) { return notify.NewSlack(a, nil) }, "/services/x", "",
			`{"username":"kustomize-controller","attachments":[{"color":"good","fallback":"kustomization/web.apps: done","author_name":"kustomization/web.apps","text":"done","mrkdwn_in":["text"],"fields":[{"title":"revision","value":"main@sha1:` + hash + `","short":false}]}]}`,
		},
		{
			"slack bot", "/api/chat.postMessage", failedEvent(), bot, "/api/chat.postMessage", "Bearer " + token,
			`{"channel":"ops","username":"flux","attachments":[{"color":"danger","fallback":"kustomization/web.apps: \u0026lt;b\u0026gt; @all [l](http://x) \u0026amp;","author_name":"kustomization/web.apps","text":"\u0026lt;b\u0026gt; @all [l](http://x) \u0026amp;\nsecond","mrkdwn_in":["text"],"fields":[{"title":"summary","value":"prod","short":false},{"title":"env-1","value":"eu","short":false},{"title":"revision","value":"main@sha1:` + hash + `","short":false}]}]}`,
		},
		{
			"discord", "/api/webhooks/1/x", failedEvent(), func(a string) (closer, error) { return notify.NewDiscord(a, nil) }, "/api/webhooks/1/x/slack", "",
			`{"username":"kustomize-controller","attachments":[{"color":"danger","author_name":"kustomization/web.apps","text":"‹b› @` + "\u200b" + `all [l] (http://x) \u0026\nsecond","mrkdwn_in":["text"],"fields":[{"title":"summary","value":"prod","short":false},{"title":"env-1","value":"eu","short":false},{"title":"revision","value":"main@` + "\u200b" + `sha1:` + hash + `","short":false}]}]}`,
		},
		{
			"discord, complete address", "/w/slack", succeededEvent(), func(a string) (closer, error) {
				return notify.NewDiscord(a, &notify.DiscordOptions{Username: "flux"})
			}, "/w/slack", "",
			`{"username":"flux","attachments":[{"color":"good","author_name":"kustomization/web.apps","text":"done","mrkdwn_in":["text"],"fields":[{"title":"revision","value":"main@` + "\u200b" + `sha1:` + hash + `","short":false}]}]}`,
		},
		{
			"msteams", "/workflows/x", failedEvent(), plain(func(a string, o *notify.HTTPOptions) (closer, error) { return notify.NewMSTeams(a, o) }), "/workflows/x", "",
			`{"type":"message","attachments":[{"contentType":"application/vnd.microsoft.card.adaptive","content":{"$schema":"http://adaptivecards.io/schemas/adaptive-card.json","type":"AdaptiveCard","version":"1.4","msteams":{"width":"Full"},"body":[{"type":"Container","items":[{"type":"TextBlock","text":"kustomization/web.apps","size":"large","weight":"bolder","wrap":true},{"type":"TextBlock","text":"\u003cb\u003e @all \\[l\\](http://x) \u0026\nsecond","color":"attention","wrap":true},{"type":"FactSet","facts":[{"title":"summary","value":"prod"},{"title":"env-1","value":"eu"},{"title":"revision","value":"main@sha1:` + hash + `"}]}]}]}}]}`,
		},
		{
			"alertmanager fires", "/api/v2/alerts", failedEvent(), func(a string) (closer, error) {
				return notify.NewAlertmanager(a, &notify.AlertmanagerOptions{Username: "u", Password: "p", Labels: []string{"env-1"}, Expires: time.Hour})
			}, "/api/v2/alerts", "Basic dTpw",
			`[{"labels":{"alertname":"FluxKustomization","env_1":"eu","kind":"Kustomization","name":"web","namespace":"apps","reportingcontroller":"kustomize-controller","severity":"error"},"annotations":{"message":"\u003cb\u003e @all [l](http://x) \u0026\nsecond","reason":"HealthCheckFailed","revision":"main@sha1:` + hash + `","summary":"prod"},"startsAt":"2026-03-01T12:00:00Z","endsAt":"2026-03-01T13:00:00Z"}]`,
		},
		{
			"alertmanager resolves", "/api/v2/alerts", succeededEvent(), func(a string) (closer, error) {
				return notify.NewAlertmanager(a, &notify.AlertmanagerOptions{Token: token})
			}, "/api/v2/alerts", "Bearer " + token,
			`[{"labels":{"alertname":"FluxKustomization","kind":"Kustomization","name":"web","namespace":"apps","reportingcontroller":"kustomize-controller","severity":"error"},"annotations":{"message":"done","reason":"ReconciliationSucceeded","revision":"main@sha1:` + hash + `"},"endsAt":"2026-03-01T12:00:00Z"}]`,
		},
	} {
		r := requestOf(t, tc.path, tc.event, "", tc.connect)
		if len(r) != 1 || r[0].Method != "POST" || r[0].Path != tc.wantPath || r[0].Header.Get("Authorization") != tc.wantAuth || r[0].Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d requests, %s %s, %v", tc.name, len(r), r[0].Method, r[0].Path, r[0].Header)
		}
		if diff := cmp.Diff(tc.want, compact(t, r[0].Body)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// Long messages and many fields are cut at the limits, and stay valid.
func TestRequestsAreBounded(t *testing.T) {
	for _, char := range []string{"é", "@", "&", "\"", "\n", "]", "漢", "\U0001F680"} {
		e := failedEvent()
		e.Message = strings.Repeat(char, notify.MaxMessage)
		for i := range 100 {
			e.Metadata[fmt.Sprintf("%03d%s", i, strings.Repeat(char, 300))] = strings.Repeat(char, 3000)
		}
		for name, limit := range map[string]int{"slack": 500_000, "discord": 40_000, "msteams": 28 << 10} {
			r := requestOf(t, "", e, "", func(a string) (closer, error) { return destinations[name](a, notify.HTTPOptions{}) })
			body := compact(t, r[0].Body)
			if len(body) > limit || !strings.Contains(body, "(truncated)") {
				t.Errorf("%s: %q: %d bytes", name, char, len(body))
			}
			if name != "discord" {
				continue
			}
			var m struct{ Attachments []struct{ Text string } }
			if err := json.Unmarshal(r[0].Body, &m); err != nil || utf8.RuneCountInString(m.Attachments[0].Text) > 4096 {
				t.Errorf("discord: %q: %d characters, %v", char, utf8.RuneCountInString(m.Attachments[0].Text), err)
			}
		}
	}
}

func TestSlackAnswers200AndFails(t *testing.T) {
	for _, tc := range []struct {
		body, want string
		terminal   bool
	}{
		{`ok`, "", false},
		{`{"ok":true}`, "", false},
		{``, "", false},
		{`{"ok":false,"error":"channel_not_found"}`, "channel_not_found", true},
		{`{"ok":false,"error":"ratelimited"}`, "ratelimited", false},
		{`{"ok":false,"error":"SECRET ` + token + `"}`, "an error", true},
		{`{"ok":false}`, "an error", true},
	} {
		server := notifytest.NewServer(t, notifytest.Step{Body: tc.body})
		s, err := notify.NewSlack(server.URL, &notify.SlackOptions{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Send(t.Context(), failedEvent())
		_ = s.Close()
		if (err == nil) != (tc.want == "") {
			t.Errorf("%s: got %v", tc.body, err)
		}
		if err == nil {
			continue
		}
		e, ok := errors.AsType[*notify.SendError](err)
		if !ok || e.Terminal() != tc.terminal || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: got %v", tc.body, err)
		}
	}
}

func TestAlertmanagerPassesOverSteps(t *testing.T) {
	server := notifytest.NewServer(t)
	a, err := notify.NewAlertmanager(server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	for _, change := range []func(*notify.Event){
		func(e *notify.Event) { e.Reason = "Progressing" },
		func(e *notify.Event) { e.Reason = "DependencyNotReady" },
		func(e *notify.Event) { e.Severity = notify.SeverityTrace },
	} {
		e := succeededEvent()
		change(&e)
		if err := a.Send(t.Context(), e); err != nil || len(server.Requests()) != 0 {
			t.Errorf("%v %s: %v, %d requests", e.Severity, e.Reason, err, len(server.Requests()))
		}
	}
	b, err := notify.NewAlertmanager(server.URL, &notify.AlertmanagerOptions{Resolves: func(e notify.Event) bool { return e.Reason == "Progressing" }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	e := succeededEvent()
	e.Reason = "Progressing"
	if err := b.Send(t.Context(), e); err != nil || len(server.Requests()) != 1 {
		t.Errorf("Resolves: %v, %d requests", err, len(server.Requests()))
	}
}

// The labels of a failure and of its end are the same, whatever else differs.
func TestAlertmanagerLabelsDoNotChange(t *testing.T) {
	labels := func(e notify.Event) map[string]string {
		r := requestOf(t, "", e, "", func(a string) (closer, error) { return notify.NewAlertmanager(a, nil) })
		var alerts []struct{ Labels map[string]string }
		if err := json.Unmarshal(r[0].Body, &alerts); err != nil {
			t.Fatal(err)
		}
		return alerts[0].Labels
	}
	if diff := cmp.Diff(labels(failedEvent()), labels(succeededEvent())); diff != "" {
		t.Error(diff)
	}
}

func TestConstructorsReportEveryProblem(t *testing.T) {
	proxy := &url.URL{Scheme: "ftp", Host: "h"}
	for name, tc := range map[string]struct {
		make func() (closer, error)
		want []string
	}{
		"slack bot": {
			func() (closer, error) { return notify.NewSlack(notify.SlackPostMessage, nil) },
			[]string{"notify: new slack https://slack.com:", "needs a Token and a Channel"},
		},
		"slack token": {
			func() (closer, error) {
				return notify.NewSlack("https://h", &notify.SlackOptions{Token: "SECRET\n", HTTPOptions: notify.HTTPOptions{Headers: map[string]string{"authorization": "SECRET"}}})
			},
			[]string{"line end", "Authorization is set by the sender"},
		},
		"msteams connector": {
			func() (closer, error) { return notify.NewMSTeams("https://x.webhook.office.com/SECRET", nil) },
			[]string{"not supported: make a workflow"},
		},
		"alertmanager, two credentials": {
			func() (closer, error) {
				return notify.NewAlertmanager("https://h", &notify.AlertmanagerOptions{Token: "SECRET", Username: "SECRET", Expires: -1})
			},
			[]string{"give one of them", "Expires is negative"},
		},
		"alertmanager, half a credential": {
			func() (closer, error) {
				return notify.NewAlertmanager("https://h", &notify.AlertmanagerOptions{Password: "SECRET"})
			},
			[]string{"give both"},
		},
		"alertmanager, colon": {
			func() (closer, error) {
				return notify.NewAlertmanager("https://h", &notify.AlertmanagerOptions{Username: "SEC:RET", Password: "SECRET"})
			},
			[]string{"colon"},
		},
		"transport": {
			func() (closer, error) {
				return notify.NewWebhook("https://h", &notify.HTTPOptions{Transport: http.DefaultTransport, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, Proxy: proxy})
			},
			[]string{"give them to the Transport", "Proxy is no URL of a proxy"},
		},
		"gitlab": {
			func() (closer, error) {
				return notify.NewGitLabStatus("https://h/o/r", "", &notify.CommitStatusOptions{API: "h/SECRET"})
			},
			[]string{"notify: new gitlab", "token is empty", "no scheme http"},
		},
		"github": {
			func() (closer, error) { return notify.NewGitHubStatus("https://u:SECRET@h/o/r", "", nil) },
			[]string{"has credentials", "token is empty"},
		},
	} {
		s, err := tc.make()
		if err == nil {
			t.Errorf("%s: no error, but %v", name, s)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not mention %q: %v", name, want, err)
			}
		}
		if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
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
