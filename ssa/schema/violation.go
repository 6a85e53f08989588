package schema

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gitopskit/gitopskit/ssa"
)

// Reason says what kind of rule an object breaks.
type Reason string

// The reasons.
const (
	// UnknownField: the kind has no such field.
	UnknownField Reason = "UnknownField"
	// WrongType: a value is of another type than the field, or not of its format.
	WrongType Reason = "WrongType"
	// Missing: a required field is not there.
	Missing Reason = "Missing"
	// BadValue: a value is not one of those allowed, or out of range.
	BadValue Reason = "BadValue"
	// DuplicateItem: a set or a list with keys has an item twice.
	DuplicateItem Reason = "DuplicateItem"
	// DuplicateKey: a YAML mapping has a key twice.
	DuplicateKey Reason = "DuplicateKey"
	// BadSyntax: a document is not YAML, or no object.
	BadSyntax Reason = "BadSyntax"
	// BrokenRule: a validation rule (CEL) of the definition says no, or cannot
	// be evaluated within its cost limit.
	BrokenRule Reason = "BrokenRule"
	// UnknownKind: the set does not have the kind in this version.
	UnknownKind Reason = "UnknownKind"
	// NotServed: the API server serves the kind only where it was switched on.
	NotServed Reason = "NotServed"
	// NotChecked: the object was not checked, because ctx ended, or not by all
	// rules, because others are broken.
	NotChecked Reason = "NotChecked"
)

// Violation is one fault of one object.
type Violation struct {
	// Object is empty for a document that is no object.
	Object ssa.ObjectID
	// File and Line say where, as far as that is known: "" and 0 if not. Line
	// counts from one. It is that of the field, or of what should hold it.
	File string
	Line int
	// Path is the field: "spec.template.spec.containers[0].image"; "" is the
	// object as a whole. A key with dots is in brackets: `metadata.labels[a.b/c]`.
	Path string
	// Reason is the kind of fault.
	Reason Reason
	// Message says what is wrong. It has no values of Secrets.
	Message string
}

// String returns "app/web.yaml:17: Deployment/shop/web: spec.replicass: unknown
// field", without what is not known.
func (v Violation) String() string {
	var b strings.Builder
	switch {
	case v.File != "" && v.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", v.File, v.Line)
	case v.File != "":
		fmt.Fprintf(&b, "%s: ", v.File)
	case v.Line > 0:
		fmt.Fprintf(&b, "line %d: ", v.Line)
	}
	if v.Object.Kind != "" || v.Object.Name != "" {
		fmt.Fprintf(&b, "%s: ", v.Object)
	}
	if v.Path != "" {
		fmt.Fprintf(&b, "%s: ", v.Path)
	}
	return b.String() + v.Message
}

// Error makes a violation usable as an error; it is that of [Violation.String].
func (v Violation) Error() string { return v.String() }

// Is reports that a violation is [ErrInvalid], or [ErrUnknownKind].
func (v Violation) Is(target error) bool {
	return target == ErrInvalid || target == ErrUnknownKind && v.Reason == UnknownKind
}

// sortViolations orders the faults of one object: by line, path and text, each once.
func sortViolations(v []Violation) []Violation {
	slices.SortStableFunc(v, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(v)
}
