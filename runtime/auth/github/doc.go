// Package github is the identity of a GitHub App: it turns the App's private key into tokens of an installation, which
// live for an hour and may do what the installation was granted.
//
//	app, err := github.New(github.App{ID: "123456", InstallationOwner: "example", PrivateKey: pem}, nil)
//	...
//	user, password, err := app.BasicAuth(ctx)                        // for Git: x-access-token and a token
//	client := &http.Client{Transport: app.Transport(nil)}            // for the API, and for Git over HTTP
//
// An [Installation] keeps its token as package auth does: it is had once for all callers, renewed after four fifths of
// its life, and the old one serves while GitHub has no new one to give.
//
// # Errors
//
// [New] returns everything that is wrong with an App at once; keys are refused by what they are. Errors of GitHub are
// an *[Error] with the operation, the status and GitHub's message; they match [ErrUnauthorized], [ErrNotInstalled],
// [ErrPermission], [ErrRateLimited] or [ErrUnavailable]. One that is a matter of rate limits has RetryAfter. Answers of
// 5xx and broken connections are tried again up to twice. A clock that differs from GitHub's by more than 30 seconds is
// named, because it makes keys invalid. No key, assertion or token is ever in an error.
//
// # Concurrency
//
// An Installation is safe for concurrent use.
//
// # What it does not do
//
// It follows no redirects, talks HTTPS only, reads no environment, and gives tokens to no host but that of the API and
// of the Git repositories that belong to it. It creates no Apps and no installations.
package github
