package receiver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Path returns the path of a hook as Flux makes it: /hook/ and the hexadecimal SHA-256 of the token, the name and the
// namespace. Who does not know the token cannot guess it. Different receivers with the same token may have the same path,
// as a/bc and ab/c do; a [Mux] says so.
func Path(token, name, namespace string) string {
	sum := sha256.Sum256([]byte(token + name + namespace))
	return "/hook/" + hex.EncodeToString(sum[:])
}

// Mux is an [http.Handler] that leads calls to the handler of their path, and answers 404 where there is none, before
// anything of the body is read. The query of a URL is ignored. The zero value is ready for use; it must not be copied
// after that, and is safe for concurrent use.
type Mux struct {
	mu     sync.RWMutex
	paths  map[mark]mount  // by the hash of the path, so that the time to find one tells nothing about others
	owners map[string]mark // which path an owner has
}

type mount struct {
	owner   string
	handler http.Handler
}

var _ http.Handler = (*Mux)(nil)

// Set gives an owner, such as apps/web, its path and handler, in place of those it has. A nil handler is one that answers
// 503, for hooks that are suspended. The error is an [*Error] with ErrPathTaken if another owner has the path; then the
// owner keeps what it has.
func (m *Mux) Set(owner, path string, h http.Handler) error {
	if !strings.HasPrefix(path, "/") {
		return &Error{Op: "mount", Err: fmt.Errorf("the path of %s does not begin with a slash", owner)}
	}
	if h == nil {
		h = http.HandlerFunc(unavailable)
	}
	key := sha256.Sum256([]byte(path))
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, taken := m.paths[key]; taken && other.owner != owner {
		return &Error{Op: "mount", Err: fmt.Errorf("%w: %s and %s have the same path: give one of them another token", ErrPathTaken, owner, other.owner)}
	}
	if m.paths == nil {
		m.paths, m.owners = make(map[mark]mount), make(map[string]mark)
	}
	if old, ok := m.owners[owner]; ok && old != key {
		delete(m.paths, old)
	}
	m.paths[key] = mount{owner, h}
	m.owners[owner] = key
	return nil
}

// Delete takes the path of an owner away, if it has one.
func (m *Mux) Delete(owner string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key, ok := m.owners[owner]; ok {
		delete(m.paths, key)
		delete(m.owners, owner)
	}
}

// ServeHTTP leads the call to the handler of its path.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.RLock()
	found, ok := m.paths[sha256.Sum256([]byte(r.URL.Path))]
	m.mu.RUnlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	found.handler.ServeHTTP(w, r)
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
}
