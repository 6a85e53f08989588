package notifytest

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/notify"
)

// Step is how a [Server] answers one request. The zero Step is an empty answer 200.
type Step struct {
	// Status is the status of the answer; 0 means 200.
	Status int
	// Header is added to the answer, for instance Retry-After.
	Header map[string]string
	// Body is the body of the answer.
	Body string
	// Delay passes before the answer.
	Delay time.Duration
	// Hang gives no answer until the client goes away or the server is closed.
	Hang bool
	// Endless adds to the body until the client goes away, 256 MiB at most.
	Endless bool
	// Reset breaks the connection instead of answering.
	Reset bool
}

// Request is what a [Server] received.
type Request struct {
	Method, Path string
	Header       http.Header
	Body         []byte
}

// Event decodes the body, for destinations that take events as they are.
func (r Request) Event(t testing.TB) notify.Event {
	t.Helper()
	var e notify.Event
	if err := e.UnmarshalJSON(r.Body); err != nil {
		t.Fatalf("notifytest: the body of the request is not an event: %v", err)
	}
	return e
}

// Server is an HTTP server on the loopback interface that answers as its script says: one step for each request,
// and with 200 when the script is over. It is safe for concurrent use.
type Server struct {
	// URL is the address of the server, without a path.
	URL string

	http     *httptest.Server
	mu       sync.Mutex
	steps    []Step
	requests []Request
	conns    int
	written  int64
	closed   chan struct{}
	once     sync.Once
}

// maxRequest bounds the body of a request.
const maxRequest = 16 << 20

// NewServer starts a server that is closed at the end of the test.
func NewServer(t testing.TB, steps ...Step) *Server {
	t.Helper()
	s := &Server{steps: slices.Clone(steps), closed: make(chan struct{})}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ConnState = s.count
	s.http.Start()
	s.URL = s.http.URL
	t.Cleanup(s.Close)
	return s
}

// Close ends what hangs, and the server.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.closed)
		s.http.CloseClientConnections()
		s.http.Close()
	})
}

// Requests returns what was received so far, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Connections returns how many connections were made to the server so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func (s *Server) count(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.conns++
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return
	}
	step := s.record(Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body})
	if !s.wait(r, step) {
		return
	}
	if step.Reset {
		reset(w)
		return
	}
	header := w.Header()
	for _, name := range slices.Sorted(maps.Keys(step.Header)) {
		header.Set(name, step.Header[name])
	}
	if step.Status != 0 {
		w.WriteHeader(step.Status)
	}
	_, _ = io.WriteString(w, step.Body) // the client may be gone
	if step.Endless {
		s.writeOn(w)
	}
}

// maxEndless bounds an endless answer.
const maxEndless = 256 << 20

func (s *Server) writeOn(w io.Writer) {
	chunk := make([]byte, 64<<10)
	for range maxEndless / len(chunk) {
		n, err := w.Write(chunk)
		s.mu.Lock()
		s.written += int64(n)
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Written returns how many bytes of endless answers were written so far, those in the buffers of the connection
// included.
func (s *Server) Written() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// record keeps the request and returns the step that answers it.
func (s *Server) record(r Request) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if len(s.steps) == 0 {
		return Step{}
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	return step
}

// wait reports whether the request is still to be answered.
func (s *Server) wait(r *http.Request, step Step) bool {
	var after <-chan time.Time
	switch {
	case step.Hang:
	case step.Delay > 0:
		timer := time.NewTimer(step.Delay)
		defer timer.Stop()
		after = timer.C
	default:
		return true
	}
	select {
	case <-after:
		return true
	case <-r.Context().Done():
	case <-s.closed:
	}
	return false
}

// reset closes the connection with a TCP reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http asks for it: HTTP/2 has no Hijack; this resets the stream
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
