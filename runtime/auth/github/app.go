package github

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gitopskit/gitopskit/runtime/auth"
)

// App is a GitHub App and one of its installations.
type App struct {
	// ID is the App's number, or its client ID. Required.
	ID string
	// InstallationID is the number of the installation; InstallationOwner is the organization or user whose
	// installation is meant instead. One of them is required.
	InstallationID    int64
	InstallationOwner string
	// PrivateKey is a key of the App, in PEM form. Required.
	PrivateKey []byte
	// BaseURL is that of the API: empty is https://api.github.com; https://HOST, with or without /api/v3, for GitHub
	// Enterprise Server, https://api.NAME.ghe.com for Enterprise Cloud with data residency.
	BaseURL string
	// Repositories are the names of those that tokens are good for, without their owner; none means all of the
	// installation.
	Repositories []string
	// Permissions are what tokens may do, as GitHub names it: "contents": "read". None means all that the installation
	// may.
	Permissions map[string]string
}

// String names the App, not its key.
func (a App) String() string { return "GitHub App " + a.ID }

// GoString shows what String does.
func (a App) GoString() string { return "github.App{" + a.ID + "}" }

// Options are how GitHub is reached. Nil means the defaults.
type Options struct {
	// Transport is what requests are sent with: certificates, proxies. Nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Cache keeps the tokens, possibly of many installations. Nil means one of the installation's own.
	Cache *auth.Cache
}

// Installation is where an App acts. It is made by [New].
type Installation struct {
	app   App
	key   *rsa.PrivateKey
	api   *url.URL
	http  *http.Client
	cache *auth.Cache
	name  string // the key of the cache

	mu sync.Mutex
	id int64 // of the installation, 0 until it is known
}

// New checks an App, without a request. The error lists everything that is wrong, and is terminal.
func New(app App, opts *Options) (*Installation, error) {
	if opts == nil {
		opts = &Options{}
	}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case app.ID == "":
		wrong("the id of the App is missing")
	case len(app.ID) > 64 || strings.ContainsFunc(app.ID, notPlain):
		wrong("the id of the App is neither a number nor a client ID")
	}
	switch {
	case app.InstallationID == 0 && app.InstallationOwner == "":
		wrong("the installation is missing: give its id or its owner")
	case app.InstallationID != 0 && app.InstallationOwner != "":
		wrong("the installation has both an id and an owner: give one")
	case app.InstallationID < 0:
		wrong("the id of the installation is negative")
	case len(app.InstallationOwner) > 64 || strings.ContainsFunc(app.InstallationOwner, notPlain):
		wrong("the owner of the installation is no name of an organization or user")
	}
	key, err := parseKey(app.PrivateKey)
	if err != nil {
		errs = append(errs, err)
	}
	api, err := parseBase(app.BaseURL)
	if err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, &Error{Op: "check", App: printable(app.ID), Err: fmt.Errorf("%w: %w", ErrInvalid, errors.Join(errs...))}
	}
	app.Repositories = slices.Clone(app.Repositories)
	transport := opts.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	i := &Installation{
		app: app, key: key, api: api, id: app.InstallationID, cache: opts.Cache,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if i.cache == nil {
		i.cache = &auth.Cache{}
	}
	i.name, err = i.identity()
	return i, err
}

// identity is what the tokens of an installation are kept under: the digest of all that they depend on.
func (i *Installation) identity() (string, error) {
	all, err := json.Marshal([]any{i.api.String(), i.app.ID, i.app.InstallationID, i.app.InstallationOwner, i.app.Repositories, i.app.Permissions})
	if err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(all)
	h.Write(i.app.PrivateKey)
	return fmt.Sprintf("github:%x", h.Sum(nil)), nil
}

// notPlain finds what is in no id and no name of GitHub.
func notPlain(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}

// printable makes an id fit to be shown.
func printable(id string) string {
	if len(id) > 64 || strings.ContainsFunc(id, notPlain) {
		return "?"
	}
	return id
}

