package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

const (
	interval = 10 * time.Minute
	every    = time.Minute // between two scrapes
	objects  = 20
)

// program is a loop with metrics; its zero value works without trouble.
type program struct {
	options observe.Options
	broken  int           // how many objects fail
	stalled int           // how many are stalled
	wait    time.Duration // in the queue
	dropped bool          // events are
	expired bool          // a suspension is over
	stop    time.Duration // after what time the loop stops; 0 means never
	hang    time.Duration // after what time passes hang; 0 means never
	silent  bool          // nothing is listed
	standby time.Duration // for how long another replica leads: nothing runs, and nothing is listed
}

type scrape struct {
	at   time.Time
	text string
}

// record runs a program for some hours, of a clock of its own, and scrapes it.
func record(t *testing.T, p program, scrapes int) []scrape {
	t.Helper()
	var all []scrape
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		registry := prometheus.NewRegistry()
		m, err := observe.New(registry, &p.options)
		if err != nil {
			t.Fatal(err)
		}
		name := func(k int) (string, string) { return fmt.Sprintf("team-%d", k%3), fmt.Sprintf("app-%d", k) }
		watched := observe.Of(m, "Release", name)
		pass := rt.Func[int](func(ctx context.Context, pass rt.Pass[int]) rt.Result {
			time.Sleep(time.Second)
			if p.hang != 0 && time.Since(began) > p.hang {
				<-ctx.Done()
			}
			switch {
			case pass.Key < p.broken:
				return rt.Fail(errors.New("broken"))
			case pass.Key < p.broken+p.stalled:
				return rt.Stall(errors.New("stalled"))
			}
			return rt.OK()
		})
		loop, err := rt.New(watched.Reconciler(pass), &rt.Options[int]{Observe: func(o rt.Observation[int]) {
			watched.Observe(o)
			namespace, name := name(o.Key)
			m.Pass(observe.Pass{Kind: "Release", Namespace: namespace, Name: name, Took: -1, Queued: p.wait})
			m.Coalesced("Release", "requested", 1)
			m.Delivered("Release", time.Now().Add(-5*time.Second))
			if p.dropped {
				m.Dropped("Release", "full")
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for k := range objects {
			spec := rt.Spec[int]{Interval: interval}
			if p.expired && k == 0 {
				spec.Suspend = &rt.Suspension{Until: time.Now().Add(time.Hour)}
			}
			if err := loop.Set(k, spec); err != nil {
				t.Fatal(err)
			}
		}
		if !p.silent {
			defer m.Snapshot("Release", watched.Resources(func(yield func(int, rt.State) bool) {
				if time.Since(began) > p.standby {
					loop.All()(yield)
				}
			}))()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		time.AfterFunc(p.standby, func() { done <- loop.Run(ctx) })
		if p.stop != 0 {
			time.AfterFunc(p.stop, cancel)
		}
		for range scrapes {
			time.Sleep(every)
			all = append(all, scrape{time.Now(), gather(t, registry)})
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return all
}

func gather(t *testing.T, g prometheus.Gatherer) string {
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

// load puts what was recorded into a database.
func load(t *testing.T, all []scrape) storage.Queryable {
	t.Helper()
	db := teststorage.New(t)
	for _, s := range all {
		app := db.Appender(t.Context())
		p, err := textparse.New([]byte(s.text), "text/plain; version=0.0.4", nil, textparse.ParserOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for {
			entry, err := p.Next()
			if err != nil {
				break // io.EOF; what cannot be read shows as missing
			}
			if entry != textparse.EntrySeries {
				continue
			}
			var l labels.Labels
			p.Labels(&l)
			_, _, v := p.Series()
			if _, err := app.Append(0, l, timestamp.FromTime(s.at), v); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func newEngine() *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Logger: slog.New(slog.DiscardHandler), Parser: parser.NewParser(parser.Options{})})
}

// expressions are all queries of a dashboard, by their panel.
func expressions(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := fs.ReadFile(observe.Dashboards, file)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID, Title string
		Panels     []struct {
			ID      int
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.UID == "" || dashboard.Title == "" {
		t.Errorf("%s has no uid or title", file)
	}
	all := make(map[string]string)
	for _, p := range dashboard.Panels {
		for _, x := range p.Targets {
			id := fmt.Sprint(p.ID, x.RefID)
			if _, ok := all[id]; ok {
				t.Errorf("%s: panel %s is there twice", file, id)
			}
			all[id] = strings.NewReplacer("$__rate_interval", "5m", "$kind", ".*", "$namespace", ".*").Replace(x.Expr)
		}
	}
	return all
}

func TestDashboards(t *testing.T) {
	files, err := fs.Glob(observe.Dashboards, "dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	all := record(t, program{options: observe.Options{MaxObjects: 15}, broken: 2, stalled: 1, wait: time.Second, dropped: true}, 60)
	// one object is suspended
	all[len(all)-1].text += "" +
		`gitopskit_resource_info{kind="Release",name="held",namespace="team-1",ready="True",suspended="True"} 1` + "\n"
	db, engine := load(t, all), newEngine()
	at := all[len(all)-1].at
	for _, file := range files {
		queries := expressions(t, file)
		for _, id := range slices.Sorted(maps.Keys(queries)) {
			query, err := engine.NewInstantQuery(t.Context(), db, nil, queries[id], at)
			if err != nil {
				t.Errorf("%s, panel %s: %v", file, id, err)
				continue
			}
			result := query.Exec(t.Context())
			if v, err := result.Vector(); err != nil || len(v) == 0 {
				t.Errorf("%s, panel %s: %d series, %v, for %s", file, id, len(v), err, queries[id])
			}
			query.Close()
		}
	}
}

// alerts evaluates the rules at each scrape, and returns when each began to fire.
func alerts(t *testing.T, all []scrape) map[string]time.Duration {
	t.Helper()
	p := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.Parse(observe.Rules, false, model.UTF8Validation, p, slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	query := rules.EngineQueryFunc(newEngine(), load(t, all))
	fired := make(map[string]time.Duration)
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			expr, err := p.ParseExpr(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			rule := rules.NewAlertingRule(r.Alert, expr, time.Duration(r.For), 0, labels.FromMap(r.Labels), labels.FromMap(r.Annotations),
				labels.EmptyLabels(), "", true, slog.New(slog.DiscardHandler))
			for _, s := range all {
				if _, err := rule.Eval(t.Context(), 0, s.at, query, nil, 0); err != nil {
					t.Fatal(err)
				}
				firing := slices.ContainsFunc(rule.ActiveAlerts(), func(a *rules.Alert) bool { return a.State == rules.StateFiring })
				if _, ok := fired[r.Alert]; !ok && firing {
					fired[r.Alert] = s.at.Sub(all[0].at) + every
				}
			}
		}
	}
	return fired
}

func TestAlerts(t *testing.T) {
	const end = 240
	for _, tt := range []struct {
		name        string
		program     program
		alert       string // none if empty
		early, late time.Duration
	}{
		{"all is well", program{wait: time.Second}, "", 0, 0},
		{"all is well, without objects", program{options: observe.Options{NoObjects: true}}, "", 0, 0},
		{"all is well, after hours in reserve", program{standby: 3 * time.Hour}, "", 0, 0},
		// the last pass was at some time in the interval before
		{"loop stopped", program{stop: time.Hour}, "GitopskitHeartbeat", time.Hour + interval, time.Hour + 2*interval + 2*every},
		{"passes hang", program{hang: time.Hour}, "GitopskitHeartbeat", time.Hour + interval, time.Hour + 3*interval + 2*every},
		{"failing", program{broken: 1}, "GitopskitFailing", 15 * time.Minute, 18 * time.Minute},
		{"failing, without objects", program{options: observe.Options{NoObjects: true}, broken: 1}, "GitopskitFailingObjects", 15 * time.Minute, 18 * time.Minute},
		{"stalled", program{stalled: 1}, "GitopskitStalled", 5 * time.Minute, 8 * time.Minute},
		{"queue", program{wait: 2 * time.Minute}, "GitopskitQueueWait", 5 * time.Minute, 30 * time.Minute},
		{"dropped", program{dropped: true}, "GitopskitDroppedEvents", time.Minute, 30 * time.Minute},
		{"no metrics", program{silent: true}, "GitopskitNoMetrics", 10 * time.Minute, 12 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fired := alerts(t, record(t, tt.program, end))
			at, ok := fired[tt.alert]
			if tt.alert != "" && (!ok || at < tt.early || at > tt.late) {
				t.Errorf("%s fired after %v (%v), want %v to %v", tt.alert, at, ok, tt.early, tt.late)
			}
			delete(fired, tt.alert)
			if len(fired) > 0 {
				t.Errorf("also fired: %v", fired)
			}
		})
	}
	// A loop that was stopped does not end suspensions.
	fired := alerts(t, record(t, program{expired: true, stop: 30 * time.Minute}, end))
	if at, ok := fired["GitopskitSuspensionOver"]; !ok || at < time.Hour {
		t.Errorf("fired %v", fired)
	}
}
