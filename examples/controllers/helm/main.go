// Command helm reconciles the HelmReleases of Flux: it can stand in for helm-controller.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["helm"]) }
