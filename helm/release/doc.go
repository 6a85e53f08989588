// Package release installs charts and keeps Helm's records: what it did can be
// listed, upgraded, rolled back and uninstalled by the helm command, and it
// takes over what that did.
//
//	client := &release.Client{
//		Applier: &ssa.Objects{Client: cluster, Managers: []string{"helm"}},
//		Store:   &release.Secrets{Dynamic: dyn, Metadata: names, Namespace: "apps"},
//	}
//	desired := release.Desired{Name: "shop", Namespace: "apps", Chart: chart, Values: values}
//	outcome, err := client.Reconcile(ctx, desired, &status, nil) // a zero Status the first time
//	if err != nil {
//		return err // helm/release: upgrade apps/shop revision 7: …
//	}
//	fmt.Println(outcome.State, outcome.Reason) // store status until the next time
//
// # Deciding and doing
//
// [Decide] is a pure function: what is wanted, what is there and how often it
// failed give a state and the next action. [Client.Step] observes, decides and
// does one action; [Client.Reconcile] goes on until nothing is left to do.
// [Client.Install], [Client.Upgrade], [Client.Rollback], [Client.Uninstall],
// [Client.Test], [Client.Unlock], [Client.Drift] and [Client.Correct] can be
// called by themselves, too.
//
// # Records
//
// A record is stored before the first object is sent and again when the action
// ended, so that an interruption at any moment is seen and recovered: an
// interrupted install or upgrade is unlocked and made again, an interrupted
// uninstall is finished. Objects that left the manifest are deleted, those that
// only a failed revision had, too. A history is read by metadata; a record is
// read when it is needed, and never beyond a limit.
//
// A [Snapshot] has the digests that Flux keeps in the history of a HelmRelease.
//
// # Errors
//
// Every error of an action is an *[Error] with the release and its revision. It
// matches one of the Err variables, or is an error of package helm, or of the
// applier. Terminal tells a reconciler that only another chart, other values or
// another policy can help. Values of a release are in no error.
//
// # Concurrency
//
// A [Client] is safe for concurrent use, for one release by one call at a time;
// two that meet notice it by the records.
//
// # What it does not do
//
// It needs no client of Kubernetes beyond an [Applier] and a [Store], and
// renders no chart again for a rollback. It does not run Helm's own actions,
// reads no logs of hooks, keeps no records but in Secrets, reuses no values of
// earlier revisions, and runs until a wait ends or its context does.
package release
