package main

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// traffic is what went over a wire.
type traffic struct {
	requests  int64 // about objects; a watch counts as one
	bytes     int64 // of the bodies of those requests and answers, decompressed
	discovery int64 // requests that ask which kinds the server has
}

// wire counts the traffic of the clients made from one configuration. It is safe for concurrent use.
type wire struct {
	requests, bytes, discovery atomic.Int64
}

// config returns a copy of c whose clients are counted and not slowed down.
func (w *wire) config(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.QPS = -1
	c.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) { return w.roundTrip(next, r) })
	})
	return c
}

// take returns the traffic since the last call.
func (w *wire) take() traffic {
	return traffic{requests: w.requests.Swap(0), bytes: w.bytes.Swap(0), discovery: w.discovery.Swap(0)}
}

func (w *wire) roundTrip(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	if isDiscovery(r.URL.Path) {
		w.discovery.Add(1)
		return next.RoundTrip(r)
	}
	w.requests.Add(1)
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = &countedBody{r.Body, &w.bytes}
	}
	resp, err := next.RoundTrip(r)
	if err == nil {
		resp.Body = &countedBody{resp.Body, &w.bytes}
	}
	return resp, err
}

// isDiscovery reports whether a path is not about objects: /api, /apis, /api/v1, /apis/apps, /apis/apps/v1, /openapi/….
func isDiscovery(path string) bool {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	switch segments[0] {
	case "api":
		return len(segments) <= 2
	case "apis":
		return len(segments) <= 3
	}
	return true
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
