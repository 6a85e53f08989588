// Package sops decrypts what SOPS has encrypted, inside a tree of files, for a
// build of package kustomize.
//
// The keys come from a Secret in the form of Flux: each entry whose name ends
// in .agekey holds age identities. [Keys.FS] shows a tree with every encrypted
// file in plain text; nothing is written to disk. [Keys.Objects] decrypts
// values of Secrets that were encrypted on their own and refuses what is still
// encrypted, so that no cipher text is applied by mistake.
//
//	keys, err := sops.ParseKeys(secret.Data)
//	if err != nil {
//		return err
//	}
//	objects, err := kustomize.Build(ctx, keys.FS(tree), "apps", nil)
//	if err != nil {
//		return err // … apps/secret.yaml: sops: …
//	}
//	err = keys.Objects(objects)
//
// # Formats
//
// YAML, JSON, dotenv, INI and binary files as written by SOPS, chosen by the
// extension of the file and else by its content. The message authentication
// code of every file is verified: a file that was changed after encryption is
// refused. A manifest with the annotation [DecryptAnnotation]: disabled is
// left as it is.
//
// # Errors
//
// Every error is an *[Error] that names the file or object, and matches one of
// [ErrNoKey], [ErrDamaged], [ErrEncrypted], [ErrUnsupported], [ErrInvalid] or
// [ErrLimit]. It never holds a key, cipher text or plain text.
//
// # Concurrency
//
// Keys and the trees they show are safe for concurrent use.
//
// # What it does not do
//
// It does not encrypt. OpenPGP, HashiCorp Vault and the key services of clouds
// are refused by name. Nothing is read from the environment or from key files.
package sops
