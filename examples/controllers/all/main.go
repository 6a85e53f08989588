// Command all reconciles every kind of Flux that this module supports, in one
// process with one cache: artifacts go from source to consumer without HTTP.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["all"]) }
