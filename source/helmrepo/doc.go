// Package helmrepo reads Helm repositories, over HTTP and in OCI registries.
//
//	repo, err := helmrepo.New("https://charts.example.com/stable", nil) // or oci://...
//	if err != nil {
//		return err // everything that is wrong with the options, at once
//	}
//	app, err := repo.Chart("app", "1.x")
//	if err != nil {
//		return err
//	}
//	rev, err := app.Resolve(ctx)         // 1.4.2@sha256:3e25f4…
//	artifact, err := app.Fetch(ctx, rev) // the files of the chart
//	defer artifact.Close()
//
// A Chart is a source.Source of the files of a chart; its Download gives the
// package as the repository serves it. An Index is a source of index.yaml.
//
// # Repositories over HTTP
//
// The index is asked for with the validators of the last answer, so that an
// unchanged one is one small request however many charts look into it. It is
// held in compressed form, and of its text only the part about a chart that
// somebody asked for is parsed. The digest in the index is that of the revision,
// and of the package that is downloaded. If there is none, the package has to be
// downloaded to know it, once for each entry of the index.
//
// # Repositories in OCI registries
//
// Versions are tags, with "_" for "+". A version in full is a tag and lists
// nothing. The digest of a revision is that of the manifest. See package oci,
// which does it, also for Options.Verifier.
//
// # Trust
//
// Credentials are sent to the scheme, host and port of the repository's URL; to
// charts elsewhere only with Options.PassCredentials, and never to where a
// server redirects. Redirects do not lead from https to http. The index is
// bounded by Options.IndexSize, a chart by Options.Limits.
//
// # Errors
//
// Errors are *source.Error: ErrInvalidSpec from New and Chart; ErrNotFound for a
// repository, chart or version that is missing, and for a revision that the
// index no longer has; ErrUnauthorized; ErrUnverified for a package that is not
// what the index says, and for an index that is none; ErrLimit; ErrUnavailable
// for the rest of the network.
//
// # Concurrency
//
// Everything is safe for concurrent use; no connection is kept between calls.
//
// The package does not check provenance files (.prov), build dependencies, or
// write repositories.
package helmrepo
