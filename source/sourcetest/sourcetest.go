// Package sourcetest checks that an implementation of source.Source keeps the
// rules of that interface.
//
//	if err := sourcetest.TestSource(t.Context(), src, "deploy/app.yaml"); err != nil {
//		t.Fatal(err)
//	}
//
// It needs nothing of package testing, so that a program can check a source
// of its user as well. The source must not change while it is checked.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing/fstest"

	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// TestSource checks src and wants its artifact to hold at least the expected
// files. It returns every violation it finds, joined:
//
//   - Resolve gives the same revision twice, and its text parses back
//   - Fetch gives that revision, as a file system that passes fstest.TestFS
//   - the content digest is the same for every Fetch, and ContentDigest's
//   - a context that has ended ends Resolve, or is not needed for it; it always ends Fetch
//   - a revision that nothing has is an error, and so is the zero revision
//   - several goroutines may resolve, fetch and read at once
//   - Close can be called twice; reads after it are fs.ErrClosed
func TestSource(ctx context.Context, src source.Source, expected ...string) error {
	rev, err := src.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("sourcetest: %w", err)
	}
	var errs []error
	for _, check := range []struct {
		name string
		run  func() error
	}{
		{"resolve", func() error { return checkResolve(ctx, src, rev) }},
		{"artifact", func() error { return checkArtifact(ctx, src, rev, expected) }},
		{"context", func() error { return checkContext(ctx, src, rev) }},
		{"unknown revision", func() error { return checkUnknown(ctx, src, rev) }},
		{"concurrency", func() error { return checkConcurrent(ctx, src, rev) }},
		{"close", func() error { return checkClose(ctx, src, rev) }},
	} {
		if err := check.run(); err != nil {
			errs = append(errs, fmt.Errorf("sourcetest: %s: %w", check.name, err))
		}
	}
	return errors.Join(errs...)
}

func checkResolve(ctx context.Context, src source.Source, rev source.Revision) error {
	if rev.IsZero() {
		return errors.New("the revision is zero")
	}
	parsed, err := source.ParseRevision(rev.String())
	if err != nil {
		return err
	}
	if parsed != rev {
		return fmt.Errorf("revision %#v parses back as %#v", rev, parsed)
	}
	again, err := src.Resolve(ctx)
	if err == nil && again != rev {
		err = fmt.Errorf("%s first, %s then", rev, again)
	}
	return err
}

func checkArtifact(ctx context.Context, src source.Source, rev source.Revision, expected []string) error {
	a, err := src.Fetch(ctx, rev)
	if err != nil {
		return err
	}
	defer a.Close()
	var errs []error
	if a.Revision != rev {
		errs = append(errs, fmt.Errorf("asked for %s, got %s", rev, a.Revision))
	}
	errs = append(errs, fstest.TestFS(a, expected...))
	got, err := a.Digest(ctx)
	errs = append(errs, err)
	want, err := source.ContentDigest(ctx, a)
	errs = append(errs, err)
	if got != want {
		errs = append(errs, fmt.Errorf("digest %s, ContentDigest %s", got, want))
	}
	return errors.Join(errs...)
}

func checkContext(ctx context.Context, src source.Source, rev source.Revision) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	// A pinned revision needs no context.
	if got, err := src.Resolve(ctx); err == nil && got != rev {
		return fmt.Errorf("resolve gives %s without a context, %s with one", got, rev)
	} else if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("resolve in a cancelled context: %w", err)
	}
	a, err := src.Fetch(ctx, rev)
	if err == nil {
		return errors.Join(errors.New("fetch succeeds in a cancelled context"), a.Close())
	}
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("fetch in a cancelled context: %w", err)
	}
	return nil
}

func checkUnknown(ctx context.Context, src source.Source, rev source.Revision) error {
	// Another digest of the same kind.
	text := []byte(rev.Digest)
	for i := len(text) - 8; i < len(text); i++ {
		text[i] = "0123456789abcdef1"[strings.IndexByte("0123456789abcdef", text[i])+1]
	}
	for _, r := range []source.Revision{{}, {Ref: rev.Ref}, {Ref: rev.Ref, Digest: digest.Digest(text)}} {
		a, err := src.Fetch(ctx, r)
		if err == nil {
			return errors.Join(fmt.Errorf("fetch of revision %q succeeds", r), a.Close())
		}
		var typed *source.Error
		if !errors.As(err, &typed) {
			return fmt.Errorf("fetch of revision %q: not a *source.Error: %w", r, err)
		}
	}
	return nil
}

func checkConcurrent(ctx context.Context, src source.Source, rev source.Revision) error {
	const workers = 4
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { errs[i] = useOnce(ctx, src, rev) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func useOnce(ctx context.Context, src source.Source, rev source.Revision) error {
	got, err := src.Resolve(ctx)
	if err == nil && got != rev {
		err = fmt.Errorf("resolve gives %s, then %s", rev, got)
	}
	if err != nil {
		return err
	}
	a, err := src.Fetch(ctx, rev)
	if err != nil {
		return err
	}
	defer a.Close()
	digests := make([]string, 3)
	errs := make([]error, len(digests))
	var wg sync.WaitGroup
	for i := range digests {
		wg.Go(func() {
			d, err := source.ContentDigest(ctx, a)
			digests[i], errs[i] = d.String(), err
		})
	}
	wg.Wait()
	for _, d := range digests[1:] {
		if d != digests[0] {
			errs = append(errs, fmt.Errorf("one artifact has the digests %s and %s", digests[0], d)) //nolint:makezero // the first ones were set by index
		}
	}
	return errors.Join(errs...)
}

func checkClose(ctx context.Context, src source.Source, rev source.Revision) error {
	a, err := src.Fetch(ctx, rev)
	if err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return fmt.Errorf("the second time: %w", err)
	}
	if _, err := a.Open("."); !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("open afterwards: want fs.ErrClosed, got %v", err)
	}
	return nil
}
