// Package kube drives the loop of package runtime from a Kubernetes API
// server: it is the body of a controller, of which only the reconciliation of
// one kind is left to write.
//
//	type deployer struct{ /* clients */ }
//
//	func (d *deployer) Reconcile(ctx context.Context, app *v1.App, pass *kube.Pass) kube.Result {
//		if err := d.deploy(ctx, app); err != nil {
//			return kube.Fail("DeployFailed", err)
//		}
//		return kube.Ready("deployed " + app.Spec.Version).At(app.Spec.Version)
//	}
//
//	_, err = kube.Add(ctx, mgr, &deployer{}, kube.Options[*v1.App]{
//		Schedule:  func(app *v1.App) kube.Schedule { return kube.Schedule{Interval: app.Spec.Interval.Duration} },
//		Finalizer: "finalizers.example.org",
//	})
//
// Cache, client, leader election and metrics server are those of the
// controller-runtime manager; its own queue and reconciler are not used.
//
// # A pass
//
// An object is read from the cache, or is our own last write where the cache is
// behind; the finalizer is put on it; its dependencies are looked at; then the
// [Reconciler] is called. Its [Result] becomes the conditions Ready,
// Reconciling and Stalled, and the status is written once, and only if it has
// changed. An object that is being deleted goes to Finalize, and loses the
// finalizer when that is ready.
//
// Passes begin when an object appears, when its generation changes, when the
// annotation [RequestedAt] changes (answered in status.lastHandledReconcileAt),
// when an object of [Options.References] changes, when a dependency becomes
// ready, and after the interval or the pause of its [Schedule].
//
// # Errors
//
// The text of an error becomes a condition and an event and must therefore
// hold no secrets. Whether it is tried again, and when, follows from the error's behaviour, see
// rt.IsTerminal and rt.RetryAfter. A write of status that meets a newer object
// is repeated on top of that.
//
// # Concurrency
//
// There is at most one pass at a time for an object. A Controller is safe for
// concurrent use.
//
// # What it does not do
//
// It has no predicates and no own rate limiter, does not watch Secrets unless
// told to, and leaves identities to package runtime/tenancy.
package kube
