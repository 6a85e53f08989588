// Package receiver takes the calls by which forges and registries tell that something was pushed, and hands what they
// say to a function: it is what turns polling every ten minutes into acting at once.
//
//	r, err := receiver.New(receiver.GitHub, token, func(ctx context.Context, h receiver.Hook) error {
//		return reconcile(ctx, h.Repository, h.Ref)
//	}, &receiver.Options{Events: []string{"push"}})
//	...
//	var mux receiver.Mux
//	err = mux.Set("apps/web", receiver.Path(string(token), "web", "apps"), r)
//	...
//	server := &http.Server{Addr: ":9292", Handler: &mux, ReadHeaderTimeout: 10 * time.Second}
//
// A [Receiver] is an [http.Handler] for one hook: it bounds the body, verifies that the caller knows the token, and only
// then reads what happened into a [Hook]. Which objects that concerns is up to the function. [Path] is the
// secret path that Flux gives a hook, and a [Mux] leads each path to its receiver while receivers come and go.
//
// # Security
//
// An empty token is refused when the receiver is made, and so is one that can be guessed. Tokens and signatures are
// compared in constant time. Calls of GitHub and Bitbucket that are replayed within ten minutes are answered and
// not handled; for longer, or for other types, handling a hook must do no harm when it is repeated. The types
// generic and dockerhub authenticate nobody: the path is their only secret, so serve them over TLS.
//
// # Errors
//
// Callers of a hook see a status only. Options.Report sees the [*Error], and for errors.Is ErrUnverified, ErrPayload,
// ErrEvent, ErrReplay, ErrTooLarge and ErrMethod. No error shows a token, a signature or a path.
//
// # Concurrency
//
// Everything is safe for concurrent use. Nothing runs between calls.
//
// # What it does not do
//
// It serves no connections: bound headers and time in the [http.Server], and rates in front of it. It verifies no OpenID
// Connect tokens, and knows none of Flux's types generic-oidc, quay, gcr, nexus, acr and cdevents.
package receiver
