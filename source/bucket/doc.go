// Package bucket is a source.Source of the objects of a bucket, by the S3
// protocol or any other Lister.
//
//	s3, err := bucket.NewS3("minio.example.com:9000", "deploy", &bucket.S3Options{
//		AccessKey: id, SecretKey: secret,
//	})
//	if err != nil {
//		return err
//	}
//	src, err := bucket.New("deploy", s3, &bucket.Options{Prefix: "prod/"})
//	if err != nil {
//		return err
//	}
//	rev, err := src.Resolve(ctx)         // sha256:…
//	artifact, err := src.Fetch(ctx, rev) // an fs.FS of exactly these objects
//
// Keys are the paths of files; those that end with a slash stand for
// directories and are left out. Before anything is downloaded, ignore rules are
// applied: the object .sourceignore at the root of the bucket, then
// Options.Ignore. There are no default exclusions, as in Flux. Each object is
// read as it was listed, or the call fails: generations are never mixed.
//
// # Errors
//
// Errors are *source.Error: ErrNotFound for a bucket that is missing and for one
// that changed since Resolve, ErrUnauthorized, ErrInvalidSpec, ErrLimit,
// ErrUnsafePath for keys that are no paths, or a file and a directory at once,
// and ErrUnavailable for the rest. No error contains a credential.
//
// # Concurrency
//
// A Source and an S3 are safe for concurrent use and keep no connection between
// calls.
//
// The package does not read versions of objects, write, or find credentials by
// itself: no file, environment variable or metadata service is read.
package bucket
