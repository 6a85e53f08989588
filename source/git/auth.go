package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/source"
)

// Auth is who the client is: Basic, Token or SSH, or an AuthFunc that returns
// one of them. There are no others.
type Auth interface {
	// check returns everything that is wrong with it for a URL of that scheme.
	check(scheme string) error
}

// Basic is a user name and a password, or an access token in its place, sent
// over http and https.
type Basic struct{ Username, Password string }

// Token is a bearer token, sent over http and https. Most forges want their
// access tokens as the password of Basic instead.
type Token string

// SSH is an SSH login.
type SSH struct {
	// PrivateKey is the key in PEM or OpenSSH form. Required.
	PrivateKey []byte
	// Passphrase decrypts PrivateKey; empty for a key in the clear.
	Passphrase []byte
	// KnownHosts are the host keys the server may have, in the format of
	// OpenSSH's known_hosts: hashed names, patterns, "[host]:port",
	// @cert-authority and @revoked are understood. Required.
	KnownHosts []byte
	// User is the login name. Empty means the one in the URL, or "git".
	User string
}

// AuthFunc is asked anew by each Resolve and Fetch, for credentials that
// change. It returns Basic, Token, SSH, or nil for none.
type AuthFunc func(ctx context.Context) (Auth, error)

// redacted keeps secrets out of %v.
const redacted = "[redacted]"

// String hides the password.
func (b Basic) String() string { return "basic credentials of " + b.Username }

// GoString hides the password.
func (b Basic) GoString() string { return "git.Basic{" + redacted + "}" }

// String hides the token.
func (t Token) String() string { return redacted }

// GoString hides the token.
func (t Token) GoString() string { return "git.Token(" + redacted + ")" }

// String hides the key.
func (s SSH) String() string { return "ssh credentials of " + s.User }

// GoString hides the key.
func (s SSH) GoString() string { return "git.SSH{" + redacted + "}" }

func (b Basic) check(scheme string) error {
	var errs []error
	if scheme == "ssh" {
		errs = append(errs, errors.New("basic credentials do not work with ssh: use git.SSH"))
	}
	if b.Username == "" && b.Password != "" {
		errs = append(errs, errors.New("basic credentials have a password and no user name"))
	}
	if strings.ContainsRune(b.Username, ':') {
		errs = append(errs, errors.New("the user name of basic credentials contains a colon"))
	}
	return errors.Join(errs...)
}

func (t Token) check(scheme string) error {
	var errs []error
	if scheme == "ssh" {
		errs = append(errs, errors.New("a token does not work with ssh: use git.SSH"))
	}
	if strings.ContainsFunc(string(t), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		errs = append(errs, errors.New("the token contains white space or control characters: trim the line end"))
	}
	return errors.Join(errs...)
}

func (f AuthFunc) check(string) error {
	if f == nil {
		return errors.New("the AuthFunc is nil")
	}
	return nil
}

// Validate returns what is wrong with the key or the known hosts, as [New] does
// when they are used. The error has nothing of the key in it.
func (s SSH) Validate() error { return s.check("ssh") }

func (s SSH) check(scheme string) error {
	var errs []error
	if scheme != "ssh" {
		errs = append(errs, fmt.Errorf("ssh credentials do not work with %s: use git.Basic or git.Token", scheme))
	}
	if _, err := s.signer(); err != nil {
		errs = append(errs, err)
	}
	if len(bytes.TrimSpace(s.KnownHosts)) == 0 {
		errs = append(errs, errors.New("SSH.KnownHosts is empty: add the lines that ssh-keyscan prints, after checking their fingerprints"))
	} else if _, err := parseKnownHosts(s.KnownHosts); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// signer reads the private key.
func (s SSH) signer() (ssh.Signer, error) {
	if len(bytes.TrimSpace(s.PrivateKey)) == 0 {
		return nil, errors.New("SSH.PrivateKey is empty")
	}
	if len(s.Passphrase) > 0 {
		signer, err := ssh.ParsePrivateKeyWithPassphrase(s.PrivateKey, s.Passphrase)
		if err == nil {
			return signer, nil
		}
		if signer, err := ssh.ParsePrivateKey(s.PrivateKey); err == nil {
			return signer, nil // a passphrase for a key that needs none does no harm
		}
		return nil, errors.New("SSH.PrivateKey cannot be read with SSH.Passphrase: the passphrase is wrong, or it is no PEM or OpenSSH key")
	}
	signer, err := ssh.ParsePrivateKey(s.PrivateKey)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		return nil, errors.New("SSH.PrivateKey is encrypted: set its password in SSH.Passphrase")
	}
	if err != nil {
		return nil, errors.New("SSH.PrivateKey is not a PEM or OpenSSH private key")
	}
	return signer, nil
}

// credentials are the credentials of one operation.
func credentials(ctx context.Context, auth Auth, scheme string) (Auth, error) {
	f, ok := auth.(AuthFunc)
	if !ok {
		return auth, nil
	}
	auth, err := f(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: get credentials: %w", source.ErrUnauthorized, err)
	}
	if auth == nil {
		return nil, nil // nil is "nobody"
	}
	if _, ok := auth.(AuthFunc); ok {
		return nil, fmt.Errorf("%w: the AuthFunc returned another AuthFunc", source.ErrInvalidSpec)
	}
	if err := auth.check(scheme); err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	return auth, nil
}

// authorize adds credentials to a request. Empty ones add nothing: some forges
// refuse an empty header even where no credentials are needed.
func authorize(r *http.Request, auth Auth) {
	switch a := auth.(type) {
	case Basic:
		if a.Username != "" {
			r.SetBasicAuth(a.Username, a.Password)
		}
	case Token:
		if a != "" {
			r.Header.Set("Authorization", "Bearer "+string(a))
		}
	}
}
