package receiver

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"
)

// maxSeen bounds how many calls a receiver remembers; beyond it the oldest is forgotten.
const maxSeen = 1000

type mark = [sha256.Size]byte

// seen remembers calls for a while.
type seen struct {
	mu    sync.Mutex
	known map[mark]bool
	order []markUntil // by the time of their end, as every one is kept equally long
}

type markUntil struct {
	mark mark
	end  time.Time
}

// claim reports whether the mark is new, and remembers it.
func (s *seen) claim(m mark, window time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.order) > 0 && (len(s.order) >= maxSeen || !now.Before(s.order[0].end)) {
		delete(s.known, s.order[0].mark)
		s.order = s.order[1:]
	}
	if s.known[m] {
		return false
	}
	if s.known == nil {
		s.known = make(map[mark]bool)
	}
	s.known[m] = true
	s.order = append(s.order, markUntil{m, now.Add(window)})
	return true
}

func (s *seen) forget(m mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, m)
	s.order = slices.DeleteFunc(s.order, func(u markUntil) bool { return u.mark == m })
}
