package image

import (
	"context"
	"fmt"
)

// DigestPolicy says when the digest of the selected tag becomes part of the
// reference, in the words of Flux. Empty is Never.
type DigestPolicy string

// The policies.
const (
	Never        DigestPolicy = "Never"        // the reference has no digest
	IfNotPresent DigestPolicy = "IfNotPresent" // the digest that the tag had when it was selected
	Always       DigestPolicy = "Always"       // the digest that the tag has now
)

// Reflect returns next with the digest that the policy wants. Previous is what
// was selected last, the zero value if nothing was. The registry is asked only
// when the answer is not in previous; with an error the caller keeps previous.
func (s *Scanner) Reflect(ctx context.Context, policy DigestPolicy, previous, next Ref) (Ref, error) {
	next.Digest = ""
	switch policy {
	case "", Never:
		return next, nil
	case IfNotPresent:
		if previous.Digest != "" && previous.Name == next.Name && previous.Tag == next.Tag {
			return previous, nil
		}
	case Always:
	default:
		return Ref{}, invalid("digest", s.String(), fmt.Errorf("digest policy %q: want %s, %s or %s", short(string(policy)), Never, IfNotPresent, Always))
	}
	digest, err := s.Digest(ctx, next.Tag)
	if err != nil {
		return Ref{}, err
	}
	next.Digest = digest
	return next, nil
}
