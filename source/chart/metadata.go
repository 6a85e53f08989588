package chart

import (
	"fmt"
	"regexp"

	"github.com/Masterminds/semver/v3"
	helm "helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/source"
)

// The files of a chart that mean something to it.
const (
	chartFile        = "Chart.yaml"
	lockFile         = "Chart.lock"
	valuesFile       = "values.yaml"
	ignoreFile       = ".helmignore"
	requirementsFile = "requirements.yaml" // of charts for Helm 2
	requirementsLock = "requirements.lock"
	chartsDir        = "charts"
)

// nameForm is what Helm's repositories allow for a chart, and what no file
// system takes for a path.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

func parseMetadata(text []byte) (*helm.Metadata, error) {
	m := &helm.Metadata{}
	if err := yaml.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: Chart.yaml: %w", source.ErrInvalidSpec, err)
	}
	if m.APIVersion == "" {
		m.APIVersion = helm.APIVersionV1 // as Helm does
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("%w: Chart.yaml: %w", source.ErrInvalidSpec, err)
	}
	if !nameForm.MatchString(m.Name) {
		return nil, fmt.Errorf("%w: Chart.yaml: the name %.80q is not that of a chart", source.ErrInvalidSpec, m.Name)
	}
	return m, nil
}

// setVersion changes the version in Chart.yaml and leaves its other fields.
func (b *builder) setVersion(m *helm.Metadata) error {
	if b.opts.Version == "" && b.opts.Metadata == "" {
		return nil
	}
	text := m.Version
	if b.opts.Version != "" {
		text = b.opts.Version
	}
	v, err := semver.NewVersion(text)
	if err != nil {
		return fmt.Errorf("%w: version %.80q: %w", source.ErrInvalidSpec, text, err)
	}
	if b.opts.Metadata != "" {
		with, err := v.SetMetadata(b.opts.Metadata)
		if err != nil {
			return fmt.Errorf("%w: Options.Metadata %.80q: %w", source.ErrInvalidSpec, b.opts.Metadata, err)
		}
		v = &with
	}
	m.Version = v.String()
	fields, err := parseValues(b.files[chartFile])
	if err != nil {
		return fmt.Errorf("%w: Chart.yaml: %w", source.ErrInvalidSpec, err)
	}
	fields["version"] = m.Version
	b.files[chartFile], err = yaml.Marshal(fields)
	return err
}
