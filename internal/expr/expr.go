// Package expr compiles and evaluates expressions of the Common Expression
// Language with bounds on what they can cost, for packages that let users write
// them: health rules, readiness of dependencies.
package expr

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
)

// Limits of expressions.
const (
	DefaultCostLimit = 1_000_000 // of an evaluation: PerCallLimit of the API server
	interruptEvery   = 100       // iterations, as in the API server
	maxExpression    = 16 << 10  // characters
	maxPattern       = 1 << 10   // of a regular expression
	maxWork          = 10 << 20  // what one call may build or compare, in characters or elements
)

// Language is the dialect of the expressions. It is immutable and safe for
// concurrent use.
type Language struct {
	env   *cel.Env
	limit uint64
	check bool
	calls map[string]functions.FunctionOp // what is not called before its arguments were measured
}

// New returns the language with a limit of what one evaluation may cost; 0 means
// DefaultCostLimit. With variables, whose types are not known, there are no
// other ones, and expressions are checked for that and for types when they are
// compiled; with none, every name is a variable.
func New(limit uint64, variables ...string) (*Language, error) {
	if limit == 0 {
		limit = DefaultCostLimit
	}
	options := []cel.EnvOption{
		cel.HomogeneousAggregateLiterals(),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.OptionalTypes(),
		cel.ParserExpressionSizeLimit(maxExpression),
		ext.Strings(),
		ext.Sets(),
		ext.Encoders(),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v, cel.DynType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, err
	}
	l := &Language{env: env, limit: limit, check: len(variables) > 0, calls: map[string]functions.FunctionOp{}}
	for _, name := range bounded() {
		op, err := l.binding(name)
		if err != nil {
			return nil, err
		}
		l.calls[name] = op
	}
	return l, nil
}

// Program is one expression. It is immutable and safe for concurrent use.
type Program struct {
	text    string
	limit   uint64
	program cel.Program
}

// Compile compiles an expression whose value is to be true or false. The error
// says where the mistake is.
func (l *Language) Compile(text string) (*Program, error) {
	understand := l.env.Parse
	if l.check {
		understand = l.env.Compile
	}
	parsed, issues := understand(text)
	if err := issues.Err(); err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	if t := parsed.OutputType(); l.check && !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("its value is of type %s, not bool", t)
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
	return &Program{text: text, limit: l.limit, program: p}, nil
}

// ErrNotBool: the value of an expression is neither true nor false.
var ErrNotBool = errors.New("not bool")

// Holds reports whether the expression is true of values. Errors repeat the
// expression, and of the values what CEL puts into its messages: nothing if
// withhold is set.
func (p *Program) Holds(ctx context.Context, values map[string]any, withhold bool) (bool, error) {
	value, _, err := p.program.ContextEval(ctx, values)
	if err != nil {
		text := err.Error()
		if strings.Contains(text, "actual cost limit exceeded") {
			text = fmt.Sprintf("the cost limit of %d is exceeded", p.limit)
		} else if withhold {
			text = "it cannot be evaluated (details are withheld because they may repeat secret values)"
		}
		return false, fmt.Errorf("expression %q: %s", Shorten(p.text), Shorten(text))
	}
	yes, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("expression %q: its value is of type %s, %w", Shorten(p.text), value.Type().TypeName(), ErrNotBool)
	}
	return bool(yes), nil
}

// measure puts a bound before calls of which one alone can take long or much
// memory; what they cost is only counted afterwards.
func (l *Language) measure(i interpreter.Interpretable) (interpreter.Interpretable, error) {
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
func (l *Language) binding(name string) (functions.FunctionOp, error) {
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

// Shorten makes one line of a text that is not too long.
func Shorten(text string) string {
	const longest = 500
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "..."
	}
	return text
}
