package depend

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gitopskit/gitopskit/internal/expr"
)

// ReasonInvalid is the reason of the condition for an expression that cannot be
// right, as in Flux.
const ReasonInvalid = "InvalidCELExpression"

// ErrNotReady: the expression is not true.
var ErrNotReady = errors.New("not true yet")

// InvalidError says what is wrong with an expression.
type InvalidError struct {
	// Expression is the text of it.
	Expression string
	// Err is the cause, with the place.
	Err error
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("readyExpr %q: %v", expr.Shorten(e.Expression), e.Err)
}

// Unwrap returns the cause.
func (e *InvalidError) Unwrap() error { return e.Err }

// Terminal says that only another expression can help.
func (e *InvalidError) Terminal() bool { return true }

// Reason is the reason of the condition that tells of it.
func (e *InvalidError) Reason() string { return ReasonInvalid }

// Expressions evaluates expressions, and keeps them compiled. The zero value is
// ready for use; it must not be copied.
type Expressions struct {
	// CostLimit is what one evaluation may cost, in the units of the API server;
	// 0 means a million.
	CostLimit uint64
	// Keep is how many compiled expressions are kept; 0 means 1000.
	Keep int

	mu       sync.Mutex
	language *expr.Language
	compiled map[string]*compiled
}

type compiled struct {
	program *expr.Program
	err     error
}

// Check returns an [*InvalidError] if an expression cannot be right, whatever
// the objects are.
func (e *Expressions) Check(expression string) error {
	_, err := e.compile(expression)
	return err
}

// Ready returns nil if the expression is true of an object and its dependency;
// they are pointers to structs, or maps as in unstructured objects. The error is
// an [*InvalidError], or says why the dependency is not ready: it matches
// [ErrNotReady] if the expression is false.
func (e *Expressions) Ready(ctx context.Context, expression string, self, dep any) error {
	program, err := e.compile(expression)
	if err != nil {
		return err
	}
	values := make(map[string]any, 2)
	if values["self"], err = content(self); err != nil {
		return fmt.Errorf("readyExpr: self: %w", err)
	}
	if values["dep"], err = content(dep); err != nil {
		return fmt.Errorf("readyExpr: dep: %w", err)
	}
	yes, err := program.Holds(ctx, values, false)
	switch {
	case errors.Is(err, expr.ErrNotBool):
		return &InvalidError{expression, err}
	case err != nil:
		return fmt.Errorf("readyExpr: %w", err)
	case !yes:
		return fmt.Errorf("readyExpr %q is %w", expr.Shorten(expression), ErrNotReady)
	}
	return nil
}

// content returns an object as in JSON.
func content(v any) (map[string]any, error) {
	switch v := v.(type) {
	case map[string]any:
		return v, nil
	case runtime.Unstructured:
		return v.UnstructuredContent(), nil
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(v)
}

// compile returns the program of an expression.
func (e *Expressions) compile(expression string) (*expr.Program, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.compiled[expression]; c != nil {
		return c.program, c.err
	}
	if e.language == nil {
		var err error
		if e.language, err = expr.New(e.CostLimit, "self", "dep"); err != nil {
			return nil, fmt.Errorf("readyExpr: %w", err)
		}
	}
	program, err := e.language.Compile(expression)
	if err != nil {
		err = &InvalidError{expression, err}
	}
	const keep = 1000
	most := e.Keep
	if most <= 0 {
		most = keep
	}
	if e.compiled == nil || len(e.compiled) >= most { // expressions are few: beginning anew is rare and costs a compilation each
		e.compiled = map[string]*compiled{}
	}
	e.compiled[expression] = &compiled{program, err}
	return program, err
}
