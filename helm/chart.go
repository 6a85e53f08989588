package helm

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// Chart is a loaded chart with its dependencies. It is immutable and safe for
// concurrent use: a render works on a copy. Only [Load] and [LoadArchive] make
// one that can be rendered.
type Chart struct {
	chart *chart.Chart
}

// Name returns the name of the chart.
func (c *Chart) Name() string { return c.metadata().Name }

// Version returns the version of the chart.
func (c *Chart) Version() string { return c.metadata().Version }

// AppVersion returns the version of what the chart installs, empty if it says none.
func (c *Chart) AppVersion() string { return c.metadata().AppVersion }

// KubeVersion returns the constraint on the version of Kubernetes, empty if there is none.
func (c *Chart) KubeVersion() string { return c.metadata().KubeVersion }

// Deprecated reports whether the chart says that it should not be used any more.
func (c *Chart) Deprecated() bool { return c.metadata().Deprecated }

// Library reports whether only other charts can use the chart.
func (c *Chart) Library() bool { return c.metadata().Type == "library" }

// Values returns a copy of the default values.
func (c *Chart) Values() map[string]any {
	if c.empty() {
		return nil
	}
	return copyMap(c.chart.Values)
}

// empty reports a chart that was not loaded.
func (c *Chart) empty() bool { return c == nil || c.chart == nil }

func (c *Chart) metadata() *chart.Metadata {
	if c.empty() {
		return &chart.Metadata{}
	}
	return c.chart.Metadata
}

// WithVersion returns the chart under another version, which templates see as
// .Chart.Version and which the release records. Flux appends a digest this way.
func (c *Chart) WithVersion(version string) (*Chart, error) {
	if c.empty() {
		return nil, &Error{Op: "load", Err: fmt.Errorf("%w: it was not loaded", ErrInvalid)}
	}
	out := *c.chart
	metadata := *c.chart.Metadata
	metadata.Version = version
	out.Metadata = &metadata
	if err := metadata.Validate(); err != nil {
		return nil, &Error{Op: "load", Chart: c.Name(), Err: fmt.Errorf("%w: version %q: %w", ErrInvalid, version, err)}
	}
	return &Chart{chart: &out}, nil
}

// newChart builds a chart from its files and checks all charts in it.
func newChart(files []*loader.BufferedFile) (out *Chart, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("%w: it cannot be read: %v", ErrInvalid, r)
		}
	}()
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := check(c); err != nil {
		return nil, err
	}
	return &Chart{chart: c}, nil
}

// check reports what Helm finds out late or never.
func check(c *chart.Chart) error {
	var errs []error
	where := c.ChartFullPath()
	if c.Metadata.APIVersion != chart.APIVersionV1 && c.Metadata.APIVersion != chart.APIVersionV2 {
		errs = append(errs, fmt.Errorf("%w: %s has apiVersion %q, known are v1 and v2", ErrUnsupported, where, c.Metadata.APIVersion))
	}
	if name := c.Name(); name == "." || name == ".." || path.Clean(name) != name {
		errs = append(errs, fmt.Errorf("%w: the name %q", ErrUnsafePath, name))
	}
	for _, dependency := range c.Metadata.Dependencies {
		if dependency == nil {
			errs = append(errs, fmt.Errorf("%w: %s lists an empty dependency", ErrInvalid, where))
			continue
		}
		if !slices.ContainsFunc(c.Dependencies(), func(d *chart.Chart) bool { return d.Name() == dependency.Name }) {
			errs = append(errs, fmt.Errorf("%w: %s needs the chart %s %s, which is not in charts/: run helm dependency build",
				ErrInvalid, where, dependency.Name, dependency.Version))
		}
	}
	for _, dependency := range c.Dependencies() {
		errs = append(errs, check(dependency))
	}
	return errors.Join(errs...)
}

// clone returns a chart that a render may change: Helm drops disabled
// dependencies from, and imports values into, the chart it is given. Files
// are shared.
func clone(c *chart.Chart) *chart.Chart {
	out := *c
	metadata := *c.Metadata
	metadata.Dependencies = nil
	for _, d := range c.Metadata.Dependencies {
		dependency := *d
		metadata.Dependencies = append(metadata.Dependencies, &dependency)
	}
	out.Metadata = &metadata
	out.Values = copyMap(c.Values)
	var dependencies []*chart.Chart
	for _, d := range c.Dependencies() {
		dependencies = append(dependencies, clone(d))
	}
	out.SetDependencies(dependencies...)
	return &out
}

// copyMap copies values as they come out of JSON and YAML.
func copyMap(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = copyValue(v)
	}
	return out
}

func copyValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return copyMap(v)
	case []any:
		if v == nil {
			return v
		}
		out := make([]any, len(v))
		for i := range v {
			out[i] = copyValue(v[i])
		}
		return out
	}
	return v
}
