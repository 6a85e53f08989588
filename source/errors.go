package source

import (
	"errors"
	"time"
)

// The classes of failure. Every error of a Source is one of these, by
// errors.Is, or the error of a context that ended.
var (
	// ErrNotFound: the repository, ref, tag, commit or path does not exist, or
	// is hidden from these credentials.
	ErrNotFound error = &class{"not found", false}
	// ErrUnauthorized: credentials are missing, wrong, or not sufficient.
	ErrUnauthorized error = &class{"unauthorized", false}
	// ErrInvalidSpec: what was asked for can never work. Terminal.
	ErrInvalidSpec error = &class{"invalid spec", true}
	// ErrUnverified: the content, or the server it came from, is not what was
	// vouched for: a checksum, a host key or a signature does not match.
	ErrUnverified error = &class{"unverified", false}
	// ErrLimit: a bound of Limits was reached.
	ErrLimit error = &class{"limit exceeded", false}
	// ErrUnsafePath: the content holds a name or a link that no file system
	// should see. Terminal.
	ErrUnsafePath error = &class{"unsafe path", true}
	// ErrUnavailable: the server cannot be reached, broke off, or answered
	// something that is not the protocol.
	ErrUnavailable error = &class{"unavailable", false}
)

type class struct {
	text     string
	terminal bool
}

func (c *class) Error() string { return "source: " + c.text }

// Terminal says that only a changed input can help.
func (c *class) Terminal() bool { return c.terminal }

// Error is how a Source reports a failure: what it did, to which source, and
// the cause, which is one of the classes of this package.
type Error struct {
	// Op is what was done: "new", "resolve", "fetch", "open"; packages below
	// this one add theirs, such as "commit" and "push".
	Op string
	// Source is the URL or path, without credentials.
	Source string
	// Err is the cause.
	Err error
	// After is how long the server asked to be left alone; zero when it did not.
	After time.Duration
}

func (e *Error) Error() string { return e.Op + " " + e.Source + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal says that only a changed input can help: the cause is
// ErrInvalidSpec or ErrUnsafePath.
func (e *Error) Terminal() bool {
	return errors.Is(e.Err, ErrInvalidSpec) || errors.Is(e.Err, ErrUnsafePath)
}

// RetryAfter is how long the server asked to be left alone; zero when it did not.
func (e *Error) RetryAfter() time.Duration { return e.After }
