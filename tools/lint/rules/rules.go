// Package rules checks what the project asks of library code beyond correctness: no hidden state, no hidden input, no
// hidden output.
//
// Programs, examples, and packages made to run servers for tests (see exempt) are free of all but the import rules
// for tests.
package rules

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

// Calls reports calls that take something from the process, or give something to it, behind the caller's back.
var Calls = &analysis.Analyzer{
	Name:     "forbidigo",
	Doc:      "report uses of the environment, standard output, panic and other things a library must not touch",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      runCalls,
}

// Globals reports package-level variables other than those that nobody can tell from constants.
var Globals = &analysis.Analyzer{
	Name: "gochecknoglobals",
	Doc:  "report package-level variables other than error sentinels, compiled patterns and embedded files",
	Run:  runGlobals,
}

// Inits reports init functions.
var Inits = &analysis.Analyzer{
	Name: "gochecknoinits",
	Doc:  "report init functions",
	Run:  runInits,
}

// Imports reports imports that do not belong in a library or in its tests.
var Imports = &analysis.Analyzer{
	Name: "depguard",
	Doc:  "report imports that do not belong in a library or its tests",
	Run:  runImports,
}

const module = "github.com/gitopskit/gitopskit"

// forbidden maps functions to what to do instead.
var forbidden = map[string]string{
	"os.Getenv":          "the environment belongs to programs: take a parameter",
	"os.LookupEnv":       "the environment belongs to programs: take a parameter",
	"os.Environ":         "the environment belongs to programs: take a parameter",
	"os.ExpandEnv":       "the environment belongs to programs: take a parameter",
	"os.Setenv":          "the environment belongs to programs",
	"os.Unsetenv":        "the environment belongs to programs",
	"os.Exit":            "return an error: exit codes belong to programs",
	"context.Background": "take a context",
	"context.TODO":       "take a context",
	"fmt.Print":          "libraries do not print: return the value, or take an io.Writer",
	"fmt.Printf":         "libraries do not print: return the value, or take an io.Writer",
	"fmt.Println":        "libraries do not print: return the value, or take an io.Writer",
	"time.Sleep":         "wait on the context and a timer",
	"builtin.panic":      "return an error",
	"builtin.print":      "libraries do not print",
	"builtin.println":    "libraries do not print",
}

// programs are the parts of the module that start processes or speak to a terminal.
var programs = []string{
	"examples", "internal/gitserver", "runtime/testenv", "runtime/controlplane", "tools", "bench",
}

// exempt reports whether the package is a program or serves one.
func exempt(pkg *types.Package) bool {
	path, _, _ := strings.Cut(pkg.Path(), " ") // a test variant is "path [path.test]"
	own, ours := strings.CutPrefix(path, module+"/")
	if path == module {
		own, ours = "", true
	}
	return !ours || pkg.Name() == "main" || slices.ContainsFunc(programs, func(p string) bool {
		return own == p || strings.HasPrefix(own, p+"/")
	})
}

func runCalls(pass *analysis.Pass) (any, error) {
	if exempt(pass.Pkg) {
		return nil, nil
	}
	walk := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector) //nolint:forcetypeassert // what inspect makes
	walk.Preorder([]ast.Node{(*ast.Ident)(nil)}, func(n ast.Node) {
		ident, _ := n.(*ast.Ident)
		name := ""
		switch obj := pass.TypesInfo.Uses[ident].(type) {
		case *types.Builtin:
			name = "builtin." + obj.Name()
		case *types.Func:
			name = obj.FullName()
		}
		if advice, bad := forbidden[name]; bad {
			pass.Reportf(ident.Pos(), "%s in a library: %s", strings.TrimPrefix(name, "builtin."), advice)
		}
	})
	return nil, nil
}

func runGlobals(pass *analysis.Pass) (any, error) {
	if exempt(pass.Pkg) {
		return nil, nil
	}
	for _, file := range pass.Files {
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, spec := range gen.Specs {
				checkVar(pass, gen, spec.(*ast.ValueSpec)) //nolint:forcetypeassert // var has no other
			}
		}
	}
	return nil, nil
}

func checkVar(pass *analysis.Pass, decl *ast.GenDecl, spec *ast.ValueSpec) {
	if embedded(decl.Doc) || embedded(spec.Doc) {
		return
	}
	for _, name := range spec.Names {
		if name.Name == "_" || constant(pass.TypesInfo.Defs[name].Type()) {
			continue
		}
		pass.Reportf(name.Pos(), "%s is state of the whole process: make it a field, a parameter or a function", name.Name)
	}
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// constant reports whether values of the type are shared safely and are by custom never assigned to: errors, patterns.
func constant(t types.Type) bool {
	if ptr, ok := t.(*types.Pointer); ok {
		return ptr.Elem().String() == "regexp.Regexp"
	}
	return types.Identical(t, types.Universe.Lookup("error").Type())
}

func runInits(pass *analysis.Pass) (any, error) {
	if exempt(pass.Pkg) {
		return nil, nil
	}
	for _, file := range pass.Files {
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				pass.Reportf(fn.Name.Pos(), "init runs behind the back of whoever imports the package")
			}
		}
	}
	return nil, nil
}

// refused maps import paths, and all below them, to what to do instead.
var (
	refusedAnywhere = map[string]string{
		"github.com/stretchr/testify": "use testing and go-cmp",
		"github.com/onsi":             "use testing and go-cmp",
		"github.com/golang/mock":      "use the real thing on loopback",
		"go.uber.org/mock":            "use the real thing on loopback",
		"github.com/pkg/errors":       "use errors and fmt",
	}
	refusedInLibraries = map[string]string{
		"log":                     "return values, or take a *slog.Logger",
		"os/exec":                 "use a library: another program may not be there",
		"flag":                    "flags belong to programs",
		"testing":                 "take the few methods needed as an interface, or move it to a package ending in test",
		"github.com/go-logr/logr": "public APIs take a *slog.Logger",
		"github.com/spf13":        "flags belong to programs",
	}
)

func runImports(pass *analysis.Pass) (any, error) {
	for _, file := range pass.Files {
		test := strings.HasSuffix(pass.Fset.Position(file.FileStart).Filename, "_test.go")
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			advice := refused(refusedAnywhere, path)
			if advice == "" && !test && !exempt(pass.Pkg) && (path != "testing" || !forTests(pass.Pkg)) {
				advice = refused(refusedInLibraries, path)
			}
			if advice != "" {
				pass.Reportf(spec.Pos(), "import of %s: %s", path, advice)
			}
		}
	}
	return nil, nil
}

// forTests reports whether the package is a helper for tests by name, as fstest is.
func forTests(pkg *types.Package) bool { return strings.HasSuffix(pkg.Name(), "test") }

func refused(list map[string]string, path string) string {
	for prefix, advice := range list {
		rest, ok := strings.CutPrefix(path, prefix)
		if ok && (rest == "" || rest[0] == '/' && strings.Contains(prefix, "/")) {
			return advice
		}
	}
	return ""
}
