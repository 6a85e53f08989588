// Command source reconciles the sources of Flux: it can stand in for source-controller.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "source-controller", Stores: true, Kinds: []app.Kind{
		app.Of(kinds.GitRepository), app.Of(kinds.OCIRepository), app.Of(kinds.Bucket), app.Of(kinds.HelmRepository), app.Of(kinds.HelmChart), app.Of(kinds.ArtifactGenerator),
	}})
}
