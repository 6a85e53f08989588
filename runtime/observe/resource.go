package observe

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// Resource is an object at the time of a scrape.
type Resource struct {
	// Namespace and Name name it.
	Namespace, Name string
	// State is what the loop knows about it. Its error and message are not read.
	// Without State.Interval the object cannot be late.
	State rt.State
	// Reason is why it is not ready, in one word; empty means a word that
	// follows from the state: Failed, Stalled, Suspended, Blocked, Progressing
	// or NotReady.
	Reason string
	// Flux is what gotk_resource_info says besides; it is read with
	// Options.Flux only. See [Info].
	Flux *Info
}

// ready is the status of a condition Ready.
func (r *Resource) ready() string {
	switch {
	case r.State.Ready:
		return "True"
	case r.State.Outcome == rt.OutcomeNone, r.State.Outcome == rt.OutcomeProgressing:
		return "Unknown"
	}
	return "False"
}

func (r *Resource) reason() string {
	switch s := &r.State; {
	case s.Ready:
		return ""
	case r.Reason != "":
		return r.Reason
	case s.Suspended != nil:
		return "Suspended"
	case s.Outcome == rt.OutcomeStalled:
		return "Stalled"
	case s.Outcome == rt.OutcomeFailed:
		return "Failed"
	case s.Phase == rt.PhaseBlocked:
		return "Blocked"
	case s.Outcome == rt.OutcomeNone, s.Outcome == rt.OutcomeProgressing:
		return "Progressing"
	}
	return "NotReady"
}

// age is how long nothing has happened to an object that has an interval, and
// is to have passes. A pass that begins is something that happens, its waits
// are not.
func (r *Resource) age(now, began time.Time) (time.Duration, bool) {
	s := &r.State
	if r.State.Interval <= 0 || s.Suspended != nil || s.Outcome == rt.OutcomeStalled || s.Phase == rt.PhaseBlocked || s.Phase == rt.PhaseDrained {
		return 0, false
	}
	last := began
	for _, t := range []time.Time{s.Started, s.Finished} {
		if t.After(last) {
			last = t
		}
	}
	age := max(now.Sub(last), 0)
	if s.Due.After(now) { // the loop has planned it: a pause after failures may be longer than the interval
		age = min(age, r.State.Interval)
	}
	return age, true
}

// count is what there is of one kind.
type count struct {
	objects, ready, running, parked, suspended, expired, stalled, failing int

	late      []time.Duration // beyond the interval, for each object that has one
	intervals float64         // the largest age, in intervals
}

func (c *count) add(r *Resource, now, began time.Time) {
	s := &r.State
	c.objects++
	for _, x := range []struct {
		n  *int
		on bool
	}{
		{&c.ready, s.Ready},
		{&c.running, s.Phase == rt.PhaseRunning},
		{&c.parked, s.Phase == rt.PhaseWaiting || s.Phase == rt.PhaseBlocked},
		{&c.suspended, s.Suspended != nil},
		{&c.expired, s.Suspended != nil && !s.Suspended.Until.IsZero() && now.After(s.Suspended.Until)},
		{&c.stalled, s.Outcome == rt.OutcomeStalled},
		{&c.failing, s.Outcome == rt.OutcomeFailed},
	} {
		if x.on {
			*x.n++
		}
	}
	if age, ok := r.age(now, began); ok {
		c.late = append(c.late, max(age-r.State.Interval, 0))
		c.intervals = max(c.intervals, float64(age)/float64(r.State.Interval))
	}
}

// metrics are the gauges of a kind, in the order of gauges.
func (c *count) metrics(kind string) []prometheus.Metric {
	descs := gauges()
	values := []int{c.objects, c.ready, c.running, c.parked, c.suspended, c.expired, c.stalled, c.failing}
	out := make([]prometheus.Metric, 0, len(descs))
	for i, v := range values {
		out = append(out, prometheus.MustNewConstMetric(descs[i], prometheus.GaugeValue, float64(v), kind))
	}
	if len(c.late) == 0 {
		return out
	}
	slices.Sort(c.late)
	sum := 0.0
	for _, d := range c.late {
		sum += d.Seconds()
	}
	quantiles := make(map[float64]float64)
	for _, q := range []float64{.5, .9, .99, 1} {
		quantiles[q] = c.late[min(int(q*float64(len(c.late))), len(c.late)-1)].Seconds()
	}
	return append(out,
		prometheus.MustNewConstMetric(descs[len(values)], prometheus.GaugeValue, c.intervals, kind),
		prometheus.MustNewConstSummary(descs[len(values)+1], uint64(len(c.late)), sum, quantiles, kind))
}

