package kustomize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

var errReadOnly = errors.New("the tree of a build is read-only")

// tree shows an fs.FS to kustomize as an absolute, read-only file system: file
// "a/b" is "/a/b" and nothing exists outside. It counts what is read, ends
// the build at its limits or with its context, and refuses kustomizations
// that reach for the network. A tree serves one build.
type tree struct {
	ctx    context.Context //nolint:containedctx // kustomize passes none; a tree lives as long as one call
	fsys   fs.FS
	limits Limits

	over      map[string][]byte // files that replace those of fsys, by io/fs path
	files     int               // reads so far
	bytes     int64
	seen      []string // files in the order they were first read
	stop      error    // why the build must end, if it must
	stopAt    string   // the file that made it end
	exclusive bool     // this run holds the schema alone
}

func newTree(ctx context.Context, fsys fs.FS, limits Limits) *tree {
	return &tree{ctx: ctx, fsys: fsys, limits: limits.withDefaults(), over: map[string][]byte{}}
}

// overlay makes name read as data.
func (t *tree) overlay(name string, data []byte) { t.over[name] = data }

// wantsSchema reports that the run ended because it must hold the schema alone.
func (t *tree) wantsSchema() bool { return errors.Is(t.stop, errSchema) }

// restart readies the tree for a second run that holds the schema alone.
func (t *tree) restart() *tree {
	t.files, t.bytes, t.seen, t.stop, t.stopAt, t.exclusive = 0, 0, nil, nil, "", true
	return t
}

// errSchema ends a run that met an openapi field while it shared the schema.
var errSchema = errors.New("the build sets its own OpenAPI schema")

// stopped returns the error that ended the build, whatever kustomize made of it.
func (t *tree) stopped() error {
	if t.stop == nil {
		t.stop = context.Cause(t.ctx)
	}
	return t.stop
}

// halt ends the build for the reason err found at name.
func (t *tree) halt(name string, err error) error {
	if t.stop == nil {
		t.stop, t.stopAt = err, name
	}
	return t.stop
}

// ReadFile returns the content of a file and charges it to the limits.
func (t *tree) ReadFile(abs string) ([]byte, error) {
	if err := t.stopped(); err != nil {
		return nil, err
	}
	name, err := inside(abs)
	if err != nil {
		return nil, err
	}
	data, err := t.read(name)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(t.seen, name) {
		t.seen = append(t.seen, name)
	}
	if err := expandable(data); err != nil {
		return nil, t.halt(name, err)
	}
	if isKustomization(path.Base(name)) {
		refs, err := inspect(data)
		if err != nil {
			return nil, t.halt(name, err)
		}
		if err := t.refuse(path.Dir(name), refs); err != nil {
			return nil, t.halt(name, err)
		}
		if refs.OpenAPI != nil && !t.exclusive {
			return nil, t.halt(name, errSchema)
		}
	}
	return data, nil
}

// read returns the bytes of a file and enforces the limits.
func (t *tree) read(name string) ([]byte, error) {
	data, replaced := t.over[name]
	if !replaced {
		info, err := fs.Stat(t.fsys, name)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
		}
		if info.Size() > t.limits.FileBytes {
			return nil, t.halt(name, fmt.Errorf("%w: %d bytes, allowed are %d (Limits.FileBytes)", ErrLimit, info.Size(), t.limits.FileBytes))
		}
		if data, err = fs.ReadFile(t.fsys, name); err != nil {
			return nil, t.halt(name, err)
		}
	}
	t.files++
	t.bytes += int64(len(data))
	switch {
	case t.files > t.limits.Files:
		return nil, t.halt(name, fmt.Errorf("%w: more than %d file reads (Limits.Files)", ErrLimit, t.limits.Files))
	case t.bytes > t.limits.Bytes:
		return nil, t.halt(name, fmt.Errorf("%w: more than %d bytes read (Limits.Bytes)", ErrLimit, t.limits.Bytes))
	}
	return data, nil
}

// inside returns the io/fs path of an absolute one.
func inside(abs string) (string, error) {
	name := strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(abs)), "/")
	if name == "" {
		name = "."
	}
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "open", Path: abs, Err: fs.ErrInvalid}
	}
	return name, nil
}

func (t *tree) stat(abs string) (dir, ok bool) {
	name, err := inside(abs)
	if err != nil {
		return false, false
	}
	if _, ok := t.over[name]; ok {
		return false, true
	}
	info, err := fs.Stat(t.fsys, name)
	return err == nil && info.IsDir(), err == nil
}

// Exists reports whether a file or directory exists.
func (t *tree) Exists(abs string) bool { _, ok := t.stat(abs); return ok }

// IsDir reports whether a directory exists.
func (t *tree) IsDir(abs string) bool { dir, _ := t.stat(abs); return dir }

// CleanedAbs splits a path into an existing directory and a file name.
func (t *tree) CleanedAbs(abs string) (filesys.ConfirmedDir, string, error) {
	clean := path.Clean("/" + filepath.ToSlash(abs))
	dir, ok := t.stat(clean)
	switch {
	case !ok:
		return "", "", &fs.PathError{Op: "stat", Path: strings.TrimPrefix(clean, "/"), Err: fs.ErrNotExist}
	case dir:
		return filesys.ConfirmedDir(clean), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(clean)), path.Base(clean), nil
}

// ReadDir returns the names in a directory.
func (t *tree) ReadDir(abs string) ([]string, error) {
	name, err := inside(abs)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(t.fsys, name)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// Glob returns the paths that match an absolute pattern.
func (t *tree) Glob(pattern string) ([]string, error) {
	name, err := inside(pattern)
	if err != nil {
		return nil, err
	}
	found, err := fs.Glob(t.fsys, name)
	for i := range found {
		found[i] = "/" + found[i]
	}
	return found, err
}

// Walk calls f for every file below a directory.
func (t *tree) Walk(abs string, f filepath.WalkFunc) error {
	name, err := inside(abs)
	if err != nil {
		return err
	}
	return fs.WalkDir(t.fsys, name, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return f("/"+name, nil, err)
		}
		info, err := d.Info()
		return f("/"+name, info, err)
	})
}

// Open is not used by builds: kustomize reads whole files.
func (t *tree) Open(string) (filesys.File, error) { return nil, errReadOnly }

// Create and the methods below refuse: a build changes nothing.
func (t *tree) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir refuses.
func (t *tree) Mkdir(string) error { return errReadOnly }

// MkdirAll refuses.
func (t *tree) MkdirAll(string) error { return errReadOnly }

// RemoveAll refuses.
func (t *tree) RemoveAll(string) error { return errReadOnly }

// WriteFile refuses.
func (t *tree) WriteFile(string, []byte) error { return errReadOnly }

var _ filesys.FileSystem = (*tree)(nil)
