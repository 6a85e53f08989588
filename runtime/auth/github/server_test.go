package github_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var keys = sync.OnceValue(func() (k [2]*rsa.PrivateKey) {
	for i := range k {
		var err error
		if k[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return k
})

func pkcs1(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// forge is as much of GitHub as an App needs. It checks what it is sent as strictly as GitHub does.
type forge struct {
	t     testing.TB
	skew  time.Duration // of its clock
	owner string        // whose installation has number 7, "orgs/x" or "users/x"

	mu       sync.Mutex
	requests []string
	issued   int
	body     string
	tokens   map[string]bool
	answer   http.HandlerFunc // instead of all that
}

func (f *forge) start() *httptest.Server {
	s := httptest.NewTLSServer(f)
	f.t.Cleanup(func() { s.CloseClientConnections(); s.Close(); s.Client().CloseIdleConnections() })
	return s
}

func (f *forge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	now := time.Now().Add(f.skew)
	w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	path, ok := strings.CutPrefix(r.URL.Path, "/api/v3/")
	switch {
	case f.answer != nil:
		f.answer(w, r)
	case !ok || strings.HasPrefix(path, "repos/"):
		f.serve(w, r)
	default:
		f.api(w, r, path, now)
	}
}

// serve wants a token.
func (f *forge) serve(w http.ResponseWriter, r *http.Request) {
	_, password, basic := r.BasicAuth()
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if basic && f.tokens[password] || bearer && f.tokens[token] {
		_, _ = fmt.Fprint(w, "welcome")
		return
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (f *forge) api(w http.ResponseWriter, r *http.Request, path string, now time.Time) {
	if why := check(r.Header.Get("Authorization"), now); why != "" {
		w.WriteHeader(http.StatusUnauthorized)
		// what GitHub says, and a server that repeats what it was sent
		_ = json.NewEncoder(w).Encode(map[string]string{"message": why + " " + r.Header.Get("Authorization")})
		return
	}
	switch {
	case r.Method == "GET" && f.owner != "" && path == f.owner+"/installation":
		_, _ = fmt.Fprint(w, `{"id": 7, "app_id": 1}`)
	case r.Method == "POST" && path == "app/installations/7/access_tokens" && r.Header.Get("X-Github-Api-Version") != "":
		f.issued++
		body := make([]byte, 1000)
		n, _ := r.Body.Read(body)
		f.body = string(body[:n])
		token := fmt.Sprintf("ghs_canary%d", f.issued)
		if f.tokens == nil {
			f.tokens = map[string]bool{}
		}
		f.tokens[token] = true
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"token": %q, "expires_at": %q, "permissions": {"contents": "read"}}`, token, now.Add(time.Hour).UTC().Format(time.RFC3339))
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"message": "Not Found"}`)
	}
}

// check says what GitHub would have against an assertion of App 1.
func check(header string, now time.Time) string {
	proof, ok := strings.CutPrefix(header, "Bearer ")
	parts := strings.Split(proof, ".")
	if !ok || len(parts) != 3 {
		return "A JSON web token could not be decoded"
	}
	decode := func(s string, v any) bool {
		data, err := base64.RawURLEncoding.DecodeString(s)
		return err == nil && json.Unmarshal(data, v) == nil
	}
	var head struct{ Alg, Typ string }
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	if !decode(parts[0], &head) || !decode(parts[1], &claims) || head.Alg != "RS256" || claims.Iss != "1" {
		return "A JSON web token could not be decoded"
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(&keys()[0].PublicKey, crypto.SHA256, sum[:], signature) != nil {
		return "Integration not found"
	}
	switch {
	case claims.Iat > now.Unix():
		return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
	case claims.Exp <= now.Unix():
		return "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
	case claims.Exp > now.Add(10*time.Minute).Unix():
		return "'Expiration time' claim ('exp') is too far in the future"
	}
	return ""
}
