package gitserver

import (
	"crypto/subtle"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"strings"
)

// ServeHTTP serves every repository below the root by Git's smart HTTP
// protocol, for reading, and for writing where Writable is set.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// What is counted is counted before the client sees it, so that a client
	// that has its answer finds it in the counters.
	s.count(1, 0, 0)
	r.Body = &countedBody{r.Body, s}
	out := &faultWriter{ResponseWriter: w, server: s, fault: s.fault(Request{
		Path: r.URL.Path, Query: r.URL.RawQuery, Authorization: r.Header.Get("Authorization"), Protocol: r.Header.Get("Git-Protocol"),
	})}
	if out.fault != nil && out.fault.Stall {
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices that a client left only after its request was read
	}
	if out.fault.stall(r.Context()) {
		return
	}
	if !s.allowed(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(out, "authentication required", http.StatusUnauthorized)
		return
	}
	if !s.Writable && (strings.HasSuffix(r.URL.Path, "git-receive-pack") || r.URL.Query().Get("service") == "git-receive-pack") {
		http.Error(out, "read only", http.StatusForbidden)
		return
	}
	env := append(s.env(), "GIT_PROJECT_ROOT="+s.root, "GIT_HTTP_EXPORT_ALL=1")
	if s.ForceV0 {
		r.Header.Del("Git-Protocol")
	}
	if v := r.Header.Get("Git-Protocol"); v != "" {
		env = append(env, "GIT_PROTOCOL="+v)
	}
	// What git writes on stderr is for the client's terminal, not for ours.
	h := cgi.Handler{Path: s.backend, Dir: s.root, Env: env, Stderr: io.Discard, Logger: log.New(io.Discard, "", 0)}
	h.ServeHTTP(out, r)
}

func (s *Server) allowed(r *http.Request) bool {
	if s.Token != "" {
		return equal(r.Header.Get("Authorization"), "Bearer "+s.Token)
	}
	if s.Username != "" || s.Password != "" {
		user, password, ok := r.BasicAuth()
		return ok && equal(user, s.Username) && equal(password, s.Password)
	}
	return true
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

type countedBody struct {
	io.ReadCloser
	server *Server
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.server.count(0, int64(n), 0)
	return n, err
}
