package update

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
)

// Plan is what would change in a tree.
type Plan struct {
	// Changes are in the order of the files' paths, and of the lines.
	Changes []Change
	// Skipped are the markers that change nothing, and the files that could
	// not be looked at, in the same order.
	Skipped []Skip

	files map[string][]byte
}

// Files are the new contents of the files that change, by path.
func (p *Plan) Files() map[string][]byte {
	files := maps.Clone(p.files)
	for name, data := range files {
		files[name] = bytes.Clone(data)
	}
	return files
}

// Change is a value that changes.
type Change struct {
	// File is the path in the tree.
	File string
	// Line is where the value starts, from 1.
	Line int
	// Object is what the value is a part of.
	Object Object
	// Setter is the text of the marker: "namespace:name" or
	// "namespace:name:tag".
	Setter string
	// Old and New are the values, without quotes.
	Old, New string
}

// Object names a Kubernetes object, or whatever else a document holds: fields
// that it has not are empty.
type Object struct {
	APIVersion, Kind, Name, Namespace string
}

// Skip is a marker that changes nothing, or a file that could not be looked at.
type Skip struct {
	// File is the path in the tree.
	File string
	// Line is where the marker stands, or the value it belongs to, from 1; 0 if
	// it is the whole file.
	Line int
	// Reason is one of the constants.
	Reason Reason
	// Detail says more, for people.
	Detail string
}

// Reason says why a marker changes nothing.
type Reason string

// The reasons.
const (
	UnknownPolicy Reason = "UnknownPolicy" // there is no policy of that name
	NoDigest      Reason = "NoDigest"      // the digest is asked for and not known
	Malformed     Reason = "Malformed"     // the comment is not exactly a marker
	NoValue       Reason = "NoValue"       // the marker stands where no value is that it could change
	MultiLine     Reason = "MultiLine"     // the value has several lines
	Unsafe        Reason = "Unsafe"        // the edit would change more than the value
	ParseError    Reason = "ParseError"    // the file is no YAML
	NotRegular    Reason = "NotRegular"    // the file is a symbolic link or a device
	TooLarge      Reason = "TooLarge"      // the file is larger than Limits.File
)

// The classes of failure.
var (
	// ErrInvalid: the options or the policies can never work. Terminal.
	ErrInvalid = errors.New("update: invalid")
	// ErrLimit: a bound of Limits was reached.
	ErrLimit = errors.New("update: limit exceeded")
	// ErrUnresolved: a marker changes nothing, and Options.Strict is set.
	ErrUnresolved = errors.New("update: unresolved marker")
)

// Error says at which file a plan failed, and why.
type Error struct {
	// File is the path in the tree.
	File string
	// Line is the line in it, from 1; 0 if it is the whole file.
	Line int
	// Err is the cause.
	Err error
}

func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("update %s:%d: %v", e.File, e.Line, e.Err)
	}
	return fmt.Sprintf("update %s: %v", e.File, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal says that only a changed input can help.
func (e *Error) Terminal() bool { return errors.Is(e.Err, ErrInvalid) }

func wrap(file string, err error) error { return &Error{File: file, Err: err} }
