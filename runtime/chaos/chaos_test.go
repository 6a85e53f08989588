package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

const answer = "0123456789"

// server answers with ten bytes, and to watches with events until the client leaves.
func server(t *testing.T) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		if !chaos.Watches(r) {
			_, _ = io.WriteString(w, answer)
			return
		}
		w.Header().Set("Accepted", r.Header.Get("Accept"))
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, `{"type":"ADDED","object":{"n":%d}}`+"\n", i); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			if i == 20 {
				<-r.Context().Done()
				return
			}
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL, requests
}

// ask sends a request and reads the answer.
func ask(ctx context.Context, t *testing.T, f *chaos.Faults, method, url string) (code int, content string, err error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.Wrap(transport).RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// TestKinds: each kind of fault does what its comment says, to a real server.
func TestKinds(t *testing.T) {
	url, requests := server(t)
	events := func(n int) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, `{"type":"ADDED","object":{"n":%d}}`+"\n", i)
		}
		return s.String()
	}
	const watch = "/pods?watch=true"
	for _, c := range []struct {
		fault   chaos.Fault
		method  string
		path    string
		code    int
		content string // its beginning
		exact   bool
		err     error
		reached bool
	}{
		{fault: chaos.Fault{Kind: chaos.Throttled, After: 1500 * time.Millisecond}, code: 429, content: `{"kind":"Status"`},
		{fault: chaos.Fault{Kind: chaos.Conflict}, method: "PUT", code: 409, content: `{"kind":"Status"`},
		{fault: chaos.Fault{Kind: chaos.Conflict}, code: 200, content: answer, exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.Internal}, code: 500, content: `{"kind":"Status"`},
		{fault: chaos.Fault{Kind: chaos.Unavailable}, code: 503, content: "upstream"},
		{fault: chaos.Fault{Kind: chaos.Expired}, path: "/pods?continue=x", code: 410, content: `{"kind":"Status"`},
		{fault: chaos.Fault{Kind: chaos.Expired}, path: "/pods", code: 200, content: answer, exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.Answer, Status: 418, Body: "tea", Header: http.Header{"x-tea": {"green"}}}, code: 418, content: "tea", exact: true},
		{fault: chaos.Fault{Kind: chaos.Garbage}, code: 200, content: "<html>"},
		{fault: chaos.Fault{Kind: chaos.Refused}, err: syscall.ECONNREFUSED},
		{fault: chaos.Fault{Kind: chaos.Reset}, err: syscall.ECONNRESET},
		{fault: chaos.Fault{Kind: chaos.Lost}, method: "POST", err: syscall.ECONNRESET, reached: true},
		{fault: chaos.Fault{Kind: chaos.Hang, After: time.Millisecond}, err: syscall.ECONNRESET},
		{fault: chaos.Fault{Kind: chaos.Slow, After: time.Millisecond}, code: 200, content: answer, exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.Cut}, code: 200, content: answer[:5], exact: true, err: io.ErrUnexpectedEOF, reached: true},
		{fault: chaos.Fault{Kind: chaos.Cut, N: 3}, code: 200, content: answer[:3], exact: true, err: io.ErrUnexpectedEOF, reached: true},
		{fault: chaos.Fault{Kind: chaos.Short}, code: 200, content: answer[:5], exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.Stuck, After: time.Millisecond}, code: 200, content: answer[:5], exact: true, err: syscall.ECONNRESET, reached: true},
		{fault: chaos.Fault{Kind: chaos.EndWatch, N: 3}, path: watch, code: 200, content: events(3), exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.EndWatch}, path: watch, code: 200, exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.EndWatch}, code: 200, content: answer, exact: true, reached: true},
		{fault: chaos.Fault{Kind: chaos.BreakWatch, N: 2}, path: watch, code: 200, content: events(2) + events(1)[:10], exact: true, err: io.ErrUnexpectedEOF, reached: true},
		{fault: chaos.Fault{Kind: chaos.ExpireWatch, N: 1}, path: watch, code: 200, content: events(1) + `{"type":"ERROR","object":{"kind":"Status"`, reached: true},
		{fault: chaos.Fault{Kind: chaos.Stuck, N: 2, After: time.Millisecond}, path: watch, code: 200, content: events(2), exact: true, err: syscall.ECONNRESET, reached: true},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			f := &chaos.Faults{Rules: []chaos.Rule{{Faults: []chaos.Fault{c.fault}}}}
			method := c.method
			if method == "" {
				method = "GET"
			}
			before := requests.Load()
			code, content, err := ask(t.Context(), t, f, method, url+c.path)
			if code != c.code || !strings.HasPrefix(content, c.content) || c.exact && content != c.content || !errors.Is(err, c.err) {
				t.Errorf("%s: %d %q, %v; want %d %q, %v", method, code, content, err, c.code, c.content, c.err)
			}
			if reached := requests.Load() > before; reached != c.reached {
				t.Errorf("the server got it: %v", reached)
			}
			line := f.Journal()[0]
			if line.Reached != c.reached || line.Status != c.code || line.Method != method {
				t.Errorf("journal: %+v", line)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	f := &chaos.Faults{Rules: []chaos.Rule{{Faults: []chaos.Fault{{Kind: chaos.Throttled, After: 1500 * time.Millisecond}}}}}
	resp, err := (&http.Client{Transport: f.Wrap(nil)}).Get("http://chaos.invalid/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: %q", got)
	}
}

