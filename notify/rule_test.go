package notify_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

// through returns what a route with the rule delivers of the events.
func through(t *testing.T, rule notify.Rule, events ...notify.Event) []notify.Event {
	t.Helper()
	rec := &notifytest.Recorder{}
	b := newBus(t, nil, notify.Route{Sender: rec, Rule: &rule, Parallel: 1})
	for _, e := range events {
		emit(t, b, e)
	}
	if _, err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return rec.Events()
}

func TestRuleMatches(t *testing.T) {
	object := func(kind, namespace, name string) notify.Event {
		return notify.Event{InvolvedObject: notify.Object{Kind: kind, Namespace: namespace, Name: name}, Message: "applied in 3s"}
	}
	failed := object("Kustomization", "apps", "web")
	failed.Severity, failed.Message = notify.SeverityError, "no such file"
	step := object("Kustomization", "apps", "web")
	step.Severity = notify.SeverityTrace
	web := object("Kustomization", "apps", "web")
	source := func(kind, namespace, name string) notify.Rule {
		return notify.Rule{Sources: []notify.EventSource{{Kind: kind, Namespace: namespace, Name: name}}}
	}
	labelled := source("Kustomization", "apps", "*")
	labelled.Sources[0].MatchLabels = map[string]string{"team": "a"}
	labelled.Labels = func(o notify.Object) map[string]string {
		return map[string]map[string]string{"web": {"team": "a", "x": "y"}, "db": {"team": "b"}}[o.Name]
	}
	everywhere := source("Kustomization", "*", "*")
	everywhere.AllNamespaces = true
	several := source("GitRepository", "apps", "web")
	several.Sources = append(several.Sources, notify.EventSource{Kind: "Kustomization", Namespace: "apps", Name: "db"})
	for _, tc := range []struct {
		name  string
		rule  notify.Rule
		event notify.Event
		want  bool
	}{
		{"zero rule", notify.Rule{}, web, true},
		{"zero rule takes traces", notify.Rule{}, step, true},
		{"errors only: info", notify.Rule{Severity: notify.SeverityError}, web, false},
		{"errors only: error", notify.Rule{Severity: notify.SeverityError}, failed, true},
		{"exact", source("Kustomization", "apps", "web"), web, true},
		{"wildcard name", source("Kustomization", "apps", "*"), web, true},
		{"another kind", source("HelmRelease", "apps", "*"), web, false},
		{"another namespace", source("Kustomization", "infra", "*"), web, false},
		{"another name", source("Kustomization", "apps", "db"), web, false},
		{"no namespace is not any", source("Kustomization", "", "*"), web, false},
		{"no namespace", source("Node", "", "*"), object("Node", "", "n1"), true},
		{"names are no patterns", source("Kustomization", "apps", "w*"), web, false},
		{"all namespaces", everywhere, web, true},
		{"one of several", several, object("Kustomization", "apps", "db"), true},
		{"none of several", several, web, false},
		{"label", labelled, web, true},
		{"another value of the label", labelled, object("Kustomization", "apps", "db"), false},
		{"no label", labelled, object("Kustomization", "apps", "cache"), false},
		{"included", notify.Rule{Include: []string{"^x", "^no such .*"}}, failed, true},
		{"not included", notify.Rule{Include: []string{"^x", "^no such .*"}}, web, false},
		{"excluded", notify.Rule{Exclude: []string{"in \\d+s$"}}, web, false},
		{"not excluded", notify.Rule{Exclude: []string{"in \\d+s$"}}, failed, true},
		{"exclusion is stronger", notify.Rule{Include: []string{"applied"}, Exclude: []string{"applied"}}, web, false},
	} {
		if got := len(through(t, tc.rule, tc.event)) == 1; got != tc.want {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestRuleAndMatchMustBothAgree(t *testing.T) {
	rec := &notifytest.Recorder{}
	b := newBus(t, nil, notify.Route{
		Sender: rec, Rule: &notify.Rule{Exclude: []string{"one"}}, Match: func(e notify.Event) bool { return e.Message != "two" },
	})
	for _, m := range []string{"one", "two", "three"} {
		emit(t, b, event("a", m, notify.SeverityInfo))
	}
	if _, err := b.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"three"}, messages(rec.Events())); diff != "" {
		t.Error(diff)
	}
}

func TestRuleMetadata(t *testing.T) {
	const group = "kustomize.toolkit.fluxcd.io/"
	in := notify.Event{
		InvolvedObject: notify.Object{Kind: "Kustomization", Name: "web", APIVersion: group + "v1"},
		Metadata: map[string]string{
			group + "revision": "main@sha1:4f2a", group + "checksum": "c", group + "digest": "d", group + "token": "t",
			"event.toolkit.fluxcd.io/summary": "of the object", "event.toolkit.fluxcd.io/env": "of the object",
			"event.toolkit.fluxcd.io/owner": "of the object", "other.example.org/x": "1", "bare": "1",
		},
	}
	rule := notify.Rule{
		Metadata: map[string]string{"env": "of the rule", "revision": "of the rule", "summary": "of the metadata", "bare": "of the rule"},
		Summary:  "of the rule",
	}
	for _, tc := range []struct {
		name  string
		plain bool
		want  map[string]string
	}{
		{"plain", true, map[string]string{
			"revision": "main@sha1:4f2a", "env": "of the rule", "summary": "of the rule", "owner": "of the object", "bare": "of the rule",
		}},
		{"as it is", false, map[string]string{
			group + "revision": "main@sha1:4f2a", group + "checksum": "c", group + "digest": "d", group + "token": "t",
			"event.toolkit.fluxcd.io/summary": "of the object", "event.toolkit.fluxcd.io/env": "of the object",
			"event.toolkit.fluxcd.io/owner": "of the object", "other.example.org/x": "1", "bare": "1",
			"env": "of the rule", "revision": "of the rule", "summary": "of the rule",
		}},
	} {
		rule.PlainMetadata = tc.plain
		before := len(in.Metadata)
		got := through(t, rule, in)
		if len(got) != 1 || len(in.Metadata) != before {
			t.Fatalf("%s: got %d events, and %d metadata left of the original", tc.name, len(got), len(in.Metadata))
		}
		if diff := cmp.Diff(tc.want, got[0].Metadata); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestNewBusReportsEveryProblemOfARule(t *testing.T) {
	_, err := notify.NewBus(nil, notify.Route{Name: "chat", Sender: &notifytest.Recorder{}, Rule: &notify.Rule{
		Severity: 7,
		Sources: []notify.EventSource{
			{Kind: "App", Name: "*", Namespace: "*"}, {Namespace: "apps"}, {Kind: "App", Name: "a", MatchLabels: map[string]string{"a": "b"}},
		},
		Include: []string{"ok", "("},
		Exclude: []string{"[a"},
	}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`route 0 "chat"`, "Rule.Severity: severity(7)", "Rule.Sources[0]: the Namespace is \"*\"", "Rule.Sources[1]: the Kind is empty",
		"the Name is empty", "Rule.Sources[2]: MatchLabels needs the function Labels", "Rule.Include[1]: error parsing regexp", "Rule.Exclude[0]",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
}

// A rule is a copy: what happens to the original changes no route.
func TestRuleIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rule := &notify.Rule{Metadata: map[string]string{"a": "1"}, Sources: []notify.EventSource{{Kind: "App", Namespace: "ns", Name: "*"}}}
		rec := &notifytest.Recorder{}
		b := newBus(t, nil, notify.Route{Sender: rec, Rule: rule})
		rule.Metadata["a"], rule.Sources[0].Kind = "2", "Other"
		emit(t, b, event("x", "m", notify.SeverityInfo))
		if _, err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := rec.Events(); len(got) != 1 || got[0].Metadata["a"] != "1" {
			t.Errorf("got %v", got)
		}
	})
}
