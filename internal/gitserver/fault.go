package gitserver

import (
	"context"
	"net/http"
)

// Request is what a server saw of one HTTP request or one SSH command.
type Request struct {
	Path          string // URL path, or the repository of an SSH command
	Query         string
	Authorization string
	Protocol      string // Git-Protocol header or GIT_PROTOCOL
}

// Fault says how to damage one answer. Zero fields do nothing.
type Fault struct {
	// CutAfter ends the connection after that many bytes of the body. Zero is
	// no cut; to send nothing at all set Status.
	CutAfter int64
	// FlipAt inverts the byte at that offset of the body; zero is no damage.
	FlipAt int64
	// Stall sends nothing until the client gives up.
	Stall bool
	// Status answers with that HTTP status and Header, without a body.
	Status int
	Header http.Header
}

// SetFaults damages what clients receive from now on: f is asked for each
// request and returns nil for an answer that stays whole. A nil f ends it.
func (s *Server) SetFaults(f func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

func (s *Server) fault(r Request) *Fault {
	s.mu.Lock()
	s.traffic.Seen = append(s.traffic.Seen, r)
	f := s.faults
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(r)
}

func (f *Fault) stall(ctx context.Context) bool {
	if f == nil || !f.Stall {
		return false
	}
	<-ctx.Done()
	return true
}

// apply damages the bytes p that start at offset off, and says whether the
// answer must end after them.
func (f *Fault) apply(p []byte, off int64) (_ []byte, cut bool) {
	if f == nil {
		return p, false
	}
	if f.FlipAt > 0 && f.FlipAt >= off && f.FlipAt < off+int64(len(p)) {
		p = append([]byte(nil), p...)
		p[f.FlipAt-off] ^= 0xff
	}
	if f.CutAfter > 0 && off+int64(len(p)) > f.CutAfter {
		return p[:f.CutAfter-off], true
	}
	return p, false
}

// faultWriter counts and damages the body of one answer.
type faultWriter struct {
	http.ResponseWriter
	server *Server
	fault  *Fault
	n      int64
	header bool
}

func (w *faultWriter) WriteHeader(status int) {
	if w.header {
		return
	}
	w.header = true
	if w.fault != nil && w.fault.Status != 0 {
		for key, values := range w.fault.Header {
			w.Header()[key] = values
		}
		w.Header().Del("Content-Length")
		status = w.fault.Status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *faultWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.fault != nil && w.fault.Status != 0 {
		return len(p), nil
	}
	damaged, cut := w.fault.apply(p, w.n)
	w.server.count(0, 0, int64(len(damaged)))
	n, err := w.ResponseWriter.Write(damaged)
	w.n += int64(n)
	if cut {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // the client must see what came before the cut
		panic(http.ErrAbortHandler)                              // net/http's way to break a connection
	}
	return len(p), err
}

// Traffic is what a server has sent, received and seen.
type Traffic struct {
	Requests int
	Received int64 // bytes of request bodies
	Sent     int64 // bytes of answer bodies
	Seen     []Request
}

// Traffic returns the counters since the last ResetTraffic.
func (s *Server) Traffic() Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.traffic
	t.Seen = append([]Request(nil), t.Seen...)
	return t
}

// ResetTraffic sets the counters to zero.
func (s *Server) ResetTraffic() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traffic = Traffic{}
}

func (s *Server) count(requests int, received, sent int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.traffic.Requests += requests
	s.traffic.Received += received
	s.traffic.Sent += sent
}
