// Command image-reflector reconciles the image repositories and policies of
// Flux: it can stand in for image-reflector-controller.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["image-reflector"]) }
