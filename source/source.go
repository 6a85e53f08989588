package source

import "context"

// Source is anything desired state can be read from.
//
// An implementation is safe for concurrent use, keeps nothing open between
// calls, and honours the context in every wait. sourcetest.TestSource checks
// these rules.
type Source interface {
	// Resolve says which immutable revision the source holds now. It is cheap
	// and transfers no content, so that a caller can compare the answer with
	// the revision it has and stop there.
	Resolve(ctx context.Context) (Revision, error)

	// Fetch returns the content of exactly that revision, never of a newer
	// one, also when the source has moved on since Resolve. The caller closes
	// the artifact.
	Fetch(ctx context.Context, rev Revision) (*Artifact, error)
}
