package git

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/gitopskit/gitopskit/source"
)

// maxTied bounds how many tags of one version are compared by their commits.
const maxTied = 32

// newest finds the tag with the highest version in a range.
func (s *Source) newest(ctx context.Context, c *session, within string) (reference, error) {
	constraint, err := semver.NewConstraint(within)
	if err != nil {
		return reference{}, fmt.Errorf("%w: Ref.SemVer %q: %w", source.ErrInvalidSpec, within, err)
	}
	refs, err := c.list(ctx, "refs/tags/")
	if err != nil {
		return reference{}, err
	}
	best := highest(refs, constraint)
	switch {
	case len(best) == 0:
		return reference{}, fmt.Errorf("%w: none of the %d tags is a version in the range %s", source.ErrNotFound, len(refs), within)
	case len(best) > maxTied:
		return reference{}, fmt.Errorf("%w: more than %d tags are of the same version %s", source.ErrLimit, maxTied, strings.TrimPrefix(best[0].name, "refs/tags/"))
	case len(best) > 1:
		return s.latest(ctx, c, best)
	}
	return best[0], nil
}

// highest are the tags of the highest version in a range. Build metadata does
// not order versions, so there may be several, which are sorted by name.
func highest(refs []reference, within *semver.Constraints) []reference {
	var best []reference
	var version *semver.Version
	for _, r := range refs {
		v, err := semver.NewVersion(strings.TrimPrefix(r.name, "refs/tags/"))
		if err != nil || !within.Check(v) {
			continue
		}
		switch {
		case version == nil || v.GreaterThan(version):
			best, version = []reference{r}, v
		case v.Equal(version):
			best = append(best, r)
		}
	}
	slices.SortFunc(best, func(a, b reference) int { return strings.Compare(a.name, b.name) })
	return best
}

// latest is the tag whose commit was made last; of equal ones the last by name.
func (s *Source) latest(ctx context.Context, c *session, tags []reference) (reference, error) {
	var ids []oid
	for _, r := range tags {
		ids = append(ids, r.id)
	}
	p, err := s.receive(ctx, c, want{ids: ids, depth: 1, filter: "tree:0"})
	if err != nil {
		return reference{}, err
	}
	defer p.data.Close() //nolint:errcheck // it was only read
	best, when := tags[0], int64(-1)
	for _, r := range tags {
		at, ok := p.byID[r.commit()]
		if !ok || p.entries[at].kind != kindCommit {
			continue // a tag of something else
		}
		data, err := p.object(at)
		if err != nil {
			return reference{}, err
		}
		made, err := parseCommit(data)
		if err != nil {
			return reference{}, err
		}
		if t := made.committer.when.Unix(); t >= when {
			best, when = r, t
		}
	}
	return best, nil
}
