package chaos

import (
	"net/http"
	"time"
)

// Kind is a way for a request to go wrong.
type Kind string

// The kinds of faults. Those of Kubernetes carry a Status object, as its API server would send it.
const (
	// Throttled answers 429 with Retry-After of Fault.After, one second if that is 0. The server gets nothing.
	Throttled Kind = "throttled"
	// Conflict answers 409. The server gets nothing. It happens to writes only.
	Conflict Kind = "conflict"
	// Internal answers 500. The server gets nothing.
	Internal Kind = "internal"
	// Unavailable answers 503 with text, as a proxy on the way does. The server gets nothing.
	Unavailable Kind = "unavailable"
	// Expired answers 410. It happens to watches and to the further pages of lists only.
	Expired Kind = "expired"
	// Answer answers with Fault.Status, Fault.Header and Fault.Body. The server gets nothing.
	Answer Kind = "answer"
	// Garbage answers 200 with HTML, as the log-in page of a network does. The server gets nothing.
	Garbage Kind = "garbage"
	// Refused refuses the connection.
	Refused Kind = "refused"
	// Reset breaks the connection before the server has the request.
	Reset Kind = "reset"
	// Lost breaks the connection after the server has done what was asked: the caller cannot know. It does not happen
	// to watches.
	Lost Kind = "lost"
	// Hang gives no answer and sends nothing, until the request's context ends, or the connection breaks after
	// Fault.After if that is not 0.
	Hang Kind = "hang"
	// Slow waits for Fault.After, 100 ms if that is 0, before the request is sent. The answer is the server's.
	Slow Kind = "slow"
	// Cut breaks the connection in the middle of the answer: after Fault.N bytes, or half of it if that is 0. It does
	// not happen to watches.
	Cut Kind = "cut"
	// Short is half of an answer as if that were all, Fault.N bytes if that is not 0. It does not happen to watches.
	Short Kind = "short"
	// Stuck stops in the middle of the answer, as a half-open connection does, until the request's context ends or the
	// body is closed; or the connection breaks after Fault.After if that is not 0. N is as for Cut, for watches the
	// number of events.
	Stuck Kind = "stuck"
	// EndWatch ends a watch after Fault.N events, as servers do from time to time. It happens to watches only, which
	// are asked for as JSON; so do the next two.
	EndWatch Kind = "end watch"
	// BreakWatch breaks it in the middle of the event after that.
	BreakWatch Kind = "break watch"
	// ExpireWatch ends it with an event that says 410.
	ExpireWatch Kind = "expire watch"
)

// Fault is one thing that goes wrong. Which fields count is told by its [Kind].
type Fault struct {
	Kind Kind
	// After is a time.
	After time.Duration
	// N is a number of bytes or events. A negative number of events is drawn from the seed, 0 to 9.
	N int
	// Status, Header and Body are the answer of [Answer].
	Status int
	Header http.Header
	Body   string
}

// All returns one fault of each kind but [Answer], none of which lasts longer than two seconds: the weather for a
// [Rule] with a Share.
func All() []Fault {
	return []Fault{
		{Kind: Throttled}, {Kind: Conflict}, {Kind: Internal}, {Kind: Unavailable}, {Kind: Expired}, {Kind: Garbage}, {Kind: Refused}, {Kind: Reset}, {Kind: Lost},
		{Kind: Hang, After: 2 * time.Second}, {Kind: Slow}, {Kind: Cut}, {Kind: Short}, {Kind: Stuck, After: 2 * time.Second, N: -1},
		{Kind: EndWatch, N: -1}, {Kind: BreakWatch, N: -1}, {Kind: ExpireWatch, N: -1},
	}
}

// fits reports whether a fault makes sense for a request.
func (f Fault) fits(r *http.Request) bool {
	query := r.URL.Query()
	watch := Watches(r)
	switch f.Kind {
	case Conflict:
		return Writes(r)
	case Expired:
		return watch || query.Get("continue") != ""
	case Lost, Cut, Short:
		return !watch
	case EndWatch, BreakWatch, ExpireWatch:
		return watch
	default:
		return true
	}
}

// Watches matches the watches of Kubernetes.
func Watches(r *http.Request) bool {
	w := r.URL.Query().Get("watch")
	return r.Method == http.MethodGet && (w == "true" || w == "1")
}

// Writes matches requests other than GET, HEAD and OPTIONS.
func Writes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
}

// On matches requests with a method ("" is any) and a path that has the given parts, in their order: On("PATCH",
// "/configmaps/", "/status").
func On(method string, parts ...string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if method != "" && r.Method != method {
			return false
		}
		return contains(r.URL.Path, parts)
	}
}