// TestRules: skipping, counting, taking turns, matching, sparing, and rules that are replaced.
func TestRules(t *testing.T) {
	url, _ := server(t)
	f := &chaos.Faults{Rules: []chaos.Rule{
		{Match: chaos.On("GET", "/spared")},
		{Match: chaos.On("", "/a/", "/status"), Skip: 1, Times: 3, Faults: []chaos.Fault{{Kind: chaos.Internal}, {Kind: chaos.Unavailable}}},
		{Match: chaos.On("DELETE"), Faults: []chaos.Fault{{Kind: chaos.Conflict}}},
	}}
	codes := func(method, path string, n int) (got []int) {
		for range n {
			code, _, err := ask(t.Context(), t, f, method, url+path)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, code)
		}
		return got
	}
	for _, c := range []struct {
		method, path string
		want         []int
	}{
		{"GET", "/spared/a/x/status", []int{200, 200}},
		{"GET", "/a/x/status", []int{200, 500, 503, 500, 200, 200}},
		{"GET", "/status/a/", []int{200}},
		{"DELETE", "/b", []int{409, 409}},
	} {
		if got := codes(c.method, c.path, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, got, c.want)
		}
	}
	want := map[chaos.Kind]int{"": 6, chaos.Internal: 2, chaos.Unavailable: 1, chaos.Conflict: 2}
	if diff := cmp.Diff(want, f.Counts()); diff != "" {
		t.Error(diff)
	}
	if n := f.Requests("GET", "/a/", "/status"); n != 8 {
		t.Errorf("%d requests counted", n)
	}
	f.Set(chaos.Rule{Faults: []chaos.Fault{{Kind: chaos.Internal}}, Times: 1})
	if got := codes("GET", "/a/x/status", 2); !slices.Equal(got, []int{500, 200}) {
		t.Errorf("after Set: %d", got)
	}
	last := f.Journal()[len(f.Journal())-2]
	if got := last.String(); got != "GET /a/x/status internal 500, not sent" {
		t.Error(got)
	}
}

