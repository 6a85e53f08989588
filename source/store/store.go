package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Options configure a Store.
type Options struct {
	// Keep is how many files of an object Collect keeps at least, the current
	// one among them. Zero means 2; negative means all.
	Keep int
	// TTL is how long Collect keeps a file after it was published last, however
	// many there are. Zero means one minute.
	TTL time.Duration
	// MaxBytes bounds one file. Zero means 512 MiB; source.Unlimited means any.
	MaxBytes int64
}

// Store keeps files below one directory. Make one with Open.
type Store struct {
	root *os.Root
	opts Options

	mu    sync.Mutex                // held while the directory changes
	write func(io.Writer) io.Writer // stands for a failing disk in tests
}

// Key names the object that files belong to.
type Key struct {
	// Kind is its kind, such as GitRepository. Paths have it in lower case.
	Kind string
	// Namespace and Name are those of the object.
	Namespace, Name string
}

// Info describes a published file.
type Info struct {
	// Path is where it is, relative to the store and to the handler's root.
	Path string
	// Digest is the SHA-256 of the file.
	Digest digest.Digest
	// Size is its length in bytes.
	Size int64
	// Time is when it was published last.
	Time time.Time
}

// staging is where files are written before they are published.
const staging = ".staging"

// Open opens the store in a directory, which is made when it does not exist,
// and removes what a crash left half-written. Nil opts are the defaults.
func Open(dir string, opts *Options) (*Store, error) {
	s := &Store{}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Keep == 0 {
		s.opts.Keep = 2
	}
	if s.opts.TTL == 0 {
		s.opts.TTL = time.Minute
	}
	switch {
	case s.opts.MaxBytes == 0:
		s.opts.MaxBytes = 512 << 20
	case s.opts.MaxBytes < 0:
		s.opts.MaxBytes = 1<<63 - 1
	}
	if err := s.open(dir); err != nil {
		return nil, fail("open", dir, err)
	}
	return s, nil
}

func (s *Store) open(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if s.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	err = s.root.RemoveAll(staging)
	if err == nil {
		err = s.root.Mkdir(staging, 0o700)
	}
	if err != nil {
		return errors.Join(err, s.root.Close())
	}
	return nil
}

// Close releases the directory. Files that are open stay usable.
func (s *Store) Close() error { return s.root.Close() }

// Put publishes the files of a tree as an archive, see source.WriteArchive,
// under the digest of the archive. Publishing the same again only renews its time.
func (s *Store) Put(ctx context.Context, key Key, tree fs.FS) (Info, error) {
	dir, err := key.dir()
	if err != nil {
		return Info{}, fail("put", key.String(), err)
	}
	info, err := s.publish(ctx, dir, "", func(w io.Writer) error { return source.WriteArchive(ctx, w, tree, nil) })
	if err != nil {
		return Info{}, fail("put", key.String(), err)
	}
	return info, nil
}

// PutBlob publishes bytes as they are under a file name, such as a chart's
// "app-1.2.3.tgz". It replaces a file of that name.
func (s *Store) PutBlob(ctx context.Context, key Key, name string, r io.Reader) (Info, error) {
	dir, err := key.dir()
	if err == nil && !validPart(name) {
		err = fmt.Errorf("%w: file name %q", source.ErrInvalidSpec, name)
	}
	if err != nil {
		return Info{}, fail("put", key.String(), err)
	}
	info, err := s.publish(ctx, dir, name, func(w io.Writer) error {
		_, err := io.Copy(w, &ctxReader{ctx, r})
		return err
	})
	if err != nil {
		return Info{}, fail("put", path.Join(dir, name), err)
	}
	return info, nil
}

// publish writes a file aside and then moves it to its name, which is its
// digest when there is none.
func (s *Store) publish(ctx context.Context, dir, name string, write func(io.Writer) error) (info Info, err error) {
	temp := path.Join(staging, unique())
	f, err := s.root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return Info{}, err
	}
	defer func() {
		if err != nil {
			_ = s.root.Remove(temp) // the next Open removes it otherwise
		}
	}()
	sum := digest.SHA256.Digester()
	var disk io.Writer = f
	if s.write != nil {
		disk = s.write(f)
	}
	counted := &boundedWriter{w: io.MultiWriter(disk, sum.Hash()), left: s.opts.MaxBytes}
	err = write(counted)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close(), ctx.Err()); err != nil {
		return Info{}, err
	}
	info = Info{Digest: sum.Digest(), Size: s.opts.MaxBytes - counted.left}
	if name == "" {
		name = info.Digest.Encoded() + ".tar.gz"
	}
	info.Path = path.Join(dir, name)
	info.Time, err = s.move(temp, info.Path)
	return info, err
}

