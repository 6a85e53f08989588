package ssa

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// sum is a digest, half a SHA-256: enough to tell values apart. It is zero
// where there is nothing that could be compared.
type sum [16]byte

func sumOf(data []byte) (out sum) {
	full := sha256.Sum256(data)
	copy(out[:], full[:])
	return out
}

// digests of one state of a live object. They tell what a write touched
// without the object.
type digests struct {
	// whole covers all but status, the version, and the managed fields of
	// whoever wrote status.
	whole sum
	// content covers what a diff looks at: whole without managed fields and
	// without what only the server sets.
	content sum
}

func digestsOf(live *unstructured.Unstructured) digests {
	buf := appendValue(nil, content(live))
	out := digests{content: sumOf(buf)}
	metadata, _ := live.Object["metadata"].(map[string]any) // a live object has one
	for _, field := range []string{"uid", "generation", "creationTimestamp", "deletionTimestamp"} {
		buf = appendValue(append(buf, field...), metadata[field])
	}
	entries, _ := metadata["managedFields"].([]any) // may be absent
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		if entry["subresource"] == "status" {
			continue
		}
		entry = maps.Clone(entry)
		delete(entry, "time")
		buf = appendValue(buf, entry)
	}
	out.whole = sumOf(buf)
	return out
}

// ownedOf returns the digest of what manager applied to live: the fields and
// their values, and the order of owned items in lists. It is zero if that
// cannot be told from the object alone: the manager has no entry in the managed
// fields, or more than one, or a field it owns is not found.
func ownedOf(live *unstructured.Unstructured, manager string, ignored ...fieldpath.Path) sum {
	metadata, _ := live.Object["metadata"].(map[string]any) // a live object has one
	entries, _ := metadata["managedFields"].([]any)         // may be absent
	var own map[string]any
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		if entry["manager"] != manager || entry["operation"] != "Apply" || entry["subresource"] != nil {
			continue
		}
		if own != nil {
			return sum{}
		}
		own = entry
	}
	fields, ok := own["fieldsV1"].(map[string]any)
	if !ok {
		return sum{}
	}
	if len(ignored) > 0 {
		fields = without(fields, ignored)
	}
	buf, ok := appendOwned(appendValue(nil, own["apiVersion"]), fields, live.Object)
	if !ok {
		return sum{}
	}
	return sumOf(buf)
}

// without returns managed fields less some.
func without(fields map[string]any, ignored []fieldpath.Path) map[string]any {
	out := map[string]any{}
	data, err := json.Marshal(fields)
	set := &fieldpath.Set{}
	if err == nil {
		err = set.FromJSON(bytes.NewReader(data))
	}
	if err == nil {
		data, err = set.Leaves().RecursiveDifference(fieldpath.NewSet(ignored...)).ToJSON() // leaves, or a parent would become one
	}
	if err != nil || json.Unmarshal(data, &out) != nil {
		return fields // others may then change less
	}
	return out
}

// appendOwned writes the part of value that fields names, in the format of
// managed fields
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/): "f:" and
// a field of a map, "k:" and the key of an item, "v:" and the value of an item.
func appendOwned(buf []byte, fields map[string]any, value any) ([]byte, bool) {
	if len(fields) == 0 { // a leaf
		return appendValue(buf, value), true
	}
	var items []string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		name, isField := strings.CutPrefix(key, "f:")
		switch {
		case key == ".": // the map or item itself
			buf = append(buf, '.')
		case isField:
			m, _ := value.(map[string]any)
			child, found := m[name]
			below, known := fields[key].(map[string]any)
			if !found || !known {
				return nil, false
			}
			var ok bool
			if buf, ok = appendOwned(appendText(buf, key), below, child); !ok {
				return nil, false
			}
		default:
			items = append(items, key)
		}
	}
	return appendItems(buf, items, fields, value)
}

// appendItems writes the owned items of a list in their order. Each must be
// there once.
func appendItems(buf []byte, keys []string, fields map[string]any, value any) ([]byte, bool) {
	if len(keys) == 0 {
		return buf, true
	}
	list, ok := value.([]any)
	if !ok {
		return nil, false
	}
	byKey := make(map[sum]string, len(keys))
	var names []string // the fields of the keys
	for _, key := range keys {
		var element any
		if json.Unmarshal([]byte(key[min(2, len(key)):]), &element) != nil {
			return nil, false
		}
		switch {
		case strings.HasPrefix(key, "v:"):
		case strings.HasPrefix(key, "k:"):
			m, isMap := element.(map[string]any)
			own := slices.Sorted(maps.Keys(m))
			if !isMap || names != nil && !slices.Equal(names, own) {
				return nil, false
			}
			names = own
		default:
			return nil, false // by index: no list in use
		}
		byKey[sumOf(appendValue([]byte(key[:2]), element))] = key
	}
	found := 0
	for _, item := range list {
		key, owned := byKey[sumOf(appendValue([]byte("v:"), item))]
		if m, isMap := item.(map[string]any); !owned && isMap && names != nil {
			element := make(map[string]any, len(names))
			for _, name := range names {
				element[name] = m[name]
			}
			key, owned = byKey[sumOf(appendValue([]byte("k:"), element))]
		}
		if !owned {
			continue
		}
		below, known := fields[key].(map[string]any)
		if found++; !known {
			return nil, false
		}
		if buf, ok = appendOwned(appendText(buf, key), below, item); !ok {
			return nil, false
		}
	}
	return buf, found == len(keys)
}

// appendValue writes a JSON value so that different values differ.
func appendValue(buf []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(buf, 'n')
	case map[string]any:
		buf = binary.AppendUvarint(append(buf, 'm'), uint64(len(v)))
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			buf = appendValue(appendText(buf, k), v[k])
		}
		return buf
	case []any:
		buf = binary.AppendUvarint(append(buf, 'l'), uint64(len(v)))
		for _, item := range v {
			buf = appendValue(buf, item)
		}
		return buf
	case string:
		return appendText(buf, v)
	case bool:
		if v {
			return append(buf, 't')
		}
		return append(buf, 'f')
	case int64:
		return binary.AppendVarint(append(buf, 'i'), v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 { // as JSON writes it
			return binary.AppendVarint(append(buf, 'i'), int64(v))
		}
		return binary.BigEndian.AppendUint64(append(buf, 'd'), math.Float64bits(v))
	default:
		data, err := json.Marshal(v)
		if err != nil {
			data = []byte(err.Error())
		}
		return appendText(append(buf, '?'), string(data))
	}
}

func appendText(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(append(buf, 's'), uint64(len(s))), s...)
}
