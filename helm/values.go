package helm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"unicode/utf8"

	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// Reference names values in a ConfigMap or Secret. Its fields are those of
// spec.valuesFrom of Flux's HelmRelease.
type Reference struct {
	// Kind is "ConfigMap" or "Secret".
	Kind string `json:"kind"`
	// Name of the object.
	Name string `json:"name"`
	// ValuesKey is the key in its data; empty means "values.yaml".
	ValuesKey string `json:"valuesKey,omitempty"`
	// TargetPath is where the value goes, as in "a.b[0].c", where a dot in a
	// key is written "\.". The value then is what helm --set takes: typed,
	// "{a,b}" is a list, null deletes; one in quotes is a string. Empty means
	// that the value is YAML to merge at the root.
	TargetPath string `json:"targetPath,omitempty"`
	// Literal takes the value at TargetPath as it is.
	Literal bool `json:"literal,omitempty"`
	// Optional accepts that the object or the key does not exist.
	Optional bool `json:"optional,omitempty"`
}

func (r Reference) key() string {
	if r.ValuesKey == "" {
		return "values.yaml"
	}
	return r.ValuesKey
}

// Lookup returns the data of a ConfigMap or Secret. The error matches
// [fs.ErrNotExist] if there is no such object.
type Lookup func(ctx context.Context, kind, name string) (map[string][]byte, error)

// ReferenceError says which reference could not be used, and why. It holds
// nothing of the value.
type ReferenceError struct {
	Ref Reference
	// Err matches [ErrNotFound], [ErrKeyNotFound], [ErrValues], a context
	// error, or is what the lookup returned.
	Err error
}

