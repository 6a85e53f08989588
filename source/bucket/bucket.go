package bucket

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Lister reads one bucket. S3 is one.
type Lister interface {
	// List yields the objects whose keys start with the prefix, in any order. An
	// error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Get opens an object as it was listed. If it is gone or has another ETag,
	// the error is source.ErrNotFound.
	Get(ctx context.Context, o Object) (io.ReadCloser, error)
}

// Object is one entry of a listing.
type Object struct {
	Key string
	// ETag changes with the content; without quotes.
	ETag string
	// Size is the number of bytes.
	Size int64
}

// Source reads the objects of one bucket as files. It is safe for concurrent
// use. Make one with New.
type Source struct {
	name   string
	lister Lister
	opts   Options

	mu   sync.Mutex
	last map[Object][]byte // what the last fetch read, with Options.Reuse
}

var _ source.Source = (*Source)(nil)

// Options configure a Source.
type Options struct {
	// Prefix selects the keys that start with it. It stays in the paths.
	Prefix string
	// Ignore are patterns as in a gitignore file of what to leave out, after
	// those of the object .sourceignore at the root of the bucket.
	Ignore string
	// Timeout bounds each Resolve and each Fetch. Zero means one minute;
	// negative means that only the context does.
	Timeout time.Duration
	// Limits bound what is read. The zero value is the defaults.
	Limits source.Limits
	// Reuse keeps the files of the last Fetch in memory, so that the next one
	// downloads only those that changed.
	Reuse bool
}

// New returns a source of a bucket, which is called name in errors. Nil opts
// are the defaults.
func New(name string, lister Lister, opts *Options) (*Source, error) {
	s := &Source{name: name, lister: lister}
	if opts != nil {
		s.opts = *opts
	}
	errs := []error{s.opts.Limits.Validate()}
	if lister == nil {
		errs = append(errs, errors.New("the Lister is nil"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &source.Error{Op: "new", Source: name, Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)}
	}
	s.opts.Limits = s.opts.Limits.OrDefaults()
	if s.opts.Timeout == 0 {
		s.opts.Timeout = time.Minute
	}
	return s, nil
}

// Resolve lists the bucket. The revision is the digest of all keys and ETags,
// as Flux computes it.
func (s *Source) Resolve(ctx context.Context) (source.Revision, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	defer s.idle()
	objects, err := s.list(ctx)
	if err != nil {
		return source.Revision{}, s.fail(ctx, "resolve", err)
	}
	return revision(objects), nil
}

// Fetch downloads the files of exactly that revision. If the bucket has
// changed, also while it is read, it returns source.ErrNotFound: resolve again.
func (s *Source) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	defer s.idle()
	a, err := s.fetch(ctx, rev)
	if err != nil {
		return nil, s.fail(ctx, "fetch", err)
	}
	return a, nil
}

func (s *Source) fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	if rev.Digest.Validate() != nil || rev.Ref != "" {
		return nil, fmt.Errorf("%w: revision %q is not a digest", source.ErrInvalidSpec, rev)
	}
	objects, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	if now := revision(objects); now != rev {
		return nil, fmt.Errorf("%w: the bucket has changed: it is no longer %s but %s", source.ErrNotFound, rev, now)
	}
	data, err := s.download(ctx, objects)
	if err != nil {
		return nil, err
	}
	tree, err := source.MapFS(data)
	if err != nil {
		return nil, err
	}
	return source.NewArtifact(rev, tree, nil), nil
}

// revision is the digest of the sorted objects.
func revision(objects []Object) source.Revision {
	sum := sha256.New()
	for _, o := range objects {
		fmt.Fprintf(sum, "%s %s\n", o.Key, o.ETag)
	}
	return source.Revision{Digest: digest.NewDigest(digest.SHA256, sum)}
}

