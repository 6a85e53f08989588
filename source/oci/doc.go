// Package oci is a source.Source of artifacts and images in OCI registries, and
// pushes artifacts that Flux reads.
//
//	repo, err := oci.New("oci://registry.example.com/org/deploy", &oci.Options{
//		Ref:    oci.Ref{SemVer: "1.x"},
//		Client: oci.Client{Keychain: keys},
//	})
//	if err != nil {
//		return err // everything that is wrong with the options, at once
//	}
//	rev, err := repo.Resolve(ctx)         // 1.4.2@sha256:3e25f4…
//	artifact, err := repo.Fetch(ctx, rev) // an fs.FS of exactly that manifest's layer
//	defer artifact.Close()
//
// Resolve asks for the digest of a tag: once the registry is known, a poll is
// one HEAD request, as its token is kept. A range of versions lists the tags
// first. Fetch reads by digest only, so that a tag which moves in between
// changes nothing.
//
// # Content
//
// Layer chooses one layer of the image, the first by default, and either opens
// it, a tar archive with or without gzip, by the rules of source.ReadArchive, or
// takes it as one file, byte for byte. Of an index, Options.Platform chooses the
// image. The metadata are the manifest's annotations; the Annotation constants
// name those that say where the content comes from.
//
// Push makes a manifest of the media types and annotations of Flux, and the
// same bytes of the same tree.
//
// # Trust
//
// Every manifest and blob has the digest it was asked for. Options.Verifier has
// to vouch for a manifest before any layer is read; source/verify/cosign has
// one. Everything received is bounded by Limits.
//
// Credentials are sent to the registry, and to the token server that it names.
// Redirects carry none to another host, and never lead from https to http.
// Plain HTTP must be allowed by name, also for local registries. No
// configuration of other programs and no environment variable is read.
//
// # Errors
//
// Errors are *source.Error: ErrInvalidSpec from New; ErrNotFound for a
// repository, tag, version, platform or layer that is missing; ErrUnauthorized;
// ErrUnverified for content that is not what its digest says, a corrupt archive,
// and signatures; ErrLimit; ErrUnsafePath; ErrUnavailable for the rest of the
// network. A call that took longer than Client.Timeout is
// context.DeadlineExceeded.
//
// # Concurrency
//
// A Repository is safe for concurrent use and keeps no connection between calls.
//
// The package does not cache or retry. It does not read OCI image layouts from
// disk, merge several layers, or know other compressions than gzip.
package oci