func (s *Store) move(temp, to string) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.root.MkdirAll(path.Dir(to), 0o750); err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	if err := s.root.Chtimes(temp, now, now); err != nil {
		return time.Time{}, err
	}
	if err := s.root.Rename(temp, to); err != nil {
		return time.Time{}, err
	}
	return now, s.sync(path.Dir(to))
}

// sync makes a change of a directory, and of those above it, survive a loss of power.
func (s *Store) sync(dir string) error {
	for {
		f, err := s.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil || dir == "." {
			return err
		}
		dir = path.Dir(dir)
	}
}

// Open opens a published file by its path.
func (s *Store) Open(name string) (*os.File, error) {
	f, err := s.file(name)
	if err != nil {
		return nil, fail("open", name, err)
	}
	return f, nil
}

func (s *Store) file(name string) (*os.File, error) {
	if !validPath(name) {
		return nil, fmt.Errorf("%w: %q is no path of an artifact", source.ErrNotFound, name)
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%w: %s is no file", source.ErrNotFound, name), err, f.Close())
	}
	return f, nil
}

// Verify reads a file and compares it with its digest. A file that is not what
// it was is an ErrUnverified: put it anew.
func (s *Store) Verify(ctx context.Context, name string, want digest.Digest) error {
	if err := s.verify(ctx, name, want); err != nil {
		return fail("verify", name, err)
	}
	return nil
}

func (s *Store) verify(ctx context.Context, name string, want digest.Digest) error {
	if err := want.Validate(); err != nil {
		return fmt.Errorf("%w: digest %q: %w", source.ErrInvalidSpec, want, err)
	}
	f, err := s.file(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	got, err := want.Algorithm().FromReader(&ctxReader{ctx, f})
	if err == nil && got != want {
		err = fmt.Errorf("%w: the file is now %s, not %s", source.ErrUnverified, got, want)
	}
	return err
}

// dir is the directory of an object's files.
func (k Key) dir() (string, error) {
	for field, part := range map[string]string{"Kind": k.Kind, "Namespace": k.Namespace, "Name": k.Name} {
		if !validPart(part) {
			return "", fmt.Errorf("%w: Key.%s %q: want a name without slashes that does not start with a dot", source.ErrInvalidSpec, field, part)
		}
	}
	return k.String(), nil
}

// String is the path of the object's directory.
func (k Key) String() string { return path.Join(strings.ToLower(k.Kind), k.Namespace, k.Name) }

// validPart says whether a name may be part of a path: none that is hidden,
// special to some system, or longer than file systems allow.
func validPart(part string) bool {
	return part != "" && part[0] != '.' && len(part) <= 253 && fs.ValidPath(part) &&
		!strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == '\\' || r == ':' })
}

// validPath says whether a path can be that of a published file.
func validPath(name string) bool {
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return false
	}
	for _, part := range parts {
		if !validPart(part) {
			return false
		}
	}
	return true
}

// fail makes the error of an operation and gives it a class.
func fail(op, name string, err error) error {
	for _, class := range []error{
		source.ErrNotFound, source.ErrInvalidSpec, source.ErrUnverified, source.ErrLimit, source.ErrUnsafePath,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, class) {
			return &source.Error{Op: op, Source: name, Err: err}
		}
	}
	class := source.ErrUnavailable
	if errors.Is(err, fs.ErrNotExist) {
		class = source.ErrNotFound
	}
	return &source.Error{Op: op, Source: name, Err: fmt.Errorf("%w: %w", class, err)}
}

// boundedWriter refuses more than so many bytes.
type boundedWriter struct {
	w    io.Writer
	left int64
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, fmt.Errorf("%w: the file is larger than Options.MaxBytes", source.ErrLimit)
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	return n, err
}

// ctxReader ends a long read when its context ends.
type ctxReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one call
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
