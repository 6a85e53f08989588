package health

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	defaultCostLimit = 1_000_000 // PerCallLimit of the API server
	interruptEvery   = 100       // iterations, as in the API server
	maxExpression    = 16 << 10  // characters
	maxPattern       = 1 << 10   // of a regular expression
	maxWork          = 10 << 20  // what one call may build or compare, in characters or elements
)

// language is the dialect of the expressions.
type language struct {
	env   *cel.Env
	limit uint64
	calls map[string]functions.FunctionOp // what is not called before its arguments were measured
}

func newLanguage(limit uint64) (*language, error) {
	env, err := cel.NewEnv(
		cel.HomogeneousAggregateLiterals(),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		cel.ParserExpressionSizeLimit(maxExpression),
		ext.Strings(),
		ext.Sets(),
		ext.Encoders(),
	)
	if err != nil {
		return nil, err
	}
	l := &language{env: env, limit: limit, calls: map[string]functions.FunctionOp{}}
	for name := range work {
		op, err := l.binding(name)
		if err != nil {
			return nil, err
		}
		l.calls[name] = op
	}
	return l, nil
}

// program is one expression.
type program struct {
	text string
	cel.Program
}

func (l *language) compile(text string) (*program, error) {
	parsed, issues := l.env.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	for _, call := range ast.MatchDescendants(ast.NavigateAST(parsed.NativeRep()), ast.KindMatcher(ast.CallKind)) {
		if call.AsCall().FunctionName() == "format" {
			return nil, errors.New("the function format is not available here, because its cost cannot be bounded")
		}
	}
	p, err := l.env.Program(parsed, cel.CostLimit(l.limit), cel.InterruptCheckFrequency(interruptEvery), cel.CustomDecorator(l.measure))
	if err != nil {
		return nil, err
	}
	return &program{text, p}, nil
}

// holds reports whether the expression is true of an object.
func (p *program) holds(ctx context.Context, obj *unstructured.Unstructured) (bool, error) {
	value, _, err := p.ContextEval(ctx, obj.Object)
	if err != nil {
		if obj.GetKind() == "Secret" && obj.GroupVersionKind().Group == "" {
			err = errors.New("it cannot be evaluated (details are withheld because they may repeat secret values)")
		}
		return false, fmt.Errorf("expression %q: %s", shorten(p.text), shorten(err.Error()))
	}
	yes, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("expression %q: its value is of type %s, not bool", shorten(p.text), value.Type().TypeName())
	}
	return bool(yes), nil
}

// measure puts a bound before calls of which one alone can take long or much
// memory; what they cost is only counted afterwards.
func (l *language) measure(i interpreter.Interpretable) (interpreter.Interpretable, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || l.calls[call.Function()] == nil {
		return i, nil
	}
	name, op := call.Function(), l.calls[call.Function()]
	return interpreter.NewCall(call.ID(), name, call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		if work[name](args) > maxWork {
			return types.NewErr("the arguments of %s are too large", name)
		}
		if name == "matches" && len(args) == 2 && size(args[1]) > maxPattern {
			return types.NewErr("a regular expression is longer than %d", maxPattern)
		}
		return op(args...)
	}), nil
}

// work is how much the calls build or compare at the most.
var work = map[string]func(args []ref.Val) int{
	"replace":         func(args []ref.Val) int { return product(args, 0, 2) },
	"indexOf":         func(args []ref.Val) int { return product(args, 0, 1) },
	"lastIndexOf":     func(args []ref.Val) int { return product(args, 0, 1) },
	"matches":         func(args []ref.Val) int { return product(args, 0, 1) },
	"sets.contains":   func(args []ref.Val) int { return product(args, 0, 1) },
	"sets.equivalent": func(args []ref.Val) int { return product(args, 0, 1) },
	"sets.intersects": func(args []ref.Val) int { return product(args, 0, 1) },
	"join": func(args []ref.Val) int {
		total := product(args, 0, 1)
		list, ok := args[0].(traits.Lister)
		if !ok {
			return 0 // refused by the function itself
		}
		for it := list.Iterator(); it.HasNext() == types.True && total <= maxWork; {
			total += size(it.Next())
		}
		return total
	},
}

// product multiplies the sizes of two arguments; one that is not there counts 1.
func product(args []ref.Val, a, b int) int {
	n := 1
	for _, i := range []int{a, b} {
		if i < len(args) {
			n *= min(max(size(args[i]), 1), maxWork+1)
		}
	}
	return n
}

// size is the length of a string or list, 0 of anything else.
func size(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok {
			return int(n)
		}
	}
	return 0
}

// binding is what the language itself does for a function.
func (l *language) binding(name string) (functions.FunctionOp, error) {
	decl := l.env.Functions()[name]
	if decl == nil {
		return nil, fmt.Errorf("the expression language has no function %s", name)
	}
	overloads, err := decl.Bindings()
	if err != nil {
		return nil, err
	}
	for _, o := range overloads {
		if o.Operator != name {
			continue
		}
		return func(args ...ref.Val) ref.Val {
			switch {
			case len(args) == 1 && o.Unary != nil:
				return o.Unary(args[0])
			case len(args) == 2 && o.Binary != nil:
				return o.Binary(args[0], args[1])
			case o.Function != nil:
				return o.Function(args...)
			}
			return types.NewErr("no such overload: %s", name)
		}, nil
	}
	return nil, fmt.Errorf("the expression language has no function %s", name)
}

// shorten makes one line of a text that is not too long.
func shorten(text string) string {
	const longest = 500
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return text
}
