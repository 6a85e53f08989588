// Package git is a source.Source of Git repositories over https, http and ssh,
// and commits to them.
//
//	src, err := git.New("https://example.com/org/deploy.git", &git.Options{
//		Ref:  git.Ref{Branch: "main"},
//		Auth: git.Basic{Username: "git", Password: token},
//	})
//	if err != nil {
//		return err // everything that is wrong with the options, at once
//	}
//	rev, err := src.Resolve(ctx)         // main@sha1:5394cb7f…
//	artifact, err := src.Fetch(ctx, rev) // an fs.FS of exactly that commit
//	defer artifact.Close()
//
// Resolve asks the server for one ref, by protocol version 2: once the server
// is known, a poll is one request and a few hundred bytes, however many refs
// there are. Fetch asks for one commit by its hash, without history. Servers
// of version 0 are read too, at the price of their longer listing; if such a
// server gives out refs only, Fetch takes as much history as it needs to find
// the commit and says so in the metadata under MetaFallback.
//
// # Writing
//
// Commit makes a commit on top of a revision, and Push sends it:
//
//	c, err := src.Commit(ctx, rev, git.Change{
//		Author:  git.Person{Name: "Robot", Email: "robot@example.com"},
//		Message: "update the image",
//		Files:   map[string][]byte{"deploy/app.yaml": data},
//	})
//	if err != nil {
//		return err // git.ErrNoChanges when the files are so already
//	}
//	_, err = src.Push(ctx, c, nil) // git.ErrMoved when somebody was faster
//
// There is no clone and no work tree: the directories of the revision are read,
// and what is new is sent. Only the commit that a branch was seen at is
// replaced, unless PushOptions.Force says otherwise.
//
// # Content
//
// Nothing is checked out. The received pack is held in memory, or in an
// unnamed temporary file when it is large, and a file is inflated when it is
// opened. Modes are 0644 and 0755; every file has the time of the commit; bytes
// are those of the blob, whatever .gitattributes says. Submodules are empty
// directories, listed under MetaSubmodules. Symbolic links are left out and
// listed under MetaSkipped, or refused, see Symlinks. Large-file pointers stay
// pointers. The Meta constants are the keys of an artifact's Metadata.
//
// # Trust
//
// The pack's checksum and the hash of each object are verified, with
// detection of SHA-1 collision attacks, so that an artifact is what its
// revision says. Trees with names that some file system would take for a path
// or for .git, and names that io/fs does not know (backslashes, no UTF-8), are
// an ErrUnsafePath. Everything received is bounded by Limits. A pack may hold
// twice Limits.Files objects and, while history is read, sixteen times that
// and sixteen times Limits.Unpacked.
//
// With Options.Verifier, content is handed out only if its commit, its tag or
// both are signed by somebody the verifier trusts. Package source/verify has
// verifiers and signers for PGP and SSH.
//
// Credentials are sent to the host of the URL only. A redirect is followed on
// the first request of a conversation, never from https to http, and without
// credentials when it leads to another host. SSH needs known hosts; there is
// no way to accept any key. No configuration file, environment variable or
// agent is read, and no program is run.
//
// # Errors
//
// Errors are *source.Error: ErrInvalidSpec from New; ErrNotFound for a
// repository, ref or commit that is missing and for an empty repository;
// ErrUnauthorized; ErrUnverified for corrupt content and host keys that are not
// known or content that is not signed; ErrLimit; ErrUnsafePath; ErrUnavailable
// for the rest of the network. Commit adds ErrNoChanges, Push ErrMoved and
// ErrRejected, which are none of these. A call that took longer than Options.Timeout is context.DeadlineExceeded.
//
// # Concurrency
//
// A Source is safe for concurrent use and keeps no connection between calls.
//
// The package does not cache packs, merge, or read SHA-256 repositories,
// submodules, or the dumb HTTP protocol.
package git
