// Package health says by expressions how far objects have come that their own
// status does not tell in a way that everybody knows, such as custom resources.
//
//	rules, err := health.Compile([]health.Expression{{
//		APIVersion: "cert-manager.io/v1",
//		Kind:       "Certificate",
//		Failed:     "status.conditions.exists(c, c.type == 'Issuing' && c.reason == 'Failed')",
//		Current:    "status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
//	}}, nil)
//	if err != nil {
//		return err // every expression that is wrong, and why
//	}
//	client.Health = rules
//	_, err = client.Wait(ctx, ids, nil)
//
// An [Expression] has the fields of a healthCheckExprs entry of Flux's
// Kustomization, and means the same.
//
// # Rules
//
// Expressions are of the Common Expression Language, with optional values and
// the extensions for strings, sets and base64. Each field of the object is a
// variable: metadata, spec, status, data and so on. They are parsed and not type
// checked, because types are not known.
//
// The expressions of an object are those for its group and kind, else those for
// its group. If status.observedGeneration is a number and not that of
// metadata.generation, the object is InProgress. Else the first that is true
// decides, in the order InProgress, Failed, Current; if none is, the object is
// InProgress. A failed evaluation, such as one that meets a field that is not
// there, makes the object Stuck, which ends a wait, with the expression in the
// message; but one that has no status at all is InProgress, with the same
// message: somebody has yet to look at it.
//
// # Limits
//
// The cost of an evaluation is bounded as the API server bounds it, what single
// functions can build or compare is, and so is the length of an expression. The
// function format, whose cost cannot be bounded, is refused.
//
// # Errors and concurrency
//
// An error of [Compile] joins one *[Error] for each mistake; it matches
// ssa.ErrInvalid, and only another expression can help. Values are in messages
// only where CEL puts them, as conversions do; of Secrets, no detail of a failed
// evaluation is told. An [Evaluator] is immutable and safe for concurrent use.
//
// # What it does not do
//
// It reads no cluster: objects come from whoever has them. It does not look at
// objects that are being deleted; package ssa knows those.
package health
