package main

import (
	"log"
	"slices"

	nilnil "github.com/Antonboom/nilnil/pkg/analyzer"
	makezero "github.com/ashanbrown/makezero/v2/pkg/analyzer"
	"github.com/charithe/durationcheck"
	"github.com/gordonklaus/ineffassign/pkg/ineffassign"
	"github.com/gostaticanalysis/forcetypeassert"
	"github.com/gostaticanalysis/nilerr"
	"github.com/kisielk/errcheck/errcheck"
	"github.com/ldez/usetesting"
	"github.com/polyfloyd/go-errorlint/errorlint"
	"github.com/sivchari/containedctx"
	"github.com/sonatard/noctx"
	"github.com/timakin/bodyclose/passes/bodyclose"
	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/deepequalerrors"
	"golang.org/x/tools/go/analysis/passes/nilness"
	"golang.org/x/tools/go/analysis/passes/reflectvaluecompare"
	"golang.org/x/tools/go/analysis/passes/sortslice"
	"golang.org/x/tools/go/analysis/passes/unusedwrite"
	"honnef.co/go/tools/analysis/lint"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"

	"github.com/gitopskit/gitopskit/tools/lint/rules"
	"github.com/gitopskit/gitopskit/tools/lint/suppress"
)

// analyzers lists what is checked, each under the name that a nolint comment uses.
func analyzers() []suppress.Check {
	errcheck.DefaultExcludedSymbols = append(errcheck.DefaultExcludedSymbols, neverMatters...)
	checks := []suppress.Check{
		// Errors and results.
		{Name: "errcheck", Analyzer: errcheck.Analyzer},
		{Name: "errorlint", Analyzer: errorlint.NewAnalyzer()},
		{Name: "nilerr", Analyzer: nilerr.Analyzer},
		{Name: "nilnil", Analyzer: pointersOnly(nilnil.New())},
		{Name: "ineffassign", Analyzer: ineffassign.Analyzer},
		{Name: "govet", Analyzer: deepequalerrors.Analyzer},
		{Name: "govet", Analyzer: nilness.Analyzer},
		{Name: "govet", Analyzer: reflectvaluecompare.Analyzer},
		{Name: "govet", Analyzer: sortslice.Analyzer},
		{Name: "govet", Analyzer: unusedwrite.Analyzer},
		{Name: "makezero", Analyzer: makezero.NewAnalyzer()},
		{Name: "durationcheck", Analyzer: durationcheck.Analyzer},
		{Name: "forcetypeassert", Analyzer: forcetypeassert.Analyzer, NoTests: true},
		// Contexts and connections.
		{Name: "bodyclose", Analyzer: bodyclose.Analyzer},
		{Name: "containedctx", Analyzer: containedctx.Analyzer, NoTests: true},
		{Name: "noctx", Analyzer: noctx.Analyzer, NoTests: true, Except: "net.Listen "}, // to listen on an address never waits
		{Name: "usetesting", Analyzer: usetesting.NewAnalyzer()},
		// The project's own rules.
		{Name: "forbidigo", Analyzer: rules.Calls, NoTests: true},
		{Name: "depguard", Analyzer: rules.Imports},
		{Name: "gochecknoglobals", Analyzer: rules.Globals, NoTests: true},
		{Name: "gochecknoinits", Analyzer: rules.Inits, NoTests: true},
		// Declared and never used.
		{Name: "unused", Analyzer: rules.Unused},
	}
	for _, a := range slices.Concat(staticcheck.Analyzers, chosen(simple.Analyzers), chosen(stylecheck.Analyzers)) {
		checks = append(checks, suppress.Check{Name: "staticcheck", Analyzer: a.Analyzer})
	}
	return checks
}

// pointersOnly has nilnil leave interfaces alone: a nil any is an ordinary value.
func pointersOnly(a *analysis.Analyzer) *analysis.Analyzer {
	if err := a.Flags.Set("checked-types", "chan,func,map,ptr"); err != nil {
		log.Fatal(err)
	}
	return a
}

// chosen leaves, of two families that are mostly about taste, the checks that find mistakes.
func chosen(family []*lint.Analyzer) []*lint.Analyzer {
	return slices.DeleteFunc(slices.Clone(family), func(a *lint.Analyzer) bool {
		switch a.Analyzer.Name {
		case "S1008", "S1016", "S1021", "S1023", // only shorter ways to write the same
			"ST1000", "ST1003", "ST1005", "ST1015", "ST1018", "ST1020", "ST1021", "ST1022", "ST1023": // documentation, names, wording
			return true
		}
		return false
	})
}

// neverMatters names the calls whose error says nothing to anyone: what was only read is closed, a line goes to a
// terminal or to an HTTP client that left.
var neverMatters = []string{
	"fmt.Fprint",
	"fmt.Fprintf",
	"fmt.Fprintln",
	"(io.ReadCloser).Close",
	"(io/fs.File).Close",
	"(net.Conn).Close",
	"(net.Listener).Close",
	"(net/http.ResponseWriter).Write",
	"io.WriteString(net/http.ResponseWriter)",
	"(*os.Root).Close",
	"(*io.PipeReader).Close",
	"(*io.PipeWriter).Close",
	"(*archive/zip.ReadCloser).Close",
	"(golang.org/x/crypto/ssh.Channel).Close",
	"(golang.org/x/crypto/ssh.Conn).Close",
	"(*golang.org/x/crypto/ssh.Client).Close",
	"(*github.com/gitopskit/gitopskit/source.Artifact).Close",
}
