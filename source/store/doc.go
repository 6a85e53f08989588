// Package store keeps artifacts in a directory and serves them over HTTP, at
// the paths the controllers of Flux use: <kind>/<namespace>/<name>/<file>.
//
//	s, err := store.Open("/data", nil)
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	key := store.Key{Kind: "GitRepository", Namespace: "apps", Name: "web"}
//	info, err := s.Put(ctx, key, artifact) // gitrepository/apps/web/<digest>.tar.gz
//	if err != nil {
//		return err // and nothing was published
//	}
//	removed, err := s.Collect(ctx, key, info.Path)
//	http.Handle("/", s.Handler())
//
// What is published is complete: a file is written aside, flushed to disk and
// renamed, so that a crash or a full disk at any point leaves what was there
// before, and Open removes what a crash left aside. Put names a file by its own
// digest, so what a consumer was told to fetch never becomes something else.
//
// # Errors
//
// Errors are *source.Error: ErrInvalidSpec for a key or file name that no path
// may have, ErrLimit for an artifact above Options.MaxBytes, ErrNotFound,
// ErrUnverified from Verify for a file that is no longer what it was, and
// ErrUnavailable for what goes wrong with the disk.
//
// # Concurrency
//
// A Store is safe for concurrent use. A directory belongs to one Store at a time.
//
// The package does not know revisions, which are the caller's to remember, and
// does not share equal files between objects or authenticate readers: wrap the
// handler for that.
package store
