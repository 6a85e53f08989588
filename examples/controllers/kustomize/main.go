// Command kustomize reconciles the Kustomizations of Flux: it can stand in for kustomize-controller.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["kustomize"]) }
