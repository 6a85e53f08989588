package ssa

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// baseline is what an apply left behind: the fields it owns and a digest of
// their values. Whether somebody else changed one of them can be told from it
// and the live object, without a request. Fields of others do not matter.
type baseline struct {
	fields *fieldpath.Set
	digest [sha256.Size]byte
}

// baselineOf takes the fields that manager applied to live, without those that
// are ignored. It is zero if there are none.
func baselineOf(live *unstructured.Unstructured, manager string, ignored []fieldpath.Path) baseline {
	return claimsOn(live, manager).baseline(live, ignored)
}

// claims are the managed fields of an object that matter to one manager, as
// the server wrote them.
type claims struct {
	own          *metav1.FieldsV1   // what it applied, nil if nothing
	subresources []*metav1.FieldsV1 // what anybody wrote through a sub-resource
}

func claimsOn(obj *unstructured.Unstructured, manager string) (c claims) {
	for _, entry := range obj.GetManagedFields() {
		switch {
		case entry.FieldsV1 == nil:
		case entry.Subresource != "":
			c.subresources = append(c.subresources, entry.FieldsV1)
		case entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply:
			c.own = entry.FieldsV1
		}
	}
	return c
}

func (c claims) baseline(live *unstructured.Unstructured, ignored []fieldpath.Path) baseline {
	fields := fieldSet(c.own)
	if fields == nil {
		return baseline{}
	}
	if len(ignored) > 0 {
		fields = fields.Leaves().RecursiveDifference(fieldpath.NewSet(ignored...)) // leaves, or a parent would become one
	}
	return baseline{fields: fields, digest: digest(live, fields)}
}

// fieldSet reads managed fields, nil if there are none.
func fieldSet(raw *metav1.FieldsV1) *fieldpath.Set {
	set := &fieldpath.Set{}
	if raw == nil || set.FromJSON(raw.GetRawReader()) != nil {
		return nil
	}
	return set
}

// drifted reports whether a value of the baseline is another one in live.
func (b baseline) drifted(live *unstructured.Unstructured) bool {
	return b.fields != nil && digest(live, b.fields) != b.digest
}

// difference says why an apply is needed though no value differs: before are
// the claims on the live object, after those that applying would leave. It is
// empty if they are the same.
//
// A field that leaves the manifest must be given up, or we would own it for
// ever. One that somebody else took over, by writing another value and then
// ours again, is taken back, so that the server tells when the values differ.
// Fields that only moved to a writer of a sub-resource do not count: the API
// server moves some by itself whenever status is written (spec.metrics of a
// HorizontalPodAutoscaler), for ever. Ignored fields do not count either.
func (c claims) difference(after claims, ignored []fieldpath.Path) string {
	if c.own != nil && after.own != nil && c.own.GetRawString() == after.own.GetRawString() {
		return ""
	}
	had, will := fieldSet(c.own), fieldSet(after.own)
	if had == nil {
		had = fieldpath.NewSet()
	}
	if will == nil {
		will = fieldpath.NewSet()
	}
	if len(ignored) > 0 {
		others := fieldpath.NewSet(ignored...)
		had, will = had.RecursiveDifference(others), will.RecursiveDifference(others)
	}
	if !had.Difference(will).Empty() {
		return "gives up fields that another manager sets to the same values"
	}
	gained := will.Difference(had)
	for _, raw := range c.subresources {
		if set := fieldSet(raw); set != nil {
			gained = gained.Difference(set)
		}
	}
	if !gained.Leaves().Empty() {
		return "takes back fields that another manager set to the same values"
	}
	return ""
}

func digest(obj *unstructured.Unstructured, fields *fieldpath.Set) (sum [sha256.Size]byte) {
	h := sha256.New()
	fields.Leaves().Iterate(func(path fieldpath.Path) {
		fmt.Fprintf(h, "%s\x00", path)
		writeValue(h, at(obj.Object, path))
	})
	h.Sum(sum[:0])
	return sum
}

// absent stands for a value that is not there, which differs from null.
type absent struct{}

// at returns the value at path.
func at(v any, path fieldpath.Path) any {
	for _, element := range path {
		switch {
		case element.FieldName != nil:
			m, ok := v.(map[string]any)
			if !ok {
				return absent{}
			}
			if v, ok = m[*element.FieldName]; !ok {
				return absent{}
			}
		case element.Key != nil:
			v = find(v, func(item any) bool { return hasKey(item, *element.Key) })
		case element.Value != nil:
			v = find(v, func(item any) bool { return value.Equals(value.NewValueInterface(item), *element.Value) })
		case element.Index != nil:
			list, ok := v.([]any)
			if !ok || *element.Index >= len(list) {
				return absent{}
			}
			v = list[*element.Index]
		}
	}
	return v
}

// find returns the first item of a list that matches.
func find(list any, match func(any) bool) any {
	items, _ := list.([]any) // nil has no items
	if i := slices.IndexFunc(items, match); i >= 0 {
		return items[i]
	}
	return absent{}
}

// hasKey reports whether item is the one of an associative list that key
// names. A key field that item lacks has its default, which the schema knows;
// the only one in use is the protocol of ports.
func hasKey(item any, key value.FieldList) bool {
	m, ok := item.(map[string]any)
	if !ok {
		return false
	}
	for _, field := range key {
		have, set := m[field.Name]
		if !set && field.Name == "protocol" {
			have = "TCP"
		}
		if !value.Equals(value.NewValueInterface(have), field.Value) {
			return false
		}
	}
	return true
}

func writeValue(h hash.Hash, v any) {
	if _, ok := v.(absent); ok {
		h.Write([]byte("-"))
		return
	}
	json.NewEncoder(h).Encode(v) //nolint:errcheck // a hash takes all; content is JSON by type
}
