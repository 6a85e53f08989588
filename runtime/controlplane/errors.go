package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Conditions a caller may branch on with errors.Is.
var (
	// ErrPortInUse says that the port the caller asked for is taken by another process.
	ErrPortInUse = errors.New("port is in use")
	// ErrDirInUse says that another running control plane holds the directory.
	ErrDirInUse = errors.New("directory is in use")
	// ErrExited says that a child process of the control plane ended though nobody asked it to.
	ErrExited = errors.New("process exited")
	// ErrNotReady says that the control plane did not become ready within Options.ReadyTimeout.
	ErrNotReady = errors.New("not ready in time")
	// ErrInvalidOptions says that an Options field has a value that can never work.
	ErrInvalidOptions = errors.New("invalid options")
)

// Error is the error of every operation of this package. Its text is the operation, what it was about, the cause and,
// where one is known, what to do. It never holds key material.
type Error struct {
	// Op is the operation: "start", "stop" or "run".
	Op string
	// Subject is what the operation was about: a directory, a port, a child process.
	Subject string
	// Hint says what to do about it; it may be empty.
	Hint string
	// Log holds the last lines a child process wrote before it ended; it may be empty.
	Log string
	// Err is the cause.
	Err error
}

// Error returns one line, followed by the last log lines of a child process when there are any.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "controlplane: %s", e.Op)
	if e.Subject != "" {
		b.WriteString(" " + e.Subject)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	if e.Log != "" {
		b.WriteString("\nlast lines of its log:\n" + e.Log)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// storageError describes a failure to create or write something below the directory of a control plane.
func storageError(dir string, err error) *Error {
	e := &Error{Op: "start", Subject: "in directory " + dir, Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		e.Hint = "the disk is full; free some space or choose another directory"
	case errors.Is(err, syscall.EDQUOT):
		e.Hint = "the disk quota is used up; free some space or choose another directory"
	case errors.Is(err, syscall.EROFS):
		e.Hint = "the file system is read-only; choose another one"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "the directory cannot be written by this user; choose another one"
	case errors.Is(err, syscall.ENOTDIR):
		e.Hint = "a part of the path is a file; choose another one"
	}
	return e
}
