package ssa_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// fault is what goes wrong with a request.
type fault string

const (
	throttled fault = "throttled"      // 429 with Retry-After
	conflicts fault = "conflict"       // 409, to a write
	internal  fault = "internal"       // 500
	overload  fault = "overload"       // 502 or 503 by something on the way, which repeats the request
	hangs     fault = "hang"           // no answer
	refused   fault = "reset before"   // the connection breaks before the server has the request
	lost      fault = "reset after"    // and after the server has done what was asked
	broken    fault = "broken body"    // in the middle of the answer
	halved    fault = "halved body"    // half of an answer, as if that were all
	garbage   fault = "garbage"        // 200 with something else, which repeats the request
	slow      fault = "slow body"      // the answer comes in bits
	cut       fault = "cut event"      // the watch breaks in the middle of an event
	tooOld    fault = "expired"        // 410 to a watch, or to the next page of a list
	tooOldNow fault = "expired inside" // 410 as an event of a watch
)

func allFaults() []fault {
	return []fault{throttled, conflicts, internal, overload, hangs, refused, lost, broken, halved, garbage, slow, cut, tooOld, tooOldNow}
}

// faultProxy stands between clients and an API server and does to their requests
// what networks, proxies and servers in trouble do. Its connections are real.
type faultProxy struct {
	*httptest.Server
	upstream http.RoundTripper
	target   *url.URL
	closing  chan struct{}
	page     int           // of lists, 0 leaves it
	hang     time.Duration // after which a request without an answer breaks, 0 is never

	mu     sync.Mutex
	rng    *rand.Rand
	choose func(r *http.Request) fault // nil: nothing goes wrong
	counts map[fault]int
	cuts   chan struct{} // closed to end all watches
}

func newFaultProxy(t testing.TB, config *rest.Config, seed uint64) *faultProxy {
	t.Helper()
	upstream, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{
		upstream: upstream, target: target, closing: make(chan struct{}), rng: rand.New(rand.NewPCG(seed, 3)),
		counts: map[fault]int{}, cuts: make(chan struct{}),
	}
	p.Server = httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.closing)
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// config is that of a client behind the proxy.
func (p *faultProxy) config() *rest.Config { return &rest.Config{Host: p.URL, QPS: -1} }

// storm lets a share of the requests go wrong, in any of the ways.
func (p *faultProxy) storm(share float64, faults ...fault) {
	p.set(func(r *http.Request) fault {
		if p.rng.Float64() >= share {
			return ""
		}
		return faults[p.rng.IntN(len(faults))]
	})
}

// set says what goes wrong from now on.
func (p *faultProxy) set(choose func(r *http.Request) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.choose = choose
}

// down breaks all watches and lets nothing through until the next set.
func (p *faultProxy) down() {
	p.set(func(*http.Request) fault { return refused })
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.cuts)
	p.cuts = make(chan struct{})
}

// draw decides about a request; what makes no sense for it does not happen.
func (p *faultProxy) draw(r *http.Request) (f fault, cuts chan struct{}, position int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.choose != nil {
		f = p.choose(r)
	}
	watches, pages := r.URL.Query().Get("watch") != "", r.URL.Query().Get("continue") != ""
	switch {
	case f == conflicts && r.Method == http.MethodGet,
		f == garbage && r.Method == http.MethodDelete, // of these answers, client-go reads the status alone
		(f == cut || f == tooOldNow) && !watches,
		f == tooOld && !watches && !pages,
		slices.Contains([]fault{broken, halved, lost, slow}, f) && watches:
		f = ""
	}
	if f != "" {
		p.counts[f]++
	}
	return f, p.cuts, p.rng.IntN(1000)
}

func (p *faultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, cuts, position := p.draw(r)
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	status := func(code int, reason, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":%q,"code":%d,"message":%q,"details":{"retryAfterSeconds":1}}`, reason, code, message)
	}
	switch f {
	case throttled:
		w.Header().Set("Retry-After", "1")
		status(http.StatusTooManyRequests, "TooManyRequests", "slow down")
	case conflicts:
		status(http.StatusConflict, "Conflict", "the object has been modified")
	case internal:
		status(http.StatusInternalServerError, "InternalError", "etcd is unwell")
	case overload:
		w.WriteHeader(http.StatusBadGateway + position%2)
		fmt.Fprintf(w, "upstream connect error while sending: %s", body)
	case garbage:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `<html>welcome to the hotel's network. You asked: %s`, body)
	case tooOld:
		status(http.StatusGone, "Expired", "too old resource version")
	case tooOldNow:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}}`)
	case hangs:
		p.pause(r, p.hang)
		panic(http.ErrAbortHandler)
	case refused:
		panic(http.ErrAbortHandler)
	default:
		p.forward(w, r, body, f, cuts, position)
	}
}

// pause waits for a time, 0 for ever, or for the end of the request.
func (p *faultProxy) pause(r *http.Request, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-r.Context().Done():
	case <-p.closing:
	}
}

// forward has the server do what is asked, and may spoil its answer.
func (p *faultProxy) forward(w http.ResponseWriter, r *http.Request, body []byte, f fault, cuts chan struct{}, position int) {
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host, out.Host = "", p.target.Scheme, p.target.Host, p.target.Host
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	out.Header.Del("Accept-Encoding") // so that positions are those of the text
	if query := out.URL.Query(); p.page > 0 && query.Get("limit") != "" {
		query.Set("limit", strconv.Itoa(p.page))
		out.URL.RawQuery = query.Encode()
	}
	resp, err := p.upstream.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	if r.URL.Query().Get("watch") != "" {
		w.WriteHeader(resp.StatusCode)
		p.stream(w, resp.Body, f, cuts, position)
		return
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil || f == lost {
		panic(http.ErrAbortHandler)
	}
	if f == halved {
		answer = answer[:len(answer)/2]
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(resp.StatusCode)
	switch f {
	case broken:
		_, _ = w.Write(answer[:len(answer)/2])
		panic(http.ErrAbortHandler)
	case slow:
		for chunk := range slices.Chunk(answer, max(1, len(answer)/5)) {
			_, _ = w.Write(chunk)
			_ = http.NewResponseController(w).Flush()
			p.pause(r, 30*time.Millisecond)
		}
	default:
		_, _ = w.Write(answer)
	}
}

// stream passes on the events of a watch, until it is cut.
func (p *faultProxy) stream(w http.ResponseWriter, events io.ReadCloser, f fault, cuts chan struct{}, position int) {
	ended := make(chan struct{})
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer close(ended)
	watcher.Go(func() {
		select {
		case <-ended:
		case <-cuts:
			events.Close()
		case <-p.closing:
			events.Close()
		}
	})
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	buf := make([]byte, 64<<10)
	for sent := 0; ; {
		n, err := events.Read(buf)
		if f == cut && sent+n > position {
			_, _ = w.Write(buf[:position-sent])
			_ = flush.Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(buf[:n])
		_ = flush.Flush()
		if sent += n; err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
