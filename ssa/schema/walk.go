package schema

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// walker compares a value with its schema.
type walker struct {
	secret bool // no values in messages
	out    []Violation
}

func (w *walker) add(reason Reason, path, format string, args ...any) {
	w.out = append(w.out, Violation{Reason: reason, Path: path, Message: fmt.Sprintf(format, args...)})
}

// value checks one value. Null is as good as absent, as it is to the server.
func (w *walker) value(n *node, v any, path string) {
	if v == nil || n == nil {
		return
	}
	switch n.form {
	case anything:
	case object, mapping:
		w.object(n, v, path)
	case list:
		w.list(n, v, path)
	case text:
		w.text(n, v, path)
	case integer:
		w.integer(n, v, path)
	case number:
		switch v.(type) {
		case int64, float64:
		default:
			w.wrongType("a number", v, path)
		}
	case boolean:
		if _, ok := v.(bool); !ok {
			w.wrongType("true or false", v, path)
		}
	case intOrString:
		if _, ok := v.(string); !ok {
			w.integer(&node{form: integer, format: "int32"}, v, path)
		}
	case quantity:
		w.quantity(v, path)
	}
}

func (w *walker) wrongType(want string, v any, path string) {
	w.add(WrongType, path, "expected %s, not %s", want, typeName(v))
}

func (w *walker) object(n *node, v any, path string) {
	m, ok := v.(map[string]any)
	if !ok {
		w.wrongType("an object", v, path)
		return
	}
	if n.form == object && n.fields == nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if n.form == mapping {
			w.value(n.each, m[key], join(path, key))
			continue
		}
		f, ok := n.fields[key]
		if !ok {
			w.add(UnknownField, join(path, key), "unknown field%s", suggestion(key, n.fields))
			continue
		}
		w.value(f.node, m[key], join(path, key))
	}
	for _, key := range n.required {
		if m[key] == nil && !strings.HasPrefix(path, "status") { // which an apply resets
			w.add(Missing, join(path, key), "required, and not there")
		}
	}
}

func (w *walker) list(n *node, v any, path string) {
	items, ok := v.([]any)
	if !ok {
		w.wrongType("a list", v, path)
		return
	}
	seen := map[string]int{}
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		w.value(n.each, item, at)
		key, ok := w.key(n, item, at)
		if !ok {
			continue
		}
		if first, ok := seen[key]; ok {
			what := "the same value"
			if n.keys != nil {
				what = "the same " + strings.Join(n.keys, " and ")
			}
			w.add(DuplicateItem, at, "%s as item %d of the list", what, first)
			continue
		}
		seen[key] = i
	}
}

// key returns what must not occur twice in a list, false if anything may.
func (w *walker) key(n *node, item any, path string) (string, bool) {
	if !n.set && n.keys == nil {
		return "", false
	}
	if item == nil {
		w.add(WrongType, path, "null in a list without duplicates")
		return "", false
	}
	if n.set {
		return encoded(item), true
	}
	m, ok := item.(map[string]any)
	if !ok {
		return "", false
	}
	var parts []any
	present := false
	for _, k := range n.keys {
		value, ok := m[k]
		if value == nil && n.each.fields[k] != nil {
			value = n.each.fields[k].preset
		}
		present = present || ok || value != nil
		parts = append(parts, value)
	}
	if !present {
		if !slices.ContainsFunc(n.keys, func(k string) bool { return slices.Contains(n.each.required, k) }) {
			w.add(Missing, join(path, n.keys[0]), "required as a key of the list, and not there")
		}
		return "", false
	}
	return encoded(parts), true
}

func (w *walker) text(n *node, v any, path string) {
	s, ok := v.(string)
	if !ok {
		w.wrongType("a text", v, path)
		return
	}
	switch n.format {
	case "byte":
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			w.add(WrongType, path, "not base64")
		}
	case "date-time":
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			w.add(WrongType, path, "not a time such as 2006-01-02T15:04:05Z")
		}
	}
	// An empty text is as good as none to the server.
	if n.enum != nil && s != "" && !slices.Contains(n.enum, s) {
		got := ""
		if !w.secret {
			got = ", not " + strconv.Quote(shortened(s))
		}
		w.add(BadValue, path, "must be one of %s%s", strings.Join(slices.DeleteFunc(slices.Clone(n.enum), func(s string) bool { return s == "" }), ", "), got)
	}
}

func (w *walker) integer(n *node, v any, path string) {
	var i int64
	switch v := v.(type) {
	case int64:
		i = v
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
			w.add(WrongType, path, "expected an integer, not a fraction")
			return
		}
		i = int64(v)
	default:
		want := "an integer"
		if n.format == "int32" {
			want = "an integer of 32 bits"
		}
		w.wrongType(want, v, path)
		return
	}
	if n.format == "int32" && (i > math.MaxInt32 || i < math.MinInt32) {
		w.add(WrongType, path, "does not fit in 32 bits")
	}
}

func (w *walker) quantity(v any, path string) {
	switch v := v.(type) {
	case int64, float64:
	case string:
		if _, err := resource.ParseQuantity(strings.TrimSpace(v)); err != nil {
			w.add(WrongType, path, "not a quantity such as 500m or 1.5Gi")
		}
	default:
		w.wrongType("a quantity", v, path)
	}
}

// join adds a key to a path.
func join(path, key string) string {
	if path != "" && strings.ContainsAny(key, "./[] ") || key == "" {
		return path + "[" + key + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a text"
	case bool:
		return strconv.FormatBool(v)
	case int64, float64:
		return "a number"
	}
	return fmt.Sprintf("%T", v)
}

func encoded(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

// shortened keeps a value fit for a message.
func shortened(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:64]) + "…"
	}
	return s
}

// suggestion returns ", did you mean replicas?" for a name that is close to
// one that exists.
func suggestion(name string, fields map[string]*slot) string {
	best, distance := "", 3
	for _, other := range slices.Sorted(maps.Keys(fields)) {
		if strings.EqualFold(other, name) {
			return ", did you mean " + other + "?"
		}
		if d := edits(name, other); d < distance && d*3 <= len(other) {
			best, distance = other, d
		}
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// edits counts the letters to insert, delete or replace to get from a to b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
