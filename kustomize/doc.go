// Package kustomize turns a tree of files into Kubernetes objects, offline.
//
// [Build] is `kustomize build` for any [io/fs.FS]: a directory opened with
// os.Root, an embed.FS, an fstest.MapFS in a test, an artifact fetched by a
// source. A directory without a kustomization file is built as if it had one
// that lists all its manifests.
//
//	root, err := os.OpenRoot("deploy")
//	if err != nil {
//		return err
//	}
//	defer root.Close()
//	objects, err := kustomize.Build(ctx, root.FS(), "overlays/production", nil)
//	if err != nil {
//		return err // kustomize: build "overlays/production": base/app.yaml:12: …
//	}
//	for _, o := range objects {
//		fmt.Println(o.GetKind(), o.GetName())
//	}
//
// What Flux does after a build are functions of their own: [Substitute]
// replaces ${variables}, [SetMetadata] adds common labels and annotations.
// Package kustomize/sops decrypts what the build reads.
//
//	objects, err = kustomize.Substitute(ctx, objects, map[string]string{"region": "eu"}, nil)
//
// # What it does not do
//
// It runs no program, opens no connection and writes no file. Remote bases and
// files, helmCharts and exec plug-ins are refused by name. It does not talk to
// a cluster.
//
// # Confinement
//
// A reference may leave the directory that is built, which overlays need, but
// never the file system it was given. os.DirFS follows symbolic links out of
// its directory; for trees you do not trust, use os.Root.
//
// # Errors
//
// Every error is an *[Error] with the file and, where there is one, the line.
// It matches one of [ErrInvalid], [ErrRemote], [ErrUnsupported], [ErrLimit],
// [io/fs.ErrNotExist] or a context error. Terminal tells a reconciler that
// only another tree can help.
//
// # Concurrency
//
// Builds are safe for concurrent use and run side by side, except those with
// an openapi field: kustomize keeps schemas in variables of the process, so
// such a build waits for the others, runs alone, and leaves no trace. A
// program that also calls kustomize itself shares those variables and is not
// protected.
package kustomize
