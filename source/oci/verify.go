package oci

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Verifier decides whether a manifest may be used. It is asked by Fetch after
// the digest is known and before any layer is read.
//
// It returns who vouched for exactly that digest. Signatures that are missing
// or wrong are a source.ErrUnverified; so is no evidence without an error.
// Packages source/verify/... have implementations.
type Verifier interface {
	Verify(ctx context.Context, s *Subject) ([]source.Evidence, error)
}

// VerifierFunc is a function as a Verifier.
type VerifierFunc func(ctx context.Context, s *Subject) ([]source.Evidence, error)

// Verify calls f.
func (f VerifierFunc) Verify(ctx context.Context, s *Subject) ([]source.Evidence, error) {
	return f(ctx, s)
}

// Subject is the manifest that is to be verified, and the way to what the
// registry holds beside it, with the credentials and within the limits of its
// Repository. It is valid, and safe for concurrent use, until Verify returns.
type Subject struct {
	// Repository is "host/path".
	Repository string
	// Digest is that of the manifest or index in question.
	Digest digest.Digest

	conn *conn
}

// Manifest is a manifest or index as the registry has it. Its digest is true.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Data      []byte
}

// Manifest reads a manifest of the repository by tag or digest.
func (s *Subject) Manifest(ctx context.Context, reference string) (*Manifest, error) {
	return s.conn.manifest(ctx, reference)
}

// Blob reads a blob of at most max bytes that has the digest and the size of
// its descriptor.
func (s *Subject) Blob(ctx context.Context, d v1.Descriptor, max int64) ([]byte, error) {
	if d.Size > max {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, more than %d", source.ErrLimit, d.Digest, d.Size, max)
	}
	var data []byte
	err := s.conn.blob(ctx, d, func(r io.Reader) error {
		var err error
		data, err = io.ReadAll(r)
		return err
	})
	return data, err
}

// Referrers lists the manifests that refer to the subject, by the referrers
// API or, where the registry does not have it, by the tag that stands in for it.
func (s *Subject) Referrers(ctx context.Context) ([]v1.Descriptor, error) {
	return s.conn.referrers(ctx, s.Digest)
}

// Verify asks Options.Verifier about a revision without fetching it: keys that
// were withdrawn do not wait for a new revision. Without a verifier it returns
// nothing.
func (r *Repository) Verify(ctx context.Context, rev source.Revision) ([]source.Evidence, error) {
	var evidence []source.Evidence
	err := r.operation(ctx, "verify", func(ctx context.Context, c *conn) error {
		if _, err := parseDigest(rev.Digest.String()); err != nil {
			return fmt.Errorf("%w: revision %w", source.ErrInvalidSpec, err)
		}
		var err error
		evidence, err = r.verify(ctx, c, rev.Digest)
		return err
	})
	if err != nil {
		return nil, err
	}
	return evidence, nil
}

func (r *Repository) verify(ctx context.Context, c *conn, d digest.Digest) ([]source.Evidence, error) {
	if r.opts.Verifier == nil {
		return nil, nil
	}
	evidence, err := r.opts.Verifier.Verify(ctx, &Subject{Repository: r.repo.Name(), Digest: d, conn: c})
	switch {
	case err != nil && classOf(err) == nil && ctx.Err() == nil:
		return nil, fmt.Errorf("%w: %w", source.ErrUnverified, err)
	case err != nil:
		return nil, err
	case len(evidence) == 0:
		return nil, fmt.Errorf("%w: %w", source.ErrUnverified, errors.New("the verifier vouches for nothing"))
	}
	return evidence, nil
}
