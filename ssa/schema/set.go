package schema

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Set is a set of kinds with their schemas. Sets come from [Builtin] and
// [FromOpenAPI] and grow by [Set.With]; the zero value has no kinds. A Set
// never changes, except that it decodes and compiles what is asked for, once,
// and is safe for concurrent use.
type Set struct {
	version  string
	kinds    map[schema.GroupVersionKind]*entry
	removals map[schema.GroupVersionKind]removal
}

// entry is one kind of a set.
type entry struct {
	Kind
	types  *library // of built-in kinds
	custom *version // of custom resources
}

// removal says when a version of a built-in kind went, and what to use instead.
type removal struct {
	Removed string // "1.22"
	Instead string // "apps/v1 Deployment", may be empty
}

// Version returns the Kubernetes version of the built-in kinds, "1.36.3"; ""
// if there is none.
func (s *Set) Version() string { return s.version }

// Kinds returns all kinds, by group, version and kind. The most preferred
// version of a kind is not the first, see [Kind.Priority].
func (s *Set) Kinds() []Kind {
	out := make([]Kind, 0, len(s.kinds))
	for _, e := range s.kinds {
		out = append(out, e.Kind)
	}
	slices.SortFunc(out, func(a, b Kind) int { return compareGVK(a.GroupVersionKind, b.GroupVersionKind) })
	return out
}

// Kind returns what is known about one kind.
func (s *Set) Kind(gvk schema.GroupVersionKind) (Kind, bool) {
	e, ok := s.kinds[gvk]
	if !ok {
		return Kind{}, false
	}
	return e.Kind, true
}

// clone returns a set to add to.
func (s *Set) clone() *Set {
	out := &Set{version: s.version, kinds: maps.Clone(s.kinds), removals: s.removals}
	if out.kinds == nil {
		out.kinds = map[schema.GroupVersionKind]*entry{}
	}
	return out
}

func compareGVK(a, b schema.GroupVersionKind) int {
	return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Version, b.Version), strings.Compare(a.Kind, b.Kind))
}
