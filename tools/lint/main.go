package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/gitopskit/gitopskit/tools/lint/suppress"
)

// module is the path that the modules of the repository begin with.
const module = "github.com/gitopskit/gitopskit"

func main() {
	if underVet(os.Args[1:]) {
		all := analyzers()
		if dependency, foreign := unit(os.Args[len(os.Args)-1]); dependency {
			unitchecker.Main(suppress.FactProducers(all, foreign)...)
		}
		unitchecker.Main(suppress.Combine(all))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(1)
	}
}

// underVet reports whether go vet is the caller: it passes a flag or one file of configuration.
func underVet(args []string) bool {
	return len(args) > 0 && (strings.HasPrefix(args[0], "-") || strings.HasSuffix(args[len(args)-1], ".cfg"))
}

// unit reads the configuration of one package: whether it is wanted only for what it tells about itself to those that
// import it, and whether it is from another module. Of those there are thousands, so they get the quick analyzers.
func unit(config string) (dependency, foreign bool) {
	data, err := os.ReadFile(config)
	if err != nil {
		return false, false
	}
	var cfg struct {
		VetxOnly   bool
		ImportPath string
	}
	if json.Unmarshal(data, &cfg) != nil {
		return false, false
	}
	host, _, _ := strings.Cut(cfg.ImportPath, "/")
	return cfg.VetxOnly, strings.Contains(host, ".") && !strings.HasPrefix(cfg.ImportPath, module)
}

// run has go vet apply this program to some packages of the root module, or to all modules.
func run(ctx context.Context, patterns []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	root, err := findRoot()
	if err != nil {
		return err
	}
	modules := []string{root}
	if len(patterns) == 0 {
		patterns = []string{"./..."}
		if modules, err = findModules(root); err != nil {
			return err
		}
	}
	failed := 0
	for _, dir := range modules {
		start := time.Now()
		vet := exec.CommandContext(ctx, "go", append([]string{"vet", "-vettool=" + self}, patterns...)...)
		vet.Dir = dir
		out, err := vet.CombinedOutput()
		printFindings(out)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed++
			fallthrough
		default:
			name, _ := filepath.Rel(root, dir) // dir was found below root
			fmt.Printf("lint: %s: %.1fs\n", name, time.Since(start).Seconds())
		}
	}
	if failed > 0 {
		return fmt.Errorf("findings in %d of %d modules", failed, len(modules))
	}
	return nil
}

// printFindings prints what go vet found, each line once: a package with tests is analysed with and without them.
func printFindings(out []byte) {
	lines := slices.Sorted(strings.Lines(string(out)))
	for _, line := range slices.Compact(lines) {
		if !strings.HasPrefix(line, "# ") {
			fmt.Print(line)
		}
	}
}

// findRoot returns the nearest directory, upwards from the working directory, that holds the library's go.mod.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module "+module+"\n") {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("no go.mod of " + module + " here or above: run lint inside the repository")
	}
}

// findModules returns the directories that hold a go.mod, the root first.
func findModules(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(name string, entry os.DirEntry, err error) error {
		switch base := filepath.Base(name); {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (base == "testdata" || strings.HasPrefix(base, ".")):
			return filepath.SkipDir
		case base == "go.mod":
			dirs = append(dirs, filepath.Dir(name))
		}
		return nil
	})
	return dirs, err
}
