// Command notification reconciles the alerts, providers and receivers of Flux:
// it can stand in for notification-controller.
package main

import (
	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"
)

func main() {
	app.Main(app.Program{Name: "notification-controller", Notifies: true, Kinds: []app.Kind{app.Of(kinds.Receiver)}})
}
