// Command all reconciles every kind of Flux that this module supports, in one
// process with one cache: artifacts go from source to consumer without HTTP.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "gitopskit", Stores: true, Notifies: true, Kinds: []app.Kind{app.Of(kinds.GitRepository), app.Of(kinds.OCIRepository), app.Of(kinds.Bucket),
		app.Of(kinds.HelmRepository), app.Of(kinds.HelmChart), app.Of(kinds.Kustomization), app.Of(kinds.HelmRelease), app.Of(kinds.ArtifactGenerator),
		app.Of(kinds.ImageRepository), app.Of(kinds.ImagePolicy), app.Of(kinds.ImageUpdateAutomation), app.Of(kinds.Receiver),
	}})
}