// TestSeed: the same seed gives the same faults however requests interleave, another seed gives others, and a share is
// about a share.
func TestSeed(t *testing.T) {
	nothing := roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	})
	play := func(seed uint64, parallel bool) map[string][]chaos.Kind {
		f := &chaos.Faults{Seed: seed, Rules: []chaos.Rule{{Share: 0.2, Faults: []chaos.Fault{{Kind: chaos.Internal}, {Kind: chaos.Reset}, {Kind: chaos.Lost}}}}}
		var wg sync.WaitGroup
		path := func(i int) {
			for range 100 {
				r, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("http://chaos.invalid/%d", i), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if resp, err := f.Wrap(nothing).RoundTrip(r); err == nil {
					resp.Body.Close()
				}
			}
		}
		for i := range 10 {
			if parallel {
				wg.Go(func() { path(i) })
			} else {
				path(i)
			}
		}
		wg.Wait()
		out := map[string][]chaos.Kind{}
		harmed := 0
		for _, e := range f.Journal() {
			out[e.URI] = append(out[e.URI], e.Kind)
			if e.Kind != "" {
				harmed++
			}
		}
		if harmed < 150 || harmed > 250 {
			t.Errorf("seed %d: %d of 1000 requests harmed, want about 200", seed, harmed)
		}
		return out
	}
	one := play(1, false)
	if diff := cmp.Diff(one, play(1, true)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(one, play(2, false)) {
		t.Error("the seed does not matter")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTime: what waits uses the time of the bubble, ends with the context, and leaves nothing behind.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
		})
		cause := errors.New("enough")
		for _, c := range []struct {
			fault chaos.Fault
			took  time.Duration
			err   error
		}{
			{chaos.Fault{Kind: chaos.Slow}, 100 * time.Millisecond, nil},
			{chaos.Fault{Kind: chaos.Slow, After: time.Hour}, 30 * time.Minute, cause},
			{chaos.Fault{Kind: chaos.Hang}, 30 * time.Minute, cause},
			{chaos.Fault{Kind: chaos.Hang, After: time.Minute}, time.Minute, syscall.ECONNRESET},
			{chaos.Fault{Kind: chaos.Stuck}, 30 * time.Minute, cause},
			{chaos.Fault{Kind: chaos.Stuck, After: time.Minute}, time.Minute, syscall.ECONNRESET},
		} {
			f := &chaos.Faults{Rules: []chaos.Rule{{Faults: []chaos.Fault{c.fault}}}}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Minute, cause)
			r, err := http.NewRequestWithContext(ctx, "GET", "http://chaos.invalid/", nil)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			resp, err := f.Wrap(base).RoundTrip(r)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if took := time.Since(begin); took != c.took || !errors.Is(err, c.err) {
				t.Errorf("%+v: %v after %s", c.fault, err, took)
			}
			cancel()
		}
	})
}

// TestClose: who closes a body that is stuck wakes who reads it.
func TestClose(t *testing.T) {
	url, _ := server(t)
	f := &chaos.Faults{Rules: []chaos.Rule{{Faults: []chaos.Fault{{Kind: chaos.Stuck}}}}}
	resp, err := (&http.Client{Transport: f.Wrap(&http.Transport{DisableKeepAlives: true})}).Get(url) //nolint:bodyclose // closing it is the test
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := make(chan error)
	go func() {
		_, err := io.ReadAll(resp.Body)
		ended <- err
	}()
	resp.Body.Close()
	if err := <-ended; err == nil {
		t.Error("half an answer was taken for all")
	}
}

// TestBreak: a network that goes takes with it what is under way, and nothing else.
func TestBreak(t *testing.T) {
	url, _ := server(t)
	f := &chaos.Faults{}
	transport := &http.Transport{DisableKeepAlives: true}
	if code, _, err := ask(t.Context(), t, f, "GET", url); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/pods?watch=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.Wrap(transport).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := resp.Body.Read(make([]byte, 10)); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	f.Set(chaos.Rule{Faults: []chaos.Fault{{Kind: chaos.Refused}}})
	if n := f.Break(); n != 1 {
		t.Errorf("%d were under way", n)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the watch: %v", err)
	}
	var op *net.OpError
	if _, _, err := ask(t.Context(), t, f, "GET", url); !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &op) {
		t.Errorf("in the partition: %v", err)
	}
	f.Set()
	if code, _, err := ask(t.Context(), t, f, "GET", url); err != nil || code != 200 {
		t.Errorf("after it: %d, %v", code, err)
	}
	if n := f.Break(); n != 0 {
		t.Errorf("%d are under way", n)
	}
}

// TestJournalIsBounded, and told as it goes.
func TestJournalIsBounded(t *testing.T) {
	var told atomic.Int64
	f := &chaos.Faults{Keep: 2, Observe: func(e chaos.Entry) { told.Add(1) }, Rules: []chaos.Rule{{Faults: []chaos.Fault{{Kind: chaos.Refused}}}}}
	for range 5 {
		_, _, err := ask(t.Context(), t, f, "GET", "http://chaos.invalid/")
		if err == nil {
			t.Fatal("no error")
		}
	}
	if len(f.Journal()) != 2 || f.Counts()[chaos.Refused] != 5 || told.Load() != 5 {
		t.Errorf("%d lines, %v, told %d times", len(f.Journal()), f.Counts(), told.Load())
	}
}