// list returns the objects that are files of the source, sorted by key.
func (s *Source) list(ctx context.Context) ([]Object, error) {
	rules, err := s.rules(ctx)
	if err != nil {
		return nil, err
	}
	l := s.opts.Limits
	var objects []Object
	var total int64
	seen := 0
	for o, err := range s.lister.List(ctx, s.opts.Prefix) {
		if err != nil {
			return nil, err
		}
		if seen++; seen/16 > l.Files {
			return nil, fmt.Errorf("%w: the bucket lists more than sixteen times %d objects", source.ErrLimit, l.Files)
		}
		if strings.HasSuffix(o.Key, "/") || o.Key == source.IgnoreFile || !strings.HasPrefix(o.Key, s.opts.Prefix) {
			continue // what stands for a directory, and what was read already
		}
		if err := checkKey(o.Key, l.Depth); err != nil {
			return nil, err
		}
		if rules.Match(o.Key, false) {
			continue
		}
		objects = append(objects, o)
		total += o.Size
		switch {
		case len(objects) > l.Files:
			return nil, fmt.Errorf("%w: more than %d objects", source.ErrLimit, l.Files)
		case o.Size > l.File:
			return nil, fmt.Errorf("%w: object %q is larger than Limits.File", source.ErrLimit, o.Key)
		case total > l.Unpacked || total > l.Download:
			return nil, fmt.Errorf("%w: the objects together are larger than Limits.Unpacked or Limits.Download", source.ErrLimit)
		}
	}
	slices.SortFunc(objects, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	return objects, ctx.Err()
}

// checkKey allows keys that are paths of files.
func checkKey(key string, depth int) error {
	switch {
	case !fs.ValidPath(key) || key == "." || strings.ContainsRune(key, '\\') || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w: key %.200q is no path of a file", source.ErrUnsafePath, key)
	case strings.Count(key, "/") > depth:
		return fmt.Errorf("%w: key %.200q is nested deeper than %d directories", source.ErrLimit, key, depth)
	}
	return nil
}

// maxIgnore bounds the object .sourceignore.
const maxIgnore = 256 << 10

// rules are the patterns of the bucket and of the options.
func (s *Source) rules(ctx context.Context) (source.IgnoreRules, error) {
	var rules source.IgnoreRules
	for o, err := range s.lister.List(ctx, source.IgnoreFile) {
		if err != nil {
			return rules, err
		}
		if o.Key != source.IgnoreFile {
			continue
		}
		if o.Size > maxIgnore {
			return rules, fmt.Errorf("%w: %s has more than %d bytes", source.ErrLimit, o.Key, maxIgnore)
		}
		text, err := s.get(ctx, o)
		if err != nil {
			return rules, err
		}
		rules = source.ParseIgnore(".", string(text))
		break
	}
	return rules.And(source.ParseIgnore(".", s.opts.Ignore)), ctx.Err()
}

// get reads one object, which has as many bytes as the listing said.
func (s *Source) get(ctx context.Context, o Object) ([]byte, error) {
	r, err := s.lister.Get(ctx, o)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if o.Size < 0 {
		return nil, fmt.Errorf("%w: object %q has the size %d", source.ErrUnavailable, o.Key, o.Size)
	}
	data, err := io.ReadAll(io.LimitReader(r, o.Size+1))
	if err != nil {
		return nil, fmt.Errorf("object %q: %w", o.Key, err)
	}
	if int64(len(data)) != o.Size {
		return nil, fmt.Errorf("%w: object %q has not the size that was listed", source.ErrUnavailable, o.Key)
	}
	return data, nil
}

func (s *Source) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.opts.Timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// idle lets a lister give up the connections that it does not use.
func (s *Source) idle() {
	if c, ok := s.lister.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// fail makes the error of an operation.
func (s *Source) fail(ctx context.Context, op string, err error) error {
	e := &source.Error{Op: op, Source: s.name, Err: err}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = cause
		return e
	}
	for _, class := range []error{
		source.ErrNotFound, source.ErrUnauthorized, source.ErrInvalidSpec, source.ErrUnverified,
		source.ErrLimit, source.ErrUnsafePath, source.ErrUnavailable,
	} {
		if errors.Is(err, class) {
			return e
		}
	}
	e.Err = fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	return e
}
