package ssa

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// IgnoreRule leaves fields of existing objects to others: a field that somebody
// else set to another value is neither a difference nor changed. A new object is
// created with all its fields.
//
// When an object has to be applied because of other fields, an ignored field
// that differs is left out if another manager applied it, and is taken as it is
// if not.
//
// Its JSON form is that of spec.ignore of Flux's Kustomization.
type IgnoreRule struct {
	// Paths are JSON pointers (RFC 6901), such as "/spec/replicas" or
	// "/metadata/annotations/example.com~1note". An index points into the list of
	// the manifest; the item is found by its key in the live list, where the list
	// has keys. At least one is required; the empty pointer is the whole object.
	Paths []string `json:"paths"`
	// Target chooses the objects; nil means all.
	Target *Target `json:"target,omitempty"`
}

// Target chooses objects: those that match every field that is set.
type Target struct {
	// Group, Version, Kind, Namespace and Name are regular expressions, anchored
	// at both ends.
	Group     string `json:"group,omitempty"`
	Version   string `json:"version,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// LabelSelector and AnnotationSelector are selectors in the syntax of
	// Kubernetes label selectors, for the manifest.
	LabelSelector      string `json:"labelSelector,omitempty"`
	AnnotationSelector string `json:"annotationSelector,omitempty"`
}

// Validate returns what is wrong with the rule, as an error that matches
// [ErrInvalid]; [Client.Apply] and the others refuse it, too.
func (r IgnoreRule) Validate() error {
	if _, err := compileRule(r); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// rule is a compiled IgnoreRule.
type rule struct {
	paths               [][]string
	patterns            []*regexp.Regexp // group, version, kind, namespace, name
	labels, annotations labels.Selector
}

func compileRules(rules []IgnoreRule) ([]rule, error) {
	var out []rule
	var errs []error
	for i, r := range rules {
		compiled, err := compileRule(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: Policy.Ignore[%d]: %w", ErrInvalid, i, err))
		}
		out = append(out, compiled)
	}
	return out, errors.Join(errs...)
}

func compileRule(r IgnoreRule) (out rule, err error) {
	var errs []error
	if len(r.Paths) == 0 {
		errs = append(errs, errors.New("it has no paths"))
	}
	for _, p := range r.Paths {
		tokens, err := parsePointer(p)
		if err != nil {
			errs = append(errs, err)
		}
		out.paths = append(out.paths, tokens)
	}
	t := r.Target
	if t == nil {
		t = &Target{}
	}
	for _, pattern := range []string{t.Group, t.Version, t.Kind, t.Namespace, t.Name} {
		var re *regexp.Regexp
		if pattern != "" {
			if re, err = regexp.Compile("^(?:" + pattern + ")$"); err != nil {
				errs = append(errs, fmt.Errorf("target: %w", err))
			}
		}
		out.patterns = append(out.patterns, re)
	}
	if out.labels, err = labels.Parse(t.LabelSelector); err != nil {
		errs = append(errs, fmt.Errorf("target: labelSelector: %w", err))
	}
	if out.annotations, err = labels.Parse(t.AnnotationSelector); err != nil {
		errs = append(errs, fmt.Errorf("target: annotationSelector: %w", err))
	}
	return out, errors.Join(errs...)
}

// parsePointer splits a JSON pointer.
func parsePointer(p string) ([]string, error) {
	if p == "" {
		return []string{}, nil
	}
	if !strings.HasPrefix(p, "/") {
		return nil, fmt.Errorf("path %q does not begin with a slash", p)
	}
	tokens := strings.Split(p[1:], "/")
	for i, t := range tokens {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(t), "~") {
			return nil, fmt.Errorf("path %q: a tilde is written ~0, a slash in a name ~1", p)
		}
		tokens[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(t)
	}
	return tokens, nil
}

func (r *rule) matches(obj *unstructured.Unstructured) bool {
	gvk := obj.GroupVersionKind()
	for i, have := range []string{gvk.Group, gvk.Version, gvk.Kind, obj.GetNamespace(), obj.GetName()} {
		if r.patterns[i] != nil && !r.patterns[i].MatchString(have) {
			return false
		}
	}
	return r.labels.Matches(labels.Set(obj.GetLabels())) && r.annotations.Matches(labels.Set(obj.GetAnnotations()))
}

// ignored returns the pointers that an object's ignored fields have.
func (p *plan) ignored(obj *unstructured.Unstructured) [][]string {
	var out [][]string
	for i := range p.rules {
		if p.rules[i].matches(obj) {
			out = append(out, p.rules[i].paths...)
		}
	}
	return out
}

// places returns where the ignored fields of an item are in a live object.
func (p *plan) places(it *item, live *unstructured.Unstructured) []fieldpath.Path {
	pointers := p.ignored(it.obj)
	if len(pointers) == 0 || live == nil {
		return nil
	}
	managed := managedSets(live, p.client.manager())
	var out []fieldpath.Path
	for _, pointer := range pointers {
		if place := locate(pointer, it.obj.Object, managed); len(place) > 0 {
			out = append(out, place)
		}
	}
	return out
}

// yield returns the body to apply to a live object, with its ignored fields as
// others want them, and the places of these fields.
func (p *plan) yield(it *item, live *unstructured.Unstructured) (*unstructured.Unstructured, []fieldpath.Path) {
	pointers := p.ignored(it.obj)
	if len(pointers) == 0 || live == nil {
		return it.obj, nil
	}
	body := it.obj.DeepCopy()
	managed := managedSets(live, p.client.manager())
	var gone [][]string
	for _, pointer := range pointers {
		for _, leaf := range leaves(it.obj.Object, pointer, managed) {
			place := locate(leaf, it.obj.Object, managed)
			want, have := at(it.obj.Object, place), at(live.Object, place)
			if sameValue(want, have) {
				continue
			}
			if _, missing := have.(absent); missing || managed.appliedByOther(place) {
				gone = append(gone, leaf)
				continue
			}
			replace(body.Object, leaf, have)
		}
	}
	removeAll(body.Object, gone)
	return body, p.places(it, live)
}

// leaves returns the pointers of the values in a manifest at or below a pointer
// that belong to somebody each for itself: scalars, and lists without keys.
func leaves(object map[string]any, pointer []string, managed fieldSets) [][]string {
	value, ok := lookup(object, pointer)
	if !ok {
		return nil
	}
	var out [][]string
	switch v := value.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, leaves(object, append(slices.Clone(pointer), k), managed)...)
		}
	case []any:
		for i := range v {
			item := append(slices.Clone(pointer), strconv.Itoa(i))
			if place := locate(item, object, managed); place == nil || place[len(place)-1].Index != nil {
				return [][]string{pointer} // as a whole
			}
			out = append(out, leaves(object, item, managed)...)
		}
	}
	if len(out) == 0 {
		return [][]string{pointer}
	}
	return out
}

// lookup returns what a pointer names in a tree of maps and lists.
func lookup(tree any, pointer []string) (any, bool) {
	for _, token := range pointer {
		switch node := tree.(type) {
		case map[string]any:
			child, ok := node[token]
			if !ok {
				return nil, false
			}
			tree = child
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(node) {
				return nil, false
			}
			tree = node[i]
		default:
			return nil, false
		}
	}
	return tree, true
}

func sameValue(a, b any) bool {
	if _, gone := b.(absent); gone {
		return false
	}
	return value.Equals(value.NewValueInterface(a), value.NewValueInterface(b))
}

// fieldSets are the managed fields of an object, of all managers together and
// of those that applied what they own, our own left out.
type fieldSets struct {
	all     *fieldpath.Set
	applied []*fieldpath.Set
}

func managedSets(live *unstructured.Unstructured, manager string) fieldSets {
	out := fieldSets{all: &fieldpath.Set{}}
	for _, entry := range live.GetManagedFields() {
		set := fieldSet(entry.FieldsV1)
		if set == nil || entry.Subresource != "" {
			continue
		}
		out.all = out.all.Union(set)
		if entry.Operation == metav1.ManagedFieldsOperationApply && entry.Manager != manager {
			out.applied = append(out.applied, set)
		}
	}
	return out
}

// appliedByOther reports whether another manager applied what is at a place, by
// itself or as a part of something that has no parts.
func (s *fieldSets) appliedByOther(place fieldpath.Path) bool {
	for _, set := range s.applied {
		for n := range place {
			if part := place[:n+1]; set.Has(part) && (n == len(place)-1 || below(set, part).Empty()) {
				return true
			}
		}
		if !below(set, place).Empty() {
			return true // of a list that has keys for them
		}
	}
	return false
}

// below returns the part of a set that is below a place.
func below(set *fieldpath.Set, place fieldpath.Path) *fieldpath.Set {
	for _, element := range place {
		set = set.WithPrefix(element)
	}
	return set
}

// locate turns a pointer into the place of a field: an index into a list with
// keys becomes the key. It returns nil if the manifest has no such item.
func locate(pointer []string, object any, managed fieldSets) fieldpath.Path {
	place := fieldpath.Path{}
	set := managed.all
	for _, token := range pointer {
		var element fieldpath.PathElement
		switch v := object.(type) {
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			element = itemElement(i, v[i], set)
			object = v[i]
		default:
			m, _ := object.(map[string]any) // nil below what the manifest lacks
			element = fieldpath.PathElement{FieldName: &token}
			object = m[token]
		}
		place = append(place, element)
		set = set.WithPrefix(element)
	}
	return place
}

// itemElement names an item of a list by its key if the managed fields do so.
func itemElement(index int, item any, set *fieldpath.Set) fieldpath.PathElement {
	found := fieldpath.PathElement{Index: &index}
	consider := func(e fieldpath.PathElement) {
		if e.Key != nil && hasKey(item, *e.Key) || e.Value != nil && value.Equals(value.NewValueInterface(item), *e.Value) {
			found = e
		}
	}
	set.Members.Iterate(consider)
	set.Children.Iterate(consider)
	return found
}

// removeAll deletes what pointers name from a tree of maps and lists, and what is
// left empty by that: an empty map would be ours as a whole. Later items of a
// list go first, so that the pointers stay true.
func removeAll(tree map[string]any, pointers [][]string) {
	order := slices.Clone(pointers)
	slices.SortFunc(order, func(a, b []string) int { return -slices.CompareFunc(a, b, compareTokens) })
	for _, pointer := range slices.CompactFunc(order, slices.Equal) {
		edit(tree, pointer, nil, true)
	}
}

// compareTokens orders the parts of pointers, indexes by number.
func compareTokens(a, b string) int {
	i, err1 := strconv.Atoi(a)
	j, err2 := strconv.Atoi(b)
	if err1 == nil && err2 == nil {
		return i - j
	}
	return strings.Compare(a, b)
}

// replace sets what a pointer names in a tree of maps and lists.
func replace(tree map[string]any, pointer []string, v any) {
	edit(tree, pointer, runtime.DeepCopyJSONValue(v), false)
}

// edit returns a tree without what a pointer names, or with another value there,
// and whether that leaves nothing.
func edit(tree any, pointer []string, v any, gone bool) (edited any, empty bool) {
	if len(pointer) == 0 {
		return v, gone
	}
	token, rest := pointer[0], pointer[1:]
	switch node := tree.(type) {
	case map[string]any:
		child, ok := node[token]
		if !ok {
			return node, false
		}
		if child, empty = edit(child, rest, v, gone); empty {
			delete(node, token)
		} else {
			node[token] = child
		}
		return node, empty && len(node) == 0
	case []any:
		i, err := strconv.Atoi(token)
		if err != nil || i < 0 || i >= len(node) {
			return node, false
		}
		if node[i], empty = edit(node[i], rest, v, gone); empty {
			node = append(node[:i:i], node[i+1:]...)
		}
		return node, empty && len(node) == 0
	}
	return tree, false
}
