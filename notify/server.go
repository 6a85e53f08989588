package notify

import (
	"errors"
	"net/http"
	"time"
)

// EventServer is an [http.Handler] that takes events as Flux's notification-controller does on its events address:
// posted as JSON, one a request, on any path. Emit is required; the handler must not be copied after first use, and is
// safe for concurrent use.
//
//	server := &http.Server{Handler: &notify.EventServer{Emit: bus.Emit}, ReadHeaderTimeout: 10 * time.Second}
//
// It answers 202 when the event was taken, and also when a queue was full, since a sender that tries again would not
// change that; 429 when the event repeats one of the last minutes; 400 when it is no event, or has no kind, name or
// message; 405 for other methods than POST; 413 when it is too large; and 503 when Emit returns another error, as a
// bus does that is closed. No answer shows anything of an error.
type EventServer struct {
	// Emit takes an event; it must not block for long.
	Emit func(Event) error
	// Limit is the largest body in bytes; 0 means DefaultLimit.
	Limit int64
	// Window is how long the repetitions of an event, those with the same [Event.Key], are refused; 0 means 5
	// minutes, less than 0 that none are.
	Window time.Duration
	// Keys bounds how many events are remembered for that; beyond it the oldest is forgotten. 0 means 10000.
	Keys int
	// ReadTimeout bounds the reading of a body; 0 means 30 seconds.
	ReadTimeout time.Duration

	seen seen
}

var _ http.Handler = (*EventServer)(nil)

func (s *EventServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := s.serve(w, r)
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	if status != http.StatusAccepted {
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.WriteHeader(status)
}

// serve handles the request and returns the status of the answer.
func (s *EventServer) serve(w http.ResponseWriter, r *http.Request) int {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed
	}
	limit, timeout, window, keys := s.Limit, s.ReadTimeout, s.Window, s.Keys
	fill(&limit, DefaultLimit)
	fill(&timeout, 30*time.Second)
	fill(&window, 5*time.Minute)
	fill(&keys, 10_000)
	if r.ContentLength > limit {
		return http.StatusRequestEntityTooLarge
	}
	// A server without deadlines has none. When all is read, package net/http lifts it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
	e, err := Decode(http.MaxBytesReader(w, r.Body, limit+1), limit)
	if errors.Is(err, ErrTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	if err != nil || e.InvolvedObject.Kind == "" || e.InvolvedObject.Name == "" || e.Message == "" {
		return http.StatusBadRequest
	}
	key := e.Key()
	if window > 0 && !s.seen.claim(key, window, keys) {
		return http.StatusTooManyRequests
	}
	err = s.Emit(e)
	if err == nil {
		return http.StatusAccepted
	}
	s.seen.forget(key) // what was not taken is no repetition
	if errors.Is(err, ErrClosed) || !errors.Is(err, ErrFull) && !errors.Is(err, ErrTooLarge) {
		return http.StatusServiceUnavailable
	}
	return http.StatusAccepted
}
