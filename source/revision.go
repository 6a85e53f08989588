package source

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Revision names immutable content: where it was found, and what it is.
//
// Its text is "<ref>@<algorithm>:<hex>", or "<algorithm>:<hex>" without a ref:
//
//	main@sha1:5394cb7f48332b2de7c17dd8b8384bbc84b7e738
//	refs/pull/1/head@sha1:5394cb7f48332b2de7c17dd8b8384bbc84b7e738
//	6.1.2@sha256:3e25f4…
//	sha256:3e25f4…
//
// The zero Revision names nothing and has an empty text. Revisions are
// comparable with ==.
type Revision struct {
	// Ref is the movable name the content was found under: a branch, a tag,
	// a full Git ref. It is empty for content that was pinned by digest.
	Ref string
	// Digest identifies the content in its own system: a Git commit is
	// "sha1:<hex>", an OCI manifest "sha256:<hex>".
	Digest digest.Digest
}

// hexLength holds the algorithms a revision may use and the length of their text.
//
//nolint:gochecknoglobals // a table that nothing changes
var hexLength = map[string]int{"sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}

// ParseRevision reads the text of a Revision. The last "@" separates the ref
// from the digest, so that refs may contain one. Older texts are understood
// and normalised: "main/<sha>", "HEAD/<sha>" and a bare "<sha>", where <sha>
// is a hexadecimal SHA-1 or SHA-256. Every error is an ErrInvalidSpec.
func ParseRevision(s string) (Revision, error) {
	rev, ok := parseRevision(s)
	if !ok || strings.ContainsFunc(rev.Ref, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Revision{}, fmt.Errorf("%w: revision %q: want <ref>@<algorithm>:<hex> or <algorithm>:<hex>", ErrInvalidSpec, s)
	}
	return rev, nil
}

func parseRevision(s string) (Revision, bool) {
	ref, dig := "", s
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		ref, dig = s[:i], s[i+1:]
		if ref == "" {
			return Revision{}, false
		}
	}
	if algorithm, hex, ok := strings.Cut(dig, ":"); ok {
		return Revision{ref, digest.Digest(dig)}, len(hex) == hexLength[algorithm] && isHex(hex)
	}
	// The legacy forms have no algorithm. A ref in them may contain "@".
	ref, hex := "", s
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		ref, hex = s[:i], s[i+1:]
		if ref == "" {
			return Revision{}, false
		}
	}
	if ref == "HEAD" {
		ref = ""
	}
	switch {
	case !isHex(hex):
		return Revision{}, false
	case len(hex) == 40:
		return Revision{ref, digest.Digest("sha1:" + hex)}, true
	case len(hex) == 64:
		return Revision{ref, digest.Digest("sha256:" + hex)}, true
	}
	return Revision{}, false
}

// isHex accepts lower case only: one content has one text.
func isHex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789abcdef") == ""
}

// IsZero says whether r names nothing.
func (r Revision) IsZero() bool { return r == Revision{} }

// String returns the text that ParseRevision reads.
func (r Revision) String() string {
	if r.Ref == "" {
		return r.Digest.String()
	}
	return r.Ref + "@" + r.Digest.String()
}

// MarshalText returns the text of r, for JSON and flags.
func (r Revision) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRevision; an empty text gives the zero Revision.
func (r *Revision) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Revision{}
		return nil
	}
	parsed, err := ParseRevision(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}
