// Command notification reconciles the alerts, providers and receivers of Flux:
// it can stand in for notification-controller.
package main

import "github.com/gitopskit/gitopskit/examples/controllers/internal/app"

func main() { app.Main(app.Programs()["notification"]) }
