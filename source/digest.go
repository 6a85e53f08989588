package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ContentDigest identifies the content of a file system by the names, modes
// and bytes of its files and nothing else: not by times, owners, order,
// compression, or empty directories. Two sources that hold the same files have
// the same digest.
//
// It is the SHA-256 of one record for each file, sorted by path in byte order:
//
//	<mode> SP <hex SHA-256 of the content> SP <path> NUL
//
// where mode is 100644, or 100755 when the owner may execute the file, or
// 120000 for a symbolic link, whose content is its target. The format will not
// change; with GNU tools, for files that are not executable:
//
//	find . -type f -printf '%P\n' | LC_ALL=C sort |
//	  while read -r f; do printf '100644 %s %s\0' "$(sha256sum <"$f" | cut -c1-64)" "$f"; done | sha256sum
//
// Files that are neither regular nor links, and names that contain NUL, are an
// ErrUnsafePath.
func ContentDigest(ctx context.Context, fsys fs.FS) (digest.Digest, error) {
	var list digestList
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return errors.Join(err, ctx.Err())
		}
		return list.entry(ctx, fsys, name, d)
	})
	if err != nil {
		return "", fmt.Errorf("content digest: %w", err)
	}
	return list.digest(), nil
}

// digestList collects the records of ContentDigest. fs.WalkDir orders names
// within a directory, where "a.b" comes after "a/b"; the format orders whole
// paths.
type digestList []digestRecord

type digestRecord struct{ name, rest string }

func (l *digestList) entry(ctx context.Context, fsys fs.FS, name string, d fs.DirEntry) error {
	switch {
	case d.Type() == fs.ModeSymlink:
		target, err := fs.ReadLink(fsys, name)
		if err != nil {
			return err
		}
		return l.add(name, "120000", strings.NewReader(target))
	case !d.Type().IsRegular():
		return fmt.Errorf("%w: %s is neither a file, a directory nor a link", ErrUnsafePath, name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return l.file(name, info.Mode(), &ctxReader{ctx, f})
}

func (l *digestList) file(name string, mode fs.FileMode, r io.Reader) error {
	if mode&0o100 != 0 {
		return l.add(name, "100755", r)
	}
	return l.add(name, "100644", r)
}

func (l *digestList) add(name, mode string, r io.Reader) error {
	if strings.ContainsRune(name, 0) {
		return fmt.Errorf("%w: %q contains NUL", ErrUnsafePath, name)
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*l = append(*l, digestRecord{name, mode + " " + hex.EncodeToString(h.Sum(nil))})
	return nil
}

func (l *digestList) digest() digest.Digest {
	slices.SortFunc(*l, func(a, b digestRecord) int { return strings.Compare(a.name, b.name) })
	h := sha256.New()
	for _, r := range *l {
		fmt.Fprintf(h, "%s %s\x00", r.rest, r.name)
	}
	return digest.NewDigestFromBytes(digest.SHA256, h.Sum(nil))
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
