package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/ignore"
)

// LoadOptions are the optional settings of [Load] and [LoadArchive].
type LoadOptions struct {
	// ValuesFiles are files of the chart, relative to it, that replace
	// values.yaml as the default values, merged in order. Nil means values.yaml.
	ValuesFiles []string
	// IgnoreMissingValuesFiles skips those that do not exist.
	IgnoreMissingValuesFiles bool
	// Limits bound the cost; the zero value means the defaults.
	Limits LoadLimits
}

// Load loads the chart in the directory dir of fsys. A .helmignore file is
// honoured. Dependencies must be in charts/, as directories or archives.
//
// Symbolic links are refused. The error is an *[Error].
func Load(ctx context.Context, fsys fs.FS, dir string, opts *LoadOptions) (*Chart, error) {
	l := newLoading(ctx, opts)
	err := l.directory(fsys, path.Clean(dir))
	return l.finish(dir, err)
}

// loading collects the files of a chart, within limits that hold for all of it.
type loading struct {
	ctx    context.Context //nolint:containedctx // lives as long as the call
	opts   LoadOptions
	limits LoadLimits
	size   int64
	files  []*loader.BufferedFile
	names  map[string]bool
}

func newLoading(ctx context.Context, opts *LoadOptions) *loading {
	l := &loading{ctx: ctx, names: map[string]bool{}}
	if opts != nil {
		l.opts = *opts
	}
	l.limits = l.opts.Limits.withDefaults()
	return l
}

// fileError says which file of the chart is at fault.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return e.path + ": " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// finish makes a chart of what was collected.
func (l *loading) finish(name string, err error) (*Chart, error) {
	var c *Chart
	if err == nil {
		err = l.chooseValues()
	}
	if err == nil {
		c, err = newChart(l.files)
	}
	if err == nil {
		return c, nil
	}
	out := &Error{Op: "load", Chart: name, Err: err}
	if at := (*fileError)(nil); errors.As(err, &at) {
		out.Path, out.Err = at.path, at.err
	}
	return nil, out
}

// directory collects the files below dir.
func (l *loading) directory(fsys fs.FS, dir string) error {
	if !fs.ValidPath(dir) {
		return fmt.Errorf("%w: %q is not a path of a file system", ErrUnsafePath, dir)
	}
	rules, err := l.ignored(fsys, dir)
	if err != nil {
		return err
	}
	entries := 0 // a file system that leads back into itself has an end, too
	return fs.WalkDir(fsys, dir, func(full string, entry fs.DirEntry, err error) error {
		name := strings.TrimPrefix(strings.TrimPrefix(full, dir), "/")
		if dir == "." {
			name = full
		}
		switch {
		case err != nil:
			return err
		case l.ctx.Err() != nil:
			return context.Cause(l.ctx)
		case entries > 2*l.limits.Files:
			return fmt.Errorf("%w: more than %d files and directories", ErrLimit, entries)
		case full == dir:
			entries++
			return nil
		}
		entries++
		info, err := entry.Info()
		if err != nil {
			return &fileError{name, err}
		}
		switch {
		case rules.Ignore(name, info) && entry.IsDir():
			return fs.SkipDir
		case rules.Ignore(name, info), entry.IsDir():
			return nil
		case !info.Mode().IsRegular():
			return &fileError{name, fmt.Errorf("%w: it is not a regular file: links are not followed", ErrUnsupported)}
		}
		data, err := l.read(fsys, full, info.Size())
		if err != nil {
			return &fileError{name, err}
		}
		return l.add("", name, data, 0)
	})
}

func (l *loading) ignored(fsys fs.FS, dir string) (*ignore.Rules, error) {
	rules := ignore.Empty()
	name := path.Join(dir, ignore.HelmIgnore)
	info, err := fs.Stat(fsys, name)
	if err == nil {
		var data []byte
		if data, err = l.read(fsys, name, info.Size()); err == nil {
			rules, err = ignore.Parse(bytes.NewReader(data))
		}
		if err != nil {
			return nil, &fileError{ignore.HelmIgnore, fmt.Errorf("%w: %w", ErrInvalid, err)}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, &fileError{ignore.HelmIgnore, err}
	}
	rules.AddDefaults()
	return rules, nil
}

// read reads a file of a known size, and not more than the limits allow.
func (l *loading) read(fsys fs.FS, name string, size int64) ([]byte, error) {
	if err := l.fits(size); err != nil {
		return nil, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return l.readAll(f)
}

// fits reports whether one more file of that size is within the limits.
func (l *loading) fits(size int64) error {
	switch {
	case size > l.limits.File:
		return fmt.Errorf("%w: the file is larger than %d bytes", ErrLimit, l.limits.File)
	case size > l.limits.Unpacked-l.size:
		return fmt.Errorf("%w: the chart is larger than %d bytes", ErrLimit, l.limits.Unpacked)
	case len(l.files) >= l.limits.Files:
		return fmt.Errorf("%w: the chart has more than %d files", ErrLimit, l.limits.Files)
	}
	return nil
}

// add takes a file in; packed dependencies become directories, so that the
// limits hold for what is in them.
func (l *loading) add(prefix, name string, data []byte, depth int) error {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // Windows editors put it first
	l.size += int64(len(data))
	packed, ok := strings.CutPrefix(name, "charts/")
	dir, rest, nested := strings.Cut(packed, "/")
	for ok && nested && strings.HasPrefix(rest, "charts/") { // dependencies of dependencies
		dir, rest, nested = strings.Cut(strings.TrimPrefix(rest, "charts/"), "/")
	}
	if ok && !nested && path.Ext(dir) == ".tgz" && !strings.HasPrefix(dir, "_") && !strings.HasPrefix(dir, ".") {
		if depth >= l.limits.Depth {
			return &fileError{prefix + name, fmt.Errorf("%w: more than %d charts are packed in one another", ErrLimit, l.limits.Depth)}
		}
		if err := l.archive(prefix+name+".d/", bytes.NewReader(data), depth+1); err != nil {
			if already := (*fileError)(nil); errors.As(err, &already) {
				return err
			}
			return &fileError{prefix + name, err}
		}
		return nil
	}
	if l.names[prefix+name] {
		return &fileError{prefix + name, fmt.Errorf("%w: the file is there twice", ErrInvalid)}
	}
	l.names[prefix+name] = true
	l.files = append(l.files, &loader.BufferedFile{Name: prefix + name, Data: data})
	return nil
}

// chooseValues makes values.yaml of the files that the options name.
func (l *loading) chooseValues() error {
	if l.opts.ValuesFiles == nil {
		return nil
	}
	merged := map[string]any{}
	for _, name := range l.opts.ValuesFiles {
		i := slices.IndexFunc(l.files, func(f *loader.BufferedFile) bool { return f.Name == path.Clean(name) })
		switch {
		case i < 0 && l.opts.IgnoreMissingValuesFiles:
			continue
		case i < 0:
			return &fileError{name, fmt.Errorf("%w: the values file does not exist in the chart", fs.ErrNotExist)}
		}
		values, err := readValues(l.files[i].Data)
		if err != nil {
			return &fileError{name, fmt.Errorf("%w: %w", ErrInvalid, err)}
		}
		merged = Merge(merged, values)
	}
	data, err := marshalYAML(merged)
	if err != nil {
		return &fileError{"values.yaml", fmt.Errorf("%w: %w", ErrInvalid, err)}
	}
	l.files = slices.DeleteFunc(l.files, func(f *loader.BufferedFile) bool { return f.Name == "values.yaml" })
	l.files = append(l.files, &loader.BufferedFile{Name: "values.yaml", Data: data})
	return nil
}
