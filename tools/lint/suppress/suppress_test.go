package suppress_test

import (
	"go/ast"
	"slices"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"
	"golang.org/x/tools/go/analysis/passes/ctrlflow"
	"golang.org/x/tools/go/analysis/passes/inspect"

	"github.com/gitopskit/gitopskit/tools/lint/suppress"
)

// mark reports every call of a function named fail.
var mark = &analysis.Analyzer{
	Name: "mark",
	Doc:  "report calls of fail",
	Run: func(pass *analysis.Pass) (any, error) {
		for _, file := range pass.Files {
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "fail" {
						pass.Reportf(call.Pos(), "found")
					}
				}
				return true
			})
		}
		return nil, nil
	},
}

var other = &analysis.Analyzer{
	Name: "other",
	Doc:  "report nothing",
	Run:  func(*analysis.Pass) (any, error) { return nil, nil },
}

func TestCombine(t *testing.T) {
	all := suppress.Combine([]suppress.Check{
		{Name: "mark", Analyzer: mark, NoTests: true},
		{Name: "other", Analyzer: other},
	})
	analysistest.Run(t, analysistest.TestData(), all, "p")
}

type fact struct{}

func (*fact) AFact() {}

func TestFactProducers(t *testing.T) {
	producer := &analysis.Analyzer{Name: "producer", FactTypes: []analysis.Fact{&fact{}}, Requires: []*analysis.Analyzer{inspect.Analyzer}}
	consumer := &analysis.Analyzer{Name: "consumer", Requires: []*analysis.Analyzer{producer}}
	slow := &analysis.Analyzer{Name: "slow", FactTypes: []analysis.Fact{&fact{}}, Requires: []*analysis.Analyzer{ctrlflow.Analyzer}}
	checks := []suppress.Check{{Analyzer: consumer}, {Analyzer: producer}, {Analyzer: mark}, {Analyzer: slow}}
	if got := suppress.FactProducers(checks, false); !slices.Equal(got, []*analysis.Analyzer{producer, slow, ctrlflow.Analyzer}) {
		t.Errorf("got %v", got)
	}
	if got := suppress.FactProducers(checks, true); !slices.Equal(got, []*analysis.Analyzer{producer}) {
		t.Errorf("got %v, want only the quick one", got)
	}
}
