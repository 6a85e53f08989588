// Package source defines where desired state comes from: a Source says which
// revision it holds now (Resolve) and hands out exactly that revision (Fetch)
// as an Artifact, which is an fs.FS.
//
//	src := &source.Dir{Path: "deploy"} // or git.New(url, nil), or any other Source
//	rev, err := src.Resolve(ctx)
//	if err != nil || rev == last {
//		return err // nothing new, and nothing was transferred
//	}
//	artifact, err := src.Fetch(ctx, rev)
//	if err != nil {
//		return err
//	}
//	defer artifact.Close()
//	data, err := fs.ReadFile(artifact, "kustomization.yaml")
//
// The two steps leave no gap: a Revision is immutable, so what was decided on
// is what is used, also when the source moves on in between. Dir and Files are
// the sources that need nothing but a directory; the packages below this one
// read Git repositories and other places. sourcetest checks an implementation.
//
// Files travel as archives: WriteArchive and ReadArchive have one policy for
// everything that a tar archive may hold. Ignore shows a tree without what Flux
// leaves out of an artifact, and MapFS makes one of content in memory.
//
// # Identity
//
// A Revision is the source's own name for its content: a commit, a manifest's
// digest. An Artifact's Digest is ours: it depends on the names, modes and
// bytes of the files alone, so equal trees have equal digests wherever they
// come from, see ContentDigest.
//
// # Errors
//
// Every error of a Source is an *Error that names the operation and the source;
// those of functions only say what they did. Each is one of the classes
// ErrNotFound, ErrUnauthorized, ErrInvalidSpec, ErrUnverified, ErrLimit,
// ErrUnsafePath and ErrUnavailable by errors.Is, or the error of the context. Its method Terminal says whether only another input can help, and
// RetryAfter how long the server wants to be left alone. No error contains a
// credential.
//
// # Bounds
//
// Everything that is read from outside is bounded by Limits, whose zero value
// has safe defaults.
//
// # Concurrency
//
// Sources and artifacts are safe for concurrent use.
//
// The package does not schedule, retry, cache, or write files, and it knows
// nothing of Kubernetes.
package source
