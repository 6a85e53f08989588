package kustomize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var (
	// ErrInvalid: the tree cannot be built as it is: broken YAML, a manifest
	// without a kind, a reference to nothing.
	ErrInvalid = errors.New("invalid kustomization")
	// ErrRemote: a kustomization refers to a URL. Builds are offline; copy the
	// base into the tree.
	ErrRemote = errors.New("remote reference")
	// ErrUnsupported: a kustomization asks for something that would run
	// programs, such as helmCharts or exec functions.
	ErrUnsupported = errors.New("unsupported by an offline build")
	// ErrLimit: a bound of [Limits] was reached.
	ErrLimit = errors.New("limit exceeded")
)

// Error says which build failed, in which file, and why.
type Error struct {
	// Dir is the directory that was built, as given.
	Dir string
	// Path is the file at fault inside the tree; empty when it is not known.
	Path string
	// Line is the line in Path, counted from one; 0 when it is not known.
	Line int
	// Err is the cause. It matches [ErrInvalid], [ErrRemote],
	// [ErrUnsupported], [ErrLimit], a context error, or what fsys returned,
	// such as [fs.ErrNotExist].
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kustomize: build %q: ", e.Dir)
	switch {
	case e.Path != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", e.Path, e.Line)
	case e.Path != "":
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	return b.String() + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal reports whether only another tree can help. It is false when the
// build was cancelled or the tree could not be read.
func (e *Error) Terminal() bool {
	for _, class := range []error{ErrInvalid, ErrRemote, ErrUnsupported, ErrLimit, fs.ErrNotExist} {
		if errors.Is(e.Err, class) {
			return !errors.Is(e.Err, context.Canceled) && !errors.Is(e.Err, context.DeadlineExceeded)
		}
	}
	return false
}
