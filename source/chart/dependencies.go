package chart

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	helm "helm.sh/helm/v3/pkg/chart"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/source"
)

// maxNesting is how deep charts may depend on charts in the tree.
const maxNesting = 8

// metadata reads Chart.yaml, and what charts for Helm 2 have beside it.
func (b *builder) metadata() (*helm.Metadata, error) {
	text, ok := b.files[chartFile]
	if !ok {
		return nil, fmt.Errorf("%w: there is no Chart.yaml", source.ErrNotFound)
	}
	m, err := parseMetadata(text)
	if err != nil {
		return nil, err
	}
	if older, ok := b.files[requirementsFile]; ok && m.APIVersion == helm.APIVersionV1 {
		if err := yaml.Unmarshal(older, m); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", source.ErrInvalidSpec, requirementsFile, err)
		}
		if err := m.Validate(); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", source.ErrInvalidSpec, requirementsFile, err)
		}
	}
	return m, nil
}

// resolve adds the dependencies that are not in charts/.
func (b *builder) resolve(ctx context.Context, m *helm.Metadata) error {
	var missing []*helm.Dependency
	present, err := b.vendored(ctx)
	if err != nil {
		return err
	}
	for _, d := range m.Dependencies {
		ok, err := satisfied(d, present)
		if err != nil {
			return err
		}
		if !ok {
			missing = append(missing, d)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	locked, err := b.locked(m)
	if err != nil {
		return err
	}
	for _, d := range missing {
		version := d.Version
		if at, ok := locked[d.Name]; ok && satisfies(d.Version, at) {
			version = at
		}
		if err := b.depend(ctx, d, version); err != nil {
			return fmt.Errorf("dependency %.80s: %w", d.Name, err)
		}
	}
	return nil
}

// vendored lists the charts in charts/: "name" to versions. What is there and
// is no chart keeps Helm from loading the whole, so it is refused here.
func (b *builder) vendored(ctx context.Context) (map[string][]string, error) {
	present := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		rest, ok := strings.CutPrefix(name, chartsDir+"/")
		if !ok || strings.IndexAny(rest, "_.") == 0 {
			continue
		}
		dir, file, nested := strings.Cut(rest, "/")
		var m *helm.Metadata
		switch {
		case nested && file == chartFile:
			var err error
			if m, err = parseMetadata(b.files[name]); err != nil {
				return nil, fmt.Errorf("charts/%s: %w", dir, err)
			}
		case !nested && path.Ext(dir) == ".tgz":
			p, err := open(ctx, b.files[name], b.opts.Limits)
			if err != nil {
				return nil, fmt.Errorf("charts/%s: %w", dir, err)
			}
			m = &helm.Metadata{Name: p.Name, Version: p.Version}
		case nested:
			if _, ok := b.files[path.Join(chartsDir, dir, chartFile)]; !ok {
				return nil, fmt.Errorf("%w: charts/%s has no Chart.yaml", source.ErrInvalidSpec, dir)
			}
			continue
		case path.Ext(dir) == ".prov":
			continue
		default:
			return nil, fmt.Errorf("%w: charts/%s is no chart: leave it out by .helmignore", source.ErrInvalidSpec, dir)
		}
		present[m.Name] = append(present[m.Name], m.Version)
	}
	return present, nil
}

func satisfied(d *helm.Dependency, present map[string][]string) (bool, error) {
	if d.Version != "" {
		if _, err := semver.NewConstraint(d.Version); err != nil {
			return false, fmt.Errorf("%w: dependency %.80s: version %.80q: %w", source.ErrInvalidSpec, d.Name, d.Version, err)
		}
	}
	for _, v := range present[d.Name] {
		if satisfies(d.Version, v) {
			return true, nil
		}
	}
	// A chart in charts/ without a repository is what it is, to Helm as well.
	return d.Repository == "" && len(present[d.Name]) > 0, nil
}

func satisfies(ranges, version string) bool {
	v, err := semver.NewVersion(version)
	if err != nil {
		return false
	}
	c, err := semver.NewConstraint(ranges)
	return ranges == "" || ranges == version || err == nil && c.Check(v)
}

// locked reads the versions that Chart.lock chose.
func (b *builder) locked(m *helm.Metadata) (map[string]string, error) {
	name := lockFile
	text, ok := b.files[name]
	if !ok && m.APIVersion == helm.APIVersionV1 {
		name = requirementsLock
		text, ok = b.files[name]
	}
	if !ok {
		return map[string]string{}, nil
	}
	var lock helm.Lock
	if err := yaml.Unmarshal(text, &lock); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", source.ErrInvalidSpec, name, err)
	}
	sum, err := json.Marshal([2][]*helm.Dependency{m.Dependencies, lock.Dependencies})
	if err != nil {
		return nil, err
	}
	older, err := json.Marshal(map[string][]*helm.Dependency{"dependencies": m.Dependencies})
	if err != nil {
		return nil, err
	}
	if lock.Digest != sha(sum) && (name == lockFile || lock.Digest != sha(older)) {
		return nil, fmt.Errorf("%w: %s does not belong to the dependencies: run \"helm dependency update\" and commit it", source.ErrInvalidSpec, name)
	}
	versions := map[string]string{}
	for _, d := range lock.Dependencies {
		if d != nil {
			versions[d.Name] = d.Version
		}
	}
	return versions, nil
}

