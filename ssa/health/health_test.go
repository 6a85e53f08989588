package health_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func compile(t testing.TB, expressions ...health.Expression) *health.Evaluator {
	t.Helper()
	e, err := health.Compile(expressions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// thing is an object of a kind with a generation and a status, which may be nil.
func thing(kind string, generation int64, status map[string]any) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": kind,
		"metadata": map[string]any{"name": "x", "generation": generation},
		"spec":     map[string]any{"size": int64(3)},
	}}
	if status != nil {
		obj.Object["status"] = status
	}
	return obj
}

func TestStatus(t *testing.T) {
	all := health.Expression{
		APIVersion: "example.com/v1", Kind: "Thing",
		InProgress: "status.a", Failed: "status.b", Current: "status.c",
	}
	abc := func(a, b, c any) map[string]any { return map[string]any{"a": a, "b": b, "c": c} }
	current := func(text string) health.Expression {
		return health.Expression{APIVersion: "example.com/v1", Kind: "Thing", Current: text}
	}
	tests := []struct {
		name   string
		rule   health.Expression
		status map[string]any
		want   ssa.State
		says   string
	}{
		{"in progress is first", all, abc(true, true, true), ssa.InProgress, `"status.a"`},
		{"then failed", all, abc(false, true, true), ssa.Stuck, `"status.b"`},
		{"then current", all, abc(false, false, true), ssa.Current, ""},
		{"none is true", all, abc(false, false, false), ssa.InProgress, "not true yet"},
		{"generation comes first", all, map[string]any{"observedGeneration": int64(1), "b": true}, ssa.InProgress, "generation is 2, and the last that was observed 1"},
		{"generation is seen", current("true"), map[string]any{"observedGeneration": int64(2)}, ssa.Current, ""},
		{"generation as a string is left to the expression", current("status.observedGeneration == '1'"), map[string]any{"observedGeneration": "1"}, ssa.Current, ""},
		{"a missing field is told with the expression", current("status.conditions.all(c, true)"), abc("", "", ""), ssa.Stuck, `expression "status.conditions.all(c, true)": no such key: conditions`},
		{"a later error does not matter", current("true || status.no.such"), nil, ssa.Current, ""},
		{"an object that nobody looked at", current("status.ready"), nil, ssa.InProgress, "it has no status yet: expression"},
		{"an empty status is none", current("status.ready"), map[string]any{}, ssa.InProgress, "it has no status yet: expression"},
		{"not a bool", current("status.c"), abc("", "", "yes"), ssa.Stuck, "its value is of type string, not bool"},
		{"not a field of the object", current("size > 2"), abc("", "", ""), ssa.Stuck, "size"},
		{"spec is a variable, numbers compare across types", current("spec.size > 2.5"), nil, ssa.Current, ""},
		{"optional values", current("status[?'x'].orValue('d') == 'd'"), abc("", "", ""), ssa.Current, ""},
		{"optional fields", current("status.?x.y.hasValue()"), abc("", "", ""), ssa.InProgress, ""},
		{"strings", current("'a-b'.split('-')[1].upperAscii() == 'B' && 'aXa'.replace('X', '-') == 'a-a' && 'abc'.indexOf('c') == 2 && ['a', 'b'].join('/') == 'a/b' && ['a'].join() == 'a'"), nil, ssa.Current, ""},
		{"more strings", current("'aXaX'.replace('X', '-', 1) == 'a-aX' && 'abcc'.lastIndexOf('c') == 3 && 'abcc'.indexOf('c', 3) == 3"), nil, ssa.Current, ""},
		{"patterns", current("'web-7'.matches('^[a-z]+-[0-9]$') && !matches('x', 'y')"), nil, ssa.Current, ""},
		{"a wrong pattern", current("'web'.matches('[')"), abc("", "", ""), ssa.Stuck, "missing closing"},
		{"sets and base64", current("sets.contains([1, 2], [2]) && sets.equivalent([1], [1, 1]) && sets.intersects([1], [1]) && base64.encode(b'a') == 'YQ=='"), nil, ssa.Current, ""},
		{"time zones are UTC", current("timestamp('2026-01-01T00:30:00Z').getHours() == 0"), nil, ssa.Current, ""},
		{"the object's own message", current("status.c"), map[string]any{"c": false, "conditions": []any{map[string]any{"type": "Ready", "message": "waiting for  the\nissuer"}}}, ssa.InProgress, "not true yet: waiting for the issuer"},
		{"wrong arguments", current("'a'.replace(1, 2) == 'a'"), abc("", "", ""), ssa.Stuck, "no such overload"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := thing("Thing", 2, tt.status)
			before := obj.DeepCopy()
			state, message := compile(t, tt.rule).Status(t.Context(), obj)
			if state != tt.want || !strings.Contains(message, tt.says) || (state == ssa.Current) != (message == "") {
				t.Errorf("got %s %q", state, message)
			}
			if diff := cmp.Diff(before, obj); diff != "" {
				t.Errorf("the object was changed: %s", diff)
			}
		})
	}
}

