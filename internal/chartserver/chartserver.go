// Package chartserver serves an HTTP repository of Helm charts from memory, for
// tests and examples, with validators, credentials, a record of requests and
// faults.
//
//	srv := chartserver.New()
//	srv.Add("app", "1.2.3", archive)
//	web := httptest.NewServer(srv)
//	defer web.Close()
//	// the repository is web.URL + "/charts"
//
// A Server is safe for concurrent use; its exported fields are set before it
// serves.
package chartserver

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is one repository, below the path /charts.
type Server struct {
	// Username and Password, when set, are demanded as HTTP basic credentials.
	Username, Password string
	// ChartURL makes the URL of an archive in the index. Nil is a relative one.
	ChartURL func(file string) string
	// NoDigests leaves the digests of archives out of the index.
	NoDigests bool
	// NoETag and NoLastModified leave out a validator.
	NoETag, NoLastModified bool

	mu       sync.Mutex
	index    []byte
	files    map[string][]byte
	versions map[string][]version
	changed  time.Time
	requests []Request
	faults   func(Request) *Fault
}

type version struct{ text, file, digest string }

// Request is what a server saw of one request.
type Request struct {
	Path          string
	Query         string
	Authorization string
	Status        int // of the answer, 0 for a fault
}

// Fault says how to damage one answer. Zero fields do nothing.
type Fault struct {
	Status int
	Header http.Header
	// Body replaces the content.
	Body []byte
	// CutAfter ends the connection after that many bytes.
	CutAfter int
	// Stall sends nothing until the client gives up.
	Stall bool
}

// New returns an empty repository.
func New() *Server {
	return &Server{files: map[string][]byte{}, versions: map[string][]version{}, changed: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Add puts an archive into the repository and its index.
func (s *Server) Add(name, ver string, archive []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256(archive)
	file := name + "-" + ver + ".tgz"
	s.files[file] = archive
	s.versions[name] = append(s.versions[name], version{ver, file, hex.EncodeToString(sum[:])})
	s.changed, s.index = s.changed.Add(time.Minute), nil
}

// Replace changes the bytes of an archive behind the index's back.
func (s *Server) Replace(name, ver string, archive []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name+"-"+ver+".tgz"] = archive
}

// SetIndex serves these bytes as the index until the next Add.
func (s *Server) SetIndex(index []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed, s.index = s.changed.Add(time.Minute), index
}

// Index returns the index as it is served.
func (s *Server) Index() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text()
}

func (s *Server) text() []byte {
	if s.index != nil {
		return s.index
	}
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nentries:\n")
	for _, name := range slices.Sorted(maps.Keys(s.versions)) {
		fmt.Fprintf(&b, "  %s:\n", name)
		for i, v := range s.versions[name] {
			url := v.file
			if s.ChartURL != nil {
				url = s.ChartURL(v.file)
			}
			fmt.Fprintf(&b, "  - apiVersion: v2\n    created: \"2024-01-01T00:%02d:00Z\"\n    name: %s\n    urls:\n    - %s\n    version: %q\n", i%60, name, url, v.text)
			if !s.NoDigests {
				fmt.Fprintf(&b, "    digest: %s\n", v.digest)
			}
		}
	}
	b.WriteString("generated: \"2024-01-01T00:00:00Z\"\n")
	return b.Bytes()
}

// SetFaults damages what clients receive from now on. A nil f ends it.
func (s *Server) SetFaults(f func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Requests returns what clients asked since the last ResetRequests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ResetRequests forgets the requests.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := Request{Path: r.URL.Path, Query: r.URL.RawQuery, Authorization: r.Header.Get("Authorization")}
	s.mu.Lock()
	f := s.faults
	s.mu.Unlock()
	if f != nil {
		if fault := f(req); fault != nil {
			s.record(req)
			fault.serve(w, r)
			return
		}
	}
	out := &statusWriter{ResponseWriter: w, status: http.StatusOK, on: func(status int) {
		req.Status = status
		s.record(req) // before the client sees the answer
	}}
	s.serve(out, r)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if s.Username != "" && (!equal(user, s.Username) || !equal(password, s.Password)) {
		w.Header().Set("WWW-Authenticate", `Basic realm="charts"`)
		http.Error(w, "authentication required", http.StatusUnauthorized)
		return
	}
	file, ok := strings.CutPrefix(r.URL.Path, "/charts/")
	s.mu.Lock()
	data, found := s.files[file]
	if file == "index.yaml" {
		data, found = s.text(), true
	}
	changed := s.changed
	s.mu.Unlock()
	if !ok || !found {
		http.NotFound(w, r)
		return
	}
	if !s.NoETag {
		sum := sha256.Sum256(data)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	}
	if s.NoLastModified {
		changed = time.Time{}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", changed, bytes.NewReader(data))
}

func (s *Server) record(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
}

func (f *Fault) serve(w http.ResponseWriter, r *http.Request) {
	if f.Stall {
		<-r.Context().Done()
		return
	}
	for key, values := range f.Header {
		w.Header()[key] = values
	}
	if f.Status != 0 {
		w.WriteHeader(f.Status)
	}
	if f.CutAfter > 0 {
		_, _ = w.Write(make([]byte, f.CutAfter))
		_ = http.NewResponseController(w).Flush() // the client must see what came before the cut
		panic(http.ErrAbortHandler)               //nolint:forbidigo // net/http's way to break a connection
	}
	_, _ = w.Write(f.Body)
}

// statusWriter tells the status before it is sent.
type statusWriter struct {
	http.ResponseWriter
	status int
	told   bool
	on     func(int)
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.told {
		w.told = true
		w.on(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if !w.told {
		w.told = true
		w.on(w.status)
	}
	return w.ResponseWriter.Write(p)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
