package secrets

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/gitopskit/gitopskit/runtime/auth/github"
)

// BasicAuth returns the entries username and password, both required. A user name is one line without colons; a
// password is what it is.
func BasicAuth(data map[string][]byte) (username, password string, err error) {
	if username, err = text(data, "username", true); err != nil {
		return "", "", err
	}
	if strings.Contains(username, ":") {
		return "", "", &Error{"username", fmt.Errorf("%w: it has a colon, which basic authentication cannot send", ErrInvalid)}
	}
	secret, err := entry(data, "password")
	if err != nil {
		return "", "", err
	}
	return username, string(secret), nil
}

// Bearer returns the entry bearerToken: one line, 8 KiB at most.
func Bearer(data map[string][]byte) (string, error) { return header(data, "bearerToken") }

// Token returns the entry token: one line, 8 KiB at most.
func Token(data map[string][]byte) (string, error) { return header(data, "token") }

// header returns a token that is sent in a header.
func header(data map[string][]byte, name string) (string, error) {
	token, err := text(data, name, true)
	if err == nil && strings.TrimSpace(token) != token {
		err = &Error{name, fmt.Errorf("%w: it begins or ends with a blank", ErrInvalid)}
	}
	if err != nil {
		return "", err
	}
	return token, nil
}

// Login is what a client tells a server over HTTP: a user with a password, a bearer token, or nothing.
type Login struct{ Username, Password, Bearer string }

// String does not show the credentials.
func (l Login) String() string {
	switch {
	case l.Bearer != "":
		return "bearer token"
	case l.Username != "":
		return "basic credentials of " + l.Username
	}
	return "no credentials"
}

// GoString shows what String does.
func (l Login) GoString() string { return "secrets.Login{" + l.String() + "}" }

// HTTP returns the entries username and password, or bearerToken. None of them is the zero Login; both, and one without
// the other, is an error.
func HTTP(data map[string][]byte) (Login, error) {
	basic := Has(data, "username") || Has(data, "password")
	switch {
	case basic && Has(data, "bearerToken"):
		return Login{}, &Error{"username or bearerToken", fmt.Errorf("%w: both are there: give one", ErrInvalid)}
	case basic:
		user, password, err := BasicAuth(data)
		return Login{Username: user, Password: password}, err
	case Has(data, "bearerToken"):
		token, err := Bearer(data)
		return Login{Bearer: token}, err
	}
	return Login{}, nil
}

// SSHKey is a private key for SSH and the hosts to trust.
type SSHKey struct {
	// Identity is the private key, in PEM form.
	Identity []byte
	// Passphrase opens the key; empty if it needs none.
	Passphrase string
	// KnownHosts is in the form of ssh-keyscan.
	KnownHosts []byte
}

// SSH returns the entries identity and known_hosts, both required, and password, the passphrase of the identity.
func SSH(data map[string][]byte) (*SSHKey, error) {
	identity, err := entry(data, "identity")
	if err != nil {
		return nil, err
	}
	hosts, err := entry(data, "known_hosts")
	if err != nil {
		return nil, err
	}
	passphrase, err := optional(data, "password")
	if err != nil {
		return nil, err
	}
	return &SSHKey{Identity: identity, Passphrase: string(passphrase), KnownHosts: hosts}, nil
}

// Proxy returns the address of a proxy: the entry address, required, a URL of the scheme http, https or socks5 of 2048
// bytes at most, with the entries username and password, which win over those in the URL. A password needs a user.
func Proxy(data map[string][]byte) (*url.URL, error) {
	const name = "address"
	address, err := text(data, name, true)
	if err != nil {
		return nil, err
	}
	if len(address) > 2048 {
		return nil, &Error{name, fmt.Errorf("%w: it is longer than 2048 bytes", ErrInvalid)}
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, &Error{name, fmt.Errorf("%w: it is no URL of a proxy, like http://proxy.example.com:3128", ErrInvalid)}
	}
	switch u.Scheme {
	case "http", "https", "socks5":
	default:
		return nil, &Error{name, fmt.Errorf("%w: use http, https or socks5", ErrInvalid)}
	}
	user, err := text(data, "username", false)
	if err != nil {
		return nil, err
	}
	password, err := optional(data, "password")
	switch {
	case err != nil:
		return nil, err
	case user != "":
		u.User = url.UserPassword(user, string(password))
	case password != nil:
		return nil, &Error{"username", fmt.Errorf("%w: password needs it", ErrMissing)}
	}
	return u, nil
}

// GitHubApp returns the entries githubAppID, githubAppPrivateKey, one of githubAppInstallationID and
// githubAppInstallationOwner, and githubAppBaseURL, which may be missing. Whether they are right is said by github.New.
func GitHubApp(data map[string][]byte) (github.App, error) {
	t, err := texts(data, "githubAppID", "githubAppInstallationID?", "githubAppInstallationOwner?", "githubAppBaseURL?")
	if err != nil {
		return github.App{}, err
	}
	key, err := entry(data, "githubAppPrivateKey")
	if err != nil {
		return github.App{}, err
	}
	app := github.App{ID: t[0], InstallationOwner: t[2], BaseURL: t[3], PrivateKey: key}
	const id, owner = "githubAppInstallationID", "githubAppInstallationOwner"
	switch {
	case t[1] == "" && t[2] == "":
		return github.App{}, &Error{id + " or " + owner, ErrMissing}
	case t[1] != "" && t[2] != "":
		return github.App{}, &Error{id + " or " + owner, fmt.Errorf("%w: both are there: give one", ErrInvalid)}
	case t[1] != "":
		if app.InstallationID, err = strconv.ParseInt(t[1], 10, 64); err != nil || app.InstallationID <= 0 {
			return github.App{}, &Error{id, fmt.Errorf("%w: it is no number", ErrInvalid)}
		}
	}
	return app, nil
}

// Kubeconfig returns the entry of a kubeconfig: that of the given key, or value, or value.yaml, if the key is empty. It
// is for package tenancy to say whether it may be used.
func Kubeconfig(data map[string][]byte, key string) ([]byte, error) {
	if key == "" {
		key = pick(data, "value", "value.yaml")
	}
	return entry(data, key)
}
