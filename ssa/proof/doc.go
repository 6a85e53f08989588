// Package proof tells, without a request, that applying an object would change
// nothing.
//
//	types := &proof.Server{Client: discovery.OpenAPIV3()}
//	verdict := proof.NoOp(ctx, live, desired, "gitopskit", types)
//	if verdict.Unchanged {
//		return // the server would answer the same
//	}
//	fmt.Println("ask the server:", verdict.Why)
//
// With a [Prover] the client of package ssa makes use of it:
//
//	client.Prover = &proof.Prover{Types: types}
//
// # What is proven
//
// live is the object as the server has it, desired the exact body of a
// server-side apply, by the same field manager and with force. They are
// compared the way the server itself does it: by structured merge with the
// schema the server publishes. The verdict is Unchanged only if
//
//   - the manager has exactly one managedFields entry, of an apply in the
//     version of desired, or would have none and has none;
//   - that entry names exactly the fields of desired, so that nothing is given
//     up or taken;
//   - merging desired into live gives live, with the order of lists;
//   - live is not being deleted and asks for no other rewriting.
//
// Then the server prunes nothing, because what is owned stays the same, and
// moves nothing between managers, because no value changes.
//
// Every other verdict means "don't know": the objects may differ, or differ
// only in spelling, like the quantities 1 and 1000m, which a client cannot tell
// for every kind. A request finds out.
//
// # What cannot be known
//
// Admission: a webhook or policy that rewrites objects runs even when an apply
// changes nothing, and may do so differently than when live was written.
// Whoever skips requests for long has to watch for that, as package ssa's Store
// does.
//
// # Errors and concurrency
//
// A schema that cannot be had is a "don't know" with the reason. Values of
// Secrets are in no reason. Everything here is safe for concurrent use and
// starts no goroutine.
package proof
