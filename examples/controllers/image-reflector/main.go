// Command image-reflector reconciles the image repositories and policies of
// Flux: it can stand in for image-reflector-controller.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "image-reflector-controller", Kinds: []app.Kind{app.Of(kinds.ImageRepository), app.Of(kinds.ImagePolicy)}})
}