// parseBase reads the address of the API.
func parseBase(base string) (*url.URL, error) {
	if base == "" {
		base = "https://api.github.com"
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err == nil {
		u.Host = strings.ToLower(u.Host)
	}
	switch {
	case err != nil || u.Host == "":
		return nil, errors.New("the base URL is no URL of a server")
	case u.Scheme != "https":
		return nil, errors.New("the base URL is not https")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the base URL has more than a host and a path")
	case u.Host == "github.com" || u.Host == "www.github.com":
		return nil, errors.New("the base URL is that of the site: the API of github.com needs none")
	}
	if u.Path == "" && !strings.HasPrefix(u.Host, "api.") {
		u.Path = "/api/v3"
	}
	return u, nil
}

// Token returns a token of the installation.
func (i *Installation) Token(ctx context.Context) (auth.Token, error) {
	return i.cache.Get(ctx, i.name, i.issue)
}

// Forget drops the token that is kept, because somebody refused it.
func (i *Installation) Forget() { i.cache.Forget(i.name) }

// BasicAuth returns what Git takes over HTTPS: the user x-access-token, and a token in the place of a password.
func (i *Installation) BasicAuth(ctx context.Context) (username, password string, err error) {
	token, err := i.Token(ctx)
	if err != nil {
		return "", "", err
	}
	return "x-access-token", token.Value, nil
}

// issue has GitHub make a token. An installation that is gone may have been replaced by another of the same owner.
func (i *Installation) issue(ctx context.Context) (auth.Token, error) {
	id, found, err := i.installation(ctx)
	if err != nil {
		return auth.Token{}, err
	}
	token, err := i.tokenOf(ctx, id)
	if errors.Is(err, ErrNotInstalled) && i.app.InstallationOwner != "" && !found {
		i.mu.Lock()
		i.id = 0
		i.mu.Unlock()
		if id, _, err = i.installation(ctx); err == nil {
			token, err = i.tokenOf(ctx, id)
		}
	}
	return token, err
}

// installation returns the number of the installation, and whether it was found just now.
func (i *Installation) installation(ctx context.Context) (id int64, found bool, err error) {
	i.mu.Lock()
	id = i.id
	i.mu.Unlock()
	if id != 0 {
		return id, false, nil
	}
	for _, kind := range []string{"orgs", "users"} {
		var answer struct {
			ID int64 `json:"id"`
		}
		_, err = i.call(ctx, "find the installation", http.MethodGet, kind+"/"+url.PathEscape(i.app.InstallationOwner)+"/installation", nil, &answer)
		if err == nil && answer.ID <= 0 {
			err = &Error{Op: "find the installation", App: i.app.ID, Host: i.api.Host, Err: fmt.Errorf("%w: the answer has no id", ErrUnavailable)}
		}
		if err == nil {
			i.mu.Lock()
			i.id = answer.ID
			i.mu.Unlock()
			return answer.ID, true, nil
		}
		if !errors.Is(err, ErrNotInstalled) {
			break
		}
	}
	return 0, true, err
}

func (i *Installation) tokenOf(ctx context.Context, id int64) (auth.Token, error) {
	const op = "issue a token"
	var question struct {
		Repositories []string          `json:"repositories,omitempty"`
		Permissions  map[string]string `json:"permissions,omitempty"`
	}
	question.Repositories, question.Permissions = i.app.Repositories, i.app.Permissions
	var answer tokenAnswer
	skew, err := i.call(ctx, op, http.MethodPost, "app/installations/"+strconv.FormatInt(id, 10)+"/access_tokens", question, &answer)
	if err != nil {
		return auth.Token{}, err
	}
	if answer.Token == "" || len(answer.Token) > 4<<10 || strings.ContainsFunc(answer.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || answer.Expires.IsZero() {
		return auth.Token{}, &Error{Op: op, App: i.app.ID, Host: i.api.Host, Err: fmt.Errorf("%w: the answer has no token with an end", ErrUnavailable)}
	}
	return auth.Token{Value: answer.Token, Expires: answer.Expires.Add(-skew)}, nil
}
