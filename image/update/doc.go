// Package update writes selected images into the marked fields of manifests,
// byte for byte: of a file only the marked values change.
//
//	policies := map[string]image.Ref{"apps:web": {Name: "ghcr.io/org/web", Tag: "1.2.0"}}
//	plan, err := update.Setters(ctx, tree, policies, &update.Options{Path: "clusters/prod"})
//	if err != nil {
//		return err
//	}
//	for _, c := range plan.Changes {
//		fmt.Printf("%s:%d %s: %s -> %s\n", c.File, c.Line, c.Object.Name, c.Old, c.New)
//	}
//	for _, s := range plan.Skipped {
//		fmt.Printf("%s:%d %s: %s\n", s.File, s.Line, s.Reason, s.Detail)
//	}
//	files := plan.Files() // path to new content, for a commit
//
// Nothing is written: the tree is any fs.FS, and the plan goes wherever it is
// wanted, such as to image/writeback.
//
// # Markers
//
// A marker is a comment behind a value, or alone on the line above a value that
// has a line to itself, as Flux has it:
//
//	image: ghcr.io/org/web:1.1.0 # {"$imagepolicy": "apps:web"}
//	tag: 1.1.0 # {"$imagepolicy": "apps:web:tag"}
//
// It names a policy by namespace and name, and of its image all, or "tag",
// "name" or "digest". Files are those that end in .yaml or .yml and those called
// Kustomization, in all directories below Options.Path. Values keep their
// quotes; one without gets double quotes if it would be no string any more, as
// the tag 1.20 would. Lists, several documents, lists of Kubernetes objects,
// anchors, CRLF and byte order marks are no obstacle.
//
// A marker that changes nothing is in Plan.Skipped, with the place and the
// reason: the policy is unknown, the file is no YAML, the marker is malformed or
// stands where no value is. An edited file is parsed again before it becomes
// part of the plan, and left alone if anything but the values is different.
//
// # Errors
//
// Errors are *Error, of class ErrInvalid, which is terminal, for options and
// policies; ErrLimit; ErrUnresolved with Options.Strict; or the file system's
// own.
//
// # Concurrency
//
// Setters does not change what it is given and is safe for concurrent use, and
// so is a Plan.
//
// The package does not follow symbolic links, look into multi-line text for
// markers, or change anything that is not marked.
package update
