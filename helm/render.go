package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// DefaultKubeVersion is the version of Kubernetes that charts see when
// [Capabilities] name none: that of the libraries this package is built with.
const DefaultKubeVersion = "v1.37.0"

// Release is what templates see as .Release.
type Release struct {
	// Name is required: at most 53 characters of a DNS name. [ReleaseName] shortens.
	Name string
	// Namespace is required.
	Namespace string
	// Revision counts from 1; 0 means 1.
	Revision int
	// Upgrade is .Release.IsUpgrade; .Release.IsInstall is its opposite.
	Upgrade bool
}

// Capabilities are what templates see as .Capabilities: what the cluster can do.
type Capabilities struct {
	// KubeVersion is the version of Kubernetes; empty means [DefaultKubeVersion].
	KubeVersion string
	// APIVersions are served beside those of Kubernetes itself, such as
	// "monitoring.coreos.com/v1" and "monitoring.coreos.com/v1/ServiceMonitor".
	APIVersions []string
}

// PostRenderer changes objects after they were rendered: it may change those
// it is given and returns the result.
type PostRenderer func(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error)

// RenderOptions are the optional settings of [Render].
type RenderOptions struct {
	// Capabilities are what the cluster can do; the zero value is that of
	// [DefaultKubeVersion] and no more APIs than it has.
	Capabilities Capabilities
	// PostRender runs on the objects, in order. Definitions from crds/ are not
	// among them.
	PostRender []PostRenderer
	// PostRenderHooks runs PostRender on hooks, too, together with the other
	// objects, as Flux does by default.
	PostRenderHooks bool
	// SkipSchema leaves out the check against values.schema.json.
	SkipSchema bool
	// SkipTests leaves out test hooks.
	SkipTests bool
	// Strict fails on values that a template uses and nobody set.
	Strict bool
	// Limits bound the cost; the zero value means the defaults.
	Limits RenderLimits
}

// Result is what a chart becomes.
type Result struct {
	// Release is what was rendered for.
	Release Release
	// CRDs are the definitions in crds/ of the chart and of its enabled
	// dependencies.
	CRDs []*unstructured.Unstructured
	// Objects are all others but the hooks, in the order Helm installs them.
	// Lists are expanded. Those without a namespace have none.
	Objects []*unstructured.Unstructured
	// Hooks are in the order of Helm: by kind, and weights are for who runs them.
	Hooks []Hook
	// Notes is NOTES.txt.
	Notes string
	// Manifest is what Helm stores: the very bytes unless objects were
	// post-rendered.
	Manifest []byte
	// Values are those of the release, a copy without the defaults of the chart.
	Values map[string]any
	// Chart is the chart as Helm stores it in the release: without disabled
	// dependencies, with imported values. It is the caller's.
	Chart *chart.Chart
	// Warnings say what was left out.
	Warnings []string
}

// Render executes the templates of a chart. Nothing but the arguments is read:
// the lookup function finds nothing and getHostByName resolves nothing.
//
// The arguments are not changed. The error is an *[Error]; a template that
// fails is [ErrTemplate], and its text is the chart's own. A template cannot
// be interrupted: if ctx ends or the time is over, Render returns at once, and
// what the template still does is in vain.
func Render(ctx context.Context, c *Chart, release Release, values map[string]any, opts *RenderOptions) (*Result, error) {
	r := &rendering{release: release}
	if opts != nil {
		r.opts = *opts
	}
	r.limits = r.opts.Limits.withDefaults()
	if r.release.Revision == 0 {
		r.release.Revision = 1
	}
	out, err := r.render(ctx, c, values)
	if err != nil {
		wrapped := &Error{Op: "render", Chart: c.Name() + " " + c.Version(), Err: err}
		if at := (*fileError)(nil); errors.As(err, &at) {
			wrapped.Path, wrapped.Err = at.path, at.err
		}
		return nil, wrapped
	}
	return out, nil
}

type rendering struct {
	release Release
	opts    RenderOptions
	limits  RenderLimits
}

func (r *rendering) render(ctx context.Context, c *Chart, values map[string]any) (*Result, error) {
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case c.empty():
		return nil, fmt.Errorf("%w: it was not loaded", ErrInvalid)
	case c.Library():
		return nil, fmt.Errorf("%w: install a chart that uses it", ErrLibrary)
	}
	if err := r.release.validate(); err != nil {
		return nil, err
	}
	capabilities, err := r.opts.Capabilities.helm()
	if err != nil {
		return nil, err
	}
	if want := c.KubeVersion(); want != "" && !chartutil.IsCompatibleRange(want, capabilities.KubeVersion.Version) {
		return nil, fmt.Errorf("%w: the chart requires %s, the cluster has %s", ErrKubeVersion, want, capabilities.KubeVersion.Version)
	}
	out := &Result{Release: r.release, Values: copyMap(values), Chart: clone(c.chart)}
	if out.Values == nil {
		out.Values = map[string]any{}
	}
	top, err := r.values(out.Chart, out.Values, capabilities)
	if err != nil {
		return nil, err
	}
	files, err := r.execute(ctx, out.Chart, top)
	if err != nil {
		return nil, err
	}
	if err := r.split(out, files); err != nil {
		return nil, err
	}
	if err := r.postRender(ctx, out); err != nil {
		return nil, err
	}
	if n := len(out.Objects) + len(out.Hooks) + len(out.CRDs); n > r.limits.Objects {
		return nil, fmt.Errorf("%w: %d objects, allowed are %d", ErrLimit, n, r.limits.Objects)
	}
	return out, nil
}

