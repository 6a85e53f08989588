// Package notify tells people and systems what happened: it takes events and delivers them in the background, without
// ever holding up whoever reports.
//
//	hook, err := notify.NewSignedWebhook("https://ci.example.org/hook", key, nil)
//	...
//	bus, err := notify.NewBus(nil,
//		notify.Route{Name: "ci", Sender: hook},
//		notify.Route{Name: "log", Sender: notify.Slog{Logger: logger}})
//	...
//	bus.Emit(notify.Event{InvolvedObject: object, Severity: notify.SeverityError, Reason: "BuildFailed", Message: err.Error()})
//	...
//	left, err := bus.Close(ctx) // delivers what is queued until ctx ends
//
// An [Event] has the JSON form of Flux's events, so that it can be sent to whatever takes those, and [Decode] reads what
// Flux's controllers send. A [Sender] is one destination: [Webhook], [Slog], or any function as [SenderFunc]. A [Bus]
// leads events along each [Route] to its sender.
//
// # Delivery
//
// Each route has a queue of its own, bounded in events and bytes, so a slow destination delays no other. The events of
// one object are delivered in the order of Emit, those of different objects side by side. A failed delivery is
// repeated with growing, random pauses until the event is an hour old, and at once reported as lost if the
// destination says that repeating is in vain. An event counts as delivered when the sender has returned nil, so
// it arrives at least once or is counted as dropped or failed ([Bus.Stats]) and reported to BusOptions.Lost. The
// queue is in memory: what is in it is lost when the process dies.
//
// # Errors
//
// Senders tell by behaviour what an error means: a method "Terminal() bool" that returns true says that repeating is in
// vain, "RetryAfter() time.Duration" when to repeat. The errors of this package are [*SendError], and for errors.Is
// ErrFull, ErrClosed, ErrTooLarge and ErrInvalid. Addresses are shown as scheme and host only; paths, queries,
// header values and keys appear in no error.
//
// # Concurrency
//
// Everything is safe for concurrent use. A bus has goroutines only while it has something to send, at most
// Route.Parallel for each route.
//
// # What it does not do
//
// It does not decide what is worth an event, keep anything on disk, or drop repetitions.
package notify
