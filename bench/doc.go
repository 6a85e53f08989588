// Command bench measures this module beside the libraries that Flux's
// kustomize-controller is made of, and prints one table:
//
//	go run -C bench .
//
// Both sides get the same objects, the same client settings and a server of
// their own from one binary, in one run. What is counted does not depend on
// how fast the machine is: API requests, bytes of their bodies, allocations.
// Times are printed too, but they are of that machine and that moment. The
// last table that was taken is in docs/benchmarks.md.
//
// The flag -only=build, -only=requests, -only=wait or -only=proof takes a part
// of it; -small takes a small input, in seconds.
//
// The same figures as Go benchmarks, for benchstat, and the check that this
// side never sends more requests than the other, on a small input:
//
//	go test -C bench -run '^$' -bench .
//	go test -C bench
//
// # The other side
//
// github.com/fluxcd/pkg/ssa and github.com/fluxcd/pkg/kustomize, called as
// kustomize-controller calls them in its development branch, with its defaults: four requests at a
// time, objects normalized, clean-up of earlier field managers, polling every
// five seconds, no cache below the poller. The controller itself does not
// run: its own requests for sources, events and the status of a
// Kustomization, which holds its inventory, are not counted, while those for
// the inventory of this side are.
//
// # The proof
//
// The part proof has tables of its own. It plays the life of a thousand objects
// of five kinds with a client that has a store and a prover, which answer without
// asking, beside github.com/fluxcd/pkg/ssa as above and beside kubectl apply
// --server-side, called in this process, each call with a cache of discovery
// on disk but without its limit of requests a second:
//
//   - Times are the middle one of all passes, requests the most of one pass,
//     the rest is the mean. Unchanged passes are made for three seconds, at
//     least three and at most a hundred of them; the other steps are played
//     once (creation) or three times.
//   - Watches count as requests, those of the store too.
//   - The server's processor time is what its process says in its metrics,
//     etcd included. Nothing is deducted: what it does by itself meanwhile, and
//     for the metrics, is in it.
//   - A cold start has a new client, store, mapper and schemas, and for kubectl
//     an empty cache.
//   - Allocations are those of this process while a pass goes on.
//   - Heap is what is reachable after a garbage collection, less what was
//     before, schemas aside, which have a line of their own.
//
// # Why there is a workspace
//
// The benchmarks are a module of their own, so that what they compare with
// never enters the requirements of the library. They measure the library in
// the directory above, of the same commit: go.work says so. It does what a
// replace directive would, but only here; go.mod does not require the library
// because no version of it is meant. Therefore go mod tidy, which does not
// look at workspaces, must be told to go on when the library cannot be found:
//
//	go mod tidy -e
//
// Nobody imports this module.
package main
