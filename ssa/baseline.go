package ssa

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"slices"

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

// baselineOf takes the fields that manager applied to live. It is zero if
// there are none.
func baselineOf(live *unstructured.Unstructured, manager string) baseline {
	fields := applied(live, manager)
	if fields == nil {
		return baseline{}
	}
	return baseline{fields: fields, digest: digest(live, fields)}
}

// drifted reports whether a value of the baseline is another one in live.
func (b baseline) drifted(live *unstructured.Unstructured) bool {
	return b.fields != nil && digest(live, b.fields) != b.digest
}

// applied returns the fields that manager applied, nil if there are none.
func applied(obj *unstructured.Unstructured, manager string) *fieldpath.Set {
	for _, entry := range obj.GetManagedFields() {
		if entry.Manager != manager || entry.Operation != "Apply" || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err == nil {
			return set
		}
	}
	return nil
}

// releases reports whether manager owns fields in live that it no longer owns
// in merged.
func releases(live, merged *unstructured.Unstructured, manager string) bool {
	before, after := applied(live, manager), applied(merged, manager)
	if before == nil {
		return false
	}
	return after == nil || !before.Difference(after).Empty()
}

// lost reports whether applying would give manager fields that somebody else
// took over by writing the same value: as long as they have them, a field that
// leaves the manifest would stay. Fields that only moved to a writer of a
// sub-resource do not count: the API server moves some by itself whenever
// status is written (spec.metrics of a HorizontalPodAutoscaler), for ever.
func lost(live, merged *unstructured.Unstructured, manager string) bool {
	before, after := applied(live, manager), applied(merged, manager)
	if after == nil {
		return false
	}
	if before != nil {
		after = after.Difference(before)
	}
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource == "" || entry.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err == nil {
			after = after.Difference(set)
		}
	}
	return !after.Leaves().Empty()
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
