// Package gitopskit is the map of a set of packages, each doing one step of
// GitOps. It holds no code. Take the packages you need; they know nothing of
// each other and meet in standard types.
//
// Files come from a source, as an [io/fs.FS] with a revision:
//
//   - [github.com/gitopskit/gitopskit/source]: what a Source, a Revision and an
//     Artifact are; directories and file systems as sources
//   - [github.com/gitopskit/gitopskit/source/git]: Git over http, https and ssh
//   - [github.com/gitopskit/gitopskit/source/oci],
//     [github.com/gitopskit/gitopskit/source/bucket]: registries and S3
//   - [github.com/gitopskit/gitopskit/source/helmrepo],
//     [github.com/gitopskit/gitopskit/source/chart]: charts
//   - [github.com/gitopskit/gitopskit/source/verify],
//     [github.com/gitopskit/gitopskit/source/verify/cosign]: signatures
//   - [github.com/gitopskit/gitopskit/source/store],
//     [github.com/gitopskit/gitopskit/source/archive]: artifacts kept, served and
//     downloaded again
//
// They become objects:
//
//   - [github.com/gitopskit/gitopskit/kustomize]: build overlays and plain
//     directories, offline; [github.com/gitopskit/gitopskit/kustomize/sops]
//     decrypts while it reads
//   - [github.com/gitopskit/gitopskit/helm]: load, compose and render charts
//
// Objects are brought into a cluster and kept there:
//
//   - [github.com/gitopskit/gitopskit/ssa]: diff, apply, wait, watch and prune by
//     server-side apply; [github.com/gitopskit/gitopskit/ssa/proof] proves that
//     nothing has to be done, [github.com/gitopskit/gitopskit/ssa/health] tells by
//     expressions when something is ready
//   - [github.com/gitopskit/gitopskit/helm/release]: the same by Helm's records;
//     [github.com/gitopskit/gitopskit/helm/release/fluxrelease] reads Flux's specs
//
// or are looked at with no cluster:
//
//   - [github.com/gitopskit/gitopskit/ssa/schema]: what is wrong with a manifest,
//     with file and line
//   - [github.com/gitopskit/gitopskit/ssa/offline]: a cluster in memory
//
// New images find their way back into Git:
//
//   - [github.com/gitopskit/gitopskit/image],
//     [github.com/gitopskit/gitopskit/image/update],
//     [github.com/gitopskit/gitopskit/image/writeback]
//
// Something runs that again and again, and somebody hears of it:
//
//   - [github.com/gitopskit/gitopskit/runtime]: the reconcile loop, for any keys,
//     with or without Kubernetes; [github.com/gitopskit/gitopskit/runtime/kube]
//     and its neighbours are what Kubernetes needs besides
//   - [github.com/gitopskit/gitopskit/notify]: events to logs, webhooks, chats and
//     commits; [github.com/gitopskit/gitopskit/notify/receiver]: webhooks in
//
// Tests get a real Kubernetes API server from
// [github.com/gitopskit/gitopskit/runtime/testenv]. examples/quickstart puts the
// first half of it together, examples/controllers all of it.
package gitopskit
