// Package notifytest helps to test what emits events and what delivers them.
//
// A [Recorder] takes the place of a destination and keeps what it is sent:
//
//	rec := &notifytest.Recorder{}
//	bus, err := notify.NewBus(nil, notify.Route{Name: "test", Sender: rec})
//	...
//	e, err := rec.Await(ctx, func(e notify.Event) bool { return e.Reason == "BuildFailed" })
//
// A [Server] is an HTTP destination with scripted failures, [TestSender] a suite for every [notify.Sender], and
// [TestHTTPSender] one for those that speak HTTP.
package notifytest
