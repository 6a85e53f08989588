package testenv

import (
	"errors"
	"fmt"
	"strings"
)

// Conditions a caller may branch on with errors.Is.
var (
	// ErrNoBinary says that there is no control plane program and none could be built.
	ErrNoBinary = errors.New("no control plane program")
	// ErrExited says that a server ended though nobody asked it to, or never became ready.
	ErrExited = errors.New("server exited")
)

// hintBinary is what to do about a program that does not behave like ours.
const hintBinary = "check " + EnvBinary + ", or unset it to have the program built"

// Error is the error of every operation of this package: what, about which program or directory, why, what to do.
type Error struct {
	// Op is the operation: "find", "build", "start", "run", "stop" or "namespace".
	Op string
	// Subject is the program, directory or namespace it was about; it may be empty.
	Subject string
	// Hint says what to do; it may be empty.
	Hint string
	// Log holds the end of what a program wrote; it may be empty.
	Log string
	// Err is the cause.
	Err error
}

// Error returns one line, followed by the end of a log when there is one.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("testenv: " + e.Op)
	if e.Subject != "" {
		b.WriteString(" " + e.Subject)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	if e.Log != "" {
		b.WriteString("\n" + e.Log)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
