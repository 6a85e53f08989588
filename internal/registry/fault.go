package registry

import (
	"net/http"
	"strings"
)

// Request is what a server saw of one request.
type Request struct{ Method, Path, Query, Authorization string }

// Fault says how to damage one answer. Zero fields do nothing.
type Fault struct {
	// Status answers with that status and Header, and Body if it is set.
	Status int
	Header http.Header
	// Body replaces the content of the answer, whose headers stay unless
	// Status is set.
	Body []byte
	// CutAfter ends the connection after that many bytes of the body.
	CutAfter int
	// FlipAt inverts the byte at that offset of the body; zero is no damage.
	FlipAt int
	// Stall sends nothing until the client gives up.
	Stall bool
}

// SetFaults damages what clients receive from now on: f is asked for each
// request and returns nil for an answer that stays whole. A nil f ends it.
func (s *Server) SetFaults(f func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Requests returns what clients asked since the last ResetRequests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count is how many requests had that method, or any if it is empty, and that
// text in their path.
func (s *Server) Count(method, path string) int {
	n := 0
	for _, r := range s.Requests() {
		if (method == "" || r.Method == method) && strings.Contains(r.Path, path) {
			n++
		}
	}
	return n
}

// ResetRequests forgets the requests.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) record(r Request) *Fault {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	f := s.faults
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(r)
}

// faultWriter damages the body of one answer.
type faultWriter struct {
	http.ResponseWriter
	fault *Fault
	n     int
	wrote bool
}

func (w *faultWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote = true
	f := w.fault
	if f != nil && (f.Status != 0 || f.Body != nil) {
		w.Header().Del("Content-Length")
	}
	if f != nil && f.Status != 0 {
		for key, values := range f.Header {
			w.Header()[key] = values
		}
		status = f.Status
	}
	w.ResponseWriter.WriteHeader(status)
	if f != nil && (f.Status != 0 || f.Body != nil) {
		_, _ = w.ResponseWriter.Write(f.Body)
	}
}

func (w *faultWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	f := w.fault
	if f == nil {
		return w.ResponseWriter.Write(p)
	}
	if f.Status != 0 || f.Body != nil {
		return len(p), nil
	}
	size, start := len(p), w.n
	if f.FlipAt > 0 && f.FlipAt >= start && f.FlipAt < start+size {
		p = append([]byte(nil), p...)
		p[f.FlipAt-start] ^= 0xff
	}
	cut := f.CutAfter > 0 && start+size > f.CutAfter
	if cut {
		p = p[:f.CutAfter-start]
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += n
	if cut {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // the client must see what came before the cut
		panic(http.ErrAbortHandler)                              //nolint:forbidigo // net/http's way to break a connection
	}
	return size, err
}
