// Package chart packages Helm charts from any file system, and opens packages.
//
//	artifact, err := src.Fetch(ctx, rev) // of Git, a bucket, a registry
//	if err != nil {
//		return err
//	}
//	defer artifact.Close()
//	pkg, err := chart.Build(ctx, artifact, "charts/app", &chart.Options{
//		ValuesFiles: []string{"charts/app/values.yaml", "envs/production.yaml"},
//		Metadata:    "5394cb7f4833",
//	})
//	if err != nil {
//		return err
//	}
//	err = os.WriteFile(pkg.Filename(), pkg.Data, 0o600) // app-1.2.3+5394cb7f4833.tgz
//
// A package has the layout of "helm package", and the same bytes for the same
// input. Files that .helmignore excludes are left out; the others stay as they
// are, but for values.yaml and the version when the options change them.
//
// # Dependencies
//
// Charts in the directory charts/, unpacked or packed, are taken as they are.
// What Chart.yaml wants besides is taken from the tree, for "file://"
// repositories, or asked of Options.Dependencies. Chart.lock decides about
// versions; one that belongs to other dependencies is an error, as it is to
// "helm dependency build". Repositories by alias ("@name") need a configuration
// that is not there, and are refused.
//
// # Trust
//
// Nothing outside the tree is read: a path that leaves it, and a symbolic link
// that is shown, is an ErrUnsafePath. Everything is bounded by Limits, whose
// defaults here are Flux's for charts.
//
// # Errors
//
// Errors are *source.Error: ErrNotFound for a chart, values file or dependency
// that is missing; ErrInvalidSpec for what can never work, such as malformed
// YAML, a version that is none, or a dependency nobody can provide;
// ErrUnsafePath; ErrLimit; ErrUnverified for a corrupt package.
//
// # Concurrency
//
// Build only reads, and packages do not change: both are safe for concurrent use.
//
// The package does not render, lint or sign charts, and does not write
// Chart.lock.
package chart
