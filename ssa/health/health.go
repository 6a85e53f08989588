package health

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/internal/expr"
	"github.com/gitopskit/gitopskit/ssa"
)

// Expression is how to tell the state of the objects of a kind.
type Expression struct {
	// APIVersion is "group/version", such as "cert-manager.io/v1", or the version
	// alone for core kinds. Only the group matters. Required.
	APIVersion string `json:"apiVersion"`
	// Kind of the objects; empty means all kinds of the group that have no
	// expressions of their own.
	Kind string `json:"kind,omitempty"`
	// InProgress, if true, says that somebody works on it.
	InProgress string `json:"inProgress,omitempty"`
	// Failed, if true, says that it will not get there by itself: [ssa.Stuck].
	Failed string `json:"failed,omitempty"`
	// Current, if true, says that it has arrived. Required.
	Current string `json:"current"`
}

// Options are the optional settings of [Compile].
type Options struct {
	// CostLimit is what one evaluation may cost, in the units of the API server,
	// which allows a million and counts on a tenth of a second for that. 0 means a
	// million.
	CostLimit uint64
}

// Evaluator judges objects. It is immutable and safe for concurrent use.
type Evaluator struct {
	rules map[schema.GroupKind]*rule
}

var _ ssa.Health = (*Evaluator)(nil)

// rule is the expressions of a kind, in the order in which they are tried.
type rule struct{ steps []step }

type step struct {
	state   ssa.State
	text    string
	program *expr.Program
}

// Compile makes an evaluator of expressions, or returns an error that joins an
// *[Error] for each mistake. Two entries must not be for the same group and kind.
func Compile(expressions []Expression, opts *Options) (*Evaluator, error) {
	if opts == nil {
		opts = &Options{}
	}
	l, err := expr.New(opts.CostLimit)
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	e := &Evaluator{rules: map[schema.GroupKind]*rule{}}
	var errs []error
	for i, x := range expressions {
		wrong := func(field, text string, err error) {
			errs = append(errs, &Error{Index: i, Field: field, Expression: text, Err: err})
		}
		gv, err := schema.ParseGroupVersion(x.APIVersion)
		if err != nil || gv.Version == "" {
			wrong("apiVersion", x.APIVersion, errors.New(`it must be "group/version", or the version alone for core kinds`))
			continue
		}
		kind := schema.GroupKind{Group: gv.Group, Kind: x.Kind}
		if e.rules[kind] != nil {
			wrong("kind", x.Kind, fmt.Errorf("an earlier entry is for the same group %q and kind", gv.Group))
			continue
		}
		r := &rule{}
		e.rules[kind] = r
		for _, s := range []struct {
			field, text string
			state       ssa.State
		}{
			{"inProgress", x.InProgress, ssa.InProgress},
			{"failed", x.Failed, ssa.Stuck},
			{"current", x.Current, ssa.Current},
		} {
			if s.text == "" {
				continue
			}
			p, err := l.Compile(s.text)
			if err != nil {
				wrong(s.field, s.text, err)
				continue
			}
			r.steps = append(r.steps, step{s.state, s.text, p})
		}
		if x.Current == "" {
			wrong("current", "", errors.New("it is required"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return e, nil
}

// Error is a mistake in an expression.
type Error struct {
	Index      int    // of the entry
	Field      string // of the entry, as in JSON
	Expression string // its value
	Err        error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("health: expressions[%d].%s", e.Index, e.Field)
	if e.Expression != "" {
		text += fmt.Sprintf(" %q", expr.Shorten(e.Expression))
	}
	return text + ": " + e.Err.Error()
}

// Unwrap makes the error match [ssa.ErrInvalid] and its cause.
func (e *Error) Unwrap() []error { return []error{ssa.ErrInvalid, e.Err} }

// Terminal says that only another expression can help.
func (e *Error) Terminal() bool { return true }

// Covers reports whether there are expressions for a kind, or for its group.
func (e *Evaluator) Covers(kind schema.GroupKind) bool { return e.rule(kind) != nil }

func (e *Evaluator) rule(kind schema.GroupKind) *rule {
	if r := e.rules[kind]; r != nil {
		return r
	}
	return e.rules[schema.GroupKind{Group: kind.Group}]
}

// Status returns how far an object has come, and, unless it is Current, why. An
// object of a kind that is not covered is [ssa.Unknown], as is one that ctx left
// no time for.
func (e *Evaluator) Status(ctx context.Context, obj *unstructured.Unstructured) (ssa.State, string) {
	r := e.rule(obj.GroupVersionKind().GroupKind())
	if r == nil {
		return ssa.Unknown, "there are no expressions for its kind"
	}
	generation, seen, outdated := generations(obj)
	if outdated {
		return ssa.InProgress, fmt.Sprintf("generation is %d, and the last that was observed %d", generation, seen)
	}
	secret := obj.GroupVersionKind().GroupKind() == schema.GroupKind{Kind: "Secret"}
	for _, s := range r.steps {
		yes, err := s.program.Holds(ctx, obj.Object, secret)
		switch {
		case err != nil && ctx.Err() != nil:
			return ssa.Unknown, context.Cause(ctx).Error()
		case err != nil && !hasStatus(obj):
			return ssa.InProgress, "it has no status yet: " + err.Error()
		case err != nil:
			return ssa.Stuck, err.Error()
		case yes && s.state == ssa.Current:
			return ssa.Current, ""
		case yes:
			return s.state, fmt.Sprintf("by the expression %q%s", expr.Shorten(s.text), conditionOf(obj))
		}
	}
	current := r.steps[len(r.steps)-1]
	return ssa.InProgress, fmt.Sprintf("the expression %q is not true yet%s", expr.Shorten(current.text), conditionOf(obj))
}

// generations returns the generation of an object and the last one that its
// controller has seen, and whether these differ.
func generations(obj *unstructured.Unstructured) (generation, seen int64, outdated bool) {
	seen, found, err := unstructured.NestedInt64(obj.Object, "status", "observedGeneration")
	if !found || err != nil { // some have it as a string; the expressions may know better
		return 0, 0, false
	}
	generation, found, err = unstructured.NestedInt64(obj.Object, "metadata", "generation")
	return generation, seen, found && err == nil && generation != seen
}

func hasStatus(obj *unstructured.Unstructured) bool {
	status, ok := obj.Object["status"].(map[string]any)
	return ok && len(status) > 0
}

// conditionOf quotes what the object itself says of its readiness.
func conditionOf(obj *unstructured.Unstructured) string {
	value, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "status", "conditions") // another form says nothing
	list, _ := value.([]any)
	for _, v := range list {
		c, _ := v.(map[string]any)
		if c["type"] != "Ready" && c["type"] != "Stalled" {
			continue
		}
		if message, ok := c["message"].(string); ok && message != "" {
			return ": " + expr.Shorten(message)
		}
	}
	return ""
}
