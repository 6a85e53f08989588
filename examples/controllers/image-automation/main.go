// Command image-automation reconciles the image update automations of Flux: it
// can stand in for image-automation-controller.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "image-automation-controller", Kinds: []app.Kind{app.Of(kinds.ImageUpdateAutomation)}})
}
