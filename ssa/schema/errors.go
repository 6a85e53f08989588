package schema

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Classes of failure, for errors.Is.
var (
	// ErrUnknownVersion: no schemas of that Kubernetes version are here, see [Versions].
	ErrUnknownVersion = errors.New("unknown Kubernetes version")
	// ErrUnknownKind: the set has no such kind in this version.
	ErrUnknownKind = errors.New("unknown kind")
	// ErrInvalid: an object or a document is not what it should be.
	ErrInvalid = errors.New("invalid")
	// ErrLimit: the input is larger than [Limits] allow.
	ErrLimit = errors.New("limit exceeded")
)

// Error says which operation failed on what.
type Error struct {
	// Op is "builtin", "openapi", "definition", "decode", "load" or "type".
	Op string
	// Subject is a version, a file, a custom resource definition or a kind.
	Subject string
	// Err matches one of the classes above or is that of the file system.
	Err error
}

func (e *Error) Error() string {
	if e.Subject == "" {
		return fmt.Sprintf("schema: %s: %s", e.Op, e.Err)
	}
	return fmt.Sprintf("schema: %s %s: %s", e.Op, e.Subject, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal reports that trying again is of no use until the input changes.
func (e *Error) Terminal() bool {
	return errors.Is(e.Err, ErrInvalid) || errors.Is(e.Err, ErrLimit) || errors.Is(e.Err, ErrUnknownVersion) || errors.Is(e.Err, ErrUnknownKind)
}

func unknownKind(gvk schema.GroupVersionKind, hint string) error {
	return &Error{Op: "type", Subject: gvkString(gvk), Err: fmt.Errorf("%w: %s", ErrUnknownKind, hint)}
}

// gvkString returns "apps/v1 Deployment".
func gvkString(gvk schema.GroupVersionKind) string {
	return gvk.GroupVersion().String() + " " + gvk.Kind
}
