package receiver

import (
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrType: there is no receiver for the type.
	ErrType = errors.New("unknown type")
	// ErrToken: the token is no secret.
	ErrToken = errors.New("the token is too weak")
	// ErrMethod: the call is no POST.
	ErrMethod = errors.New("not a POST")
	// ErrTooLarge: the body is larger than the limit.
	ErrTooLarge = errors.New("the body is too large")
	// ErrUnverified: the caller does not know the token.
	ErrUnverified = errors.New("not verified")
	// ErrPayload: the body is not what callers of the type send.
	ErrPayload = errors.New("invalid payload")
	// ErrEvent: the event is not one of those that are handled.
	ErrEvent = errors.New("event not handled")
	// ErrReplay: the call was handled before. The caller sees a success.
	ErrReplay = errors.New("handled before")
	// ErrPathTaken: another receiver has the path.
	ErrPathTaken = errors.New("path taken")
)

// Error is the error of this package.
type Error struct {
	// Op is what was being done: new, receive, or mount.
	Op string
	// Type is the type of the receiver, empty for a [Mux].
	Type Type
	// Err is the cause. Tokens, signatures and paths are never part of it.
	Err error
}

func (e *Error) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("receiver: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("receiver: %s %q: %v", e.Op, clip(string(e.Type)), e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// handleError sets apart the errors of functions that handle hooks.
type handleError struct{ err error }

func (e *handleError) Error() string { return "receiver: handle: " + e.err.Error() }

func (e *handleError) Unwrap() error { return e.err }

// statusOf returns the status of the answer to a call that ended so.
func statusOf(err error) int {
	if _, ok := errors.AsType[*handleError](err); ok {
		return http.StatusInternalServerError
	}
	switch {
	case err == nil, errors.Is(err, ErrReplay):
		return http.StatusOK
	case errors.Is(err, ErrMethod):
		return http.StatusMethodNotAllowed
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}
