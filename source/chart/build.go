package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/ignore"

	"github.com/gitopskit/gitopskit/source"
)

// Options are the optional parts of Build. The zero value packages the chart
// as it is.
type Options struct {
	// ValuesFiles are merged in this order and become the chart's values.yaml,
	// which counts only if it is one of them. Paths are relative to the root of
	// the tree.
	ValuesFiles []string
	// IgnoreMissing skips values files that do not exist.
	IgnoreMissing bool
	// Version replaces the chart's version.
	Version string
	// Metadata becomes the build metadata of the version, in place of what is
	// there: "1.2.3+<metadata>". Flux puts the first twelve characters of a
	// revision there.
	Metadata string
	// Dependencies provides charts of repositories. Nil means that every
	// dependency is in charts/ or in the tree.
	Dependencies Resolver
	// Limits bound the chart, its dependencies included, and the package, see
	// the function of that name for the defaults.
	Limits source.Limits
}

// Resolver provides the dependencies of a chart. helmrepo.Resolver is one.
type Resolver interface {
	// ResolveChart returns the package of the best version in a range, or of
	// the exact version that a lock names, from a repository as Chart.yaml has
	// it: "https://..." or "oci://...". Its errors have classes of package source.
	ResolveChart(ctx context.Context, repository, name, version string) ([]byte, error)
}

// ResolverFunc is a function as a Resolver.
type ResolverFunc func(ctx context.Context, repository, name, version string) ([]byte, error)

// ResolveChart calls f.
func (f ResolverFunc) ResolveChart(ctx context.Context, repository, name, version string) ([]byte, error) {
	return f(ctx, repository, name, version)
}

// Build packages the chart at a path of a tree: a directory with Chart.yaml, or
// a package, which is taken as it is unless the options change it. The tree is
// only read. Nil opts are the defaults.
func Build(ctx context.Context, tree fs.FS, at string, opts *Options) (*Package, error) {
	if opts == nil {
		opts = &Options{}
	}
	p, err := build(ctx, tree, at, opts)
	if err != nil {
		return nil, failure(ctx, "build chart", at, err)
	}
	return p, nil
}

func build(ctx context.Context, tree fs.FS, at string, opts *Options) (*Package, error) {
	if err := opts.Limits.Validate(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(at) {
		return nil, fmt.Errorf("%w: %q: want a path below the root of the tree", source.ErrUnsafePath, at)
	}
	limits := Limits(opts.Limits)
	b := &builder{opts: opts, limits: limits, left: &budget{limits.Unpacked, limits.Files}, root: tree, values: tree, at: at, files: map[string][]byte{}}
	if err := noLinks(tree, at); err != nil {
		return nil, err
	}
	info, err := fs.Stat(tree, at)
	if err != nil {
		return nil, fmt.Errorf("%w: there is no %s: %w", source.ErrNotFound, at, err)
	}
	var content fs.FS
	if info.IsDir() {
		if content, err = fs.Sub(tree, at); err != nil {
			return nil, err
		}
	} else {
		data, err := readFile(tree, at, limits.Download)
		if err != nil {
			return nil, err
		}
		p, err := open(ctx, data, opts.Limits)
		if err != nil || len(opts.ValuesFiles) == 0 && opts.Version == "" && opts.Metadata == "" {
			return p, err
		}
		content, b.root = p.tree, nil
	}
	return b.pack(ctx, content)
}

// builder puts one chart together, and those that it depends on.
type builder struct {
	opts   *Options
	limits source.Limits
	left   *budget
	root   fs.FS  // where "file://" leads; nil for a package
	values fs.FS  // where the values files are
	at     string // the chart, below root
	within []string
	files  map[string][]byte
}

// budget is what a chart and its dependencies may use together.
type budget struct {
	bytes int64
	files int
}

func (b *builder) pack(ctx context.Context, content fs.FS) (*Package, error) {
	if err := b.load(ctx, content); err != nil {
		return nil, err
	}
	m, err := b.metadata()
	if err != nil {
		return nil, err
	}
	if err := b.setVersion(m); err != nil {
		return nil, err
	}
	if err := b.mergeValues(); err != nil {
		return nil, err
	}
	if err := b.resolve(ctx, m); err != nil {
		return nil, err
	}
	tree, err := source.MapFS(b.files)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := source.WriteArchive(ctx, &out, tree, &source.ArchiveOptions{Prefix: m.Name}); err != nil {
		return nil, err
	}
	if int64(out.Len()) > b.limits.Download {
		return nil, fmt.Errorf("%w: the package has %d bytes, more than %d (Limits.Download)", source.ErrLimit, out.Len(), b.limits.Download)
	}
	return newPackage(m, out.Bytes(), tree), nil
}

// load reads the files of a chart that .helmignore leaves.
func (b *builder) load(ctx context.Context, content fs.FS) error {
	rules := ignore.Empty()
	if data, err := b.read(content, ignoreFile); err == nil {
		if rules, err = ignore.Parse(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("%w: %s: %w", source.ErrInvalidSpec, ignoreFile, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", ignoreFile, err)
	}
	rules.AddDefaults()
	return fs.WalkDir(content, ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch ignored := rules.Ignore(name, info); {
		case ignored && d.IsDir():
			return fs.SkipDir
		case ignored:
			return nil
		case d.IsDir() && strings.Count(name, "/") >= b.limits.Depth:
			return fmt.Errorf("%w: %s is nested deeper than %d directories", source.ErrLimit, name, b.limits.Depth)
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%w: %s is neither a file nor a directory: a chart cannot hold links", source.ErrUnsafePath, path.Join(b.at, name))
		}
		data, err := b.read(content, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return b.add(name, data)
	})
}

// add puts a file into the chart, within the budget.
func (b *builder) add(name string, data []byte) error {
	b.left.bytes -= int64(len(data))
	b.left.files--
	switch {
	case b.left.bytes < 0:
		return fmt.Errorf("%w: the chart is larger than %d bytes (Limits.Unpacked), at %s", source.ErrLimit, b.limits.Unpacked, name)
	case b.left.files < 0:
		return fmt.Errorf("%w: the chart has more than %d files", source.ErrLimit, b.limits.Files)
	}
	b.files[name] = data
	return nil
}

func (b *builder) read(tree fs.FS, name string) ([]byte, error) {
	return readFile(tree, name, b.limits.File)
}

// noLinks refuses a path through a symbolic link, which a tree may follow to
// anywhere.
func noLinks(tree fs.FS, name string) error {
	for at := name; at != "."; at = path.Dir(at) {
		if info, err := fs.Lstat(tree, at); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%w: %s is a symbolic link", source.ErrUnsafePath, at)
		}
	}
	return nil
}

func readFile(tree fs.FS, name string, most int64) ([]byte, error) {
	if err := noLinks(tree, name); err != nil {
		return nil, err
	}
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("%w: %s is larger than %d bytes", source.ErrLimit, name, most)
	}
	return data, err
}
