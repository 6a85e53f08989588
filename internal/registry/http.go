package registry

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ServeHTTP speaks the distribution protocol, and is the token server at /token.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Authorization: r.Header.Get("Authorization")}
	out := &faultWriter{ResponseWriter: w, fault: s.record(req)}
	if f := out.fault; f != nil && f.Stall {
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices that a client left only after its request was read
		<-r.Context().Done()
		return
	}
	switch {
	case r.URL.Path == "/token":
		s.token(out, r)
	case !s.allowed(r):
		w.Header().Set("WWW-Authenticate", s.challenge(r))
		fail(out, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	case s.NoHead && r.Method == http.MethodHead:
		fail(out, http.StatusMethodNotAllowed, "UNSUPPORTED", "no HEAD")
	case s.PageSize > 0 && strings.HasSuffix(r.URL.Path, "/tags/list"):
		s.page(out, r)
	default:
		s.api.ServeHTTP(out, r)
	}
}

func (s *Server) allowed(r *http.Request) bool {
	switch {
	case s.Bearer:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.tokens > 0 && equal(r.Header.Get("Authorization"), fmt.Sprintf("Bearer token-%d", s.tokens))
	case s.Username != "":
		return s.login(r)
	}
	return true
}

func (s *Server) login(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	return ok && equal(user, s.Username) && equal(password, s.Password)
}

func (s *Server) challenge(r *http.Request) string {
	if !s.Bearer {
		return `Basic realm="registry"`
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	challenge := fmt.Sprintf(`Bearer realm="%s://%s/token",service="registry"`, scheme, r.Host)
	if repo, _, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/"); ok {
		challenge += fmt.Sprintf(`,scope="repository:%s:pull"`, repo)
	}
	return challenge
}

// token hands out a token, or refuses to.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if s.Username != "" && !s.login(r) {
		fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong user name or password")
		return
	}
	s.mu.Lock()
	s.tokens = max(s.tokens, 1)
	token := fmt.Sprintf("token-%d", s.tokens)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

// ExpireTokens makes every token that was handed out useless.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
}

// page serves a part of the tags and says where the next one is.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if n, err := strconv.Atoi(q.Get("n")); err != nil || n > s.PageSize {
		q.Set("n", strconv.Itoa(s.PageSize))
	}
	n, _ := strconv.Atoi(q.Get("n"))
	res := s.do(http.MethodGet, r.URL.Path+"?"+q.Encode(), "", nil)
	var list struct{ Tags []string }
	_ = json.Unmarshal(res.Body.Bytes(), &list)
	if last := q.Get("last"); last != "" && len(list.Tags) > 0 && list.Tags[0] <= last {
		list.Tags = nil // the last page: what the registry gives then is the first one
		res.Body.Reset()
		res.Body.WriteString(`{"tags":[]}`)
	}
	if len(list.Tags) == n {
		q.Set("last", list.Tags[n-1])
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.Path, q.Encode()))
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(res.Body.Bytes())
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
