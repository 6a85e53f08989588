package observe

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	// other stands for all that is beyond a limit.
	other = "other"
	// longest is the length of the longest label value, in bytes: that of the longest name in Kubernetes.
	longest = 253
)

// clean returns a label value: valid UTF-8 in one line, of bounded length.
func clean(s string) string {
	if len(s) > longest {
		end := longest
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	if plain(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	return s
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// guard bounds how many combinations of label values a metric has.
type guard struct {
	limit int

	mu   sync.Mutex
	seen map[[3]string]struct{}
}

// admit returns the values cleaned, or "other" for each of them if the metric
// is full.
func (g *guard) admit(values ...string) []string {
	var id [3]string
	for i, v := range values {
		values[i] = clean(v)
		id[i] = values[i]
	}
	if g.claim(id) {
		return values
	}
	for i := range values {
		values[i] = other
	}
	return values
}

// claim reports whether the combination may have a series of its own. That of
// "other" is not anybody's own.
func (g *guard) claim(id [3]string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.seen[id]; ok {
		return true
	}
	if len(g.seen) >= g.limit {
		return false
	}
	if g.seen == nil {
		g.seen = make(map[[3]string]struct{})
	}
	g.seen[id] = struct{}{}
	return true
}

// release gives a place back, and reports whether the combination had one.
func (g *guard) release(id [3]string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.seen[id]
	delete(g.seen, id)
	return ok
}
