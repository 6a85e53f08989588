package rules_test

import (
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/gitopskit/gitopskit/tools/lint/rules"
)

// TestRules runs the rules together: the packages below testdata say on each line what is expected of all of them.
func TestRules(t *testing.T) {
	all := &analysis.Analyzer{
		Name:     "all",
		Doc:      "all rules in one",
		Requires: rules.Calls.Requires,
		Run: func(pass *analysis.Pass) (any, error) {
			for _, rule := range []*analysis.Analyzer{rules.Calls, rules.Globals, rules.Inits, rules.Imports} {
				if _, err := rule.Run(pass); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
	}
	const module = "github.com/gitopskit/gitopskit/"
	analysistest.Run(t, analysistest.TestData(), all,
		module+"lib", module+"libtest", module+"examples/prog", module+"examples/tested")
}

func TestUnused(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), rules.Unused, "dead")
}
