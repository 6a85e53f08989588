package oci

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Ref is what to read of a repository. One of Tag, SemVer and Digest is set;
// the zero value is the tag "latest".
type Ref struct {
	// Tag is a tag. Revisions are "<tag>@sha256:<hex>".
	Tag string
	// SemVer is a range such as ">=1.0.0 <2.0.0" or "1.x", of which the
	// highest version among the tags is read. Tags are versions in full, with
	// or without "v"; others are left out. Prereleases match only a range that
	// names one, such as "1.x-0". Revisions are "<tag>@sha256:<hex>".
	SemVer string
	// Filter is a regular expression for the tags that SemVer considers.
	Filter string
	// Digest pins a manifest as "sha256:<hex>". It is resolved without asking
	// the registry. Revisions are "sha256:<hex>".
	Digest string
}

// defaultTag is read when nothing is asked for.
const defaultTag = "latest"

// selection is a Ref that was checked.
type selection struct {
	Ref
	digest digest.Digest
	ranges *semver.Constraints
	filter *regexp.Regexp
}

func (r Ref) compile() (selection, error) {
	s := selection{Ref: r}
	var errs []error
	set := 0
	for _, v := range []string{r.Tag, r.SemVer, r.Digest} {
		if v != "" {
			set++
		}
	}
	if set > 1 {
		errs = append(errs, errors.New("Ref has more than one of Tag, SemVer and Digest"))
	}
	if set == 0 {
		s.Tag = defaultTag
	}
	if r.Filter != "" && r.SemVer == "" {
		errs = append(errs, errors.New("Ref.Filter without Ref.SemVer: it chooses the tags for a range"))
	}
	if r.Tag != "" && !tagForm.MatchString(r.Tag) {
		errs = append(errs, fmt.Errorf("Ref.Tag %q is not a tag", r.Tag))
	}
	var err error
	if r.Digest != "" {
		if s.digest, err = parseDigest(r.Digest); err != nil {
			errs = append(errs, fmt.Errorf("Ref.Digest: %w", err))
		}
	}
	if r.SemVer != "" {
		if s.ranges, err = semver.NewConstraint(r.SemVer); err != nil {
			errs = append(errs, fmt.Errorf("Ref.SemVer %q: %w", r.SemVer, err))
		}
	}
	if r.Filter != "" {
		if s.filter, err = regexp.Compile(r.Filter); err != nil {
			errs = append(errs, fmt.Errorf("Ref.Filter: %w", err))
		}
	}
	return s, errors.Join(errs...)
}

// tagForm is what the distribution specification allows for a tag.
var tagForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func parseDigest(s string) (digest.Digest, error) {
	rev, err := source.ParseRevision(s)
	if err != nil || rev.Ref != "" || rev.Digest.Algorithm() != digest.SHA256 || rev.Digest.String() != s {
		return "", fmt.Errorf("%q: want sha256:<64 hexadecimal digits in lower case>", s)
	}
	return rev.Digest, nil
}

// best is the tag with the highest version. Registries do not know "+", so
// that Helm writes "_" for it, which underscore undoes.
func (s *selection) best(tags []string, underscore bool) (string, error) {
	var tag string
	var highest *semver.Version
	slices.Sort(tags) // of versions that differ in build metadata alone the last one wins, always
	for _, t := range tags {
		if s.filter != nil && !s.filter.MatchString(t) {
			continue
		}
		text := t
		if underscore {
			text = strings.ReplaceAll(t, "_", "+")
		}
		v, err := semver.StrictNewVersion(strings.TrimPrefix(text, "v"))
		if err != nil || !s.ranges.Check(v) {
			continue
		}
		if highest == nil || !v.LessThan(highest) {
			tag, highest = t, v
		}
	}
	if highest == nil {
		of := ""
		if s.filter != nil {
			of = fmt.Sprintf(" and the filter %q", s.Filter)
		}
		return "", fmt.Errorf("%w: none of %d tags matches the range %q%s", source.ErrNotFound, len(tags), s.SemVer, of)
	}
	return tag, nil
}

// String is the tag, range or digest.
func (r Ref) String() string {
	switch {
	case r.Digest != "":
		return r.Digest
	case r.SemVer != "":
		return "tags " + r.SemVer
	case r.Tag != "":
		return "tag " + r.Tag
	}
	return "tag " + defaultTag
}
