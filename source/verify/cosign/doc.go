// Package cosign verifies what cosign signed with a key: images, artifacts and
// Helm charts in OCI registries.
//
//	keys, err := cosign.NewKeys(publicKeyPEM) // any of several keys will do
//	if err != nil {
//		return err
//	}
//	repo, err := oci.New("oci://registry.example.com/org/deploy", &oci.Options{Verifier: keys})
//	if err != nil {
//		return err
//	}
//	artifact, err := repo.Fetch(ctx, rev) // source.ErrUnverified unless one of the keys signed it
//	fmt.Println(artifact.Verified[0].Signer)
//
// Both forms of signatures are read: the tag "sha256-<hex>.sig" beside the
// image, and sigstore bundles that refer to it, as cosign writes them since its
// third version. Keys are ECDSA on the curves P-256, P-384 and P-521, RSA of
// 2048 bits or more, or Ed25519.
//
// # Trust
//
// A signature counts if one of the keys made it and if what it signs names the
// digest of exactly this manifest. A bundle must be a signature, too: an
// attestation, which says something about an image, is not one that allows it.
// What a transparency log or a timestamp says is not looked at, as a key that is
// given needs nobody else to vouch for it. Of all that is found, no more than a
// hundred signatures are tried.
//
// # Errors
//
// Errors have the classes of package source: ErrInvalidSpec for keys that
// cannot be used, ErrUnverified when no signature is there or none is good, with
// the reasons, and those of the registry.
//
// # Concurrency
//
// Keys are safe for concurrent use.
//
// The package does not verify signatures without keys, by certificates and
// identities: it refuses certificates as keys, and says of a bundle with one why
// it does not count. It does not sign.
package cosign
