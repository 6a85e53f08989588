// Package s3server serves buckets in memory by the S3 protocol, for tests and
// for the quickstart. It checks the signatures of requests.
//
//	srv := s3server.New("key", "secret")
//	err := srv.Put("deploy", "app.yaml", "kind: List\n")
//	web := httptest.NewServer(srv)
//	defer web.Close()
//
// A Server is safe for concurrent use.
package s3server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Server is an S3 server.
type Server struct {
	access, secret string
	backend        gofakes3.Backend
	handler        http.Handler

	mu       sync.Mutex
	requests []string
	before   func(*http.Request)
}

// New returns a server without buckets, for the holder of a key. Two empty
// strings let anybody in.
func New(accessKey, secretKey string) *Server {
	backend := s3mem.New()
	fake := gofakes3.New(backend, gofakes3.WithLogger(quiet{}), gofakes3.WithTimeSkewLimit(0))
	return &Server{access: accessKey, secret: secretKey, backend: backend, handler: fake.Server()}
}

// quiet drops the log of the server.
type quiet struct{}

func (quiet) Print(gofakes3.LogLevel, ...any) {}

// Put writes an object and makes its bucket when it does not exist.
func (s *Server) Put(bucket, key, data string) error {
	if ok, err := s.backend.BucketExists(bucket); err != nil || !ok {
		if err := errors.Join(err, s.backend.CreateBucket(bucket)); err != nil {
			return err
		}
	}
	meta := map[string]string{"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"} // required, and of no meaning here
	_, err := s.backend.PutObject(bucket, key, meta, strings.NewReader(data), int64(len(data)), nil)
	return err
}

// Delete removes an object.
func (s *Server) Delete(bucket, key string) error {
	_, err := s.backend.DeleteObject(bucket, key)
	return err
}

// Before calls f with each request before it is answered; nil ends it.
func (s *Server) Before(f func(*http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Requests returns "METHOD path" of each request since the last call.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests
	s.requests = nil
	return r
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before(r)
	}
	if code := s.refuse(r); code != "" {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>the request is refused</Message></Error>", code)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// refuse checks the signature of a request (Signature Version 4 in the
// documentation of S3) and returns the code of the error.
func (s *Server) refuse(r *http.Request) string {
	if s.access == "" && s.secret == "" {
		return ""
	}
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "AccessDenied"
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[key] = value
	}
	scope := strings.Split(fields["Credential"], "/") // key, date, region, "s3", "aws4_request"
	if len(scope) != 5 || scope[0] != s.access {
		return "InvalidAccessKeyId"
	}
	signed := strings.Split(fields["SignedHeaders"], ";")
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), canonicalQuery(r.URL.Query()), headers.String(), fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), strings.Join(scope[1:], "/"), hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + s.secret)
	for _, part := range append(scope[1:], text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !slices.Contains(signed, "host") || subtle.ConstantTimeCompare([]byte(hex.EncodeToString(key)), []byte(fields["Signature"])) != 1 {
		return "SignatureDoesNotMatch"
	}
	return ""
}

func canonicalQuery(values url.Values) string { return strings.ReplaceAll(values.Encode(), "+", "%20") }
