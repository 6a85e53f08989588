// Command source reconciles the sources of Flux: it can stand in for source-controller.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["source"]) }
