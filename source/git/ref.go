package git

import (
	"errors"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/gitopskit/gitopskit/source"
)

// Ref says what to read of a repository. At most one field is set, but for
// Commit with Branch; the zero value is the remote's default branch.
type Ref struct {
	// Branch is a short branch name. Revisions are "<branch>@sha1:<commit>".
	Branch string
	// Tag is a short tag name, lightweight or annotated. Revisions are
	// "<tag>@sha1:<commit>", with the commit and not the tag object.
	Tag string
	// SemVer is a range of versions such as ">=1.0.0 <2.0.0" or "1.x": the tag
	// with the highest version in it is read. Tags may start with a "v"; those
	// that are no version are passed over, and so are pre-releases unless the
	// range names one. Of tags that differ in build metadata only, the one with
	// the latest commit is read. Revisions are "<tag>@sha1:<commit>".
	SemVer string
	// Name is a full ref: "refs/pull/1/head", "refs/heads/main",
	// "refs/tags/v1.0.0" with or without "^{}". Revisions are "<name>@sha1:<commit>".
	Name string
	// Commit is a full commit hash. It is resolved without asking the server.
	// With Branch, Fetch wants the commit to be on that branch. Revisions are
	// "sha1:<commit>" or "<branch>@sha1:<commit>".
	Commit string
}

// check returns everything that is wrong with r.
func (r Ref) check() error {
	var errs []error
	set := 0
	for _, f := range []struct{ field, name, prefix string }{
		{"Branch", r.Branch, "refs/heads/"}, {"Tag", r.Tag, "refs/tags/"}, {"Name", r.Name, ""},
	} {
		if f.name == "" {
			continue
		}
		set++
		if f.prefix != "" && strings.HasPrefix(f.name, f.prefix) {
			errs = append(errs, fmt.Errorf("Ref.%s %q: leave out %q, or use Ref.Name", f.field, f.name, f.prefix))
		}
		if why := badRefName(f.prefix + strings.TrimSuffix(f.name, "^{}")); why != "" {
			errs = append(errs, fmt.Errorf("Ref.%s %q: %s", f.field, f.name, why))
		}
	}
	if r.Name != "" && r.Name != "HEAD" && !strings.HasPrefix(r.Name, "refs/") {
		errs = append(errs, fmt.Errorf("Ref.Name %q: want a full ref such as refs/heads/%[1]s", r.Name))
	}
	if r.SemVer != "" {
		set++
		if _, err := semver.NewConstraint(r.SemVer); err != nil {
			errs = append(errs, fmt.Errorf("Ref.SemVer %q: %w", r.SemVer, err))
		}
	}
	if r.Commit != "" {
		if r.Tag != "" || r.Name != "" || r.SemVer != "" {
			set++
		}
		if _, ok := parseOID(r.Commit); !ok || r.Commit != strings.ToLower(r.Commit) {
			errs = append(errs, fmt.Errorf("Ref.Commit %q: want all 40 hexadecimal digits in lower case: a short hash can come to mean another commit", r.Commit))
		}
	}
	if set > 1 {
		errs = append(errs, errors.New("Ref has more than one of Branch, Tag, SemVer, Name and Commit: only Branch and Commit go together"))
	}
	return errors.Join(errs...)
}

// isTag says whether r names a tag.
func (r Ref) isTag() bool {
	return r.Tag != "" || r.SemVer != "" || strings.HasPrefix(r.Name, "refs/tags/")
}

// full is the ref on the server, empty for a commit without a branch and for a
// range of versions.
func (r Ref) full() string {
	switch {
	case r.Branch != "":
		return "refs/heads/" + r.Branch
	case r.Tag != "":
		return "refs/tags/" + strings.TrimSuffix(r.Tag, "^{}")
	case r.Name != "":
		return strings.TrimSuffix(r.Name, "^{}")
	case r.Commit != "", r.SemVer != "":
		return ""
	}
	return "HEAD"
}

// String describes r for people.
func (r Ref) String() string {
	switch {
	case r.Commit != "" && r.Branch != "":
		return "commit " + r.Commit + " on branch " + r.Branch
	case r.Commit != "":
		return "commit " + r.Commit
	case r.Branch != "":
		return "branch " + r.Branch
	case r.Tag != "":
		return "tag " + r.Tag
	case r.SemVer != "":
		return "tag in " + r.SemVer
	case r.Name != "":
		return "ref " + r.Name
	}
	return "the default branch"
}

// revision is what a resolved ref is called.
func (r Ref) revision(found reference) source.Revision {
	rev := source.Revision{Digest: sha1Digest(found.commit())}
	switch {
	case r.Branch != "":
		rev.Ref = r.Branch
	case r.Tag != "":
		rev.Ref = strings.TrimSuffix(r.Tag, "^{}")
	case r.SemVer != "":
		rev.Ref = strings.TrimPrefix(found.name, "refs/tags/")
	case r.Name != "":
		rev.Ref = strings.TrimSuffix(r.Name, "^{}")
	default:
		rev.Ref = "HEAD"
		if branch, ok := strings.CutPrefix(found.symref, "refs/heads/"); ok && badRefName(found.symref) == "" {
			rev.Ref = branch
		}
	}
	return rev
}

// badRefName says what git check-ref-format would object to.
func badRefName(name string) string {
	switch {
	case strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return "a slash at the start, at the end, or twice"
	case strings.HasPrefix(name, "-") || strings.Contains(name, "/-") && strings.Count(name, "/") == 2 && strings.HasPrefix(name, "refs/heads/-"):
		return "it starts with a dash"
	case strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") || name == "@":
		return `it contains "..", "@{" or ends with a dot`
	case strings.ContainsAny(name, " ~^:?*[\\") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "it contains a character that no ref may have"
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return `a part of it starts with a dot or ends with ".lock"`
		}
	}
	return ""
}
