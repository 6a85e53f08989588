package helm

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"helm.sh/helm/v3/pkg/chart"
)

// validate checks values against values.schema.json of the chart and of its
// dependencies. Unlike Helm it reads no network and no disk: a $ref may name
// only files of the chart.
func validate(c *chart.Chart, values map[string]any) error {
	var errs []error
	if c.Schema != nil {
		for _, problem := range validateOne(c, values) {
			errs = append(errs, fmt.Errorf("%w: %s: %s", ErrSchema, c.ChartFullPath(), problem))
		}
	}
	for _, dependency := range c.Dependencies() {
		sub, set := values[dependency.Name()]
		if !set || sub == nil {
			continue
		}
		switch sub := sub.(type) {
		case map[string]any:
			errs = append(errs, validate(dependency, sub))
		default:
			errs = append(errs, fmt.Errorf("%w: %s: the values are a %T, want a mapping", ErrSchema, dependency.ChartFullPath(), sub))
		}
	}
	return errors.Join(errs...)
}

// maxSchema bounds a schema; those of large charts have a tenth of it.
const maxSchema = 1 << 20

const schemaURL = "file:///values.schema.json"

// validateOne returns what is wrong with the values of one chart, or with its schema.
func validateOne(c *chart.Chart, values map[string]any) (problems []string) {
	defer func() {
		if r := recover(); r != nil {
			problems = []string{"values.schema.json cannot be used"}
		}
	}()
	schema, err := readSchema(c.Schema)
	if err != nil {
		return []string{"values.schema.json: " + err.Error()}
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(chartFiles{c})
	if err := compiler.AddResource(schemaURL, schema); err != nil {
		return []string{"values.schema.json: " + err.Error()}
	}
	validator, err := compiler.Compile(schemaURL)
	if err != nil {
		return []string{"values.schema.json: " + err.Error()}
	}
	invalid := (*jsonschema.ValidationError)(nil)
	if err := validator.Validate(values); errors.As(err, &invalid) {
		return describe(invalid)
	} else if err != nil {
		return []string{"the values cannot be checked"} // err may repeat them
	}
	return nil
}

func readSchema(data []byte) (any, error) {
	if len(data) > maxSchema {
		return nil, fmt.Errorf("it has more than %d bytes", maxSchema)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("it is not JSON")
	}
	return schema, nil
}

// chartFiles resolves the references of a schema to files of the chart.
type chartFiles struct{ chart *chart.Chart }

// Load reads the schema at a URL, which must be one below that of the schema itself.
func (l chartFiles) Load(address string) (any, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "file" || u.Host != "" {
		return nil, errors.New("a schema may refer only to files of its chart")
	}
	name := strings.TrimPrefix(u.Path, "/")
	for _, f := range l.chart.Files {
		if f.Name == name {
			return readSchema(f.Data)
		}
	}
	return nil, fmt.Errorf("the chart has no file %q", name)
}

// describe lists the leaves of a validation error: where, and which rule, but
// no value, which may be a secret.
func describe(e *jsonschema.ValidationError) []string {
	if len(e.Causes) > 0 {
		var out []string
		for _, cause := range e.Causes {
			out = append(out, describe(cause)...)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return []string{"at /" + strings.Join(e.InstanceLocation, "/") + ": " + rule(e.ErrorKind)}
}

// rule says which rule a value breaks.
func rule(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("got %s, want %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Required:
		return "missing " + strings.Join(k.Missing, ", ")
	case *kind.AdditionalProperties:
		names := slices.Sorted(slices.Values(k.Properties))
		return "not allowed: " + strings.Join(names, ", ")
	case *kind.Enum:
		return fmt.Sprintf("want one of %v", k.Want)
	case *kind.Const:
		return fmt.Sprintf("want %v", k.Want)
	case *kind.Pattern:
		return "does not match " + k.Want
	case *kind.Minimum:
		return "less than " + k.Want.RatString()
	case *kind.Maximum:
		return "more than " + k.Want.RatString()
	}
	if path := k.KeywordPath(); len(path) > 0 {
		return "breaks the rule " + strings.Join(path, "/")
	}
	return "not allowed"
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
