package depend_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	corev1 "k8s.io/api/core/v1"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/depend"
)

func TestReady(t *testing.T) {
	self := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app", Generation: 3}, Data: map[string]string{"version": "v2"}}
	dep := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "db", "generation": int64(7)},
		"status":   map[string]any{"version": "v2", "list": []any{int64(1), int64(2)}, "observedGeneration": int64(7)},
	}}
	var e depend.Expressions
	for _, c := range []struct {
		expression, want string // want is nothing for ready, else a part of the message
		terminal         bool
	}{
		{"dep.status.version == self.data.version", "", false},
		{"dep.status.observedGeneration == dep.metadata.generation && self.metadata.generation == 3", "", false},
		{"dep.status.?missing.orValue(true)", "", false},
		{"dep.status.list.exists(x, x == 2)", "", false},
		{"dep.status.version == 'v3'", `readyExpr "dep.status.version == 'v3'" is not true yet`, false},
		{"dep.status.missing == 'v3'", "no such key: missing", false},
		{"dep.status.version.startsWith(1)", "<input>:1:30: found no matching overload", true},
		{"dep.metadata.name", "not bool", true},
		{"1 + 1", "not bool", true},
		{"dep.status.version ==", "<input>:1:22", true},
		{"other.status.ready", "undeclared reference to 'other'", true},
		{"'%s'.format([dep]) == ''", "", true},
		{strings.Repeat("true && ", 10_000) + "true", "", true},
		{"[1,2,3,4,5,6,7,8,9,0].all(a, [1,2,3,4,5,6,7,8,9,0].all(b, [1,2,3,4,5,6,7,8,9,0].all(c, [1,2,3,4,5,6,7,8,9,0].all(d, [1,2,3,4,5,6,7,8,9,0].all(e, [1,2,3,4,5,6,7,8,9,0].all(f, true))))))",
			"the cost limit of 1000000 is exceeded", false},
	} {
		for range 2 { // compiled, and kept
			err := e.Ready(t.Context(), c.expression, self, dep)
			if (err == nil) != (c.want == "" && !c.terminal) || err != nil && !strings.Contains(err.Error(), c.want) || rt.IsTerminal(err) != c.terminal {
				t.Errorf("%.60s: %v, terminal %v", c.expression, err, rt.IsTerminal(err))
			}
			invalid, is := errors.AsType[*depend.InvalidError](err)
			if is != c.terminal || is && (invalid.Reason() != "InvalidCELExpression" || invalid.Expression != c.expression) {
				t.Errorf("%.60s: %T", c.expression, err)
			}
		}
	}
	if err := e.Ready(t.Context(), "false", self, dep); !errors.Is(err, depend.ErrNotReady) {
		t.Error(err)
	}
	if err := e.Ready(t.Context(), "true", 1, dep); err == nil {
		t.Error("1 is no object")
	}
	if err := e.Check("dep.x"); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	e := depend.Expressions{CostLimit: 5, Keep: 2}
	if err := e.Ready(t.Context(), "[1,2,3,4,5,6].all(x, x > 0)", map[string]any{}, map[string]any{}); err == nil || !strings.Contains(err.Error(), "limit of 5") {
		t.Error(err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 10 {
				err := e.Ready(t.Context(), fmt.Sprintf("%d == %d", i%5, i%2), map[string]any{}, map[string]any{})
				if (err == nil) != (i%5 == i%2) {
					t.Error(i, err)
				}
			}
		})
	}
	all.Wait()
}

func FuzzReady(f *testing.F) {
	for _, x := range []string{"true", "dep.status.ready", "self.a == dep.b", "dep.list.map(x, x).exists(x, x > 1)", "'a'.matches('(a+)+$')", "[[1]]", "size(dep) > 0"} {
		f.Add(x)
	}
	f.Fuzz(func(t *testing.T, x string) {
		e := depend.Expressions{CostLimit: 10_000}
		dep := map[string]any{"status": map[string]any{"ready": true}, "list": []any{int64(1)}}
		err := e.Ready(t.Context(), x, map[string]any{}, dep)
		if again := e.Ready(t.Context(), x, map[string]any{}, dep); (err == nil) != (again == nil) {
			t.Errorf("%v, then %v", err, again)
		}
	})
}

func BenchmarkReady(b *testing.B) {
	self, dep := &corev1.ConfigMap{}, &corev1.ConfigMap{Data: map[string]string{"version": "v2"}}
	var e depend.Expressions
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Ready(b.Context(), "dep.data.version == 'v2'", self, dep); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleExpressions() {
	app := map[string]any{"status": map[string]any{"lastAttemptedRevision": "main@sha1:aaa"}}
	database := map[string]any{"status": map[string]any{"lastAppliedRevision": "main@sha1:bbb"}}
	var expressions depend.Expressions
	fmt.Println(expressions.Ready(context.Background(), "dep.status.lastAppliedRevision == self.status.lastAttemptedRevision", app, database))
	// Output: readyExpr "dep.status.lastAppliedRevision == self.status.lastAttemptedRevision" is not true yet
}