// gauges describes what is made of a snapshot for each kind.
func gauges() []*prometheus.Desc {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, []string{"kind"}, nil)
	}
	return []*prometheus.Desc{
		desc("objects", "Objects there are."),
		desc("ready", "Objects that are ready."),
		desc("running", "Objects that have a pass at the moment."),
		desc("parked", "Objects that wait for something, or for another object, without a worker."),
		desc("suspended", "Objects that are suspended."),
		desc("suspended_expired", "Objects that are suspended although the time of that is over."),
		desc("stalled", "Objects that only a change can mend."),
		desc("failing", "Objects whose last pass has failed."),
		desc("staleness_intervals", "The longest time since an object had a pass, in intervals of the object."),
		desc("staleness_seconds", "For how long objects have had no pass beyond their interval, in seconds."),
	}
}

// collectResources reads the snapshots.
func (m *Metrics) collectResources(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	snapshots := make([]*snapshot, 0, len(m.snapshots))
	for s := range m.snapshots {
		snapshots = append(snapshots, s)
	}
	m.mu.Unlock()
	slices.SortFunc(snapshots, func(a, b *snapshot) int { return cmp.Compare(a.kind, b.kind) })
	now := m.opts.Now()
	kinds := make(map[string]*count)
	info := newInfos(infoDesc(), "kind", m.opts.MaxObjects, ch)
	fluxInfo := newInfos(fluxInfoDesc(), "customresource_kind", m.opts.MaxObjects, ch)
	for _, s := range snapshots {
		c := kinds[s.kind]
		if c == nil {
			c = &count{}
			kinds[s.kind] = c
		}
		began, before := *s.began.Load(), c.objects
		for r := range s.all {
			c.add(&r, now, began)
			if !m.opts.NoObjects {
				info.add(s.kind, r.Namespace, r.Name, func() labels { return m.infoLabels(s.kind, &r) })
			}
			if m.flux != nil {
				fluxInfo.add(s.kind, r.Namespace, r.Name, func() labels { return fluxLabels(s.kind, &r) })
			}
		}
		if c.objects == before {
			s.began.Store(&now)
		}
	}
	info.rest()
	fluxInfo.rest()
	for kind, c := range kinds {
		for _, metric := range c.metrics(kind) {
			ch <- metric
		}
	}
}

// infoLabels are those of gitopskit_resource_info: what is usual is left out,
// so that a scrape stays small.
func (m *Metrics) infoLabels(kind string, r *Resource) labels {
	l := labels{}
	l.add("kind", kind)
	l.add("name", r.Name)
	l.add("namespace", r.Namespace)
	l.add("ready", r.ready())
	l.add("reason", r.reason())
	if m.opts.Revisions {
		l.add("revision", r.State.Revision)
	}
	if r.State.Suspended != nil {
		l.add("suspended", "True")
	}
	return l
}

func infoDesc() *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_resource_info", "What an object is like. Labels without a value are left out.",
		[]string{"kind", "name", "namespace", "ready", "reason", "revision", "suspended"}, nil)
}

// labels are label pairs, in the order of their names.
type labels []*dto.LabelPair

func (l *labels) add(name, value string) {
	if value = clean(value); value != "" {
		*l = append(*l, &dto.LabelPair{Name: &name, Value: &value})
	}
}

// infos sends the series of objects, up to a limit and none twice; the others
// it counts.
type infos struct {
	desc  *prometheus.Desc
	kind  string // the label of the kind
	limit int
	ch    chan<- prometheus.Metric
	seen  map[[3]string]struct{}
	more  map[string]int // by kind
}

func newInfos(desc *prometheus.Desc, kind string, limit int, ch chan<- prometheus.Metric) *infos {
	return &infos{desc: desc, kind: kind, limit: limit, ch: ch, seen: make(map[[3]string]struct{}), more: make(map[string]int)}
}

func (i *infos) add(kind, namespace, name string, with func() labels) {
	if len(i.seen) >= i.limit {
		i.more[kind]++
		return
	}
	id := [3]string{kind, clean(namespace), clean(name)}
	if _, twice := i.seen[id]; twice {
		i.more[kind]++
		return
	}
	i.seen[id] = struct{}{}
	i.ch <- info{i.desc, with(), 1}
}

// rest sends how many objects of each kind have no series of their own. They
// have no name, and the reason "other".
func (i *infos) rest() {
	for kind, n := range i.more {
		l := labels{}
		l.add(i.kind, kind)
		l.add("reason", other)
		i.ch <- info{i.desc, l, float64(n)}
	}
}

// info is a gauge whose labels differ from one series to the next.
type info struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  float64
}

// Desc is for the registry.
func (i info) Desc() *prometheus.Desc { return i.desc }

// Write is for the registry.
func (i info) Write(m *dto.Metric) error {
	m.Label = i.labels
	m.Gauge = &dto.Gauge{Value: &i.value}
	return nil
}