// TestKinds: an exact kind goes before its group, versions do not matter.
func TestKinds(t *testing.T) {
	e := compile(t,
		health.Expression{APIVersion: "example.com/v1", Current: "false"},
		health.Expression{APIVersion: "example.com/v9", Kind: "Thing", Current: "true"},
		health.Expression{APIVersion: "v1", Kind: "Node", Current: "true"},
	)
	for kind, want := range map[string]ssa.State{"Thing": ssa.Current, "Other": ssa.InProgress} {
		if state, message := e.Status(t.Context(), thing(kind, 1, nil)); state != want {
			t.Errorf("%s: %s %s", kind, state, message)
		}
	}
	for kind, want := range map[schema.GroupKind]bool{
		{Group: "example.com", Kind: "Thing"}: true, {Group: "example.com", Kind: "Any"}: true,
		{Kind: "Node"}: true, {Kind: "Pod"}: false, {Group: "example.org", Kind: "Thing"}: false,
	} {
		if got := e.Covers(kind); got != want {
			t.Errorf("%s: %t", kind, got)
		}
	}
	pod := thing("Pod", 1, nil)
	pod.SetAPIVersion("v1")
	if state, _ := e.Status(t.Context(), pod); state != ssa.Unknown {
		t.Errorf("a kind without expressions is %s", state)
	}
}

