package rules

import (
	"go/token"

	"golang.org/x/tools/go/analysis"
	"honnef.co/go/tools/unused"
)

// Unused reports what is declared and never used.
var Unused = &analysis.Analyzer{
	Name:     "unused",
	Doc:      "report what is declared and never used",
	Requires: []*analysis.Analyzer{unused.Analyzer.Analyzer},
	Run: func(pass *analysis.Pass) (any, error) {
		result, _ := pass.ResultOf[unused.Analyzer.Analyzer].(unused.Result)
		for _, obj := range result.Unused {
			pass.Reportf(position(pass, obj.Position), "%s %s is never used", obj.Kind, obj.Name)
		}
		return nil, nil
	},
}

// position is the place of a position in the files of the pass.
func position(pass *analysis.Pass, at token.Position) token.Pos {
	for _, file := range pass.Files {
		f := pass.Fset.File(file.FileStart)
		if f.Name() == at.Filename {
			return f.Pos(at.Offset)
		}
	}
	return token.NoPos
}
