package helm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// LoadArchive loads a packaged chart, the .tgz that helm package writes.
//
// Links and names that leave the chart are refused. The error is an *[Error].
func LoadArchive(ctx context.Context, r io.Reader, opts *LoadOptions) (*Chart, error) {
	l := newLoading(ctx, opts)
	err := l.archive("", r, 0)
	if err == nil && len(l.files) == 0 {
		err = fmt.Errorf("%w: the archive is empty", ErrInvalid)
	}
	return l.finish("archive", err)
}

// archive collects the files of a packaged chart under a prefix.
func (l *loading) archive(prefix string, r io.Reader, depth int) error {
	compressed := &io.LimitedReader{R: r, N: l.limits.Archive}
	unzipped, err := gzip.NewReader(compressed)
	if err != nil {
		return fmt.Errorf("%w: it is not a gzipped archive: %w", ErrInvalid, err)
	}
	// Directories and headers cost something, too.
	unpacked := &io.LimitedReader{R: unzipped, N: l.limits.tar()}
	stream := tar.NewReader(contextReader{l.ctx, unpacked})
	for {
		header, err := stream.Next()
		if err == nil {
			err = l.entry(prefix, header, stream, depth)
		} else if errors.Is(err, io.EOF) && unpacked.N > 0 {
			return nil
		}
		switch {
		case err == nil:
		case l.ctx.Err() != nil:
			return context.Cause(l.ctx)
		case compressed.N <= 0:
			return fmt.Errorf("%w: the archive is larger than %d bytes", ErrLimit, l.limits.Archive)
		case unpacked.N <= 0:
			return fmt.Errorf("%w: the archive unpacks to more than %d bytes", ErrLimit, l.limits.tar())
		case errors.As(err, new(*fileError)):
			return err
		default:
			return fmt.Errorf("%w: the archive is broken: %w", ErrInvalid, err)
		}
	}
}

// entry takes in one file of an archive.
func (l *loading) entry(prefix string, header *tar.Header, r io.Reader, depth int) error {
	switch header.Typeflag {
	case tar.TypeXGlobalHeader, tar.TypeXHeader, tar.TypeDir:
		return nil
	case tar.TypeReg:
	default:
		return &fileError{header.Name, fmt.Errorf("%w: it is not a regular file: links are not followed", ErrUnsupported)}
	}
	name, err := entryName(header.Name)
	if err != nil {
		return &fileError{header.Name, err}
	}
	if err := l.fits(header.Size); err != nil {
		return &fileError{prefix + name, err}
	}
	data, err := l.readAll(r)
	if err != nil {
		return &fileError{prefix + name, err}
	}
	return l.add(prefix, name, data, depth)
}

var drive = regexp.MustCompile(`^[a-zA-Z]:`)

// entryName returns the name of a file inside the chart: all but the first
// element, which is the directory of the chart. Archives made on Windows may
// use backslashes.
func entryName(name string) (string, error) {
	slashed := name
	if strings.Contains(name, `\`) {
		slashed = strings.ReplaceAll(name, `\`, "/")
	}
	top, inside, found := strings.Cut(slashed, "/")
	clean := path.Clean(inside)
	switch {
	case !found && top == "Chart.yaml":
		return "", fmt.Errorf("%w: Chart.yaml must be in a directory of the archive", ErrInvalid)
	case !found || inside == "" || clean == ".":
		return "", fmt.Errorf("%w: it is outside the directory of the chart", ErrUnsafePath)
	case path.IsAbs(inside), strings.HasPrefix(clean, ".."), drive.MatchString(clean), strings.ContainsAny(clean, "\x00\n\r"):
		return "", fmt.Errorf("%w: it leaves the directory of the chart", ErrUnsafePath)
	}
	return clean, nil
}

// readAll reads a file within the limits, whatever size it claimed.
func (l *loading) readAll(r io.Reader) ([]byte, error) {
	bound := min(l.limits.File, l.limits.Unpacked-l.size)
	var data bytes.Buffer
	n, err := io.Copy(&data, io.LimitReader(contextReader{l.ctx, r}, bound))
	if err != nil {
		return nil, err
	}
	if n == bound { // there may be more
		if _, err := io.ReadFull(r, make([]byte, 1)); err == nil {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrLimit, bound)
		}
	}
	return data.Bytes(), nil
}

// contextReader stops reading when ctx is done.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives as long as the call
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
