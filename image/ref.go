package image

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Ref names an image. It keeps the spelling of whoever wrote it: "alpine" stays
// "alpine".
type Ref struct {
	// Name is the repository without tag, such as "alpine" or
	// "registry.example.com:5000/org/app".
	Name string
	// Tag is the tag, without colon.
	Tag string
	// Digest is "sha256:<hex>", or empty when it is not known.
	Digest string
}

// ParseRef reads "name", "name:tag", "name:tag@digest" or "name@digest". A
// mistake is an ErrInvalid.
func ParseRef(s string) (Ref, error) {
	rest, digest, pinned := strings.Cut(s, "@")
	if strings.ContainsAny(digest, "/@") {
		return Ref{}, invalid("parse", s, errors.New("the reference contains credentials: remove them"))
	}
	r := Ref{Name: rest, Digest: digest}
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		r.Name, r.Tag = rest[:colon], rest[colon+1:]
		if r.Tag == "" {
			return Ref{}, invalid("parse", s, errors.New("the tag is empty"))
		}
	}
	if pinned && digest == "" {
		return Ref{}, invalid("parse", s, errors.New("the digest is empty"))
	}
	if err := r.Validate(); err != nil {
		return Ref{}, err
	}
	return r, nil
}

// Validate returns an ErrInvalid for everything that is wrong with r. Tag and
// Digest may be empty.
func (r Ref) Validate() error {
	_, err := parseName(r.Name, false)
	errs := []error{err}
	if r.Tag != "" && !tagForm.MatchString(r.Tag) {
		errs = append(errs, fmt.Errorf("%q is not a tag", short(r.Tag)))
	}
	if r.Digest != "" && !digestForm.MatchString(r.Digest) {
		errs = append(errs, errors.New("the digest is malformed: want sha256:<64 hexadecimal digits in lower case>"))
	}
	if err := errors.Join(errs...); err != nil {
		return invalid("parse", r.String(), err)
	}
	return nil
}

// String is "name:tag@digest", without the parts that are empty.
func (r Ref) String() string {
	s := r.Name
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// CanonicalName is the repository with its registry, such as
// "index.docker.io/library/alpine" for "alpine": the same for every spelling of
// the same repository. A name with a scheme, tag or digest is an ErrInvalid that
// says what to remove.
func CanonicalName(name string) (string, error) {
	repo, err := parseName(name, false)
	if err != nil {
		return "", invalid("parse", name, err)
	}
	return repo.Name(), nil
}

var (
	// tagForm is what the distribution specification allows for a tag.
	tagForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	// nameForm is the characters of names, before go-containerregistry looks closer.
	nameForm   = regexp.MustCompile(`^[a-zA-Z0-9\[][a-zA-Z0-9._:/\[\]-]*$`)
	digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// parseName reads the name of a repository.
func parseName(raw string, insecure bool) (name.Repository, error) {
	if i := strings.Index(raw, "://"); i >= 0 {
		return name.Repository{}, fmt.Errorf("the image has a scheme: remove %q", short(raw[:i+3]))
	}
	if i := strings.IndexByte(raw, '@'); i >= 0 {
		if !strings.ContainsRune(raw[i:], '/') {
			return name.Repository{}, fmt.Errorf("the image has a digest: remove %q", short(raw[i:]))
		}
		return name.Repository{}, errors.New("the image contains credentials: move them to Client.Keychain")
	}
	if i := strings.LastIndexByte(raw, ':'); i > strings.LastIndexByte(raw, '/') {
		return name.Repository{}, fmt.Errorf("the image has a tag: remove %q", short(raw[i:]))
	}
	var opts []name.Option
	if insecure {
		opts = append(opts, name.Insecure)
	}
	if !nameForm.MatchString(raw) {
		return name.Repository{}, fmt.Errorf("the image is malformed: %q is no registry/path", short(raw))
	}
	repo, err := name.NewRepository(raw, opts...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("the image is malformed: %s", short(err.Error()))
	}
	return repo, nil
}

// invalid makes a terminal error about a name that may be anything.
func invalid(op, on string, err error) error {
	return &Error{Op: op, On: redact(on), Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
}

// redact shows a name that may be malformed, without what may be a password.
func redact(raw string) string {
	for {
		_, after, ok := strings.Cut(raw, "@")
		if !ok || strings.HasPrefix(after, "sha256:") && !strings.ContainsRune(after, '@') {
			break
		}
		raw = after
	}
	return short(raw)
}