func TestCompileErrors(t *testing.T) {
	_, err := health.Compile([]health.Expression{
		{APIVersion: "example.com/v1", Kind: "A", Current: "true"},
		{APIVersion: "example.com/v2", Kind: "A", Current: "true"},
		{APIVersion: "example.com/v1", Kind: "B", Failed: "true"},
		{APIVersion: "example.com/v1", Kind: "C", Current: "status.", InProgress: "1 +"},
		{APIVersion: "a/b/c", Kind: "D", Current: "true"},
		{Kind: "E", Current: "true"},
		{APIVersion: "example.com/v1", Kind: "F", Current: "'%s'.format(['x']) == 'x'"},
		{APIVersion: "example.com/v1", Kind: "G", Current: strings.Repeat(" ", 17<<10) + "true"},
	}, nil)
	if !errors.Is(err, ssa.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	var first *health.Error
	if !errors.As(err, &first) || first.Index != 1 || first.Field != "kind" || !first.Terminal() {
		t.Errorf("got %+v", first)
	}
	for _, want := range []string{
		`expressions[1].kind "A": an earlier entry`,
		"expressions[2].current: it is required",
		`expressions[3].inProgress "1 +": ERROR`,
		`expressions[3].current "status.": ERROR`,
		`expressions[4].apiVersion "a/b/c"`,
		"expressions[5].apiVersion: it must be",
		"expressions[6].current", "format is not available",
		"expressions[7].current", "size exceeds limit",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "expressions[0]") {
		t.Errorf("the first is right: %v", err)
	}
}

// TestCost: what would take long or much memory ends soon.
func TestCost(t *testing.T) {
	ten := "[0,1,2,3,4,5,6,7,8,9]"
	big := thing("Thing", 1, map[string]any{"text": strings.Repeat("a", 1<<20), "list": make([]any, 20_000)})
	for i := range 20_000 {
		big.Object["status"].(map[string]any)["list"].([]any)[i] = int64(i)
	}
	tests := []struct{ name, text, says string }{
		{"loops", strings.Repeat(ten+".all(x, ", 9) + "true" + strings.Repeat(")", 9), "cost limit"},
		{"growing text", "status.text" + strings.Repeat(".replace('a', 'aaaaa')", 4) + " == 'x'", "limit"},
		{"growing at once", "status.text.replace('', status.text) == 'x'", "large"},
		{"joining", "status.list.map(x, 'a').join(status.text) == 'x'", "limit"},
		{"joining many", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2].map(x, status.text).join() == 'x'", "large"},
		{"searching", "status.text.indexOf(status.text) == 1", "large"},
		{"searching back", "status.text.lastIndexOf(status.text) == 1", "large"},
		{"comparing", "sets.contains(status.list, status.list)", "large"},
		{"long pattern", "'a'.matches(status.text)", "longer than"},
		{"pattern and text", "status.text.matches('a{10}b{10}c{10}d{10}')", "large"},
		{"doubling text", strings.Repeat("[", 60) + "status.text" + strings.Repeat("].map(x, x + x)[0]", 60) + " == 'x'", "cost limit"},
		{"doubling lists", strings.Repeat("[", 60) + "[1]" + strings.Repeat("].map(x, [x, x])[0]", 60) + " == [2]", "large"},
		{"looking in lists", "status.list.all(x, x in status.list)", "cost limit"},
		{"encoding", strings.Repeat("base64.encode(bytes(", 60) + "status.text" + strings.Repeat("))", 60) + " == 'x'", "cost limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := compile(t, health.Expression{APIVersion: "example.com/v1", Kind: "Thing", Current: tt.text})
			start := time.Now()
			state, message := e.Status(t.Context(), big)
			if state != ssa.Stuck || !strings.Contains(message, tt.says) && !strings.Contains(message, "cost limit") || len(message) > 2000 {
				t.Errorf("got %s %.300s", state, message)
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
	e, err := health.Compile([]health.Expression{{APIVersion: "example.com/v1", Current: "1 + 1 + 1 + 1 == 4"}}, &health.Options{CostLimit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if state, message := e.Status(t.Context(), big); state != ssa.Stuck || !strings.Contains(message, "cost limit") {
		t.Errorf("a limit of its own: %s %s", state, message)
	}
}

// TestInterrupted: an evaluation ends with its context, and says nothing of the
// object then.
func TestInterrupted(t *testing.T) {
	e, err := health.Compile([]health.Expression{{
		APIVersion: "example.com/v1",
		Current:    strings.Repeat("status.list.all(x, ", 4) + "true" + strings.Repeat(")", 4),
	}}, &health.Options{CostLimit: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]any, 1000)
	for i := range list {
		list[i] = int64(i)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("that is enough"))
	defer cancel()
	if state, message := e.Status(ctx, thing("Thing", 1, map[string]any{"list": list})); state != ssa.Unknown || message != "that is enough" {
		t.Errorf("got %s %s", state, message)
	}
}

// TestSecrets: values of Secrets are in no message.
func TestSecrets(t *testing.T) {
	e := compile(t, health.Expression{APIVersion: "v1", Kind: "Secret", Current: "int(data.password) == 1"})
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"password": "Y2FuYXJ5"}, "status": map[string]any{"a": "b"},
	}}
	state, message := e.Status(t.Context(), secret)
	if state != ssa.Stuck || strings.Contains(message, "Y2FuYXJ5") || !strings.Contains(message, "int(data.password)") {
		t.Errorf("got %s %s", state, message)
	}
}

// TestConcurrent: one evaluator serves many.
func TestConcurrent(t *testing.T) {
	e := compile(t, health.Expression{APIVersion: "example.com/v1", Current: "status.text.matches('^a+$') && status.text.replace('a', 'b') != ''"})
	done := make(chan string)
	for i := range 8 {
		go func() {
			for range 200 {
				obj := thing("Thing", 1, map[string]any{"text": strings.Repeat("a", i+1)})
				if state, message := e.Status(context.Background(), obj); state != ssa.Current {
					done <- fmt.Sprint(state, message)
					return
				}
			}
			done <- ""
		}()
	}
	for range 8 {
		if got := <-done; got != "" {
			t.Error(got)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, text := range []string{"true", "status.a", "status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')", "status.?a.orValue(1) == 1", "'%s'.format([1])", "'a'.matches('(')"} {
		f.Add(text)
	}
	obj := thing("Thing", 1, map[string]any{"a": true, "conditions": []any{map[string]any{"type": "Ready", "status": "True", "message": "x"}}})
	f.Fuzz(func(t *testing.T, text string) {
		e, err := health.Compile([]health.Expression{{APIVersion: "example.com/v1", Current: text}}, &health.Options{CostLimit: 10_000})
		if err != nil {
			if !errors.Is(err, ssa.ErrInvalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		switch state, message := e.Status(t.Context(), obj); state {
		case ssa.Current:
		case ssa.InProgress, ssa.Stuck:
			if message == "" || strings.ContainsAny(message, "\n\r") {
				t.Errorf("%q: %s %q", text, state, message)
			}
		default:
			t.Errorf("%q: %s", text, state)
		}
	})
}
