package kube

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// UnsupportedError says which fields of an object a controller cannot honour.
// It is terminal: the object stalls until they are removed.
type UnsupportedError struct {
	// Fields are paths such as "spec.verify.provider".
	Fields []string
}

func (e *UnsupportedError) Error() string {
	return strings.Join(e.Fields, ", ") + " is not supported by this controller yet: remove it"
}

// Terminal says that only a changed object can help.
func (e *UnsupportedError) Terminal() bool { return true }

// Unsupported returns an [*UnsupportedError] with those paths that obj has a
// value for, nil if there is none. A path names fields of the JSON form, with
// dots between them: "spec.a.b". Where a field is a list, its elements are
// meant. After "=" follows the one value that is not supported:
// "spec.provider=azure"; after "!=" follow, with bars between them, the values
// that are supported: "spec.provider!=generic|github".
func Unsupported(obj client.Object, paths ...string) error {
	data, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("kube: %w", err)
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		return fmt.Errorf("kube: %w", err)
	}
	var found []string
	for _, path := range paths {
		if field, ok := offends(content, path); ok {
			found = append(found, field)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &UnsupportedError{Fields: found}
}

// offends reports whether the content has what a path describes.
func offends(content map[string]any, path string) (field string, ok bool) {
	if field, allowed, cut := strings.Cut(path, "!="); cut {
		for _, v := range values(content, strings.Split(field, ".")) {
			if text := fmt.Sprint(v); !within(allowed, text) {
				return fmt.Sprintf("%s: %s", field, text), true
			}
		}
		return "", false
	}
	field, refused, cut := strings.Cut(path, "=")
	for _, v := range values(content, strings.Split(field, ".")) {
		if !cut {
			return field, true
		}
		if fmt.Sprint(v) == refused {
			return field + ": " + refused, true
		}
	}
	return "", false
}

func within(allowed, value string) bool {
	for one := range strings.SplitSeq(allowed, "|") {
		if one == value {
			return true
		}
	}
	return false
}

// values returns what content has at path, without zero values.
func values(content any, path []string) []any {
	if list, ok := content.([]any); ok && len(path) > 0 {
		var out []any
		for _, e := range list {
			out = append(out, values(e, path)...)
		}
		return out
	}
	if len(path) > 0 {
		m, _ := content.(map[string]any)
		return values(m[path[0]], path[1:])
	}
	v := reflect.ValueOf(content)
	if !v.IsValid() || v.IsZero() {
		return nil
	}
	if k := v.Kind(); (k == reflect.Map || k == reflect.Slice) && v.Len() == 0 {
		return nil
	}
	return []any{content}
}
