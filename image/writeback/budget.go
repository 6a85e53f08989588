package writeback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"text/template"
	"text/template/parse"
)

// budget bounds what one template can cost: nodes executed, bytes handled by
// functions, and bytes written. A template cannot be stopped from outside, so it
// asks by itself, see meter.
type budget struct {
	ctx   context.Context //nolint:containedctx // lives as long as one execution of a template
	steps int
	bytes int
	out   bytes.Buffer
}

const (
	maxSteps  = 300_000  // nodes executed, a fraction of a second
	maxBytes  = 64 << 20 // arguments and results of functions
	maxValue  = 1 << 20  // one of them
	maxOutput = 1 << 20
	callCost  = 1_000 // a template that calls itself
)

var errBudget = errors.New("the template costs too much: loop less, or over less")

func newBudget(ctx context.Context) *budget {
	return &budget{ctx: ctx, steps: maxSteps, bytes: maxBytes}
}

// Write takes the output of the template.
func (b *budget) Write(p []byte) (int, error) {
	if b.out.Len()+len(p) > maxOutput {
		return 0, fmt.Errorf("%w: the message has more than %d bytes", errBudget, maxOutput)
	}
	return b.out.Write(p)
}

// tickName is a function that no template can name, because it is not there
// when templates are parsed.
const tickName = "tick"

// tick pays for nodes about to be executed, and prints nothing.
func (b *budget) tick(nodes int) (string, error) {
	if b.steps -= nodes; b.steps < 0 {
		return "", errBudget
	}
	return "", b.ctx.Err()
}

// meter makes a template pay: at the start of every template and of every turn
// of a loop for the nodes in it.
func meter(t *template.Template) error {
	for _, part := range t.Templates() {
		if part.Tree == nil || part.Root == nil {
			continue
		}
		if err := meterLoops(part.Root); err != nil {
			return err
		}
		if err := pay(part.Root, callCost); err != nil {
			return err
		}
	}
	return nil
}

// pay puts a tick at the start of a list.
func pay(list *parse.ListNode, extra int) error {
	trees, err := parse.Parse("tick", fmt.Sprintf("{{%s %d}}", tickName, extra+weight(list)), "", "", map[string]any{tickName: true})
	if err != nil {
		return err
	}
	list.Nodes = append(trees["tick"].Root.Nodes, list.Nodes...)
	return nil
}

// children are the lists of nodes in a node.
func children(n parse.Node) []*parse.ListNode {
	switch n := n.(type) {
	case *parse.IfNode:
		return []*parse.ListNode{n.List, n.ElseList}
	case *parse.WithNode:
		return []*parse.ListNode{n.List, n.ElseList}
	case *parse.RangeNode:
		return []*parse.ListNode{n.List, n.ElseList}
	}
	return nil
}

func weight(list *parse.ListNode) int {
	if list == nil {
		return 0
	}
	total := 1
	for _, n := range list.Nodes {
		total += 1 + len(n.String())/16 // actions hold any number of values
		for _, child := range children(n) {
			total += weight(child)
		}
	}
	return total
}

// meterLoops puts a tick into each loop in a list.
func meterLoops(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		for _, child := range children(n) {
			if err := meterLoops(child); err != nil {
				return err
			}
		}
		if loop, ok := n.(*parse.RangeNode); ok {
			if err := pay(loop.List, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// guard makes a function pay for its arguments and its result. Functions whose
// result may be longer than their arguments by any factor get small ones only.
func (b *budget) guard(name string, f any) any {
	fn := reflect.ValueOf(f)
	of := fn.Type()
	in := make([]reflect.Type, of.NumIn())
	for i := range in {
		in[i] = of.In(i)
	}
	failed := reflect.TypeFor[error]()
	out := []reflect.Type{of.Out(0), failed}
	most := maxValue
	if multiplies(name) {
		most = 16 << 10
	}
	wrapped := func(args []reflect.Value) []reflect.Value {
		fail := func(err error) []reflect.Value {
			return []reflect.Value{reflect.Zero(out[0]), reflect.ValueOf(fmt.Errorf("%s: %w", name, err))}
		}
		if err := b.charge(args, most); err != nil {
			return fail(err)
		}
		var results []reflect.Value
		if of.IsVariadic() {
			results = fn.CallSlice(args)
		} else {
			results = fn.Call(args)
		}
		if err := b.charge(results[:1], maxValue); err != nil {
			return fail(err)
		}
		if len(results) == 1 {
			results = append(results, reflect.Zero(failed))
		}
		return results
	}
	return reflect.MakeFunc(reflect.FuncOf(in, out, of.IsVariadic()), wrapped).Interface()
}

// charge pays for values.
func (b *budget) charge(values []reflect.Value, most int) error {
	left := most
	for _, v := range values {
		if left = measure(v, left, 0); left < 0 {
			return fmt.Errorf("a value of more than %d bytes: %w", most, errBudget)
		}
	}
	if b.bytes -= most - left; b.bytes < 0 {
		return errBudget
	}
	return b.ctx.Err()
}

// measure takes the size of a value off what is left, which becomes negative
// when the value is larger.
func measure(v reflect.Value, left, depth int) int {
	const overhead, deepest = 16, 64
	left -= overhead
	if left < 0 || depth > deepest {
		return -1
	}
	switch v.Kind() {
	case reflect.String:
		left -= v.Len()
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			left = measure(v.Elem(), left, depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := 0; i < v.Len() && left >= 0; i++ {
			left = measure(v.Index(i), left, depth+1)
		}
	case reflect.Map:
		for it := v.MapRange(); left >= 0 && it.Next(); {
			if left = measure(it.Key(), left, depth+1); left >= 0 {
				left = measure(it.Value(), left, depth+1)
			}
		}
	case reflect.Struct:
		for i := 0; i < v.NumField() && left >= 0; i++ {
			left = measure(v.Field(i), left, depth+1)
		}
	}
	return left
}
