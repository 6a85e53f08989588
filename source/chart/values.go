package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/source"
)

// mergeValues makes values.yaml of the files the options name.
func (b *builder) mergeValues() error {
	if len(b.opts.ValuesFiles) == 0 {
		return nil
	}
	merged, found := map[string]any{}, false
	for _, name := range b.opts.ValuesFiles {
		if !fs.ValidPath(name) {
			return fmt.Errorf("%w: values file %q: want a path below the root of the tree", source.ErrUnsafePath, name)
		}
		data, err := b.read(b.values, name)
		if errors.Is(err, fs.ErrNotExist) && b.opts.IgnoreMissing {
			continue
		}
		if err != nil {
			return fmt.Errorf("values file %s: %w", name, err)
		}
		values, err := parseValues(data)
		if err != nil {
			return fmt.Errorf("%w: values file %s: %w", source.ErrInvalidSpec, name, err)
		}
		merged, found = merge(merged, values), true
	}
	if !found {
		return nil // all are missing, and may be
	}
	data, err := yaml.Marshal(merged)
	b.files[valuesFile] = data
	return err
}

// merge puts values over others: maps are merged, everything else is replaced,
// as by Helm when it is given several files.
func merge(under, over map[string]any) map[string]any {
	out := make(map[string]any, len(under)+len(over))
	for key, value := range under {
		out[key] = value
	}
	for key, value := range over {
		next, ok := value.(map[string]any)
		if before, both := out[key].(map[string]any); ok && both {
			out[key] = merge(before, next)
			continue
		}
		out[key] = value
	}
	return out
}

// parseValues reads one file. Numbers stay as they are written.
func parseValues(data []byte) (map[string]any, error) {
	values := map[string]any{}
	err := yaml.Unmarshal(data, &values, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d })
	if values == nil {
		values = map[string]any{}
	}
	return values, err
}
