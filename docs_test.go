package gitopskit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commands maps each command that README.md and the documents of CONTRIBUTING.md give in a shell block to the test that
// runs it, or that fails when it no longer works. A test of a nested module counts.
var commands = map[string]string{
	"go run ./examples/quickstart": "TestTour",
	"go test ./...":                "TestCommandsOfREADME",
}

// TestCommandsOfREADME wants every shell command of README.md to be run by a test that exists.
func TestCommandsOfREADME(t *testing.T) {
	root := os.DirFS(".")
	tests := testNames(t, root)
	for _, block := range fences(read(t, root, "README.md"), "sh") {
		for line := range strings.Lines(block) {
			command, _, _ := strings.Cut(strings.TrimSpace(line), " #")
			command = strings.TrimPrefix(strings.TrimSpace(command), "$ ")
			if command == "" || strings.HasPrefix(command, "#") {
				continue
			}
			name, ok := commands[command]
			if !ok {
				t.Errorf("README.md: no test is known to run %q: add it to the map in docs_test.go", command)
			} else if len(tests[name]) == 0 {
				t.Errorf("README.md: %q is to be run by %s, which does not exist", command, name)
			}
		}
	}
}

// TestSnippetsOfREADME wants every Go block of README.md to stand, word for word, in an example that is compiled.
func TestSnippetsOfREADME(t *testing.T) {
	root := os.DirFS(".")
	var code strings.Builder
	walk(t, root, func(name string) {
		if path.Base(name) == "example_test.go" || strings.HasPrefix(name, "examples/") && strings.HasSuffix(name, ".go") {
			code.WriteString(squeeze(read(t, root, name)))
			code.WriteString("\x00\n") // a block must not run over the end of a file
		}
	})
	for _, block := range fences(read(t, root, "README.md"), "go") {
		if !strings.Contains(code.String(), squeeze(block)) {
			t.Errorf("README.md: this stands in no example_test.go and nowhere in examples:\n%s", block)
		}
	}
}

// TestWeightsOfREADME wants the table of packages to give the bounds of the policy.
func TestWeightsOfREADME(t *testing.T) {
	bounds := map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(policy)) {
		name, rest, _ := strings.Cut(line, ":")
		_, bound, _ := strings.Cut(rest, "<=")
		bounds[strings.TrimSpace(name)] = strings.TrimSpace(bound)
	}
	rows := 0
	for line := range strings.Lines(read(t, os.DirFS("."), "README.md")) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 {
			continue
		}
		name, weight := strings.Trim(strings.TrimSpace(cells[1]), "`"), strings.TrimSpace(cells[3])
		if bound, ok := bounds[name]; ok && weight != "" {
			rows++
			if weight != bound {
				t.Errorf("README.md says that %s links %s packages at most, the policy says %s", name, weight, bound)
			}
		}
	}
	if rows == 0 {
		t.Error("README.md has no table that gives the weight of a package")
	}
}

// TestConformanceNamesTests wants every test that the conformance page cites to exist, in the package that the same line
// names, if it names one.
func TestConformanceNamesTests(t *testing.T) {
	root := os.DirFS(".")
	tests := testNames(t, root)
	packages := map[string]bool{}
	for _, dirs := range tests {
		for _, dir := range dirs {
			packages[dir] = true
		}
	}
	cited := 0
	for line := range strings.Lines(read(t, root, "docs/conformance.md")) {
		var named []string
		for _, m := range backticked.FindAllStringSubmatch(line, -1) {
			if packages[m[1]] {
				named = append(named, m[1])
			}
		}
		for _, m := range backticked.FindAllStringSubmatch(line, -1) {
			if !testName.MatchString(m[1]) {
				continue
			}
			cited++
			dirs, ok := tests[m[1]]
			if !ok {
				t.Errorf("docs/conformance.md: there is no %s", m[1])
			} else if len(named) > 0 && !slices.ContainsFunc(named, func(dir string) bool { return slices.Contains(dirs, dir) }) {
				t.Errorf("docs/conformance.md: %s is in %v, not in %v", m[1], dirs, named)
			}
		}
	}
	if cited == 0 {
		t.Error("docs/conformance.md cites no test")
	}
}

var (
	backticked = regexp.MustCompile("`([^`]+)`")
	testName   = regexp.MustCompile(`^(Test|Fuzz|Example|Benchmark)[A-Z_]\w*$`)
)

// testNames maps the name of each test to the directories that have one of that name, in all modules.
func testNames(t *testing.T, root fs.FS) map[string][]string {
	t.Helper()
	names := map[string]map[string]bool{}
	walk(t, root, func(name string) {
		if !strings.HasSuffix(name, "_test.go") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, read(t, root, name), parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				if names[fn.Name.Name] == nil {
					names[fn.Name.Name] = map[string]bool{}
				}
				names[fn.Name.Name][path.Dir(name)] = true
			}
		}
	})
	dirs := map[string][]string{}
	for name, in := range names {
		dirs[name] = slices.Sorted(maps.Keys(in))
	}
	return dirs
}

// fences returns the code blocks of one language.
func fences(markdown, language string) []string {
	var blocks []string
	var block strings.Builder
	inside, wanted := false, false
	for line := range strings.Lines(markdown) {
		switch text := strings.TrimSpace(line); {
		case !inside && strings.HasPrefix(text, "```"):
			inside, wanted = true, strings.TrimPrefix(text, "```") == language
		case inside && text == "```":
			if wanted {
				blocks = append(blocks, block.String())
			}
			block.Reset()
			inside, wanted = false, false
		case wanted:
			block.WriteString(line)
		}
	}
	return blocks
}

// squeeze removes the indentation and the empty lines of code.
func squeeze(code string) string {
	var lines strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			lines.WriteString(line)
			lines.WriteByte('\n')
		}
	}
	return lines.String()
}

func read(t *testing.T, root fs.FS, name string) string {
	t.Helper()
	data, err := fs.ReadFile(root, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
