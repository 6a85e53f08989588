package kustomize

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// SubstituteLabel is the label or annotation that keeps [Substitute] away from
// an object when its value is "disabled".
const SubstituteLabel = "kustomize.toolkit.fluxcd.io/substitute"

// SubstituteOptions are the optional settings of [Substitute].
type SubstituteOptions struct {
	// Always evaluates expressions also when there is not one variable, for
	// the sake of those that give a default. By default nothing is done then.
	Always bool
	// AllowUnset makes a variable that is not set the empty string. By default
	// it is an error, unless the expression gives a default.
	AllowUnset bool
}

// Substitute replaces the ${…} expressions in objects, in the way Flux does
// after a build. [Expand] has the language.
//
// It works on the YAML text of each object: a value can change its type, as
// ${n} becomes a number when n is "3", and keys can hold expressions, too. An
// object with the label or annotation [SubstituteLabel]: disabled is left as
// it is. Newlines in values are dropped. The objects of the result that hold
// no expression are those given; the others are new.
//
// Every failure of every object is reported, as a *[SubstituteError] that
// names the object, the field and the variable, never a value.
func Substitute(ctx context.Context, objects []*unstructured.Unstructured, vars map[string]string, opts *SubstituteOptions) ([]*unstructured.Unstructured, error) {
	if opts == nil {
		opts = &SubstituteOptions{}
	}
	if len(vars) == 0 && !opts.Always {
		return objects, nil
	}
	if err := checkNames(vars); err != nil {
		return nil, err
	}
	lookup := func(name string) (string, bool) {
		v, set := vars[name]
		return strings.ReplaceAll(v, "\n", ""), set || opts.AllowUnset
	}
	out := make([]*unstructured.Unstructured, 0, len(objects))
	var failed []error
	for _, o := range objects {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		done, err := substitute(o, lookup)
		failed = append(failed, err)
		out = append(out, done)
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return out, nil
}

// SubstituteError says in which object an expression could not be replaced.
type SubstituteError struct {
	// Object is the kind, namespace and name of the object.
	Object string
	// Field is the path of the field that holds the expression; empty when
	// that is not known.
	Field string
	// Err is the cause. It matches [ErrUnset], [ErrInvalid] or [ErrLimit].
	Err error
}

func (e *SubstituteError) Error() string {
	where := e.Object
	if e.Field != "" {
		where += ": " + e.Field
	}
	return "kustomize: substitute in " + where + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SubstituteError) Unwrap() error { return e.Err }

var nameRule = regexp.MustCompile(`^[_[:alpha:]][_[:alpha:][:digit:]]*$`)

func checkNames(vars map[string]string) error {
	for name := range vars {
		if !nameRule.MatchString(name) {
			return fmt.Errorf("kustomize: substitute: %w: %q is no name of a variable: use letters, digits and _, and no digit first", ErrInvalid, name)
		}
	}
	return nil
}

func substitute(o *unstructured.Unstructured, lookup func(string) (string, bool)) (*unstructured.Unstructured, error) {
	const off = "disabled"
	if o.GetLabels()[SubstituteLabel] == off || o.GetAnnotations()[SubstituteLabel] == off {
		return o, nil
	}
	fail := func(field string, err error) error {
		return &SubstituteError{Object: describe(o), Field: field, Err: err}
	}
	before, err := yaml.Marshal(o.Object)
	if err != nil {
		return nil, fail("", fmt.Errorf("%w: %w", ErrInvalid, err))
	}
	if !strings.Contains(string(before), "$") {
		return o, nil
	}
	after, err := Expand(string(before), lookup)
	if err != nil {
		return nil, fail(culprit("", o.Object, lookup), err)
	}
	content, err := parse(after)
	if err != nil {
		return nil, fail("", err)
	}
	done := &unstructured.Unstructured{Object: content}
	if done.GetAPIVersion() == "" || done.GetKind() == "" || done.GetName() == "" && done.GetGenerateName() == "" {
		return nil, fail("", fmt.Errorf("%w: with the values of the variables it has no apiVersion, kind or metadata.name", ErrInvalid))
	}
	return done, nil
}

// parse reads the text of one object. Its errors do not repeat the text, which
// may hold values of Secrets.
func parse(text string) (map[string]any, error) {
	if err := expandable([]byte(text)); err != nil {
		return nil, err
	}
	var v map[string]any
	data, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = utiljson.Unmarshal(data, &v) // keeps integers
	}
	if err != nil {
		return nil, fmt.Errorf("%w: with the values of the variables it is no YAML object%s: quote the expression, or its value", ErrInvalid, atLine(err))
	}
	content, err := jsonValue(v)
	if err != nil {
		return nil, err
	}
	return content.(map[string]any), nil //nolint:forcetypeassert // jsonValue keeps the kind of a map
}

// atLine returns the line that a YAML error names.
func atLine(err error) string {
	if n := line(err); n > 0 {
		return fmt.Sprintf(", line %d of its text", n)
	}
	return ""
}

// culprit returns the path of the first field in which Expand fails.
func culprit(at string, v any, lookup func(string) (string, bool)) string {
	switch v := v.(type) {
	case string:
		if _, err := Expand(v, lookup); err != nil {
			return at
		}
	case []any:
		for i, e := range v {
			if found := culprit(fmt.Sprintf("%s[%d]", at, i), e, lookup); found != "" {
				return found
			}
		}
	case map[string]any:
		for _, k := range sortedKeys(v) {
			below := strings.TrimPrefix(at+"."+k, ".")
			if _, err := Expand(k, lookup); err != nil {
				return below
			}
			if found := culprit(below, v[k], lookup); found != "" {
				return found
			}
		}
	}
	return ""
}

// describe names an object in messages.
func describe(o *unstructured.Unstructured) string {
	name := o.GetName()
	if name == "" {
		name = o.GetGenerateName()
	}
	if ns := o.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return o.GetKind() + " " + name
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
