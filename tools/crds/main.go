// Command crds writes the custom resource definitions of Flux, generated from
// the published API modules that the root module requires.
//
//	go -C tools run ./crds            write them
//	go -C tools run ./crds -check     fail if what is there differs
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/tools/go/packages"
	"sigs.k8s.io/controller-tools/pkg/crd"
	"sigs.k8s.io/controller-tools/pkg/genall"
	"sigs.k8s.io/controller-tools/pkg/loader"
	"sigs.k8s.io/controller-tools/pkg/markers"
)

const (
	root   = ".."
	target = "examples/controllers/crds"
)

// apis lists the packages of the kinds that the example controllers know.
func apis() []string {
	return []string{
		"github.com/fluxcd/source-controller/api/v1",
		"github.com/fluxcd/source-watcher/api/v2/v1beta1",
		"github.com/fluxcd/kustomize-controller/api/v1",
		"github.com/fluxcd/helm-controller/api/v2",
		"github.com/fluxcd/notification-controller/api/v1",
		"github.com/fluxcd/notification-controller/api/v1beta3",
		"github.com/fluxcd/image-reflector-controller/api/v1",
		"github.com/fluxcd/image-automation-controller/api/v1",
	}
}

func main() {
	check := flag.Bool("check", false, "write nothing, fail if a file differs")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "crds:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	files, err := generate()
	if err != nil {
		return err
	}
	dir := filepath.Join(root, filepath.FromSlash(target))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data.Bytes()) {
			continue
		}
		if check {
			return fmt.Errorf("%s/%s is not what the API modules say: run go -C tools run ./crds", target, name)
		}
		if err := os.WriteFile(path, data.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// output collects the generated files.
type output map[string]*bytes.Buffer

type file struct{ *bytes.Buffer }

func (file) Close() error { return nil }

// Open begins a file.
func (o output) Open(_ *loader.Package, name string) (io.WriteCloser, error) {
	b := &bytes.Buffer{}
	o[name] = b
	return file{b}, nil
}

func generate() (output, error) {
	roots, err := loader.LoadRootsWithConfig(&packages.Config{Dir: root}, apis()...)
	if err != nil {
		return nil, err
	}
	gen := crd.Generator{}
	collector := &markers.Collector{Registry: &markers.Registry{}}
	if err := gen.RegisterMarkers(collector.Registry); err != nil {
		return nil, err
	}
	out := output{}
	err = gen.Generate(&genall.GenerationContext{
		Collector: collector, Roots: roots, Checker: &loader.TypeChecker{NodeFilters: []loader.NodeFilter{gen.CheckFilter()}},
		OutputRule: out, InputRule: genall.InputFromFileSystem,
	})
	if err != nil {
		return nil, err
	}
	if loader.PrintErrors(roots, packages.TypeError) {
		return nil, fmt.Errorf("the API packages do not compile")
	}
	return out, nil
}