func sha(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// depend adds one dependency to charts/.
func (b *builder) depend(ctx context.Context, d *helm.Dependency, version string) error {
	repository := d.Repository
	local, isLocal := strings.CutPrefix(repository, "file://")
	switch {
	case isLocal:
		return b.local(ctx, d, local)
	case repository == "":
		return fmt.Errorf("%w: it is not in charts/ and names no repository", source.ErrInvalidSpec)
	case strings.HasPrefix(repository, "@"), strings.HasPrefix(repository, "alias:"):
		return fmt.Errorf("%w: the repository %.80q is an alias of some configuration: write its URL", source.ErrInvalidSpec, repository)
	case b.opts.Dependencies == nil:
		return fmt.Errorf("%w: it is not in charts/, and there are no Options.Dependencies to get it from its repository", source.ErrInvalidSpec)
	}
	data, err := b.opts.Dependencies.ResolveChart(ctx, repository, d.Name, version)
	if err != nil {
		return err
	}
	p, err := open(ctx, data, b.opts.Limits)
	if err != nil {
		return err
	}
	if p.Name != d.Name || !satisfies(version, p.Version) {
		return fmt.Errorf("%w: wanted version %.80q, the repository gave %s %s", source.ErrUnverified, version, p.Name, p.Version)
	}
	return b.add(path.Join(chartsDir, p.Filename()), data)
}

// local adds a chart of the same tree, with its own dependencies.
func (b *builder) local(ctx context.Context, d *helm.Dependency, rel string) error {
	at := path.Join(b.at, rel)
	switch {
	case b.root == nil:
		return fmt.Errorf("%w: %.80q: a package has no tree around it", source.ErrInvalidSpec, d.Repository)
	case path.IsAbs(rel) || strings.ContainsRune(rel, '\\') || !fs.ValidPath(at):
		return fmt.Errorf("%w: %.80q leaves the tree", source.ErrUnsafePath, d.Repository)
	case slices.Contains(b.within, at) || at == b.at:
		return fmt.Errorf("%w: %s depends on itself", source.ErrInvalidSpec, at)
	case len(b.within) >= maxNesting:
		return fmt.Errorf("%w: charts depend on charts more than %d times", source.ErrLimit, maxNesting)
	}
	if err := noLinks(b.root, at); err != nil {
		return err
	}
	content, err := fs.Sub(b.root, at)
	if err != nil {
		return err
	}
	if _, err := fs.Stat(content, chartFile); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no chart at %s", source.ErrNotFound, at)
	}
	sub := &builder{opts: &Options{Dependencies: b.opts.Dependencies, Limits: b.opts.Limits}, limits: b.limits, left: b.left, root: b.root, at: at, within: append(slices.Clone(b.within), b.at), files: map[string][]byte{}}
	if err := sub.load(ctx, content); err != nil {
		return err
	}
	m, err := sub.metadata()
	if err != nil {
		return err
	}
	if m.Name != d.Name || !satisfies(d.Version, m.Version) {
		return fmt.Errorf("%w: wanted version %.80q, at %s is %s %s", source.ErrNotFound, d.Version, at, m.Name, m.Version)
	}
	if err := sub.resolve(ctx, m); err != nil {
		return err
	}
	for name, data := range sub.files {
		b.files[path.Join(chartsDir, m.Name, name)] = data
	}
	return nil
}
