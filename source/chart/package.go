package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	helm "helm.sh/helm/v3/pkg/chart"

	"github.com/gitopskit/gitopskit/source"
)

// Package is a packaged chart. It must not be changed.
type Package struct {
	// Name and Version are those of Chart.yaml; so is AppVersion, which may be empty.
	Name, Version, AppVersion string
	// Data is the package, a .tgz of one directory that is named after the chart.
	Data []byte

	tree fs.FS
}

// Open reads a package. The zero value of limits is the defaults of Limits.
func Open(ctx context.Context, data []byte, limits source.Limits) (*Package, error) {
	p, err := open(ctx, data, limits)
	if err != nil {
		return nil, failure(ctx, "open chart", "package", err)
	}
	return p, nil
}

func open(ctx context.Context, data []byte, limits source.Limits) (*Package, error) {
	if err := limits.Validate(); err != nil {
		return nil, err
	}
	a, err := source.ReadArchive(ctx, source.Revision{}, bytes.NewReader(data), &source.ReadArchiveOptions{Limits: Limits(limits)})
	if errors.Is(err, source.ErrUnavailable) && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: the package is no archive, or only the beginning of one", source.ErrUnverified) // all of it is here
	}
	if err != nil {
		return nil, err
	}
	top, err := fs.ReadDir(a, ".")
	if err != nil {
		return nil, err
	}
	if len(top) != 1 || !top[0].IsDir() {
		return nil, fmt.Errorf("%w: a package has one directory, the chart, and this one has %d entries", source.ErrNotFound, len(top))
	}
	tree, err := fs.Sub(a, top[0].Name())
	if err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(tree, chartFile)
	if err != nil {
		return nil, fmt.Errorf("%w: the package has no Chart.yaml", source.ErrNotFound)
	}
	m, err := parseMetadata(text)
	if err != nil {
		return nil, err
	}
	return newPackage(m, data, tree), nil
}

func newPackage(m *helm.Metadata, data []byte, tree fs.FS) *Package {
	return &Package{Name: m.Name, Version: m.Version, AppVersion: m.AppVersion, Data: data, tree: tree}
}

// Filename is what Helm calls the package: "<name>-<version>.tgz".
func (p *Package) Filename() string { return p.Name + "-" + p.Version + ".tgz" }

// Revision is "<version>@sha256:<hex of Data>".
func (p *Package) Revision() source.Revision {
	return source.Revision{Ref: p.Version, Digest: digest.FromBytes(p.Data)}
}

// FS is the content of the chart's directory.
func (p *Package) FS() fs.FS { return p.tree }

// Artifact is the content of the chart's directory, at Revision.
func (p *Package) Artifact() *source.Artifact {
	return source.NewArtifact(p.Revision(), p.tree, nil)
}

// Limits are the bounds of charts: zero fields become Flux's, 10 MiB for a
// package (Download), 5 MiB for a file, and Helm's 100 MiB for all files of a
// chart.
func Limits(l source.Limits) source.Limits {
	def := source.Limits{Download: 10 << 20, File: 5 << 20, Unpacked: 100 << 20}
	if l.Download == 0 {
		l.Download = def.Download
	}
	if l.File == 0 {
		l.File = def.File
	}
	if l.Unpacked == 0 {
		l.Unpacked = def.Unpacked
	}
	return l.OrDefaults()
}

// failure makes an error one of package source.
func failure(ctx context.Context, op, on string, err error) error {
	var typed *source.Error
	if cause := context.Cause(ctx); cause != nil {
		return &source.Error{Op: op, Source: on, Err: cause}
	}
	e := &source.Error{Op: op, Source: on, Err: err}
	if errors.As(err, &typed) {
		e.After = typed.After
	}
	for _, class := range []error{
		source.ErrNotFound, source.ErrUnauthorized, source.ErrInvalidSpec, source.ErrUnverified,
		source.ErrLimit, source.ErrUnsafePath, source.ErrUnavailable,
	} {
		if errors.Is(err, class) {
			return e
		}
	}
	class := source.ErrUnavailable
	if errors.Is(err, fs.ErrNotExist) {
		class = source.ErrNotFound
	}
	e.Err = fmt.Errorf("%w: %w", class, err)
	return e
}
