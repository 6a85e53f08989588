// Package image lists the tags of an image in its registry and selects the one
// that a policy prefers, as Flux's ImageRepository and ImagePolicy do.
//
//	scanner, err := image.NewScanner("registry.example.com/org/app", &image.ScannerOptions{
//		Client: image.Client{Keychain: keys},
//	})
//	if err != nil {
//		return err // everything that is wrong with the name and the options, at once
//	}
//	tags, err := scanner.Scan(ctx)                     // all tags, whatever their order in the registry
//	best, err := image.SemVer{Range: "1.x"}.Select(tags.All())
//	ref := image.Ref{Name: "registry.example.com/org/app", Tag: best.Tag}
//	ref, err = scanner.Reflect(ctx, image.IfNotPresent, previous, ref) // …@sha256:3e25f4…
//
// Package image/update writes such references into manifests, and
// image/writeback commits them.
//
// # Scans
//
// A Scanner asks the registry once who it is, and keeps its token: a scan costs
// one request for each page of tags. Tags that match one of
// ScannerOptions.Exclude are left out, and so is what no registry may call a
// tag; both are counted. Tags.Revision is the one that Flux's file store has for
// the same tags.
//
// # Policies
//
// A Policy is a pure function of tags. SemVer, Alphabetical and Numerical select
// what Flux's policies of the same names select, and Filter puts a regular
// expression before any of them, or before your own. The answer never depends on
// the order of the tags: of versions that are equal, the greatest tag in byte
// order is selected, of equal numbers the smallest, and of tags with an equal
// extract the smallest. Where Flux has no answer but the one of chance, or a
// wrong one, this package differs: numbers are compared exactly, however long,
// and an infinity is none.
//
// # Trust
//
// Credentials are sent to the registry, and to the token server that it names.
// The next page of tags must be on the same host; redirects carry no credentials
// to another host, and never lead from https to http. Plain HTTP must be allowed
// by name, also for local registries. Everything received is bounded by Limits.
// No configuration of other programs and no environment variable is read.
//
// # Errors
//
// Errors are *Error, of one of these classes: ErrInvalid for names and options,
// and ErrInvalidPolicy, both terminal; ErrNoMatch; ErrNotFound; ErrUnauthorized;
// ErrLimit; ErrUnavailable for the rest of the network. A call that took longer
// than Client.Timeout is context.DeadlineExceeded.
//
// # Concurrency
//
// A Scanner and all policies are safe for concurrent use. A Scanner keeps no
// connection between calls, and shares nothing with other Scanners: who lost
// access to a registry does not see what somebody else may.
//
// The package does not store tags, cache, retry or limit the rate of requests.
// It does not know when an image was built or who signed it.
package image