// validate reports a name that Helm would refuse.
func (r Release) validate() error {
	if err := chartutil.ValidateReleaseName(r.Name); err != nil {
		return fmt.Errorf("%w: name %q: %w", ErrRelease, r.Name, err)
	}
	if r.Namespace == "" {
		return fmt.Errorf("%w: it has no namespace", ErrRelease)
	}
	return nil
}

// helm returns the capabilities in Helm's form.
func (c Capabilities) helm() (*chartutil.Capabilities, error) {
	version := c.KubeVersion
	if version == "" {
		version = DefaultKubeVersion
	}
	parsed, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not a version of Kubernetes", ErrKubeVersion, version)
	}
	out := *chartutil.DefaultCapabilities
	out.KubeVersion = *parsed
	out.APIVersions = append(slices.Clone(out.APIVersions), c.APIVersions...)
	return &out, nil
}

// values prepares the chart and returns what its templates see.
func (r *rendering) values(c *chart.Chart, values map[string]any, capabilities *chartutil.Capabilities) (top chartutil.Values, err error) {
	defer func() {
		if p := recover(); p != nil {
			top, err = nil, fmt.Errorf("%w: its dependencies cannot be processed", ErrInvalid)
		}
	}()
	if err := chartutil.ProcessDependenciesWithMerge(c, copyMap(values)); err != nil {
		return nil, fmt.Errorf("%w: its dependencies: %w", ErrInvalid, err)
	}
	options := chartutil.ReleaseOptions{
		Name: r.release.Name, Namespace: r.release.Namespace, Revision: r.release.Revision,
		IsUpgrade: r.release.Upgrade, IsInstall: !r.release.Upgrade,
	}
	top, err = chartutil.ToRenderValuesWithSchemaValidation(c, copyMap(values), options, capabilities, true)
	if err != nil {
		return nil, fmt.Errorf("%w: its default values: %w", ErrInvalid, err)
	}
	if r.opts.SkipSchema {
		return top, nil
	}
	all, ok := top["Values"].(chartutil.Values)
	if !ok {
		return nil, fmt.Errorf("%w: its values are a %T", ErrInvalid, top["Values"])
	}
	return top, validate(c, all)
}

// execute runs the templates and returns their output by name. The goroutine
// ends when the templates do; it works on nothing that others have.
func (r *rendering) execute(ctx context.Context, c *chart.Chart, top chartutil.Values) (map[string]string, error) {
	type outcome struct {
		files map[string]string
		err   error
	}
	done := make(chan outcome, 1)
	timed, cancel := context.WithTimeoutCause(ctx, r.limits.Time, fmt.Errorf("%w: the templates ran longer than %s", ErrLimit, r.limits.Time))
	defer cancel()
	private := clone(c) // the caller may get c back while a template still runs
	go func() {
		files, err := engine.Engine{Strict: r.opts.Strict}.Render(private, top)
		done <- outcome{files, err}
	}()
	select {
	case <-timed.Done():
		return nil, context.Cause(timed)
	case o := <-done:
		if o.err != nil {
			return nil, fmt.Errorf("%w: %s", ErrTemplate, shorten(o.err.Error()))
		}
		var size int64
		for _, content := range o.files {
			size += int64(len(content))
		}
		if size > r.limits.Output {
			return nil, fmt.Errorf("%w: the templates wrote %d bytes, allowed are %d", ErrLimit, size, r.limits.Output)
		}
		return o.files, nil
	}
}

// shorten leaves out the middle of a text: each include adds a line to an error.
func shorten(s string) string {
	const part = 1000
	if len(s) <= 2*part {
		return s
	}
	return strings.ToValidUTF8(s[:part]+" … "+s[len(s)-part:], "")
}

// ReleaseName returns a name that fits into the 53 characters Helm allows. A
// longer one is cut as Flux does it: 40 characters, a dash and 12 of a digest.
func ReleaseName(name string) string {
	const most, kept = 53, 40
	if len(name) <= most {
		return name
	}
	return name[:kept] + "-" + shortDigest(name)
}

// CommonMetadata returns a post-renderer that sets labels and annotations on
// every object, over those it has.
func CommonMetadata(labels, annotations map[string]string) PostRenderer {
	return func(_ context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		for _, o := range objects {
			if len(labels) > 0 {
				o.SetLabels(overlay(o.GetLabels(), labels))
			}
			if len(annotations) > 0 {
				o.SetAnnotations(overlay(o.GetAnnotations(), annotations))
			}
		}
		return objects, nil
	}
}

func overlay(under, over map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{under, over} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

func isTest(events []HookEvent) bool { return slices.Contains(events, HookTest) }

// sourceHeader is the comment that Helm puts before each document.
func sourceHeader(b *strings.Builder, path, content string) {
	fmt.Fprintf(b, "---\n# Source: %s\n%s\n", path, content)
}
