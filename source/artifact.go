package source

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Artifact is the content of one revision: a read-only file system that knows
// what it is. It stays valid until Close, does not change, and is safe for
// concurrent use.
//
// Artifact implements fs.FS, fs.ReadDirFS, fs.ReadFileFS and fs.StatFS, and
// passes fstest.TestFS whenever the file system below it does.
type Artifact struct {
	// Revision is the revision that was asked for.
	Revision Revision
	// Metadata describes the content: the commit's subject, an image's
	// annotations. Each source documents its keys. It may be nil.
	Metadata map[string]string
	// Verified says who vouched for the content. It is empty when nobody was asked.
	Verified []Evidence

	fsys  fs.FS
	close func() error

	mu       sync.RWMutex // held for reading while the file system is used
	closed   bool
	closeErr error

	digestMu sync.Mutex
	digest   digest.Digest
}

// Evidence is one successful verification.
type Evidence struct {
	// Kind is how it was verified: "pgp", "ssh", "cosign", "notation".
	Kind string
	// Object is what was signed: "commit", "tag", "manifest".
	Object string
	// Signer is the key or identity that signed, as its kind writes it: a key
	// id, a fingerprint, a certificate's subject.
	Signer string
	// Time is when it was signed; zero when the signature does not say.
	Time time.Time
}

// ArtifactOptions are the optional parts of an Artifact.
type ArtifactOptions struct {
	Metadata map[string]string
	Verified []Evidence
	// Close releases what the file system holds. It is called once, when no
	// method of the artifact is running. Nil means nothing to release.
	Close func() error
}

// NewArtifact makes an artifact of a file system whose content must not change
// until it is closed. Sources use it; a nil opts means no metadata, no
// evidence and nothing to release.
func NewArtifact(rev Revision, fsys fs.FS, opts *ArtifactOptions) *Artifact {
	if opts == nil {
		opts = &ArtifactOptions{}
	}
	return &Artifact{Revision: rev, Metadata: opts.Metadata, Verified: opts.Verified, fsys: fsys, close: opts.Close}
}

// Digest returns the identity of the content as ContentDigest defines it. The
// first call reads every file; later ones return the same answer at once.
// Use Revision to see whether anything may have changed, and Digest to see
// whether it did.
func (a *Artifact) Digest(ctx context.Context) (digest.Digest, error) {
	a.digestMu.Lock()
	defer a.digestMu.Unlock()
	if a.digest != "" {
		return a.digest, nil
	}
	d, err := ContentDigest(ctx, a)
	if err != nil {
		return "", err
	}
	a.digest = d
	return d, nil
}

// Close releases the artifact. Later reads fail with fs.ErrClosed. Files that
// are still open must not be used afterwards. Further calls do nothing and
// return the same error.
func (a *Artifact) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		if a.close != nil {
			a.closeErr = a.close()
		}
	}
	return a.closeErr
}

// Open implements fs.FS.
func (a *Artifact) Open(name string) (fs.File, error) {
	return use(a, "open", name, func() (fs.File, error) { return a.fsys.Open(name) })
}

// ReadFile implements fs.ReadFileFS.
func (a *Artifact) ReadFile(name string) ([]byte, error) {
	return use(a, "read", name, func() ([]byte, error) { return fs.ReadFile(a.fsys, name) })
}

// ReadDir implements fs.ReadDirFS.
func (a *Artifact) ReadDir(name string) ([]fs.DirEntry, error) {
	return use(a, "readdir", name, func() ([]fs.DirEntry, error) { return fs.ReadDir(a.fsys, name) })
}

// Stat implements fs.StatFS.
func (a *Artifact) Stat(name string) (fs.FileInfo, error) {
	return use(a, "stat", name, func() (fs.FileInfo, error) { return fs.Stat(a.fsys, name) })
}

// Lstat and ReadLink implement fs.ReadLinkFS, for file systems that show links.
func (a *Artifact) Lstat(name string) (fs.FileInfo, error) {
	return use(a, "lstat", name, func() (fs.FileInfo, error) { return fs.Lstat(a.fsys, name) })
}

// ReadLink returns the target of a link.
func (a *Artifact) ReadLink(name string) (string, error) {
	return use(a, "readlink", name, func() (string, error) { return fs.ReadLink(a.fsys, name) })
}

func use[T any](a *Artifact, op, name string, f func() (T, error)) (T, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		var none T
		return none, &fs.PathError{Op: op, Path: name, Err: fs.ErrClosed}
	}
	if a.fsys == nil {
		var none T
		return none, &fs.PathError{Op: op, Path: name, Err: errors.New("artifact has no file system")}
	}
	return f()
}
