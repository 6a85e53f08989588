package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// hint says what may be wrong with a kind that the set does not have.
func (s *Set) hint(gvk schema.GroupVersionKind) string {
	if r, ok := s.removals[gvk]; ok && s.version != "" && !newer(r.Removed, s.version) {
		text := fmt.Sprintf("Kubernetes removed it in %s", r.Removed)
		if r.Instead != "" && r.Instead != gvkString(gvk) {
			text += ", use " + r.Instead
		} else if others := s.versionsOf(gvk.GroupKind()); len(others) > 0 {
			text += ", use " + others[0]
		}
		return text
	}
	if others := s.versionsOf(gvk.GroupKind()); len(others) > 0 {
		return "there is " + strings.Join(others, ", ")
	}
	var near []string
	for other := range s.kinds {
		if other.Group == gvk.Group && strings.EqualFold(other.Kind, gvk.Kind) || other.Group != gvk.Group && other.Kind == gvk.Kind {
			near = append(near, gvkString(other))
		}
	}
	if len(near) > 0 {
		slices.Sort(near)
		return "there is " + strings.Join(near, ", ")
	}
	if gvk.Group != "" && !strings.Contains(gvk.Group, ".") || strings.HasSuffix(gvk.Group, ".k8s.io") {
		return "neither Kubernetes nor a given definition has it"
	}
	return "no given definition has it; add its custom resource definition"
}

// versionsOf returns "apps/v1 Deployment", ..., the preferred one first.
func (s *Set) versionsOf(gk schema.GroupKind) []string {
	var found []Kind
	for gvk, e := range s.kinds {
		if gvk.GroupKind() == gk {
			found = append(found, e.Kind)
		}
	}
	slices.SortFunc(found, func(a, b Kind) int { return a.Priority - b.Priority })
	var out []string
	for _, k := range found {
		out = append(out, gvkString(k.GroupVersionKind))
	}
	return out
}

// newer reports that minor a, "1.22", is above that of version b.
func newer(a, b string) bool {
	number := func(v string) int {
		_, m, _ := strings.Cut(minor(v), ".")
		n, err := strconv.Atoi(m)
		if err != nil {
			return 0
		}
		return n
	}
	return number(a) > number(b)
}
