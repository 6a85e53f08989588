package source

import (
	"archive/tar"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// ArchiveOptions are the optional parts of WriteArchive.
type ArchiveOptions struct {
	// Prefix is a directory that everything is put below, such as the name of
	// a chart. Empty means none.
	Prefix string
}

// WriteArchive writes the files of a tree as a tar archive with gzip
// compression, as the controllers of Flux store and serve them: in the order
// of fs.WalkDir, without owners and times, with the modes 0600, 0700 for
// what the owner may execute, and 0750 for directories, empty ones included.
// Equal trees give equal bytes, as long as the compression of the Go release
// stays the same; to compare content across builds use ContentDigest.
//
// To leave files out, pass the view that Ignore makes. What is neither a file
// nor a directory, links too, and names that ReadArchive would refuse are an
// ErrUnsafePath.
func WriteArchive(ctx context.Context, w io.Writer, tree fs.FS, opts *ArchiveOptions) error {
	if opts == nil {
		opts = &ArchiveOptions{}
	}
	if err := writeArchive(ctx, w, tree, opts.Prefix); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func writeArchive(ctx context.Context, w io.Writer, tree fs.FS, prefix string) error {
	if prefix != "" && (prefix == "." || !fs.ValidPath(prefix)) {
		return fmt.Errorf("%w: ArchiveOptions.Prefix %q: want a relative path without dots", ErrInvalidSpec, prefix)
	}
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		to := path.Join(prefix, name)
		if to == "." {
			return nil
		}
		if _, err := archiveName(to); err != nil {
			return err
		}
		if d.IsDir() {
			return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: to + "/", Mode: 0o750})
		}
		return writeFile(ctx, out, tree, name, to, d)
	})
	if err != nil {
		return err
	}
	return errors.Join(out.Close(), zip.Close())
}

func writeFile(ctx context.Context, out *tar.Writer, tree fs.FS, name, to string, d fs.DirEntry) error {
	if !d.Type().IsRegular() {
		return fmt.Errorf("%w: %s is neither a file nor a directory", ErrUnsafePath, name)
	}
	f, err := tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: to, Size: info.Size(), Mode: 0o600}
	if info.Mode()&0o100 != 0 {
		h.Mode = 0o700
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(out, &ctxReader{ctx, f})
	if err == nil && n < info.Size() || errors.Is(err, tar.ErrWriteTooLong) {
		return fmt.Errorf("%s changed its size while it was read", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// ReadArchiveOptions are the optional parts of ReadArchive.
type ReadArchiveOptions struct {
	// Limits bound what is read; Download counts the bytes of the archive
	// itself. The zero value is the defaults.
	Limits Limits
	// RejectSymlinks makes any symbolic link an ErrUnsafePath. Otherwise links
	// are left out and named in the metadata under MetaSkipped.
	RejectSymlinks bool
}

// ReadArchive reads a tar archive, compressed by gzip or not at all, to its
// end and returns its files, held in memory, as an artifact. For one directory
// of it, such as the chart in the archive of a chart, use fs.Sub.
//
// Modes keep only whether the owner may execute a file; owners, times and
// global headers are dropped. A hard link is a copy of the file it names, which
// must come before it. Symbolic links follow ReadArchiveOptions. Absolute
// names, "..", backslashes and names that are no UTF-8, two entries of one
// name, a file with entries below it, devices and pipes are an ErrUnsafePath.
// More than the limits is an ErrLimit, a damaged archive or one with another
// compression an ErrUnverified, one that ends too early an ErrUnavailable; an
// error of r that is none of the classes becomes an ErrUnavailable.
func ReadArchive(ctx context.Context, rev Revision, r io.Reader, opts *ReadArchiveOptions) (*Artifact, error) {
	if opts == nil {
		opts = &ReadArchiveOptions{}
	}
	if err := opts.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	x := &unpacker{limits: opts.Limits.OrDefaults(), reject: opts.RejectSymlinks, tree: newMemFS()}
	if err := x.read(ctx, r); err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	x.tree.sort()
	a := NewArtifact(rev, x.tree, nil)
	if len(x.skipped) > 0 {
		a.Metadata = map[string]string{MetaSkipped: strings.Join(x.skipped, "\n")}
	}
	return a, nil
}

// unpacker turns the entries of one archive into a tree.
type unpacker struct {
	limits  Limits
	reject  bool
	tree    memFS
	bytes   int64
	skipped []string
}

func (x *unpacker) read(ctx context.Context, r io.Reader) error {
	in := &meteredReader{r: &ctxReader{ctx, r}, left: x.limits.Download, limit: "Limits.Download"}
	content, err := decompress(in)
	if err != nil {
		return in.cause(err)
	}
	// Headers and what is left out are inflated too: they must not be free.
	overhead := satMul64(int64(x.limits.Files), 4<<10)
	all := &meteredReader{r: content, left: satAdd64(x.limits.Unpacked, overhead), limit: "Limits.Unpacked"}
	entries := tar.NewReader(all)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return in.cause(all.cause(err))
		}
		if err := x.entry(h, entries); err != nil {
			return in.cause(all.cause(err))
		}
	}
	// Only at its end does gzip compare its checksum.
	_, err = io.Copy(io.Discard, all)
	return in.cause(all.cause(err))
}

// decompress finds out how a stream is compressed by its first bytes.
func decompress(r io.Reader) (io.Reader, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	whole := io.MultiReader(strings.NewReader(string(head[:n])), r)
	switch {
	case string(head[:min(n, 2)]) == "\x1f\x8b":
		return gzip.NewReader(whole)
	case string(head[:n]) == "\x28\xb5\x2f\xfd":
		return nil, fmt.Errorf("%w: the archive is compressed by zstd, which is not supported: use gzip", ErrUnverified)
	case string(head[:min(n, 3)]) == "BZh" || string(head[:n]) == "\xfd7zX":
		return nil, fmt.Errorf("%w: the archive is compressed by bzip2 or xz, which are not supported: use gzip", ErrUnverified)
	}
	return whole, nil
}

// entry adds one entry of the archive.
func (x *unpacker) entry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // "git archive" and forges put the commit there
	}
	name, err := archiveName(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if name == "." {
			return nil
		}
		return x.add(name, true, 0o755, nil)
	case tar.TypeSymlink:
		if x.reject {
			return fmt.Errorf("%w: %s is a symbolic link", ErrUnsafePath, name)
		}
		if len(x.skipped) >= x.limits.Files {
			return fmt.Errorf("%w: more than %d symbolic links", ErrLimit, x.limits.Files)
		}
		x.skipped = append(x.skipped, name)
		return nil
	case tar.TypeLink:
		return x.link(name, h.Linkname)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(name, h, body)
	}
	return fmt.Errorf("%w: %s is neither a file, a directory nor a link", ErrUnsafePath, name)
}

