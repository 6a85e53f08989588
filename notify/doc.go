// Package notify tells people and systems what happened: it takes events and delivers them in the background, without
// ever holding up whoever reports.
//
//	chat, err := notify.NewSlack(notify.SlackPostMessage, &notify.SlackOptions{Token: token, Channel: "ops"})
//	...
//	status, err := notify.NewGitHubStatus("https://github.com/acme/shop", token, nil)
//	...
//	bus, err := notify.NewBus(nil,
//		notify.Route{Name: "chat", Sender: chat, Rule: &notify.Rule{Severity: notify.SeverityError}},
//		notify.Route{Name: "commits", Sender: status, Match: notify.Event.ForCommitStatus})
//	...
//	bus.Emit(notify.Event{InvolvedObject: object, Severity: notify.SeverityError, Reason: "BuildFailed", Message: err.Error()})
//	...
//	left, err := bus.Close(ctx) // delivers what is queued until ctx ends
//
// An [Event] has the JSON form of Flux's events, so that it can be sent to whatever takes those; [Decode] reads what
// Flux's controllers send, and an [EventServer] takes it from them. A [Bus] leads events along each [Route], whose
// [Rule] chooses and adds as an Alert of Flux does, to its [Sender], which is one destination.
//
// # Destinations
//
// [Webhook] posts events as they are, signed if there is a key; [EventSink] posts them to Flux's
// notification-controller, or an [EventServer]; [Slack], [Discord] and [MSTeams] post messages;
// [Alertmanager] fires and resolves alerts; [CommitStatus] reports at GitHub, GitLab and Gitea; [Slog] writes to a logger;
// and any function is a destination as [SenderFunc].
//
// Those that speak HTTP share [HTTPOptions]. An answer 2xx is a success; 408, 425, 429, 5xx, a 403 that asks for
// patience, and connections that fail are worth a retry, after the time the answer asks for; any other answer is
// terminal. A redirect is followed only if it repeats the request on the same scheme, host and port. Answers are
// read within limits, and nothing of them is shown but the error codes of Slack. Messages are cut at the
// limits of their destination and say so, and the text of an event can make no mentions or links there.
//
// # Delivery
//
// Each route has a queue of its own, bounded in events and bytes, so a slow destination delays no other. The events of
// one object are delivered in the order of Emit, those of different objects side by side. A failed delivery is
// repeated with growing, random pauses until the event is an hour old (or Route.Retry says otherwise), and at once reported as lost if the
// destination says that repeating is in vain. An event counts as delivered when the sender has returned nil, so
// it arrives at least once or is counted as dropped or failed ([Bus.Stats]) and reported to BusOptions.Lost. The
// queue is in memory: what is in it is lost when the process dies.
//
// # Errors
//
// Senders tell by behaviour what an error means: a method "Terminal() bool" that returns true says that repeating is in
// vain, "RetryAfter() time.Duration" when to repeat. The errors of this package are [*SendError], and for errors.Is
// ErrFull, ErrClosed, ErrTooLarge and ErrInvalid. Addresses are shown as scheme and host only; paths, queries,
// header values, tokens, channels and keys appear in no error.
//
// # Concurrency
//
// Everything is safe for concurrent use. A bus has goroutines only while it has something to send, at most
// Route.Parallel for each route.
//
// # What it does not do
//
// It does not decide what is worth an event, keep anything on disk, group events, or use templates. Repetitions are
// dropped by the event server, and counted in one event by a route with a Window, only. Webhooks in the other direction are those of package receiver.
package notify
