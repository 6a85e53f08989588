package observe_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMetrics(t testing.TB, o *observe.Options) (*prometheus.Registry, *observe.Metrics) {
	t.Helper()
	registry := prometheus.NewRegistry()
	m, err := observe.New(registry, o)
	if err != nil {
		t.Fatal(err)
	}
	return registry, m
}

// scrape returns what a server would answer, without compression.
func scrape(t testing.TB, g prometheus.Gatherer) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func lint(t *testing.T, g prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(g)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// series are the lines of a scrape whose names begin with one of the prefixes.
func series(text string, prefixes ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

func TestRegistration(t *testing.T) {
	registry, m := newMetrics(t, &observe.Options{Flux: true})
	if _, err := observe.New(registry, nil); err == nil {
		t.Error("registered twice")
	}
	m.Unregister(registry)
	if _, err := observe.New(registry, nil); err != nil {
		t.Error(err)
	}
	if _, err := observe.New(prometheus.NewRegistry(), &observe.Options{MaxObjects: -1}); err == nil {
		t.Error("a negative bound was taken")
	}
}

func TestPasses(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	registry, m := newMetrics(t, &observe.Options{Now: func() time.Time { return now }})
	m.Pass(observe.Pass{
		Kind: "A", Name: "web", Outcome: rt.OutcomeOK, Took: 2 * time.Second, Queued: time.Second,
		Why: rt.CauseChanged | rt.CauseRequested,
	})
	m.Pass(observe.Pass{Kind: "A", Outcome: rt.OutcomeFailed, Waits: true, Took: time.Second, Queued: -1, Lane: "slow"})
	m.Pass(observe.Pass{Kind: "A", Took: -1, Queued: time.Second, Lane: "slow"})
	m.Coalesced("A", "requested", 3)
	m.Coalesced("A", "requested", 0)
	m.Dropped("A", "full")
	m.Delivered("A", now.Add(-time.Minute))
	m.Delivered("A", now.Add(time.Hour))
	text := scrape(t, registry)
	got := series(text, "gitopskit_triggers", "gitopskit_coalesced", "gitopskit_dropped") +
		series(text, "gitopskit_pass_seconds_sum", "gitopskit_pass_seconds_count", "gitopskit_queue_wait_seconds_count", "gitopskit_delivery_seconds_sum", "gitopskit_delivery_seconds_count")
	want := `gitopskit_coalesced_total{cause="requested",kind="A"} 4
gitopskit_dropped_events_total{cause="full",kind="A"} 1
gitopskit_triggers_total{cause="changed",kind="A"} 1
gitopskit_triggers_total{cause="requested",kind="A"} 1
gitopskit_delivery_seconds_sum{kind="A"} 60
gitopskit_delivery_seconds_count{kind="A"} 2
gitopskit_pass_seconds_sum{kind="A",outcome="ok"} 2
gitopskit_pass_seconds_count{kind="A",outcome="ok"} 1
gitopskit_pass_seconds_sum{kind="A",outcome="waiting"} 1
gitopskit_pass_seconds_count{kind="A",outcome="waiting"} 1
gitopskit_queue_wait_seconds_count{kind="A",lane="normal"} 1
gitopskit_queue_wait_seconds_count{kind="A",lane="slow"} 1
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	families, _ := registry.Gather()
	for _, f := range families {
		if f.GetName() == "gitopskit_pass_seconds" && len(f.GetMetric()[0].GetHistogram().GetPositiveSpan()) == 0 {
			t.Error("no native histogram")
		}
	}
	lint(t, registry)
}

// fleet is n objects as a loop has them: one in a hundred fails.
func fleet(n int, now time.Time) iter.Seq[observe.Resource] {
	return func(yield func(observe.Resource) bool) {
		for i := range n {
			s := rt.State{Ready: true, Outcome: rt.OutcomeOK, Finished: now.Add(-time.Minute), Revision: "main@sha1:0123456789abcdef0123456789abcdef01234567"}
			if i%100 == 1 {
				s.Ready, s.Outcome = false, rt.OutcomeFailed
			}
			if !yield(observe.Resource{Namespace: fmt.Sprintf("team-%03d", i/40), Name: fmt.Sprintf("app-%05d", i), State: every(s)}) {
				return
			}
		}
	}
}

func TestGauges(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	clock := now.Add(-time.Hour)
	registry, m := newMetrics(t, &observe.Options{Now: func() time.Time { return clock }, Revisions: true})
	at := func(ago time.Duration, s rt.State) observe.Resource {
		s.Finished = now.Add(-ago)
		return observe.Resource{Namespace: "apps", Name: s.Version, State: every(s)}
	}
	all := []observe.Resource{
		at(time.Minute, rt.State{Version: "fine", Ready: true, Outcome: rt.OutcomeOK, Revision: "v1"}),
		at(15*time.Minute, rt.State{Version: "late", Outcome: rt.OutcomeFailed, Phase: rt.PhaseRunning}),
		at(time.Hour, rt.State{Version: "until", Outcome: rt.OutcomeOK, Ready: true, Phase: rt.PhaseSuspended, Suspended: &rt.Suspension{Until: now.Add(-1)}}),
		at(time.Hour, rt.State{Version: "stalled", Outcome: rt.OutcomeStalled, Err: context.Canceled, Message: "secret"}),
		at(time.Hour, rt.State{Version: "blocked", Phase: rt.PhaseBlocked}),
		{Name: "backing off", State: rt.State{Interval: time.Minute, Outcome: rt.OutcomeFailed, Finished: now.Add(-10 * time.Minute), Due: now.Add(time.Minute)}},
		{Name: "never", State: rt.State{Interval: 30 * time.Minute}},
		{Name: "told", Reason: "NoSource", State: rt.State{Outcome: rt.OutcomeFailed, Phase: rt.PhaseWaiting}},
	}
	stop := m.Snapshot("A", func(yield func(observe.Resource) bool) {
		for _, r := range all {
			if !yield(r) {
				return
			}
		}
	})
	clock = now
	want := `gitopskit_failing{kind="A"} 3
gitopskit_objects{kind="A"} 8
gitopskit_parked{kind="A"} 2
gitopskit_ready{kind="A"} 2
gitopskit_resource_info{kind="A",name="backing off",ready="False",reason="Failed"} 1
gitopskit_resource_info{kind="A",name="never",ready="Unknown",reason="Progressing"} 1
gitopskit_resource_info{kind="A",name="told",ready="False",reason="NoSource"} 1
gitopskit_resource_info{kind="A",name="blocked",namespace="apps",ready="Unknown",reason="Blocked"} 1
gitopskit_resource_info{kind="A",name="fine",namespace="apps",ready="True",revision="v1"} 1
gitopskit_resource_info{kind="A",name="late",namespace="apps",ready="False",reason="Failed"} 1
gitopskit_resource_info{kind="A",name="stalled",namespace="apps",ready="False",reason="Stalled"} 1
gitopskit_resource_info{kind="A",name="until",namespace="apps",ready="True",suspended="True"} 1
gitopskit_running{kind="A"} 1
gitopskit_staleness_intervals{kind="A"} 2
gitopskit_staleness_seconds{kind="A",quantile="0.5"} 300
gitopskit_staleness_seconds{kind="A",quantile="0.9"} 1800
gitopskit_staleness_seconds{kind="A",quantile="0.99"} 1800
gitopskit_staleness_seconds{kind="A",quantile="1"} 1800
gitopskit_staleness_seconds_sum{kind="A"} 2100
gitopskit_staleness_seconds_count{kind="A"} 4
gitopskit_stalled{kind="A"} 1
gitopskit_suspended{kind="A"} 1
gitopskit_suspended_expired{kind="A"} 1
`
	if d := cmp.Diff(want, series(scrape(t, registry), "gitopskit")); d != "" {
		t.Error(d)
	}
	lint(t, registry)
	stop()
	if got := series(scrape(t, registry), "gitopskit"); got != "" {
		t.Error("after the end: " + got)
	}
}

// TestReplicaInReserve: as long as a replica lists nothing, nothing is late, and neither is it when it begins to lead.
func TestReplicaInReserve(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	registry, m := newMetrics(t, &observe.Options{Now: func() time.Time { return now }, NoObjects: true})
	var objects []observe.Resource
	m.Snapshot("A", func(yield func(observe.Resource) bool) {
		for _, r := range objects {
			if !yield(r) {
				return
			}
		}
	})
	now = now.Add(time.Hour)
	if got := series(scrape(t, registry), "gitopskit"); strings.Contains(got, "staleness") || !strings.Contains(got, `gitopskit_objects{kind="A"} 0`) {
		t.Error(got)
	}
	objects = []observe.Resource{{Name: "never", State: rt.State{Interval: time.Minute}}}
	now = now.Add(30 * time.Second)
	if got := series(scrape(t, registry), "gitopskit"); !strings.Contains(got, `gitopskit_staleness_intervals{kind="A"} 0.5`) {
		t.Error(got)
	}
}

func TestScrapeOfTenThousandObjects(t *testing.T) {
	registry, m := newMetrics(t, nil)
	m.Snapshot("Kustomization", fleet(10_000, time.Now()))
	for i := range 10_000 {
		m.Pass(observe.Pass{Kind: "Kustomization", Namespace: "team", Name: fmt.Sprint(i), Outcome: rt.OutcomeOK, Took: time.Second})
	}
	text := scrape(t, registry)
	if n := strings.Count(text, "gitopskit_resource_info{"); n != 10_000 || len(text) > 1<<20 {
		t.Errorf("%d objects in %d bytes", n, len(text))
	}
}

// hostile is a name that wants to break something.
func hostile(i int) string {
	return fmt.Sprintf("%d\n\x1b[31m\xff\u202e\"} 1\\%s", i, strings.Repeat("é", 50*(i%4)))
}

func TestHostileNames(t *testing.T) {
	const names, most = 100_000, 102
	all := make([]string, names)
	for i := range all {
		all[i] = hostile(i)
	}
	hostile := func(i int) string { return all[i] }
	for _, noObjects := range []bool{true, false} {
		registry, m := newMetrics(t, &observe.Options{Flux: true, NoObjects: noObjects, MaxObjects: 100, MaxSeries: 50})
		m.Snapshot(hostile(0), func(yield func(observe.Resource) bool) {
			for i := range names {
				r := observe.Resource{Namespace: hostile(i), Name: hostile(i), Reason: hostile(i), Flux: &observe.Info{Labels: map[string]string{hostile(i): hostile(i), "url": hostile(i)}}}
				if !yield(r) {
					return
				}
			}
		})
		for i := range names {
			m.Pass(observe.Pass{Kind: hostile(i), Namespace: hostile(i), Name: hostile(i), Lane: hostile(i), Why: rt.CauseAdded})
			if i < 1000 {
				m.Dropped(hostile(i), hostile(i))
				m.Delivered(hostile(i), time.Now())
			}
			m.TokenCache().Event(observe.CacheEvent{Kind: hostile(i), Name: hostile(i), Operation: "sync"})
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if n := len(f.GetMetric()); n > most {
				t.Errorf("%s has %d series", f.GetName(), n)
			}
			for _, s := range f.GetMetric() {
				for _, l := range s.GetLabel() {
					if v := l.GetValue(); !utf8.ValidString(v) || len(v) > 253 || strings.ContainsAny(v, "\n\x1b\u202e") {
						t.Fatalf("%s: %q", f.GetName(), v)
					}
				}
			}
			if f.GetName() == "gitopskit_resource_info" {
				rest := f.GetMetric()[0] // without a name
				if noObjects || rest.GetGauge().GetValue() != names-100 {
					t.Errorf("%v", rest)
				}
			}
		}
		if text := scrape(t, registry); !noObjects && !strings.Contains(text, `reason="other"} 99900`) || !strings.Contains(text, `kind="other",name="other",namespace="other"`) {
			t.Error("nothing is counted as other")
		}
	}
}

// An object that goes takes its series along; one that was counted with others does not take theirs.
func TestGone(t *testing.T) {
	registry, m := newMetrics(t, &observe.Options{Flux: true, MaxObjects: 2})
	for _, name := range []string{"a", "b", "c"} {
		m.Pass(observe.Pass{Kind: "A", Namespace: "apps", Name: name})
		m.TokenCache().Event(observe.CacheEvent{Kind: "A", Namespace: "apps", Name: name, Hit: true})
	}
	m.Gone("A", "apps", "b")
	m.Gone("A", "apps", "c")
	text := scrape(t, registry)
	for _, metric := range []string{"gotk_reconcile_duration_seconds_count{", "gotk_token_cache_events_total{"} {
		got := series(text, metric)
		if strings.Contains(got, `name="b"`) || !strings.Contains(got, `name="a"`) || !strings.Contains(got, `name="other"`) {
			t.Error(got)
		}
	}
	m.Pass(observe.Pass{Kind: "A", Namespace: "apps", Name: "d"})
	if text := scrape(t, registry); !strings.Contains(text, `name="d"`) {
		t.Error("the place of b was not given to d")
	}
}

func TestRequests(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: observe.Counting(transport)}
	registry, m := newMetrics(t, nil)
	watched := observe.Of(m, "A", func(k string) (string, string) { return "", k })
	synced := watched.Reconciler(rt.Func[string](func(ctx context.Context, _ rt.Pass[string]) rt.Result {
		for _, r := range []string{"GET /", "GET /?watch=true", "PATCH /", "PATCH /", "BREW /"} {
			method, path, _ := strings.Cut(r, " ")
			req, err := http.NewRequestWithContext(ctx, method, server.URL+path, nil)
			if err != nil {
				return rt.Fail(err)
			}
			answer, err := client.Do(req)
			if err != nil {
				return rt.Fail(err)
			}
			_ = answer.Body.Close()
		}
		return rt.OK()
	}))
	ended := make(chan struct{}, 1)
	loop, err := rt.New(synced, &rt.Options[string]{Observe: func(o rt.Observation[string]) { watched.Observe(o); ended <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	if err := loop.Set("web", rt.Spec[string]{}); err != nil {
		t.Fatal(err)
	}
	<-ended
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if answer, err := client.Get(server.URL); err == nil { // of no pass
		_ = answer.Body.Close()
	}
	want := `gitopskit_api_requests_per_pass_sum{kind="A",verb="all"} 5
gitopskit_api_requests_per_pass_sum{kind="A",verb="get"} 1
gitopskit_api_requests_per_pass_sum{kind="A",verb="other"} 1
gitopskit_api_requests_per_pass_sum{kind="A",verb="patch"} 2
gitopskit_api_requests_per_pass_sum{kind="A",verb="watch"} 1
`
	if d := cmp.Diff(want, series(scrape(t, registry), "gitopskit_api_requests_per_pass_sum")); d != "" {
		t.Error(d)
	}
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry, m := newMetrics(t, &observe.Options{Flux: true})
		watched := observe.Of(m, "Release", func(k string) (string, string) { return "apps", k })
		loop, err := rt.New(watched.Reconciler(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result {
			time.Sleep(time.Second)
			return rt.OK()
		})), &rt.Options[string]{Observe: watched.Observe, Finalizer: rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result { return rt.OK() })})
		if err != nil {
			t.Fatal(err)
		}
		m.Snapshot("Release", watched.Resources(loop.All()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- loop.Run(ctx) }()
		for _, k := range []string{"a", "b"} {
			if err := loop.Set(k, rt.Spec[string]{Interval: time.Minute}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second)
		if _, err := loop.Delete("b").Wait(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		want := `gitopskit_objects{kind="Release"} 1
gitopskit_ready{kind="Release"} 1
gitopskit_resource_info{kind="Release",name="a",namespace="apps",ready="True"} 1
gotk_reconcile_duration_seconds_count{kind="Release",name="a",namespace="apps"} 1
`
		text := scrape(t, registry)
		if d := cmp.Diff(want, series(text, "gitopskit_objects", "gitopskit_ready", "gitopskit_resource", "gotk_reconcile_duration_seconds_count")); d != "" {
			t.Error(d)
		}
		if !strings.Contains(text, `gitopskit_triggers_total{cause="deleted",kind="Release"} 1`) {
			t.Error(text)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func Example() {
	registry := prometheus.NewRegistry()
	m, err := observe.New(registry, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Pass(observe.Pass{Kind: "GitRepository", Namespace: "apps", Name: "web", Outcome: rt.OutcomeOK, Took: 3 * time.Second, Queued: -1})
	families, _ := registry.Gather()
	fmt.Println(families[0].GetName(), families[0].GetMetric()[0].GetHistogram().GetSampleCount())
	// Output: gitopskit_pass_seconds 1
}

// every is a state of something that is reconciled every ten minutes.
func every(s rt.State) rt.State {
	s.Interval = 10 * time.Minute
	return s
}
