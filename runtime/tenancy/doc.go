// Package tenancy keeps tenants of one cluster apart: which references may leave a namespace, as whom objects are
// applied, and which kubeconfigs lead where.
//
//	policy := tenancy.Policy{NoCrossNamespaceRefs: true, Lockdown: true, DefaultServiceAccount: "reconciler"}
//	clients := &tenancy.Clients{Base: config}
//	...
//	if err := policy.Ref(app.Namespace, "GitRepository", ref.Namespace, ref.Name); err != nil {
//		return kube.Stall("AccessDenied", err)
//	}
//	id, err := policy.Identity(app.Namespace, app.Spec.ServiceAccountName)
//	cluster, err := clients.For(id)
//	// cluster.Dynamic and cluster.Mapper act as that service account
//
// # Never the controller by accident
//
// An [Identity] is somebody or an error: the zero value is nobody, and the controller itself is Identity.Self, which a
// policy in Lockdown never gives. Names of service accounts that would mean more than one of the own namespace are
// refused. Each connection that impersonates has a [Guard], which does not send a request without exactly that header.
//
// # Other clusters
//
// [Config] takes of a kubeconfig what is harmless, refuses by field what runs programs, reads files or does not verify,
// and bounds what it reads. [Clients] keeps one connection for each cluster, credentials and identity. What kinds a
// cluster has is read once for all of its identities, and again when a kind is not known. A cluster that cannot be
// reached costs one worker one wait: after that its requests fail at once, with an [UnreachableError] that says when
// to try again, until one of them finds that it is back.
//
// # Errors
//
// What a policy refuses matches [ErrDenied] and is terminal: *[DeniedError] for references, *[IdentityError] for
// identities. A kubeconfig that is not allowed or cannot be read is a *[KubeconfigError]. None holds credentials.
//
// # Concurrency
//
// A Policy is a value. [Clients] and what it returns are safe for concurrent use; connections are shared where that is
// the same identity.
//
// # What it does not do
//
// It grants nothing: what a service account may do is said by RBAC in the cluster, and the controller needs the right
// to impersonate. It reads no Secrets: package secrets knows their forms. The identities of clouds are not known here.
package tenancy
