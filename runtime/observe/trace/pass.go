package trace

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Tracer makes the spans of passes. Tracer is required; the other fields have
// zero values that do.
type Tracer struct {
	// Tracer makes the spans; nil makes none.
	Tracer trace.Tracer
	// Fraction of the revisions is traced, the same ones by all programs; 0
	// means all of them, a negative number none.
	Fraction float64
	// MaxPhases bounds the phases of a pass, what is beyond is counted in the
	// attribute gitopskit.phases.dropped; 0 means 128, the bound of exporters
	// for links and events.
	MaxPhases int
	// MaxObjects bounds how many objects are remembered for the link to the
	// previous pass; 0 means 10 000.
	MaxObjects int
	// Text returns what a span may say of an error, which must not be secret;
	// nil says nothing but that there is one.
	Text func(error) string

	mu   sync.Mutex
	last map[Object]trace.SpanContext
}

// Object is what a pass is for.
type Object struct {
	// Kind, Namespace and Name name it.
	Kind, Namespace, Name string
}

// Start is what is known when a pass begins; nil means nothing.
type Start struct {
	// Revision is the revision that the object is at.
	Revision string
	// From is the object that the revision comes from, for instance the
	// GitRepository of a Kustomization; the zero Object means that there is
	// none, as for a source.
	From Object
	// Why is why the pass is made.
	Why string
}

// Outcome is how a pass ends.
type Outcome struct {
	// Revision is the origin revision that the pass was for, what it has come
	// to or tried to come to; empty if it has not learned it.
	Revision string
	// Name is one word for how it ended; empty means "ok" or "failed".
	Name string
	// Done is set if the object is at the revision now. That makes this pass the
	// parent of what comes after it, if the object was not before.
	Done bool
	// Err is why the pass failed.
	Err error
}

// Pass is a pass under way. It comes from [Tracer.Begin].
type Pass struct {
	tracer *Tracer
	object Object
	start  Start
	began  time.Time

	mu      sync.Mutex
	phases  []phase
	dropped int
	ended   bool
}

type phase struct {
	name       string
	parent     int // -1 is the pass
	began, end time.Time
	err        error
}

type passKey struct{}

// place is where in a pass a context is.
type place struct {
	pass  *Pass
	phase int
}

// Begin notes that a pass begins; nothing is sent before its end. The context is
// for [Phase].
func (t *Tracer) Begin(ctx context.Context, o Object, s *Start) (context.Context, *Pass) {
	p := &Pass{tracer: t, object: o, began: time.Now()}
	if s != nil {
		p.start = *s
	}
	return p.attach(ctx), p
}

func (p *Pass) attach(ctx context.Context) context.Context {
	return context.WithValue(ctx, passKey{}, place{p, -1})
}

// Phase notes that a part of the pass begins: fetch, verify, build, decrypt,
// apply, prune, health, or what else takes time. The name is a word of the
// program. Phases that begin with the returned context are parts of it. The
// function ends it; without it the phase ends with the pass. Without a pass in
// ctx nothing is noted.
func Phase(ctx context.Context, name string) (context.Context, func(error)) {
	at, ok := ctx.Value(passKey{}).(place)
	if !ok {
		return ctx, func(error) {}
	}
	i := at.pass.begin(name, at.phase)
	if i < 0 {
		return ctx, func(error) {}
	}
	return context.WithValue(ctx, passKey{}, place{at.pass, i}), func(err error) { at.pass.end(i, err) }
}

func (p *Pass) begin(name string, parent int) int {
	const fewest = 128
	limit := p.tracer.MaxPhases
	if limit == 0 {
		limit = fewest
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.tracer.Tracer == nil || p.ended:
		return -1
	case len(p.phases) >= limit:
		p.dropped++
		return -1
	}
	p.phases = append(p.phases, phase{name: name, parent: parent, began: time.Now()})
	return len(p.phases) - 1
}

func (p *Pass) end(i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := &p.phases[i]; f.end.IsZero() {
		f.end, f.err = time.Now(), err
	}
}

// End ends the pass and hands its spans to the provider. Only the first call counts.
func (p *Pass) End(o Outcome) {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.ended = true
	phases := p.phases
	p.mu.Unlock()
	if t := p.tracer; t.Tracer == nil || !t.samples(ID(o.Revision)) {
		return
	}
	p.send(o, phases, time.Now())
}

