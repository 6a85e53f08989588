// Package auth keeps tokens: credentials that somebody issues for a while, and that are had once for everyone who acts
// as the same identity.
//
//	cache := &auth.Cache{}
//	token, err := cache.Get(ctx, "github.com/app/1/installation/2", func(ctx context.Context) (auth.Token, error) {
//		return issue(ctx)
//	})
//	request.Header.Set("Authorization", "Bearer "+token.Value)
//
// A token is used for four fifths of its life. After that a new one is had, by one caller at a time while the others
// wait; when there is none to be had, the old one serves until its end. Package auth/github is such an identity.
//
// # Errors
//
// Errors are those of the issuer. One that says how long to wait, by a method RetryAfter() time.Duration, is
// remembered for that long, so that an issuer that asks for rest gets it.
//
// # Concurrency
//
// A Cache is safe for concurrent use. The issuer is asked in a goroutine of its own, whose context ends when nobody
// waits for it any more: that one caller leaves does not fail the others.
//
// # What it does not do
//
// Tokens are kept in memory only. A [Token] does not show its value when it is printed or logged; what is made of
// Value is up to the caller.
package auth
