package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// MetaSkipped is the metadata key under which Dir and Files list the symbolic
// links they left out, one a line.
const MetaSkipped = "source.skipped"

// Dir is a Source of the files below a local directory, for use without a
// server. Its revision is "sha256:<content digest>". Reads cannot leave the
// directory. The rules of Files apply.
//
// The zero value is the current directory. A Dir is safe for concurrent use.
type Dir struct {
	// Path is the directory; empty means the current one.
	Path string
	// Limits bound what is read. The zero value is the defaults.
	Limits Limits
}

var (
	_ Source = (*Dir)(nil)
	_ Source = (*Files)(nil)
)

// Resolve reads all files and returns the digest of their content.
func (d *Dir) Resolve(ctx context.Context) (Revision, error) {
	return inDir(d, "resolve", func(f *Files) (Revision, error) { return f.Resolve(ctx) })
}

// Fetch reads all files into memory. If they are no longer those of rev, it
// returns ErrNotFound.
func (d *Dir) Fetch(ctx context.Context, rev Revision) (*Artifact, error) {
	return inDir(d, "fetch", func(f *Files) (*Artifact, error) { return f.Fetch(ctx, rev) })
}

func inDir[T any](d *Dir, op string, f func(*Files) (T, error)) (T, error) {
	at := d.Path
	if at == "" {
		at = "."
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		var none T
		return none, filesError(op, at, err)
	}
	defer root.Close()
	return f(&Files{Name: at, FS: root.FS(), Limits: d.Limits})
}

// Files is a Source of the files of any fs.FS. Its revision is
// "sha256:<content digest>".
//
// Entries named .git are left out, and so are symbolic links, which are named
// in the metadata under MetaSkipped: the artifact of a working copy is that of
// its repository. Since an fs.FS may change, Fetch copies it to memory.
//
// A Files is safe for concurrent use if its FS is.
type Files struct {
	// Name says in errors what this is. It may be empty.
	Name string
	// FS holds the files. Required.
	FS fs.FS
	// Limits bound what is read. The zero value is the defaults.
	Limits Limits
}

// Resolve reads all files and returns the digest of their content.
func (f *Files) Resolve(ctx context.Context) (Revision, error) {
	var list digestList
	_, err := f.walk(ctx, func(name string, mode fs.FileMode, r io.Reader) error {
		return list.file(name, mode, r)
	})
	if err != nil {
		return Revision{}, filesError("resolve", f.Name, err)
	}
	return Revision{Digest: list.digest()}, nil
}

// Fetch reads all files into memory. If they are no longer those of rev, it
// returns ErrNotFound.
func (f *Files) Fetch(ctx context.Context, rev Revision) (*Artifact, error) {
	a, err := f.fetch(ctx, rev)
	if err != nil {
		return nil, filesError("fetch", f.Name, err)
	}
	return a, nil
}

func (f *Files) fetch(ctx context.Context, rev Revision) (*Artifact, error) {
	if rev.Ref != "" || rev.Digest.Validate() != nil {
		return nil, fmt.Errorf("%w: revision %q is not a content digest", ErrInvalidSpec, rev)
	}
	tree := newMemFS()
	skipped, err := f.walk(ctx, func(name string, mode fs.FileMode, r io.Reader) error {
		data, err := io.ReadAll(r)
		tree.add(name, mode, data)
		return err
	})
	if err != nil {
		return nil, err
	}
	tree.sort()
	a := NewArtifact(rev, tree, nil)
	if len(skipped) > 0 {
		a.Metadata = map[string]string{MetaSkipped: strings.Join(skipped, "\n")}
	}
	got, err := a.Digest(ctx)
	if err != nil {
		return nil, err
	}
	if got != rev.Digest {
		return nil, fmt.Errorf("%w: the files have changed: they are no longer %s but %s", ErrNotFound, rev.Digest, got)
	}
	return a, nil
}

// walk visits every regular file within the limits.
func (f *Files) walk(ctx context.Context, visit func(string, fs.FileMode, io.Reader) error) (skipped []string, err error) {
	if f.FS == nil {
		return nil, fmt.Errorf("%w: Files.FS is nil", ErrInvalidSpec)
	}
	if err := f.Limits.Validate(); err != nil {
		return nil, err
	}
	l, entries, left := f.Limits.OrDefaults(), 0, f.Limits.OrDefaults().Unpacked
	err = fs.WalkDir(f.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		switch {
		case name == ".":
			return nil
		case strings.EqualFold(path.Base(name), ".git") && d.IsDir():
			return fs.SkipDir
		case strings.EqualFold(path.Base(name), ".git"):
			return nil
		case d.Type() == fs.ModeSymlink:
			skipped = append(skipped, name)
			return nil
		}
		if entries++; entries > l.Files {
			return fmt.Errorf("%w: more than %d files", ErrLimit, l.Files)
		}
		if d.IsDir() {
			if strings.Count(name, "/") >= l.Depth {
				return fmt.Errorf("%w: %s is nested deeper than %d directories", ErrLimit, name, l.Depth)
			}
			return nil
		}
		return visitFile(ctx, f.FS, name, d, l.File, &left, visit)
	})
	return skipped, err
}

func visitFile(ctx context.Context, fsys fs.FS, name string, d fs.DirEntry, most int64, left *int64, visit func(string, fs.FileMode, io.Reader) error) error {
	if !d.Type().IsRegular() {
		return fmt.Errorf("%w: %s is neither a file, a directory nor a link", ErrUnsafePath, name)
	}
	file, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	r := &limitedFile{r: &ctxReader{ctx, file}, name: name, file: most, total: left}
	return visit(name, info.Mode(), r)
}

// limitedFile fails, instead of ending, when a file is too large.
type limitedFile struct {
	r     io.Reader
	name  string
	file  int64
	total *int64
}

func (f *limitedFile) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.file -= int64(n)
	*f.total -= int64(n)
	switch {
	case f.file < 0:
		return n, fmt.Errorf("%w: %s is larger than Limits.File", ErrLimit, f.name)
	case *f.total < 0:
		return n, fmt.Errorf("%w: the files up to %s are larger than Limits.Unpacked", ErrLimit, f.name)
	}
	return n, err
}

// filesError gives an error of a file system one of our classes.
func filesError(op, name string, err error) error {
	class := ErrUnavailable
	for _, c := range []error{ErrNotFound, ErrInvalidSpec, ErrUnsafePath, ErrLimit, ErrUnavailable, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			return &Error{Op: op, Source: name, Err: err}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		class = ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		class = ErrUnauthorized
	}
	return &Error{Op: op, Source: name, Err: fmt.Errorf("%w: %w", class, err)}
}
