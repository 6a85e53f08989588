package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// The classes of failure. Every error of this package is one of these, by
// errors.Is, or the error of a context that ended.
var (
	// ErrInvalid: a name, a reference or an option can never work. Terminal.
	ErrInvalid error = &class{"invalid", true}
	// ErrInvalidPolicy: a policy can never select anything. Terminal.
	ErrInvalidPolicy error = &class{"invalid policy", true}
	// ErrNoMatch: none of the tags is one that the policy wants.
	ErrNoMatch error = &class{"no tag matches", false}
	// ErrNotFound: the repository or the tag does not exist, or is hidden from
	// these credentials.
	ErrNotFound error = &class{"not found", false}
	// ErrUnauthorized: credentials are missing, wrong, or not sufficient.
	ErrUnauthorized error = &class{"unauthorized", false}
	// ErrLimit: a bound of Limits was reached.
	ErrLimit error = &class{"limit exceeded", false}
	// ErrUnavailable: the registry cannot be reached, broke off, or answered
	// something that is not the protocol.
	ErrUnavailable error = &class{"unavailable", false}
)

type class struct {
	text     string
	terminal bool
}

func (c *class) Error() string { return "image: " + c.text }

// Terminal says that only a changed input can help.
func (c *class) Terminal() bool { return c.terminal }

// Error says what was done, to which image or policy, and why it failed.
type Error struct {
	// Op is what was done: "new", "scan", "digest", "parse", "select".
	Op string
	// On is the image, without credentials, or the policy.
	On string
	// Err is the cause, which is one of the classes of this package.
	Err error
	// After is how long the registry asked to be left alone; zero when it did not.
	After time.Duration
}

func (e *Error) Error() string { return e.Op + " " + e.On + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal says that only a changed input can help.
func (e *Error) Terminal() bool {
	return errors.Is(e.Err, ErrInvalid) || errors.Is(e.Err, ErrInvalidPolicy)
}

// RetryAfter is how long the registry asked to be left alone; zero when it did not.
func (e *Error) RetryAfter() time.Duration { return e.After }

// failure makes the error of a conversation with a registry: it has a class, or
// is the end of the context.
func failure(ctx context.Context, op, on string, after time.Duration, err error) error {
	e := &Error{Op: op, On: on, Err: classified(err), After: after}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = cause
		if errors.Is(cause, context.DeadlineExceeded) {
			e.Err = fmt.Errorf("the registry did not answer in time: %w", cause)
		}
	}
	return e
}

// classified gives an error of the network, or of a registry, its class. What a
// registry says about itself is shown in short.
func classified(err error) error {
	var c *class
	if errors.As(err, &c) {
		return err
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	kind := ErrUnavailable
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = ErrUnauthorized
	case http.StatusNotFound, http.StatusGone:
		kind = ErrNotFound
	}
	text := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if len(answer.Errors) > 0 {
		text += ": " + short(string(answer.Errors[0].Code)+" "+answer.Errors[0].Message)
	}
	asked := ""
	if answer.Request != nil {
		asked = " to " + answer.Request.Method + " " + (&url.URL{Path: answer.Request.URL.Path}).String()
	}
	return fmt.Errorf("%w: the registry answered %s%s", kind, text, asked)
}

// short is a text from outside that fits into an error.
func short(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(strings.TrimSpace(strings.Map(printable, s)), "?")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
