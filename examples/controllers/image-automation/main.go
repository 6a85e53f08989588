// Command image-automation reconciles the image update automations of Flux: it
// can stand in for image-automation-controller.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["image-automation"]) }