func (e *ReferenceError) Error() string {
	text := fmt.Sprintf("helm: values from %s %s, key %s", e.Ref.Kind, e.Ref.Name, e.Ref.key())
	if e.Ref.TargetPath != "" {
		text += ", to " + e.Ref.TargetPath
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *ReferenceError) Unwrap() error { return e.Err }

// Compose returns the values of a release: the references in their order,
// later ones over earlier ones, then inline over them, then those references
// that have a TargetPath, in their order, over all. The default values of the
// chart are added by [Render].
//
// An object is looked up once, however often it is referenced. The arguments
// are not changed, and the result shares nothing with them. The error is a
// *[ReferenceError].
func Compose(ctx context.Context, lookup Lookup, inline map[string]any, refs ...Reference) (map[string]any, error) {
	found := map[[2]string]map[string][]byte{}
	root, targets := map[string]any{}, []func(map[string]any) error{}
	for _, ref := range refs {
		data, err := resolve(ctx, lookup, found, ref)
		if err != nil {
			return nil, &ReferenceError{Ref: ref, Err: err}
		}
		switch {
		case data == nil:
		case ref.TargetPath != "":
			targets = append(targets, func(values map[string]any) error {
				if err := set(values, ref.TargetPath, string(data), ref.Literal); err != nil {
					return &ReferenceError{Ref: ref, Err: err}
				}
				return nil
			})
		default:
			values, err := readValues(data)
			if err != nil {
				return nil, &ReferenceError{Ref: ref, Err: err}
			}
			root = Merge(root, values)
		}
	}
	root = Merge(root, inline)
	for _, target := range targets {
		if err := target(root); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// resolve returns what a reference names, nil if it is optional and missing.
func resolve(ctx context.Context, lookup Lookup, found map[[2]string]map[string][]byte, ref Reference) ([]byte, error) {
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case ref.Kind != "ConfigMap" && ref.Kind != "Secret":
		return nil, fmt.Errorf("%w: the kind must be ConfigMap or Secret", ErrValues)
	case lookup == nil:
		return nil, fmt.Errorf("%w: there is nothing to look it up with", ErrNotFound)
	}
	object := [2]string{ref.Kind, ref.Name}
	data, known := found[object]
	if !known {
		var err error
		data, err = lookup(ctx, ref.Kind, ref.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil {
			data = nil
		} else if data == nil {
			data = map[string][]byte{}
		}
		found[object] = data
	}
	value, ok := data[ref.key()]
	switch {
	case !ok && ref.Optional:
		return nil, nil
	case data == nil:
		return nil, ErrNotFound
	case !ok:
		return nil, ErrKeyNotFound
	case value == nil:
		return []byte{}, nil
	}
	return value, nil
}

// Merge returns the layers on top of one another: maps are merged, anything
// else, lists and null included, replaces what is below. The layers are not
// changed, and the result shares nothing with them.
func Merge(layers ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, layer := range layers {
		mergeInto(out, layer)
	}
	return out
}

func mergeInto(dst, src map[string]any) {
	for k, v := range src {
		over, isMap := v.(map[string]any)
		under, both := dst[k].(map[string]any)
		if isMap && both {
			mergeInto(under, over)
			continue
		}
		dst[k] = copyValue(v)
	}
}

// maxValue bounds what a target path sets, and everything read as values.
const maxValue = 1 << 20

// set puts a value at a path, by the grammar of helm --set.
func set(values map[string]any, path, value string, literal bool) (err error) {
	defer func() {
		if r := recover(); r != nil { // strvals indexes what it was given
			err = fmt.Errorf("%w: the target path does not fit the values", ErrValues)
		}
	}()
	switch {
	case len(path) > 1024:
		return fmt.Errorf("%w: the target path is longer than 1024 bytes", ErrValues)
	case len(value) > maxValue:
		return fmt.Errorf("%w: the value is larger than %d bytes", ErrValues, maxValue)
	case strings.ContainsAny(path, "=,\n"):
		return fmt.Errorf("%w: the target path may not hold =, a comma or a new line", ErrValues)
	case literal && !utf8.ValidString(value):
		return fmt.Errorf("%w: the value is not text", ErrValues)
	}
	parse := strvals.ParseInto
	switch {
	case literal:
		parse, value = strvals.ParseIntoString, strings.NewReplacer(`\`, `\\`, `,`, `\,`, `{`, `\{`).Replace(value)
	case quoted(value):
		parse, value = strvals.ParseIntoString, strings.Trim(value, `'"`)
	}
	if parse(path+"="+value, values) != nil { // its error repeats the value
		return fmt.Errorf("%w: the value cannot be set at the target path", ErrValues)
	}
	return nil
}

func quoted(s string) bool {
	return strings.HasPrefix(s, "'") && strings.HasSuffix(s, "'") || strings.HasPrefix(s, `"`) && strings.HasSuffix(s, `"`)
}

var lineOf = regexp.MustCompile(`line \d+`)

// readValues reads YAML that is a mapping, or empty. The error says nothing of
// the content, which may be a Secret.
func readValues(data []byte) (map[string]any, error) {
	if len(data) > 5*maxValue {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrValues, 5*maxValue)
	}
	values := map[string]any{}
	err := yaml.Unmarshal(data, &values, func(d *json.Decoder) *json.Decoder {
		d.UseNumber()
		return d
	})
	if err != nil {
		if line := lineOf.FindString(err.Error()); line != "" {
			return nil, fmt.Errorf("%w: not YAML, %s", ErrValues, line)
		}
		return nil, fmt.Errorf("%w: not a YAML mapping", ErrValues)
	}
	if values == nil {
		values = map[string]any{}
	}
	return values, nil
}

func marshalYAML(values map[string]any) ([]byte, error) {
	if len(values) == 0 {
		return []byte("{}\n"), nil
	}
	return yaml.Marshal(values)
}

// ReadValues reads a values file: YAML or JSON with a mapping at the root,
// or nothing. Numbers keep their digits. The error matches [ErrValues].
func ReadValues(data []byte) (map[string]any, error) {
	return readValues(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
}
