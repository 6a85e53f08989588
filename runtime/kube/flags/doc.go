// Package flags has the flags that Flux's controllers have in common, under
// their names and with their defaults, so that a Deployment of one of them goes
// on working with a program of ours.
//
//	var f flags.Flags
//	f.Bind(flag.CommandLine, &flags.Defaults{Namespace: os.Getenv("RUNTIME_NAMESPACE")})
//	flag.Parse()
//	mgr, err := f.Manager(ctx, config, "kustomize-controller", manager.Options{Scheme: scheme})
//	...
//	opts := kube.Options[*v1.App]{Schedule: schedule}
//	err = flags.Apply(&f, &opts)
//	_, err = kube.Add(ctx, mgr, logic, opts)
//
// # Shards
//
// With -watch-label-selector a program reconciles the objects with these labels
// only, and elects a leader among the programs with the same selector: as in
// Flux, static shards are one Deployment for each value of the label
// sharding.fluxcd.io/key, and one for the objects without it. Objects that
// others refer to are seen whatever their labels are: a source need not be in
// the shard of its consumers.
//
// # Errors and concurrency
//
// [Flags.Validate], which the other methods call, returns everything that is
// wrong at once, each with the name of its flag. A Flags is set up once and
// only read from then on; there is no other state, so that one process can have
// several.
//
// # What it does not do
//
// Flags of a single controller, such as -storage-path, are its own: define them
// in the same flag set. What Flux takes and needs nothing for here is taken as
// well and without effect: its documentation says so.
package flags
