// Package offline is a Kubernetes cluster in memory, with true field ownership:
// for unit tests of manifests, and to plan what a change would do, with no
// process and no network.
//
//	cluster, err := offline.New(nil)
//	if err != nil {
//		return err
//	}
//	client := &ssa.Client{
//		Dynamic: cluster.Dynamic(),
//		Mapper:  cluster.Mapper(),
//		Owner:   ssa.Owner{Name: "shop", Namespace: "default"},
//	}
//	applied, err := client.Apply(ctx, objects, nil)
//
// [Cluster.Dynamic] and [Cluster.Mapper] are what a connection to a server
// gives, so whatever uses these runs on it unchanged.
//
// # What is exact
//
// Differential tests do the same here and on an API server and compare every
// answer, managed fields included. The same are: server-side apply with its
// ownership, merging, conflicts and their texts, which come from the API
// server's own field manager; creation, updates, patches of all kinds, dry
// runs; unknown fields; optimistic locking; generations; the defaults of the
// common kinds; custom resources with their defaults, pruning, schemas and
// rules in CEL; definitions, which serve their kinds at once; namespaces,
// finalizers and owner references, which are followed at once; lists, selectors
// and watches.
//
// # What is not
//
//   - Built-in kinds are checked against their published schemas, their
//     immutable fields, and the commonest mistakes. Other rules in the API
//     server's code are not known, so it may refuse what is accepted here.
//   - Defaults are known for workloads, pods, services, volumes, network, RBAC,
//     autoscaling, disruption budgets, webhooks, admission policies, storage,
//     priority and flow control, and as schemas say for the rest.
//   - Admission plug-ins are not there, but for namespaces, priorities and the
//     usual tolerations of pods. Webhooks and policies are stored and never
//     called; quotas and limit ranges bind nobody; service accounts add nothing
//     to pods. There is no authorization.
//   - Controllers are not there, but for what is said above: a Deployment makes
//     no pods. [Cluster.MarkReady] writes the status they would write.
//   - Of built-in kinds one version is served, the preferred one: no
//     autoscaling/v1. Custom resources with a conversion webhook are served in
//     the version they are stored in, as it is not called.
//   - Sub-resources other than status are refused. Fields of the status of
//     custom resources are not validated. Field selectors know the metadata.
//   - Addresses and ports of services are made up, in order.
//   - Two definitions of the same names are not noticed.
//
// Differences by kind are listed in docs/conformance.md.
//
// # Time and chance
//
// Times are those of package time, so testing/synctest controls them. UIDs and
// generated names follow from the UID of the namespace kube-system: seed it to
// get the same ones in each run, see [New].
//
// # Errors
//
// Requests fail as they do with a server: with an apierrors.APIStatus of the
// same code, reason and causes. They return the cause of the context when that
// has ended, and never wait. Requests of more than 3 MiB are refused.
//
// # Concurrency
//
// A Cluster is safe for concurrent use; writes come one after the other.
// Watches are the only goroutines; they end with their context or when they
// are stopped.
//
// # Cost
//
// An apply takes a fraction of a millisecond to a few milliseconds, by the size
// of the object. All objects and the last thousand or two changes are kept in
// memory.
package offline
