// Package suppress runs many analyzers as one that honours nolint comments.
//
// Findings that a comment covers are dropped, and comments that say too little or cover nothing are reported in
// turn, so what is ignored stays known and true.
package suppress

import (
	"encoding/gob"
	"fmt"
	"go/ast"
	"go/token"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// A Check is an analyzer and the name that nolint comments call it by. Several analyzers may share a name.
type Check struct {
	Name     string
	Analyzer *analysis.Analyzer
	NoTests  bool   // leave _test.go files alone
	Except   string // leave alone what is reported in words that begin so
}

// Combine returns one analyzer that reports what the checks find and no comment covers.
func Combine(checks []Check) *analysis.Analyzer {
	quiet := make([]*analysis.Analyzer, len(checks))
	for i, check := range checks {
		quiet[i] = collect(check)
	}
	return &analysis.Analyzer{
		Name:     "lint",
		Doc:      "report what the checks find and no nolint comment covers",
		Requires: quiet,
		Run: func(pass *analysis.Pass) (any, error) {
			var found []finding
			for _, a := range quiet {
				found = append(found, pass.ResultOf[a].([]finding)...) //nolint:forcetypeassert // collect makes it so
			}
			report(pass, checks, found)
			return nil, nil
		},
	}
}

// FactProducers returns the analyzers, among the checks and all they require, that tell facts about a package to the
// packages that import it. The quick ones do without the control flow of functions; the facts of the others are passed on.
func FactProducers(checks []Check, quick bool) []*analysis.Analyzer {
	seen := map[*analysis.Analyzer]bool{}
	var producers []*analysis.Analyzer
	var visit func(a *analysis.Analyzer)
	visit = func(a *analysis.Analyzer) {
		if seen[a] {
			return
		}
		seen[a] = true
		for _, fact := range a.FactTypes {
			gob.Register(fact)
		}
		if len(a.FactTypes) > 0 && !(quick && followsFlow(a)) {
			producers = append(producers, a)
		}
		for _, required := range a.Requires {
			visit(required)
		}
	}
	for _, check := range checks {
		visit(check.Analyzer)
	}
	return producers
}

// followsFlow reports whether the analyzer builds a graph of every function.
func followsFlow(a *analysis.Analyzer) bool {
	return slices.Contains([]string{"ctrlflow", "buildssa", "buildir"}, a.Name) || slices.ContainsFunc(a.Requires, followsFlow)
}

// A finding is what one check has to say about one place.
type finding struct {
	name, rule string
	diagnostic analysis.Diagnostic
}

// collect returns the analyzer with its diagnostics as its result.
func collect(check Check) *analysis.Analyzer {
	quiet := *check.Analyzer
	quiet.ResultType = reflect.TypeFor[[]finding]()
	quiet.Run = func(pass *analysis.Pass) (any, error) {
		var found []finding
		inner := *pass
		inner.Report = func(d analysis.Diagnostic) {
			if check.NoTests && strings.HasSuffix(pass.Fset.Position(d.Pos).Filename, "_test.go") {
				return
			}
			if check.Except != "" && strings.HasPrefix(d.Message, check.Except) {
				return
			}
			found = append(found, finding{check.Name, check.Analyzer.Name, d})
		}
		_, err := check.Analyzer.Run(&inner)
		return found, err
	}
	return &quiet
}

func report(pass *analysis.Pass, checks []Check, found []finding) {
	known := map[string]bool{}
	for _, check := range checks {
		known[check.Name] = true
	}
	comments := map[string][]*comment{}
	generated := map[string]bool{}
	for _, file := range pass.Files {
		name := pass.Fset.Position(file.FileStart).Filename
		comments[name] = parse(pass.Fset, file)
		generated[name] = ast.IsGenerated(file)
	}
	for _, f := range found {
		at := pass.Fset.Position(f.diagnostic.Pos)
		if generated[at.Filename] || covered(comments[at.Filename], f.name, at.Line) {
			continue
		}
		label := f.name
		if f.rule != f.name {
			label += ", " + f.rule
		}
		pass.Report(analysis.Diagnostic{Pos: f.diagnostic.Pos, Message: f.diagnostic.Message + " (" + label + ")"})
	}
	for _, list := range comments {
		for _, c := range list {
			for _, problem := range c.problems(known) {
				pass.Reportf(c.pos, "%s (nolintlint)", problem)
			}
		}
	}
}

func covered(list []*comment, name string, line int) bool {
	hit := false
	for _, c := range list {
		if c.first <= line && line <= c.last && slices.Contains(c.names, name) {
			c.used[name] = true
			hit = true
		}
	}
	return hit
}

// A comment is one nolint comment with the lines it covers.
type comment struct {
	pos         token.Pos
	first, last int
	names       []string
	reason      string
	used        map[string]bool
}

func (c *comment) problems(known map[string]bool) []string {
	var problems []string
	if len(c.names) == 0 {
		problems = append(problems, "name what is ignored: //nolint:name // reason")
	}
	if c.reason == "" {
		problems = append(problems, "give the reason: //nolint:name // reason")
	}
	for _, name := range c.names {
		switch {
		case !known[name]:
			problems = append(problems, fmt.Sprintf("no check has the name %q", name))
		case !c.used[name]:
			problems = append(problems, fmt.Sprintf("there is nothing for %s to ignore here", name))
		}
	}
	return problems
}

// parse finds the nolint comments of a file.
func parse(fset *token.FileSet, file *ast.File) []*comment {
	var list []*comment
	var starts map[int]int
	for _, group := range file.Comments {
		for _, text := range group.List {
			rest, ok := strings.CutPrefix(text.Text, "//nolint")
			if !ok {
				continue
			}
			if starts == nil {
				starts = extents(fset, file)
			}
			list = append(list, newComment(fset, group, text.Pos(), rest, starts))
		}
	}
	return list
}

func newComment(fset *token.FileSet, group *ast.CommentGroup, pos token.Pos, rest string, starts map[int]int) *comment {
	names, reason, _ := strings.Cut(rest, "//")
	c := &comment{pos: pos, reason: strings.TrimSpace(reason), used: map[string]bool{}}
	for name := range strings.SplitSeq(strings.TrimPrefix(names, ":"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			c.names = append(c.names, name)
		}
	}
	line := fset.Position(pos).Line
	c.first, c.last = line, line
	if _, code := starts[line]; !code {
		c.first = fset.Position(group.End()).Line + 1
		c.last = max(c.first, starts[c.first])
	}
	return c
}

// extents gives, for each line with code, the last line of the largest declaration, statement or field that begins on
// it, or the line itself.
func extents(fset *token.FileSet, file *ast.File) map[int]int {
	last := map[int]int{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.Comment, *ast.CommentGroup:
			return false
		case *ast.File:
			return true
		}
		begin, end := fset.Position(start(n)).Line, fset.Position(n.End()).Line
		switch n.(type) {
		case ast.Decl, ast.Spec, ast.Stmt, *ast.Field:
			last[begin] = max(last[begin], end)
		default:
			last[begin] = max(last[begin], begin)
		}
		last[end] = max(last[end], end)
		return true
	})
	return last
}

// start is where the code of a node begins, after its documentation.
func start(n ast.Node) token.Pos {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return n.Type.Pos()
	case *ast.GenDecl:
		return n.TokPos
	case *ast.Field:
		if len(n.Names) > 0 {
			return n.Names[0].Pos()
		}
		return n.Type.Pos()
	case *ast.ValueSpec:
		return n.Names[0].Pos()
	case *ast.TypeSpec:
		return n.Name.Pos()
	}
	return n.Pos()
}
