package chaos

import (
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Faults is what goes wrong with the requests of one or more clients. The zero value harms nothing and keeps a
// journal. It is safe for concurrent use once its fields are set; it must not be copied.
type Faults struct {
	// Rules are asked in order; the first that strikes a request decides. [Faults.Set] replaces them later.
	Rules []Rule
	// Seed decides whatever is left to chance. The draw for a request depends on the seed, the rule, the method, the
	// path, and how many requests like it there were, and not on what other requests go on: the same requests meet
	// the same faults, however they interleave.
	Seed uint64
	// Observe is called after each request, with its line of the journal, from the goroutine of the request. Nil is
	// nobody.
	Observe func(Entry)
	// Keep bounds the journal; 0 means the first 100,000 requests. The counts go on.
	Keep int

	mu      sync.Mutex
	struck  []int // by rule: how often it struck
	matched []int // by rule: how many requests it was asked about
	seen    map[draw]uint64
	entries []*Entry
	counts  map[Kind]int
	flights map[*flight]struct{}
}

// Rule says what goes wrong with some requests.
type Rule struct {
	// Match chooses the requests; nil means all. It is called by one goroutine at a time; it must not read the body nor
	// call methods of the Faults.
	Match func(*http.Request) bool
	// Skip lets so many of them pass first.
	Skip int
	// Times is how often the rule strikes; 0 means for ever.
	Times int
	// Share is the part of the requests, from 0 to 1, that it strikes, drawn from the seed; 0 means each.
	Share float64
	// Faults are what happens, one after the other, and from the first again after the last; with a Share one is
	// drawn from the seed each time. A fault that makes no sense for a request (see its [Kind]) does not happen. None
	// means that nothing happens to these requests, whatever the rules after this one say.
	Faults []Fault
}

// draw is what the numbers of a request are counted by.
type draw struct {
	rule         int
	method, path string
}

// Set replaces the rules, and starts their counting anew. What goes on goes on.
func (f *Faults) Set(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Rules = slices.Clone(rules)
	f.struck, f.matched = nil, nil
}

// Break breaks every connection that is in use, as when a network goes: requests without an answer yet, answers that
// are being read, watches. They fail with a reset connection. It returns how many there were. For a partition, Set
// a rule with [Refused] or [Hang] first.
func (f *Faults) Break() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.flights)
	for flight := range f.flights {
		flight.cancel(errReset)
	}
	return n
}

// decide draws what happens to a request, and opens its line of the journal.
func (f *Faults) decide(r *http.Request) (Fault, *rand.Rand, *Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &Entry{At: time.Now(), Method: r.Method, URI: r.URL.RequestURI(), Rule: -1}
	fault, rng := f.pick(r, e)
	if f.counts == nil {
		f.counts = map[Kind]int{}
	}
	f.counts[fault.Kind]++
	keep := f.Keep
	if keep <= 0 {
		keep = 100_000
	}
	if len(f.entries) < keep {
		f.entries = append(f.entries, e)
	}
	return fault, rng, e
}

// pick asks the rules; f.mu is held.
func (f *Faults) pick(r *http.Request, e *Entry) (Fault, *rand.Rand) {
	if len(f.struck) != len(f.Rules) {
		f.struck, f.matched = make([]int, len(f.Rules)), make([]int, len(f.Rules))
	}
	for i := range f.Rules {
		rule := &f.Rules[i]
		if rule.Match != nil && !rule.Match(r) {
			continue
		}
		f.matched[i]++
		if f.matched[i] <= rule.Skip || rule.Times > 0 && f.struck[i] >= rule.Times {
			continue
		}
		rng := f.chance(draw{i, r.Method, r.URL.Path})
		if rule.Share > 0 && rng.Float64() >= rule.Share {
			continue
		}
		if len(rule.Faults) == 0 {
			e.Rule = i
			return Fault{}, rng
		}
		next := f.struck[i] % len(rule.Faults)
		if rule.Share > 0 {
			next = rng.IntN(len(rule.Faults))
		}
		fault := rule.Faults[next]
		if !fault.fits(r) {
			continue
		}
		f.struck[i]++
		e.Rule, e.Kind = i, fault.Kind
		return fault, rng
	}
	return Fault{}, nil
}

// chance returns the source of chance for the next request of its kind; f.mu is held.
func (f *Faults) chance(d draw) *rand.Rand {
	if f.seen == nil {
		f.seen = map[draw]uint64{}
	}
	n := f.seen[d]
	f.seen[d]++
	h := fnv.New64a()
	_, _ = io.WriteString(h, d.method+" "+d.path)
	return rand.New(rand.NewPCG(f.Seed^uint64(d.rule)<<56, h.Sum64()+n*0x9e3779b97f4a7c15))
}
