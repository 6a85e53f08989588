// Package depend decides by an expression whether a dependency is ready, as
// readyExpr in the dependsOn of Flux's kinds does.
//
//	var expressions depend.Expressions // keeps what it has compiled
//	...
//	err := expressions.Ready(ctx, "dep.status.lastAppliedRevision == self.status.lastAttemptedRevision", app, database)
//	if err != nil {
//		return err // not ready, and why
//	}
//
// # Expressions
//
// An expression is of the Common Expression Language, with optional values and
// the extensions for strings, sets and base64. It has two variables: self, the
// object that depends, and dep, the dependency, both with all their fields as in
// JSON. Its value must be true or false. Expressions are checked before they are
// used, and each is compiled once.
//
// # Limits
//
// The cost of an evaluation is bounded as the API server bounds it, and so are
// the length of an expression and the number of compiled ones that are kept.
//
// # Errors and concurrency
//
// An expression that cannot be right is an *[InvalidError], which is terminal:
// only another expression can help. Every other error of [Expressions.Ready]
// means that the dependency is not ready; that includes expressions that cannot
// be evaluated yet, because a field is not there. [Expressions] is safe for
// concurrent use.
//
// # What it does not do
//
// It reads no objects and knows nothing of conditions: package runtime/status
// does.
package depend
