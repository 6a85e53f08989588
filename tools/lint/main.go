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
	"strings"
	"time"

	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/gitopskit/gitopskit/tools/lint/suppress"
)

func main() {
	if underVet(os.Args[1:]) {
		all := analyzers()
		if factsOnly(os.Args[len(os.Args)-1]) {
			unitchecker.Main(suppress.FactProducers(all)...)
		}
		unitchecker.Main(suppress.Combine(all))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to do
	}
}

// underVet reports whether go vet is the caller: it passes a flag or one file of configuration.
func underVet(args []string) bool {
	return len(args) > 0 && (strings.HasPrefix(args[0], "-") || strings.HasSuffix(args[len(args)-1], ".cfg"))
}

// factsOnly reports whether a package is wanted only for what it tells about itself to those that import it.
func factsOnly(config string) bool {
	data, err := os.ReadFile(config)
	if err != nil {
		return false
	}
	var cfg struct{ VetxOnly bool }
	return json.Unmarshal(data, &cfg) == nil && cfg.VetxOnly
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
		vet.Dir, vet.Stdout, vet.Stderr = dir, os.Stdout, os.Stderr
		switch err := vet.Run(); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed++
			fallthrough
		default:
			name, _ := filepath.Rel(root, dir) //nolint:errcheck // dir was found below root
			fmt.Printf("lint: %s: %.1fs\n", name, time.Since(start).Seconds())
		}
	}
	if failed > 0 {
		return fmt.Errorf("findings in %d of %d modules", failed, len(modules))
	}
	return nil
}

// findRoot returns the nearest directory, upwards from the working directory, that holds the library's go.mod.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module github.com/gitopskit/gitopskit\n") {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("no go.mod of github.com/gitopskit/gitopskit here or above: run lint inside the repository")
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
