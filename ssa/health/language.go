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
	for _, name := range bounded() {
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
	p, err := l.env.Program(parsed, cel.CostTracking(costs{}), cel.CostLimit(l.limit), cel.InterruptCheckFrequency(interruptEvery), cel.CustomDecorator(l.measure))
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
	name, op, bound := call.Function(), l.calls[call.Function()], work(call.Function())
	return interpreter.NewCall(call.ID(), name, call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		if bound(args) > maxWork {
			return types.NewErr("the arguments of %s are too large", name)
		}
		if name == "matches" && len(args) == 2 && length(args[1]) > maxPattern {
			return types.NewErr("a regular expression is longer than %d", maxPattern)
		}
		return op(args...)
	}), nil
}

// costs counts what calls cost. The language itself cannot: without types it does
// not know which overload of a function is called, and counts one for each.
type costs struct{}

// CallCost returns one unit, and a tenth for each character that is read or made,
// one for each element that is compared, and, like the API server for regular
// expressions, a fortieth for each character that is searched for at each place.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	total := length(result)
	for _, arg := range args {
		total += length(arg)
	}
	cost := 1 + total/10
	switch bound := work(function); function {
	case "replace", "indexOf", "lastIndexOf", "matches":
		cost += bound(args) / 40
	default:
		if bound != nil {
			cost += bound(args) / 10
		}
	}
	out := uint64(max(cost, 1))
	return &out
}

// bounded are the functions of which one call alone can take long or much memory.
func bounded() []string {
	return []string{"replace", "indexOf", "lastIndexOf", "matches", "sets.contains", "sets.equivalent", "sets.intersects", "join", "_==_", "_!=_", "@in"}
}

// work returns how much a call of a function builds or compares at the most; nil
// if that is no more than its arguments.
func work(function string) func(args []ref.Val) int {
	switch function {
	case "replace":
		return func(args []ref.Val) int { return product(length, args, 0, 2) }
	case "indexOf", "lastIndexOf", "matches":
		return func(args []ref.Val) int { return product(length, args, 0, 1) }
	case "sets.contains", "sets.equivalent", "sets.intersects":
		return func(args []ref.Val) int { return 10 * product(weight, args, 0, 1) }
	case "join":
		return func(args []ref.Val) int { return 10 * product(weight, args, 0, 1) }
	case "_==_", "_!=_", "@in":
		return func(args []ref.Val) int { return 10 * (weight(args[0]) + weight(args[1])) }
	}
	return nil
}

// product multiplies two arguments; one that is not there counts 1.
func product(measure func(ref.Val) int, args []ref.Val, a, b int) int {
	n := 1
	for _, i := range []int{a, b} {
		if i < len(args) {
			n *= max(measure(args[i]), 1)
		}
	}
	return n
}

// length is that of a string or bytes, 0 of anything else.
func length(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	}
	return 0
}

// weight is how much there is to compare in a value: elements and what is in
// them, ten characters for one. It stops counting at a tenth of
// maxWork, because each element takes longer than a character.
func weight(v ref.Val) int { return weigh(v, maxWork/10+1) }

func weigh(v ref.Val, most int) int {
	n := 1 + length(v)/10
	switch v := v.(type) {
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && n < most; {
			key := it.Next()
			n += weigh(key, most-n)
			n += weigh(v.Get(key), most-n)
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && n < most; {
			n += weigh(it.Next(), most-n)
		}
	}
	return n
}

// binding is what the language itself does for a function.
func (l *language) binding(name string) (functions.FunctionOp, error) {
	switch name {
	case "_==_":
		return func(args ...ref.Val) ref.Val { return types.Equal(args[0], args[1]) }, nil
	case "_!=_":
		return func(args ...ref.Val) ref.Val { return types.Bool(types.Equal(args[0], args[1]) != types.True) }, nil
	}
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
