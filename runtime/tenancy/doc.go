// Package tenancy keeps tenants of one cluster apart: which references may
// leave a namespace, and as whom objects are applied.
//
//	policy := tenancy.Policy{NoCrossNamespaceRefs: true, DefaultServiceAccount: "reconciler"}
//	if err := policy.Ref(app.Namespace, "GitRepository", ref.Namespace, ref.Name); err != nil {
//		return kube.Stall("AccessDenied", err)
//	}
//	cluster, err := clients.For(policy.Identity(app.Namespace, app.Spec.ServiceAccountName))
//	// cluster.Dynamic and cluster.Mapper act as that service account
//
// # Errors
//
// A reference that is not allowed is a *[DeniedError], which is terminal; a
// kubeconfig that is not allowed or cannot be read is a *[KubeconfigError].
// Neither holds credentials.
//
// # Concurrency
//
// A Policy is a value. [Clients] is safe for concurrent use; connections are
// shared where that is the same identity.
//
// # What it does not do
//
// It grants nothing: what a service account may do is said by RBAC in the
// cluster. The identities of clouds are not known here.
package tenancy
