package ssa

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Prover proves from an object and what would be applied that nothing would
// change, with no request for the object. Package ssa/proof has one. It must be
// safe for concurrent use.
type Prover interface {
	// Unchanged reports whether it is proven that a forced server-side apply of
	// desired by manager leaves live as it is. Otherwise it says why there is no
	// proof, which does not mean that something would change. It modifies
	// neither object.
	Unchanged(ctx context.Context, live, desired *unstructured.Unstructured, manager string) (unchanged bool, why string)
}

// ProverFunc is a function as a [Prover].
type ProverFunc func(ctx context.Context, live, desired *unstructured.Unstructured, manager string) (bool, string)

// Unchanged calls f.
func (f ProverFunc) Unchanged(ctx context.Context, live, desired *unstructured.Unstructured, manager string) (unchanged bool, why string) {
	return f(ctx, live, desired, manager)
}

// Verify says what suffices as evidence that an object needs no request.
type Verify int

const (
	// VerifyAuto, the default, sends no dry run for an object that the
	// [Store] of the client knows to be unchanged, or that its [Prover] proves
	// to be. Without these it is VerifyAlways.
	VerifyAuto Verify = iota
	// VerifyAlways sends a dry run for every object. It also runs validation
	// and admission again on objects that are as they should be.
	VerifyAlways
)
