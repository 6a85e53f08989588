package chaos

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

// Entry is a line of the journal: one request, harmed or not.
type Entry struct {
	At time.Time
	// Method and URI (path and query) are those of the request.
	Method, URI string
	// Rule is the index of the rule that struck, -1 if none did; Kind is what happened, "" is nothing.
	Rule int
	Kind Kind
	// Reached says that the server got the request. Status is that of the answer that the caller got, 0 if it got
	// none. Both are set when RoundTrip has returned.
	Reached bool
	Status  int
}

// String is for the failure of a test: "PATCH /api/v1/… reset, not sent".
func (e Entry) String() string {
	s := e.Method + " " + e.URI
	if e.Kind != "" {
		s += " " + string(e.Kind)
	}
	if e.Status != 0 {
		s += fmt.Sprintf(" %d", e.Status)
	}
	if !e.Reached {
		s += ", not sent"
	}
	return s
}

// Journal returns what happened so far, in the order in which requests began.
func (f *Faults) Journal() []Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Entry, len(f.entries))
	for i, e := range f.entries {
		out[i] = *e
	}
	return out
}

// Counts returns how often each kind happened; "" are the requests that nothing happened to.
func (f *Faults) Counts() map[Kind]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

// Requests counts the requests of the journal that have a method ("" is any) and a path with the given parts, as [On]
// does. They include those that the server did not get.
func (f *Faults) Requests(method string, parts ...string) int {
	n := 0
	for _, e := range f.Journal() {
		path, _, _ := strings.Cut(e.URI, "?")
		if (method == "" || e.Method == method) && contains(path, parts) {
			n++
		}
	}
	return n
}

// contains reports whether a path has all parts, in their order.
func contains(path string, parts []string) bool {
	for _, part := range parts {
		_, rest, found := strings.Cut(path, part)
		if !found {
			return false
		}
		path = rest
	}
	return true
}

// done completes a line of the journal.
func (f *Faults) done(e *Entry, reached bool, status int) {
	f.mu.Lock()
	e.Reached, e.Status = reached, status
	line, observe := *e, f.Observe
	f.mu.Unlock()
	if observe != nil {
		observe(line)
	}
}
