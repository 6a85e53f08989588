// Package status keeps the conditions of Kubernetes objects by the rules of
// kstatus and the conventions of Flux, for any kind that has conditions.
//
// [Finish] turns the outcome of a pass into the conditions Ready, Reconciling
// and Stalled; [Set] and [Delete] keep the other conditions of a kind; [Diff]
// says what there is to write, and [Check] tells whether an object follows the rules.
//
//	before := obj.DeepCopy()
//	observed := status.Finish(obj, status.Outcome{Kind: status.Succeeded, Message: "applied revision " + rev})
//	patch, err := status.Diff(before, obj, status.Change{Observed: observed}, obj.ResourceVersion)
//	if err == nil && patch != nil {
//		err = client.Status().Patch(ctx, obj, …)
//	}
//
// # The rules
//
// Ready is True after a pass that succeeded, False after one that failed, and
// Unknown while one goes on. Reconciling is there only while something is to
// be done, Stalled only when nothing but a change can help, and never both.
// status.observedGeneration moves only when a pass has come to an end, good or
// bad: a change that nobody has looked at yet is always visible.
//
// # Errors and concurrency
//
// The functions change the object that they are given and nothing else; an
// object is not safe for concurrent use, the package keeps no state.
//
// # What it does not do
//
// It does not talk to the API server: see package runtime/kube.
package status
