// Command helm reconciles the HelmReleases of Flux: it can stand in for helm-controller.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "helm-controller", Kinds: []app.Kind{app.Of(kinds.HelmRelease)}})
}
