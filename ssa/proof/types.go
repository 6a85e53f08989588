package proof

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// Types knows the schemas of kinds: a [Server], or a set of schemas that needs
// none. It must give the types by which the server in question merges, or
// verdicts mean nothing, and be safe for concurrent use.
type Types interface {
	// TypeConverter returns the converter that knows gvk, which it shares with
	// others. A kind without a schema is an error.
	TypeConverter(ctx context.Context, gvk schema.GroupVersionKind) (managedfields.TypeConverter, error)
}

// TypesFunc is a function as Types.
type TypesFunc func(ctx context.Context, gvk schema.GroupVersionKind) (managedfields.TypeConverter, error)

// TypeConverter calls f.
func (f TypesFunc) TypeConverter(ctx context.Context, gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	return f(ctx, gvk)
}

// Prover is [NoOp] with its types, in the form that package ssa asks for.
type Prover struct {
	// Types are the schemas. Required.
	Types Types
}

// Unchanged reports whether applying desired over live is proven to change
// nothing, for manager and with force, and if not, why.
func (p *Prover) Unchanged(ctx context.Context, live, desired *unstructured.Unstructured, manager string) (unchanged bool, why string) {
	verdict := NoOp(ctx, live, desired, manager, p.Types)
	return verdict.Unchanged, verdict.Why
}
