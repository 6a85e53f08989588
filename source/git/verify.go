package git

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gitopskit/gitopskit/source"
)

// Verifier decides whether a signed object is trusted. verify.Keyring is one.
type Verifier interface {
	// Verify checks the signature of a commit or tag object, passed as Git stores
	// it, and says who signed it.
	Verify(ctx context.Context, object []byte) (source.Evidence, error)
}

// VerifierFunc is a function as a Verifier.
type VerifierFunc func(ctx context.Context, object []byte) (source.Evidence, error)

// Verify calls f.
func (f VerifierFunc) Verify(ctx context.Context, object []byte) (source.Evidence, error) {
	return f(ctx, object)
}

// VerifyMode says which objects must be signed. Its values are those of Flux.
type VerifyMode string

const (
	// VerifyHEAD wants the commit to be signed. It is the default.
	VerifyHEAD VerifyMode = "HEAD"
	// VerifyTag wants the tag to be signed, which must be an annotated one. The
	// commit is covered by it.
	VerifyTag VerifyMode = "Tag"
	// VerifyTagAndHEAD wants both.
	VerifyTagAndHEAD VerifyMode = "TagAndHEAD"
)

func (m VerifyMode) head() bool {
	return m == "" || m == VerifyHEAD || m == "head" || m == VerifyTagAndHEAD
}
func (m VerifyMode) tag() bool { return m == VerifyTag || m == VerifyTagAndHEAD }

func (o *Options) checkVerify() error {
	switch m := o.VerifyMode; {
	case !m.head() && !m.tag():
		return fmt.Errorf("VerifyMode %q: want HEAD, Tag or TagAndHEAD", m)
	case m != "" && o.Verifier == nil:
		return fmt.Errorf("VerifyMode %q needs a Verifier", m)
	case m.tag() && !o.Ref.isTag():
		return fmt.Errorf("VerifyMode %q needs a tag, not %s", m, o.Ref)
	}
	return nil
}

// verify asks the Verifier about what the mode names, before anything of the
// content is handed out.
func (s *Source) verify(ctx context.Context, p *pack, rev source.Revision, id oid, commit []byte) ([]source.Evidence, error) {
	if s.opts.Verifier == nil {
		return nil, nil
	}
	var all []source.Evidence
	if s.opts.VerifyMode.tag() {
		name := strings.TrimPrefix(rev.Ref, "refs/tags/")
		object, err := p.tagOf(name, id)
		if err != nil {
			return nil, err
		}
		e, err := s.verifyObject(ctx, "tag "+name, object)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if s.opts.VerifyMode.head() {
		e, err := s.verifyObject(ctx, "commit "+id.String(), commit)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func (s *Source) verifyObject(ctx context.Context, what string, object []byte) (source.Evidence, error) {
	e, err := s.opts.Verifier.Verify(ctx, object)
	switch {
	case err == nil:
		return e, nil
	case errors.Is(err, source.ErrUnverified) || ctx.Err() != nil:
		return e, fmt.Errorf("%s: %w", what, err)
	}
	return e, fmt.Errorf("%w: %s: %w", source.ErrUnverified, what, err)
}

// tagOf is the tag object of that name on a commit.
func (p *pack) tagOf(name string, commit oid) ([]byte, error) {
	for i := range p.entries {
		if p.entries[i].kind != kindTag {
			continue
		}
		data, err := p.object(int32(i))
		if err != nil {
			return nil, err
		}
		if t, err := parseTag(data); err == nil && t.name == name && t.target == commit && t.kind == "commit" {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%w: tag %s is no annotated tag of this commit, so it is not signed", source.ErrUnverified, name)
}
