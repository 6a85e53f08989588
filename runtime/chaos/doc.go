// Package chaos breaks things on purpose, for tests: requests go wrong in the ways of networks, proxies and servers in
// trouble, and programs fail or die at the points that they name. It needs nothing but the standard library.
//
//	faults := &chaos.Faults{Seed: 7, Rules: []chaos.Rule{
//		{Match: chaos.On("PATCH", "/status"), Faults: []chaos.Fault{{Kind: chaos.Conflict}}, Times: 3},
//		{Share: 0.1, Faults: chaos.All()}, // one request in ten meets some other fault
//	}}
//	config.WrapTransport = faults.Wrap                    // a client of Kubernetes
//	client := &http.Client{Transport: faults.Wrap(nil)}   // any other
//	...                                                   // what must hold nevertheless?
//	t.Log(faults.Counts(), faults.Journal())
//
// # Requests
//
// A [Faults] stands between clients and their transports. Its rules say which requests meet which [Fault]: exactly the
// third PATCH of a path, all watches after five events, or a share of everything, drawn from a seed in such a way that
// a run can be repeated whatever the goroutines do. Errors and answers have the form that real ones have: client-go
// takes a [Reset] for a broken connection and a [Throttled] for priority and fairness. [Faults.Break] breaks what is
// under way; with a rule that says [Refused] or [Hang], that is a partition.
//
// # Points
//
// A program names the steps at which it may be interrupted, with [Point] on its context or [Points.Reach] on a field.
// Without a test these cost a look-up or a comparison. A test lets the program fail or wait there, or, in a process of
// its own, kills it with [Kill] at the first point, the second, the third, until it comes to its end, and looks each
// time at what it left behind.
//
// # Errors
//
// Errors of the package are what they play: a *net.OpError with ECONNRESET or ECONNREFUSED, io.ErrUnexpectedEOF, the
// cause of the request's context.
//
// # Concurrency
//
// Faults and Points are safe for concurrent use. Waits use package time and the request's context, and no goroutine
// is started, so that everything can be used inside of [testing/synctest].
//
// # What it does not do
//
// It does not break real connections, but for Break; for what a TCP stack makes of that, put a proxy in between. It
// does not harm the bodies of requests, nor connections that were upgraded (exec, port-forward). It does not check
// histories. It reads no environment and keeps nothing in package variables.
package chaos
