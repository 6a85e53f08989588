// Command size prints how large the code of the repository is: lines for each package, the longest files and the
// longest functions. Tests and generated files are counted apart or not at all. Nothing is enforced; the figures are
// for reviews.
//
//	go -C tools run ./size ..
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	root := "."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	sizes, err := measure(os.DirFS(root))
	if err == nil {
		err = sizes.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

// longFunction is the length from which a function is counted as long.
const longFunction = 80

type part struct {
	name  string
	lines int
}

type pkg struct {
	dir         string
	files       int
	code, tests int
}

type sizes struct {
	packages  map[string]*pkg
	files     []part
	functions []part
}

// measure reads every Go file below the root but test data and generated files.
func measure(root fs.FS) (*sizes, error) {
	s := &sizes{packages: map[string]*pkg{}}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (base == "testdata" || base[0] == '.'):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return s.add(name, src)
	})
	return s, err
}

func (s *sizes) add(name string, src []byte) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return err
	}
	if ast.IsGenerated(file) {
		return nil
	}
	dir, lines := path.Dir(name), bytes.Count(src, []byte("\n"))
	p := s.packages[dir]
	if p == nil {
		p = &pkg{dir: dir}
		s.packages[dir] = p
	}
	if strings.HasSuffix(name, "_test.go") {
		p.tests += lines
		return nil
	}
	p.files++
	p.code += lines
	s.files = append(s.files, part{name, lines})
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok {
			length := fset.Position(fn.End()).Line - fset.Position(fn.Type.Pos()).Line + 1
			s.functions = append(s.functions, part{fmt.Sprintf("%s: %s", name, fn.Name.Name), length})
		}
	}
	return nil
}

func (s *sizes) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "package\tfiles\tlines\ttest lines")
	var total pkg
	for _, dir := range slices.Sorted(maps.Keys(s.packages)) {
		p := s.packages[dir]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", p.dir, p.files, p.code, p.tests)
		total.files += p.files
		total.code += p.code
		total.tests += p.tests
	}
	fmt.Fprintf(w, "total\t%d\t%d\t%d\n", total.files, total.code, total.tests)
	if err := w.Flush(); err != nil {
		return err
	}
	summarize(to, "file", s.files, 500)
	summarize(to, "function", s.functions, longFunction)
	return nil
}

// summarize prints the middle, the three longest, and how many are above a length.
func summarize(to io.Writer, what string, parts []part, long int) {
	if len(parts) == 0 {
		return
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.lines, a.lines), cmp.Compare(a.name, b.name))
	})
	above := 0
	for above < len(parts) && parts[above].lines > long {
		above++
	}
	fmt.Fprintf(to, "\nmedian %s %d lines, %d of %d above %d; the longest:\n", what, parts[len(parts)/2].lines, above, len(parts), long)
	for _, p := range parts[:min(3, len(parts))] {
		fmt.Fprintf(to, "  %d  %s\n", p.lines, p.name)
	}
}
