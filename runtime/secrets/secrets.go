// Package secrets turns the Secrets of Kubernetes, in the forms that Flux knows, into standard types: users and
// passwords, TLS configurations, SSH keys, registry credentials, proxies, GitHub Apps, keys to decrypt, verify and sign
// with.
//
//	login, err := secrets.HTTP(secret.Data)           // user and password, or bearer token
//	config, err := secrets.TLS(certs.Data)            // *tls.Config
//	proxy, err := secrets.Proxy(proxySecret.Data)     // *url.URL
//	keychain, err := secrets.Keychain(pull.Data)      // authn.Keychain
//	app, err := secrets.GitHubApp(secret.Data)        // github.App
//	keys, err := secrets.Decryption(sops.Data)        // by suffix
//
// Every function takes the data of a Secret and reads only the entries that it names. Where several forms may be in one
// Secret, [Has] tells which are, and [Legacy] which of its names have newer ones.
//
// # Errors
//
// Every error is an *[Error] that names the entry. It matches [ErrMissing] or [ErrInvalid]. The content of an entry is
// never in it. No entry may be longer than 1 MiB, which is what a Secret can hold, and those that become headers, names
// or addresses not longer than their comments say.
//
// # Concurrency
//
// The functions keep no state and do not change the data. What they return is safe for concurrent use.
//
// # What it does not do
//
// It does not fetch Secrets, knows no cloud identities, and does not parse keys of SOPS, cosign, Notation and signers,
// but for their names: the packages that use them do.
package secrets

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrMissing: an entry is not there, or empty.
	ErrMissing = errors.New("missing")
	// ErrInvalid: an entry is not of its form.
	ErrInvalid = errors.New("invalid")
)

// Error says which entry of a Secret cannot be used.
type Error struct {
	// Entry is the key of the entry, or several with "or" between.
	Entry string
	// Err is the cause.
	Err error
}

func (e *Error) Error() string { return "secret: entry " + e.Entry + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Has reports whether all entries are there and not empty.
func Has(data map[string][]byte, entries ...string) bool {
	for _, e := range entries {
		if len(data[e]) == 0 {
			return false
		}
	}
	return true
}

// maxEntry bounds every entry, maxText those that become headers, names or addresses.
const (
	maxEntry = 1 << 20
	maxText  = 8 << 10
)

// entry returns an entry that must be there.
func entry(data map[string][]byte, name string) ([]byte, error) {
	if !Has(data, name) {
		return nil, &Error{name, ErrMissing}
	}
	if len(data[name]) > maxEntry {
		return nil, &Error{name, fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, maxEntry)}
	}
	return data[name], nil
}

// optional returns an entry that may be missing.
func optional(data map[string][]byte, name string) ([]byte, error) {
	if !Has(data, name) {
		return nil, nil
	}
	return entry(data, name)
}

// text returns an entry that is one line; "" if it may be missing and is.
func text(data map[string][]byte, name string, required bool) (string, error) {
	if !required && !Has(data, name) {
		return "", nil
	}
	content, err := entry(data, name)
	if err != nil {
		return "", err
	}
	s := string(content)
	switch {
	case len(s) > maxText:
		return "", &Error{name, fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, maxText)}
	case strings.TrimRight(s, "\r\n") != s:
		return "", &Error{name, fmt.Errorf("%w: it ends with a line break: make it without, as with printf or echo -n", ErrInvalid)}
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", &Error{name, fmt.Errorf("%w: it has control characters", ErrInvalid)}
	}
	return s, nil
}

// texts returns several entries that are one line each; those with a question mark may be missing.
func texts(data map[string][]byte, names ...string) ([]string, error) {
	out := make([]string, len(names))
	for i, name := range names {
		name, may := strings.CutSuffix(name, "?")
		var err error
		if out[i], err = text(data, name, !may); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pick returns the first name, unless only the second is there.
func pick(data map[string][]byte, name, older string) string {
	if !Has(data, name) && Has(data, older) {
		return older
	}
	return name
}

// Legacy returns those names in a Secret that still work and have newer ones: the new name by the old one.
func Legacy(data map[string][]byte) map[string]string {
	out := map[string]string{}
	for old, name := range map[string]string{"caFile": "ca.crt", "certFile": "tls.crt", "keyFile": "tls.key", ".dockercfg": ".dockerconfigjson"} {
		if Has(data, old) {
			out[old] = name
		}
	}
	return out
}
