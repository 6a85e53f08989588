package kinds

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestThin: a kind is assembled in less than 300 lines of code. What does not
// fit belongs into a package. Imports, comments and empty lines do not count.
func TestThin(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]int{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		kind, _, _ := strings.Cut(strings.TrimSuffix(name, ".go"), "_")
		lines[kind] += codeLines(t, name)
	}
	for kind, n := range lines {
		if n >= 300 {
			t.Errorf("%s takes %d lines", kind, n)
		}
		t.Logf("%-22s %3d", kind, n)
	}
	if len(lines) < 15 || lines["helmrelease"] < 100 {
		t.Errorf("counted %v", lines)
	}
}

// codeLines counts the lines that hold code.
func codeLines(t *testing.T, name string) int {
	t.Helper()
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Split(string(source), "\n")
	blank := func(from, to token.Pos) {
		for l := set.Position(from).Line; l <= set.Position(to).Line; l++ {
			text[l-1] = ""
		}
	}
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			blank(g.Pos(), g.End())
		}
	}
	blank(file.Package, file.Package)
	n := 0
	for _, line := range text {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	return n
}
