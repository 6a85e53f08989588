// Command kustomize reconciles the Kustomizations of Flux: it can stand in for kustomize-controller.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "kustomize-controller", Kinds: []app.Kind{app.Of(kinds.Kustomization)}})
}
