// Package ssa makes a cluster hold a set of objects, by server-side apply: it
// shows the difference, applies in stages, waits for readiness by watch,
// notices drift, and deletes what left the set.
//
//	client := &ssa.Client{
//		Dynamic: dyn,    // dynamic.NewForConfig, with config.QPS = -1
//		Mapper:  mapper, // restmapper.NewDeferredDiscoveryRESTMapper
//		Owner:   ssa.Owner{Name: "shop", Namespace: "apps"},
//	}
//	applied, err := client.Apply(ctx, objects, nil)
//	if err != nil {
//		return err // every object that was refused, and why
//	}
//	pruned, err := client.Prune(ctx, objects, nil)
//	if err != nil {
//		return err
//	}
//	fmt.Println(applied.Summary(), pruned.Summary())
//	_, err = client.Wait(ctx, applied.Objects(), nil)
//
// # Steps
//
// [Client.Diff] asks and changes nothing; [Compare] tells two sets apart with no
// cluster at all. [Client.Apply] tries everything by
// dry run first, so that a set with an invalid object changes nothing, and
// then sends what differs. [Client.Prune] deletes what the owner had and the
// set no longer has. [Client.Wait] and [Client.WaitDeleted] follow the objects
// by one watch for each kind. [Client.Watch] tells when somebody else changes
// or deletes an applied object. Each returns values: a [ChangeSet] with one
// [Change] an object, or one [Status] an object.
//
// # Ownership
//
// All objects of an [Owner] carry its labels, and the owner's [Inventory]
// lists them. The inventory is written before the first object, so that a
// crash at any moment leaves no object behind that the next run does not know
// of. Fields belong to the field manager: a field that leaves a manifest
// leaves the object, fields of others stay.
//
// # Policies
//
// [Policy] says what happens to objects of others, to fields that others should
// decide, to fields that kubectl or Helm applied before, and to immutable fields;
// objects have a say by annotations. Annotation config.kubernetes.io/depends-on
// puts objects in an order of its own. [PruneGuard] stops a prune that would
// delete more than anybody meant, [Client.Orphans] finds what no inventory lists,
// and with [Client.Cluster] an inventory is not taken for that of another cluster.
//
// # Cost
//
// A pass sends one list for each kind, one dry run for each object, one apply
// for each object that differs, and reads the inventory; it writes that only
// when the set of objects changed.
//
// A controller need not pay that in every interval. A [Store], one for each
// cluster, follows the applied objects by watch, and a [Prover] tells from an
// object that applying would change nothing:
//
//	store := &ssa.Store{Dynamic: dyn}
//	go store.Run(ctx)
//	client.Store, client.Prover = store, &proof.Prover{Types: types}
//
// With both, a pass over unchanged objects sends nothing, one over a changed
// object a dry run and an apply, the first one after a restart a list and an
// access review for each kind, and a wait nothing. What that rests on is told at
// [Store]; ApplyOptions.Verify asks the server anyway.
//
// # Errors
//
// An error joins one *[ObjectError] for each object at fault, and matches
// [ErrInvalid], [ErrUnknownKind], [ErrForbidden], [ErrConflict], [ErrForeign],
// [ErrUnavailable] or [ErrNotReady]. Values of Secrets are in no error and, by
// default, in no diff.
//
// # What it does not do
//
// It fetches and builds nothing: objects come from whoever has them. It does
// not create namespaces that the set lacks. But for a [Store] that the caller runs, it keeps no state between calls
// other than the inventory, logs nothing and starts no goroutine that outlives a
// call.
package ssa