// samples decides by the last 8 bytes, as the samplers of OpenTelemetry do.
func (t *Tracer) samples(id trace.TraceID) bool {
	switch {
	case t.Fraction == 0 || t.Fraction >= 1 || t.Fraction > 0 && !id.IsValid():
		return true
	case t.Fraction < 0:
		return false
	}
	return float64(binary.BigEndian.Uint64(id[8:])>>1) < t.Fraction*math.MaxInt64
}

func (p *Pass) send(o Outcome, phases []phase, now time.Time) {
	// ended phases do not change any more, those of a call that goes on may
	p.mu.Lock()
	phases = append([]phase(nil), phases...)
	dropped := p.dropped
	p.mu.Unlock()

	ctx := p.parent(o)
	options := []trace.SpanStartOption{
		trace.WithTimestamp(p.began), trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(p.attributes(o, dropped)...),
	}
	if link, ok := p.tracer.previous(p.object, p.start.Revision); ok {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: link}))
	}
	ctx, span := p.tracer.Tracer.Start(ctx, "reconcile "+p.object.Kind, options...)
	p.tracer.remember(p.object, span.SpanContext())
	ctx = context.WithValue(ctx, wantedKey{}, nil)
	at := make([]context.Context, len(phases))
	spans := make([]trace.Span, len(phases))
	for i, f := range phases {
		under := ctx
		if f.parent >= 0 {
			under = at[f.parent]
		}
		at[i], spans[i] = p.tracer.Tracer.Start(under, f.name, trace.WithTimestamp(f.began))
	}
	for i := len(phases) - 1; i >= 0; i-- { // parts end before the whole
		f := phases[i]
		if f.end.IsZero() {
			f.end = now
		}
		p.tracer.fail(spans[i], f.err)
		spans[i].End(trace.WithTimestamp(f.end))
	}
	p.tracer.fail(span, o.Err)
	span.End(trace.WithTimestamp(now))
}

// parent returns the context in which the span of the pass begins.
func (p *Pass) parent(o Outcome) context.Context {
	ctx := context.Background() //nolint:forbidigo // that of the pass may be in a trace of its own, and has nothing else to say here
	if o.Revision == "" {
		return ctx
	}
	from := p.start.From
	first := o.Done && p.start.Revision != o.Revision
	if from == (Object{}) && !first && p.start.Revision == o.Revision {
		from = p.object // a source that looked again and found nothing new
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, Parent(from, o.Revision))
	if first {
		ctx = context.WithValue(ctx, wantedKey{}, Parent(p.object, o.Revision).SpanID())
	}
	return ctx
}

func (p *Pass) attributes(o Outcome, dropped int) []attribute.KeyValue {
	name := o.Name
	switch {
	case name != "":
	case o.Err != nil:
		name = "failed"
	default:
		name = "ok"
	}
	all := []attribute.KeyValue{
		attribute.String("gitopskit.kind", clean(p.object.Kind)), attribute.String("gitopskit.namespace", clean(p.object.Namespace)),
		attribute.String("gitopskit.name", clean(p.object.Name)), attribute.String("gitopskit.outcome", clean(name)),
	}
	if o.Revision != "" {
		all = append(all, attribute.String("gitopskit.revision", clean(o.Revision)))
	}
	if p.start.Why != "" {
		all = append(all, attribute.String("gitopskit.why", clean(p.start.Why)))
	}
	if dropped > 0 {
		all = append(all, attribute.Int("gitopskit.phases.dropped", dropped))
	}
	return all
}

// fail tells of an error.
func (t *Tracer) fail(span trace.Span, err error) {
	if err == nil {
		return
	}
	text := ""
	if t.Text != nil {
		text = clean(t.Text(err))
	}
	span.SetAttributes(attribute.String("error.type", fmt.Sprintf("%T", err)))
	span.SetStatus(codes.Error, text)
}

// previous returns the pass before, as far as it is known.
func (t *Tracer) previous(o Object, revision string) (trace.SpanContext, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.last[o]; ok {
		return c, true
	}
	c := Parent(o, revision) // after a restart
	return c, c.IsValid()
}

func (t *Tracer) remember(o Object, c trace.SpanContext) {
	const most = 10_000
	limit := t.MaxObjects
	if limit == 0 {
		limit = most
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = make(map[Object]trace.SpanContext)
	}
	if _, ok := t.last[o]; !ok && len(t.last) >= limit {
		for k := range t.last { // any other
			delete(t.last, k)
			break
		}
	}
	t.last[o] = c
}

// Gone forgets an object.
func (t *Tracer) Gone(o Object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, o)
}

// clean returns the value of an attribute: one line of valid UTF-8, not too long.
func clean(s string) string {
	const longest = 256
	if len(s) > longest {
		end := longest
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
}
