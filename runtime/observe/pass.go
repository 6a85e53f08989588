package observe

import (
	"math/bits"
	"strings"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// Pass is a pass that has come to an end, or to a wait.
type Pass struct {
	// Kind, Namespace and Name name the object.
	Kind, Namespace, Name string
	// Outcome is how it ended.
	Outcome rt.Outcome
	// Waits is set if it has not ended but waits: then gitopskit_pass_seconds
	// has it with the outcome "waiting".
	Waits bool
	// Took is how long it took; negative means that nobody knows.
	Took time.Duration
	// Queued is how long the object waited for a worker; negative means that
	// nobody knows.
	Queued time.Duration
	// Lane is where it waited; empty means "normal".
	Lane string
	// Why is the set of causes.
	Why rt.Cause
	// Requests has what the pass has sent; nil means that nobody counted.
	Requests *Requests
}

// Pass records a pass.
func (m *Metrics) Pass(p Pass) {
	outcome := p.Outcome.String()
	if p.Waits {
		outcome = "waiting"
	}
	if p.Took >= 0 {
		m.pass.WithLabelValues(m.guards[m.pass].admit(p.Kind, outcome)...).Observe(p.Took.Seconds())
		if m.flux != nil {
			m.flux.pass(p)
		}
	}
	if p.Queued >= 0 {
		lane := p.Lane
		if lane == "" {
			lane = "normal"
		}
		m.wait.WithLabelValues(m.guards[m.wait].admit(p.Kind, lane)...).Observe(p.Queued.Seconds())
	}
	m.causes(p.Kind, p.Why)
	if p.Requests != nil {
		m.sent(p.Kind, p.Requests)
	}
}

// causes counts the causes of a pass; all but the first were coalesced.
func (m *Metrics) causes(kind string, why rt.Cause) {
	if why == 0 {
		return
	}
	names := strings.Split(why.String(), "+")
	if len(names) != bits.OnesCount16(uint16(why)) {
		return // a cause without a name
	}
	for i, name := range names {
		m.triggers.WithLabelValues(m.guards[m.triggers].admit(kind, name)...).Inc()
		if i > 0 {
			m.coalesced.WithLabelValues(m.guards[m.coalesced].admit(kind, name)...).Inc()
		}
	}
}

func (m *Metrics) sent(kind string, r *Requests) {
	total := 0
	for verb, n := range r.All() {
		total += n
		m.requests.WithLabelValues(m.guards[m.requests].admit(kind, verb)...).Observe(float64(n))
	}
	m.requests.WithLabelValues(m.guards[m.requests].admit(kind, "all")...).Observe(float64(total))
}

// Coalesced counts triggers that led to no pass of their own, where the caller
// of a Trigger sees that one was pending.
func (m *Metrics) Coalesced(kind, cause string, n int) {
	if n > 0 {
		m.coalesced.WithLabelValues(m.guards[m.coalesced].admit(kind, cause)...).Add(float64(n))
	}
}

// Dropped counts an event about an object of the kind that will not be
// delivered. The cause is a word of the program's own, as "full" or "failed",
// not the text of an error.
func (m *Metrics) Dropped(kind, cause string) {
	m.dropped.WithLabelValues(m.guards[m.dropped].admit(kind, cause)...).Inc()
}

// Delivered records that an object of the kind is ready, for the first time, at
// a revision that was seen at its origin at the given time. Times to come, of a
// clock that is ahead, count as now.
func (m *Metrics) Delivered(kind string, seen time.Time) {
	took := max(m.opts.Now().Sub(seen), 0)
	m.delivery.WithLabelValues(m.guards[m.delivery].admit(kind)...).Observe(took.Seconds())
}

// Gone forgets an object.
func (m *Metrics) Gone(kind, namespace, name string) {
	if m.flux != nil {
		m.flux.gone(kind, namespace, name)
	}
}
