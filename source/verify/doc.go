// Package verify checks and makes the signatures of Git commits and tags, by
// PGP and by SSH.
//
//	keys, err := verify.ParseKeys(map[string][]byte{"alice.asc": pgpKey, "ci.sshpub": sshKey})
//	if err != nil {
//		return err
//	}
//	src, err := git.New(url, &git.Options{
//		Ref:      git.Ref{Branch: "main"},
//		Verifier: keys, // unsigned or foreign commits are source.ErrUnverified
//	})
//
// A signature is checked over the bytes of the object as the server sent it,
// with its one signature cut out. Everything else is refused: two signatures,
// text after one, another kind than PGP and SSH, an SSH signature that was not
// made for Git, hashes that can be forged, keys that are short, expired or
// revoked.
//
// # Errors
//
// ParseKeys and NewSigner return source.ErrInvalidSpec with everything that is
// wrong. Verify returns source.ErrUnverified with the reason. No error contains
// a private key or a passphrase.
//
// # Concurrency
//
// A Keyring and a Signer do not change and are safe for concurrent use.
//
// The package trusts each key for everything: it does not bind keys to authors.
// It does not ask key servers, and does not know X.509 signatures.
package verify
