package meter

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// Request is a kind of request to the API server, as its metrics name them.
type Request struct {
	// Verb is GET, LIST, WATCH, POST, PUT, PATCH, APPLY or DELETE, which
	// deletions of collections are, too.
	Verb string
	// Resource is the plural.
	Resource, Subresource string
}

// Counts are numbers of requests.
type Counts map[Request]int

// Minus returns the difference, without what is zero or less.
func (c Counts) Minus(other Counts) Counts {
	out := Counts{}
	for r, n := range c {
		if d := n - other[r]; d > 0 {
			out[r] = d
		}
	}
	return out
}

// Total is the sum.
func (c Counts) Total() int {
	n := 0
	for _, v := range c {
		n += v
	}
	return n
}

// Own counts the requests that this program sends itself. It is safe for
// concurrent use.
type Own struct {
	mu     sync.Mutex
	counts Counts
}

// Wrap counts what a transport sends.
func (o *Own) Wrap(rt http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		o.mu.Lock()
		if o.counts == nil {
			o.counts = Counts{}
		}
		if request, ok := classify(r); ok {
			o.counts[request]++
		}
		o.mu.Unlock()
		return rt.RoundTrip(r)
	})
}

// Counts returns what was sent so far.
func (o *Own) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts.Minus(nil)
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// classify says under which labels the API server counts a request, if it is
// about objects.
func classify(r *http.Request) (Request, bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		parts = parts[3:]
	default:
		return Request{}, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	out := Request{Verb: r.Method, Resource: parts[0]}
	if len(parts) > 2 {
		out.Subresource = parts[2]
	}
	switch {
	case r.Method == http.MethodGet && len(parts) == 1:
		out.Verb = "LIST"
		if w := r.URL.Query().Get("watch"); w == "true" || w == "1" {
			out.Verb = "WATCH"
		}
	case r.Method == http.MethodPatch && strings.HasPrefix(r.Header.Get("Content-Type"), "application/apply-patch"):
		out.Verb = "APPLY"
	}
	return out, true
}

// APIServer reads the metrics of an API server.
type APIServer struct {
	client *http.Client
	url    string
	own    *Own
}

// NewAPIServer returns the API server of a configuration. What own counted is
// left out.
func NewAPIServer(config *rest.Config, own *Own) (*APIServer, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	return &APIServer{client, base.JoinPath("metrics").String(), own}, nil
}

// Read returns how many requests about objects others have sent since the
// server started. A watch counts when it begins. Requests for discovery are
// not in the metrics, and those about its health are left out.
func (s *APIServer) Read(ctx context.Context) (Counts, error) {
	const total, running = "apiserver_request_total", "apiserver_longrunning_requests"
	sums := map[Request]float64{}
	found := false
	err := fetch(ctx, s.client, s.url, func(p sample) {
		verb := p.labels["verb"]
		if p.name == running && verb != "WATCH" { // the others are counted when they end
			return
		}
		found = found || p.name == total
		if p.labels["resource"] == "" {
			return
		}
		sums[Request{verb, p.labels["resource"], p.labels["subresource"]}] += p.value
	}, total, running)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%s has no %s", s.url, total)
	}
	out := Counts{}
	for r, v := range sums {
		out[r] = int(v)
	}
	return out.Minus(s.own.Counts()), nil
}

// fetch reads metrics by HTTP.
func fetch(ctx context.Context, client *http.Client, url string, use func(sample), names ...string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return scan(resp.Body, use, names...)
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("GET %s: %s: the permission to get the non-resource URL /metrics is needed", url, resp.Status)
	default:
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
}
