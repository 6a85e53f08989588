package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Key returns the same text for events that repeat one another: those of the same kind, namespace and name, with the same
// message, origin revision, revision and token.
func (e Event) Key() string {
	var b strings.Builder
	add := func(s string) { b.WriteString(strconv.Itoa(len(s)) + ":" + s) }
	for _, s := range []string{e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Message} {
		add(s)
	}
	for _, name := range []string{"originRevision", "revision", "token"} {
		add(e.metadata(name))
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

// metadata returns what the event has under a key, bare or with the prefix of a group; "" if nothing.
func (e Event) metadata(name string) string {
	v, _ := e.lookup(name)
	return v
}

func (e Event) lookup(name string) (string, bool) {
	for _, prefix := range []string{"", e.InvolvedObject.group() + "/", MetadataGroup + "/"} {
		if v, ok := e.Metadata[prefix+name]; ok {
			return v, true
		}
	}
	return "", false
}

// seen remembers keys for a while; when it is full it forgets the oldest.
type seen struct {
	mu    sync.Mutex
	known map[string]bool
	order []key // the keys by the time of their end, as every one is kept equally long
}

type key struct {
	text string
	end  time.Time
}

// claim reports whether the key is new, and remembers it until forget is called or the time has passed.
func (s *seen) claim(text string, window time.Duration, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.order) > 0 && !now.Before(s.order[0].end) {
		s.drop()
	}
	if s.known[text] {
		return false
	}
	for len(s.order) > 0 && len(s.order) >= limit {
		s.drop()
	}
	if s.known == nil {
		s.known = make(map[string]bool)
	}
	s.known[text] = true
	s.order = append(s.order, key{text, now.Add(window)})
	return true
}

// drop forgets the oldest key.
func (s *seen) drop() {
	delete(s.known, s.order[0].text)
	s.order = s.order[1:]
}

func (s *seen) forget(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, text)
	s.order = slices.DeleteFunc(s.order, func(k key) bool { return k.text == text })
}
