package notify_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

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
		e.ReportingController = strings.Repeat("c", 100)
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
			var m struct {
				Username    string
				Attachments []struct{ Text string }
			}
			if err := json.Unmarshal(r[0].Body, &m); err != nil || len(m.Username) > 80 || utf8.RuneCountInString(m.Attachments[0].Text) > 4096 {
				t.Errorf("discord: %q: %d characters, %v", char, utf8.RuneCountInString(m.Attachments[0].Text), err)
			}
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	e := failedEvent()
	for i := range 100 {
		e.Metadata[fmt.Sprintf("%03d", i)] = "x"
	}
	for name, want := range map[string]int{"slack": 20, "discord": 25, "msteams": 20} {
		r := requestOf(t, "", e, "", func(a string) (closer, error) { return destinations[name](a, notify.HTTPOptions{}) })
		if got := strings.Count(string(r[0].Body), `"title":`); got != want {
			t.Errorf("%s: got %d fields, want %d", name, got, want)
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

func TestAlertmanagerNames(t *testing.T) {
	e := failedEvent()
	e.InvolvedObject.Namespace = ""
	e.Metadata = map[string]string{"message": "m", "reason": "r", "1a": "1", "a.b/c-d": "2", "ü": "3", "severity": "info"}
	r := requestOf(t, "", e, "", func(a string) (closer, error) {
		return notify.NewAlertmanager(a, &notify.AlertmanagerOptions{Labels: []string{"1a", "severity"}})
	})
	const want = `[{"labels":{"_1a":"1","alertname":"FluxKustomization","kind":"Kustomization","name":"web","reportingcontroller":"kustomize-controller","severity":"error"},"annotations":{"_":"3","a_b_c_d":"2","message":"\u003cb\u003e @all [l](http://x) \u0026\nsecond","reason":"HealthCheckFailed"},"startsAt":"2026-03-01T12:00:00Z"}]`
	if diff := cmp.Diff(want, compact(t, r[0].Body)); diff != "" {
		t.Error(diff)
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
		"github, headers": {
			func() (closer, error) {
				return notify.NewGitHubStatus("https://h/o/r", token, &notify.CommitStatusOptions{HTTPOptions: notify.HTTPOptions{
					Headers: map[string]string{"Accept": "x", "Authorization": "SECRET"},
				}})
			},
			[]string{"Accept is set by the sender", "Authorization is set by the sender"},
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
