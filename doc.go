// Package gitopskit is the map of a set of packages, each doing one step of
// GitOps. It holds no code. Take the packages you need; they know nothing of
// each other and meet in standard types.
//
// Files come from a source, as an [io/fs.FS] with a revision:
//
//   - [github.com/gitopskit/gitopskit/source]: what a Source, a Revision and an
//     Artifact are; directories and file systems as sources
//   - [github.com/gitopskit/gitopskit/source/git]: Git over http, https and ssh
//
// They become objects:
//
//   - [github.com/gitopskit/gitopskit/kustomize]: build overlays and plain
//     directories, offline
//
// Objects are brought into a cluster and kept there:
//
//   - [github.com/gitopskit/gitopskit/ssa]: diff, apply, wait, watch and prune by
//     server-side apply
//
// Something runs that again and again, and somebody hears of it:
//
//   - [github.com/gitopskit/gitopskit/runtime]: the reconcile loop, for any keys,
//     with or without Kubernetes
//   - [github.com/gitopskit/gitopskit/notify]: events to logs and webhooks
//
// Tests get a real Kubernetes API server from
// [github.com/gitopskit/gitopskit/runtime/testenv]. The program in
// examples/quickstart puts all of it together.
package gitopskit