func (x *unpacker) file(name string, h *tar.Header, body io.Reader) error {
	if err := x.grow(name, h.Size); err != nil {
		return err
	}
	data := make([]byte, 0, min(h.Size, 1<<20)) // the size is a claim until the bytes arrive
	buf := append(data, make([]byte, cap(data))...)
	n, err := io.ReadFull(body, buf)
	buf = buf[:n]
	if err == nil && int64(n) < h.Size {
		var rest []byte
		rest, err = io.ReadAll(body)
		buf = append(buf, rest...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return x.add(name, false, h.FileInfo().Mode(), buf)
}

// link adds a copy of a file that is already there.
func (x *unpacker) link(name, target string) error {
	to, err := archiveName(target)
	if err != nil {
		return fmt.Errorf("hard link %s: %w", name, err)
	}
	n, ok := x.tree[to]
	if !ok || n.IsDir() {
		return fmt.Errorf("%w: %s is a hard link to %s, which is no file before it", ErrUnsafePath, name, to)
	}
	if err := x.grow(name, n.Size()); err != nil {
		return err
	}
	return x.add(name, false, n.mode, n.data)
}

// grow accounts for a file of that size.
func (x *unpacker) grow(name string, size int64) error {
	if size > x.limits.File {
		return fmt.Errorf("%w: %s is larger than Limits.File", ErrLimit, name)
	}
	if size > x.limits.Unpacked-x.bytes {
		return fmt.Errorf("%w: the files together are larger than Limits.Unpacked, at %s", ErrLimit, name)
	}
	x.bytes += size
	return nil
}

func (x *unpacker) add(name string, dir bool, mode fs.FileMode, data []byte) error {
	depth := strings.Count(name, "/")
	if dir {
		depth++
	}
	if depth > x.limits.Depth {
		return fmt.Errorf("%w: an entry is nested deeper than %d directories", ErrLimit, x.limits.Depth)
	}
	if old, ok := x.tree[name]; ok && dir && old.IsDir() {
		return nil
	}
	if err := x.tree.vacant(name); err != nil {
		return err
	}
	if dir {
		x.tree.addDir(name)
	} else {
		x.tree.add(name, mode, data)
	}
	if len(x.tree)-1 > x.limits.Files {
		return fmt.Errorf("%w: more than %d files", ErrLimit, x.limits.Files)
	}
	return nil
}

// archiveName is the name of an entry as io/fs has it, if every system may see it.
func archiveName(name string) (string, error) {
	why := ""
	switch {
	case name == "":
		why = "is empty"
	case !utf8.ValidString(name) || strings.ContainsRune(name, 0):
		why = "is not UTF-8 or contains NUL"
	case strings.HasPrefix(name, "/"):
		why = "is absolute"
	case strings.ContainsRune(name, '\\'):
		why = "contains a backslash, which is a path on Windows"
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			why = "leaves the archive"
		}
	}
	if why != "" {
		return "", fmt.Errorf("%w: the name %s %s", ErrUnsafePath, quoteShort(name), why)
	}
	return path.Clean(name), nil
}

func quoteShort(name string) string {
	if len(name) > 120 {
		return fmt.Sprintf("%q...", name[:120])
	}
	return fmt.Sprintf("%q", name)
}

// meteredReader fails when a bound is reached, and remembers that this, or the
// reader below, is what ended a read: what is above it wraps errors freely.
type meteredReader struct {
	r     io.Reader
	left  int64
	limit string
	err   error
}

func (m *meteredReader) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	n, err := m.r.Read(p)
	if m.left -= int64(n); m.left < 0 {
		n, err = 0, fmt.Errorf("%w: the archive is larger than %s allows", ErrLimit, m.limit)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}

// cause gives an error of the archive's format, or of the reader, its class.
func (m *meteredReader) cause(err error) error {
	if m.err != nil {
		err = m.err
	}
	if err == nil || hasClass(err) {
		return err
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the archive ends too early", ErrUnavailable)
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, tar.ErrHeader), isFlateError(err):
		return fmt.Errorf("%w: the archive is corrupt: %w", ErrUnverified, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func hasClass(err error) bool {
	for _, c := range []error{
		ErrNotFound, ErrUnauthorized, ErrInvalidSpec, ErrUnverified, ErrLimit, ErrUnsafePath, ErrUnavailable,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}

func isFlateError(err error) bool {
	var bad flate.CorruptInputError
	return errors.As(err, &bad)
}

func satAdd64(a, b int64) int64 {
	if a > 1<<63-1-b {
		return 1<<63 - 1
	}
	return a + b
}

func satMul64(a, b int64) int64 {
	if a > (1<<63-1)/b {
		return 1<<63 - 1
	}
	return a * b
}
