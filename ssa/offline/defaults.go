package offline

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	_ "embed"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

//go:embed defaults.txt
var defaultsText string

// defaults are those of the API server's code, by kind.
type defaults map[schema.GroupKind][]fill

// fill is one line of defaults.txt.
type fill struct {
	path  []step
	value any
	when  *guard
	block []fill // instead of a value
}

// step is one part of a path.
type step struct {
	name     string
	each     bool // of a list
	optional bool // not made if it is missing
	zero     bool // "" and 0 count as missing
}

// guard is what another field must be.
type guard struct {
	path  []string
	op    string
	value any
}

// parseDefaults reads the form of defaults.txt. Blocks may be used before they
// are defined.
func parseDefaults(text string) (defaults, error) {
	blocks := map[string]*[]fill{}
	kinds := map[schema.GroupKind]*[]fill{}
	type use struct {
		of   *[]fill
		at   int
		name string
	}
	var uses []use
	current := &[]fill{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		switch {
		case line == "" || line[0] == '#':
		case len(words) == 1 && strings.HasSuffix(line, ":"):
			current = &[]fill{}
			blocks[strings.TrimSuffix(line, ":")] = current
		case len(words) == 3 && words[1] == "+":
			uses = append(uses, use{current, len(*current), words[2]})
			*current = append(*current, fill{path: parsePath(words[0])})
		case len(words) > 2 && words[1] == "=":
			f, err := parseFill(words[0], line[strings.Index(line, "=")+1:])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			*current = append(*current, f)
		case len(words) <= 2:
			gk := schema.GroupKind{Kind: words[0]}
			if len(words) == 2 {
				gk.Group = words[1]
			}
			current = &[]fill{}
			kinds[gk] = current
		default:
			return nil, fmt.Errorf("line %d: %q is neither a kind, a block nor a default", n, line)
		}
	}
	for _, u := range uses { // a copy of a slice shares its items, so the order does not matter
		block := blocks[u.name]
		if block == nil {
			return nil, fmt.Errorf("there is no block %s", u.name)
		}
		(*u.of)[u.at].block = *block
	}
	out := defaults{}
	for gk, fills := range kinds {
		out[gk] = *fills
	}
	return out, nil
}

func parsePath(s string) []step {
	var out []step
	for part := range strings.SplitSeq(s, ".") {
		st := step{}
		part, st.zero = strings.CutSuffix(part, "~")
		part, st.optional = strings.CutSuffix(part, "?")
		st.name, st.each = strings.CutSuffix(part, "[]")
		out = append(out, st)
	}
	return out
}

func parseFill(path, rest string) (fill, error) {
	f := fill{path: parsePath(path)}
	text, when, conditional := strings.Cut(rest, " | ")
	if err := utiljson.Unmarshal([]byte(text), &f.value); err != nil {
		return f, err
	}
	if !conditional {
		return f, nil
	}
	words := strings.Fields(when)
	f.when = &guard{path: strings.Split(words[0], "."), op: words[1]}
	switch {
	case len(words) == 2 && (f.when.op == "set" || f.when.op == "unset"):
		return f, nil
	case len(words) == 3 && (f.when.op == "==" || f.when.op == "!="):
		return f, json.Unmarshal([]byte(words[2]), &f.when.value)
	}
	return f, fmt.Errorf("%q is no condition", when)
}

// apply fills in what root lacks.
func (f fill) apply(root map[string]any) {
	f.walk(root, root, f.path)
}

// walk fills in below at; scope is what conditions look at: the root of the
// object or block, or the innermost item of a list.
func (f fill) walk(scope, at map[string]any, path []step) {
	if len(path) == 0 {
		for _, inner := range f.block {
			inner.apply(at)
		}
		return
	}
	s := path[0]
	if s.each {
		items, ok := at[s.name].([]any)
		if !ok {
			return
		}
		for _, item := range items {
			if m, ok := item.(map[string]any); ok {
				f.walk(m, m, path[1:])
			}
		}
		return
	}
	if len(path) > 1 || f.block != nil {
		next, ok := at[s.name].(map[string]any)
		if !ok && (s.optional || at[s.name] != nil || f.when != nil && !f.when.holds(scope)) {
			return
		}
		if !ok {
			next = map[string]any{}
			at[s.name] = next
		}
		f.walk(scope, next, path[1:])
		return
	}
	if f.when != nil && !f.when.holds(scope) {
		return
	}
	if value := at[s.name]; value == nil || value == "" || s.zero && value == int64(0) {
		if value == "" && !s.zero && f.value != "" && !isText(f.value) {
			return
		}
		at[s.name] = runtime.DeepCopyJSONValue(f.value)
	}
}

func isText(v any) bool {
	_, ok := v.(string)
	return ok
}

func (c *guard) holds(scope map[string]any) bool {
	value, has, err := unstructured.NestedFieldNoCopy(scope, c.path...)
	set := has && err == nil && value != nil && value != "" && !isEmpty(value)
	switch c.op {
	case "set":
		return set
	case "unset":
		return !set
	case "==":
		return reflect.DeepEqual(value, c.value)
	default:
		return !reflect.DeepEqual(value, c.value)
	}
}

func isEmpty(v any) bool {
	list, ok := v.([]any)
	return ok && len(list) == 0
}
