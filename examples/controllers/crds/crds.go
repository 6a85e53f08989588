// Package crds has the custom resource definitions of the kinds that the
// example controllers reconcile, generated from Flux's published API modules
// by the command in tools/crds.
package crds

import (
	"bytes"
	"embed"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
)

//go:embed *_*.yaml
var files embed.FS

// All returns the definitions, in the order of their names.
func All() ([]*unstructured.Unstructured, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	var all bytes.Buffer
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all.WriteString("\n---\n")
		all.Write(data)
	}
	return ssa.ReadObjects(&all)
}
