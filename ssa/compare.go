package ssa

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// CompareOptions are the optional settings of [Compare].
type CompareOptions struct {
	// ShowSecrets puts the values of Secrets into the result. By default they
	// are masked.
	ShowSecrets bool
	// Ignore are fields whose differences do not count, as in [Policy].
	Ignore []IgnoreRule
	// DefaultNamespace is given to objects that have none, for telling which
	// are the same. Give it only if no object is of a kind without namespace.
	DefaultNamespace string
}

// Compare says what becomes of a set of objects, old, when another one, new,
// takes its place, with no cluster: what is created, configured, deleted and
// unchanged. Objects are the same if group, kind, namespace and name are.
// Status and what only a server sets are left out. Neither set is changed.
//
// It knows no defaults: a field that one side leaves out differs from one that
// the other sets to what would be its default. [Client.Diff] knows.
func Compare(old, new []*unstructured.Unstructured, opts *CompareOptions) (*ChangeSet, error) {
	if opts == nil {
		opts = &CompareOptions{}
	}
	rules, err := compileRules(opts.Ignore)
	if err != nil {
		return &ChangeSet{}, fmt.Errorf("ssa: compare: %w", err)
	}
	before, err1 := byIdentity("old", old, opts)
	after, err2 := byIdentity("new", new, opts)
	if err := errors.Join(err1, err2); err != nil {
		return &ChangeSet{}, fmt.Errorf("ssa: compare: %w", err)
	}
	set := &ChangeSet{}
	for id, obj := range after {
		change := Change{Object: id, Version: obj.GroupVersionKind().Version, Action: Created}
		was := before[id]
		if was != nil {
			was, obj = agree(was, obj, rules)
		}
		if change.Fields = differences(was, obj, opts.ShowSecrets); was != nil {
			if change.Action = Configured; len(change.Fields) == 0 {
				change.Action = Unchanged
			}
		}
		set.Changes = append(set.Changes, change)
	}
	for id, obj := range before {
		if after[id] == nil {
			set.Changes = append(set.Changes, Change{Object: id, Version: obj.GroupVersionKind().Version, Action: Deleted})
		}
	}
	slices.SortFunc(set.Changes, func(a, b Change) int { return compareKinds(a.Object, b.Object) })
	return set, nil
}

func byIdentity(name string, objs []*unstructured.Unstructured, opts *CompareOptions) (map[ObjectID]*unstructured.Unstructured, error) {
	out := map[ObjectID]*unstructured.Unstructured{}
	var errs []error
	for i, obj := range objs {
		if obj == nil || len(obj.Object) == 0 {
			errs = append(errs, fmt.Errorf("%w: object %d of the %s set is empty", ErrInvalid, i, name))
			continue
		}
		items, err := expand(obj)
		errs = append(errs, err)
		for _, item := range items {
			id := IDOf(item)
			if id.Namespace == "" {
				id.Namespace = opts.DefaultNamespace
			}
			err := check(item)
			if out[id] != nil {
				err = errors.Join(err, fmt.Errorf("%w: the %s set holds it more than once", ErrInvalid, name))
			}
			errs = append(errs, objectError("read", id, err))
			out[id] = item
		}
	}
	return out, errors.Join(errs...)
}

// agree returns copies of two objects without the fields that are ignored.
func agree(old, new *unstructured.Unstructured, rules []rule) (before, after *unstructured.Unstructured) {
	var pointers [][]string
	for i := range rules {
		if rules[i].matches(new) {
			pointers = append(pointers, rules[i].paths...)
		}
	}
	if len(pointers) == 0 {
		return old, new
	}
	if slices.ContainsFunc(pointers, func(p []string) bool { return len(p) == 0 }) {
		return new, new // all of it is ignored
	}
	old, new = old.DeepCopy(), new.DeepCopy()
	removeAll(old.Object, pointers)
	removeAll(new.Object, pointers)
	return old, new
}

// PatchOperation is one operation of a JSON patch (RFC 6902).
type PatchOperation struct {
	Op    string `json:"op"` // "add", "remove" or "replace"
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// MarshalJSON writes the operation; the value of an addition is there even if it is null.
func (o PatchOperation) MarshalJSON() ([]byte, error) {
	type plain PatchOperation
	if o.Op == "remove" {
		o.Value = nil
	} else if o.Value == nil {
		o.Value = json.RawMessage("null")
	}
	return json.Marshal(plain(o))
}

// Patch returns the differences as a JSON patch of the live object. That of a
// Secret has masked values, unless the diff was asked to show them, and cannot be
// applied then.
func (c *Change) Patch() []PatchOperation {
	out := []PatchOperation{}
	for _, f := range c.Fields {
		op := PatchOperation{Op: "replace", Path: f.Pointer, Value: f.New}
		switch {
		case f.Old == nil:
			op.Op = "add"
		case f.New == nil:
			op.Op, op.Value = "remove", nil
		}
		out = append(out, op)
	}
	return out
}

// signs of actions in a text.
func sign(a Action) string {
	switch a {
	case Created:
		return "+"
	case Deleted:
		return "-"
	case Configured:
		return "~"
	case Recreated:
		return "±"
	case Failed:
		return "!"
	case Unchanged, Kept, Skipped, Exempt, Contested:
	}
	return " "
}

// WriteText writes the changes for people: a line for each object, with "+" for
// one that is created, "~" configured, "±" recreated, "-" deleted, "!" failed,
// and below it a line for each field. What is unchanged is left out.
func (s *ChangeSet) WriteText(w io.Writer) error {
	var b strings.Builder
	for i := range s.Changes {
		c := &s.Changes[i]
		if c.Action == Unchanged {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s", sign(c.Action), c.Object, c.Action)
		if c.Reason != "" {
			b.WriteString(": " + c.Reason)
		}
		if c.Foreign != "" {
			b.WriteString(" (it belongs to " + c.Foreign + ")")
		}
		if c.Err != nil {
			b.WriteString(": " + strings.ReplaceAll(c.Err.Error(), "\n", "\n    "))
		}
		b.WriteByte('\n')
		for _, f := range c.Fields {
			if f.Path != "" { // a new object is not listed whole
				b.WriteString("    " + f.String() + "\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
