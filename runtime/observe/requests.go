package observe

import (
	"context"
	"iter"
	"net/http"
	"strings"
	"sync"
)

// Requests counts the requests of a pass. The zero Requests is ready to use.
type Requests struct {
	mu     sync.Mutex
	counts [len(verbs)]int
}

//nolint:gochecknoglobals // a table that nothing changes
var verbs = [...]string{"get", "watch", "post", "put", "patch", "delete", "other"}

// All returns the verbs that were used, and how often.
func (r *Requests) All() iter.Seq2[string, int] {
	r.mu.Lock()
	counts := r.counts
	r.mu.Unlock()
	return func(yield func(string, int) bool) {
		for i, n := range counts {
			if n > 0 && !yield(verbs[i], n) {
				return
			}
		}
	}
}

func (r *Requests) add(verb string) {
	at := len(verbs) - 1
	for i, v := range verbs {
		if v == verb {
			at = i
		}
	}
	r.mu.Lock()
	r.counts[at]++
	r.mu.Unlock()
}

type requestsKey struct{}

// WithRequests returns a context for a pass, and the count of the requests that
// are sent with it through [Counting].
func WithRequests(ctx context.Context) (context.Context, *Requests) {
	r := &Requests{}
	return context.WithValue(ctx, requestsKey{}, r), r
}

// Counting returns a transport that counts each request for the pass whose
// context it has, by method; a GET with the parameter watch counts as watch.
// Requests with other contexts are not counted. It fits the Wrap method of a
// client configuration of Kubernetes. nil means [http.DefaultTransport].
func Counting(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return counting{next}
}

type counting struct{ next http.RoundTripper }

// RoundTrip counts a request.
func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if count, ok := r.Context().Value(requestsKey{}).(*Requests); ok {
		verb := strings.ToLower(r.Method)
		switch watch := r.URL.Query().Get("watch"); {
		case verb == "":
			verb = "get"
		case verb == "get" && (watch == "true" || watch == "1"):
			verb = "watch"
		}
		count.add(verb)
	}
	return c.next.RoundTrip(r)
}

// WrappedRoundTripper returns the transport below, for those who look for it.
func (c counting) WrappedRoundTripper() http.RoundTripper { return c.next }
