// Package secrets turns the Secrets of Kubernetes, in the forms that Flux
// knows, into standard types: users and passwords, TLS configurations, SSH
// keys, registry credentials.
//
//	user, password, err := secrets.BasicAuth(secret.Data)
//	config, err := secrets.TLS(secret.Data)
//	keychain, err := secrets.Keychain(secret.Data)
//
// Every function takes the data of a Secret and reads only the entries that it
// names. Where several forms may be in one Secret, [Has] tells which are.
//
// # Errors
//
// Every error is an *[Error] that names the entry. It matches [ErrMissing] or
// [ErrInvalid]. The content of an entry is never in it.
//
// # Concurrency
//
// The functions keep no state and do not change the data. What they return is
// safe for concurrent use.
//
// # What it does not do
//
// It does not fetch Secrets, and knows no cloud identities.
package secrets

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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

// BasicAuth returns the entries username and password, both required.
func BasicAuth(data map[string][]byte) (username, password string, err error) {
	for _, e := range []string{"username", "password"} {
		if !Has(data, e) {
			return "", "", &Error{e, ErrMissing}
		}
	}
	return string(data["username"]), string(data["password"]), nil
}

// Bearer returns the entry bearerToken.
func Bearer(data map[string][]byte) (string, error) {
	if !Has(data, "bearerToken") {
		return "", &Error{"bearerToken", ErrMissing}
	}
	return string(data["bearerToken"]), nil
}

// AccessKey returns the entries accesskey and secretkey of a bucket, and
// sessiontoken, which may be missing.
func AccessKey(data map[string][]byte) (id, secret, session string, err error) {
	for _, e := range []string{"accesskey", "secretkey"} {
		if !Has(data, e) {
			return "", "", "", &Error{e, ErrMissing}
		}
	}
	return string(data["accesskey"]), string(data["secretkey"]), string(data["sessiontoken"]), nil
}

// TLS returns the configuration of a client from the entries ca.crt, tls.crt
// and tls.key, or their older names caFile, certFile and keyFile: the
// authorities to trust instead of those of the system, and a certificate to
// show. Each part may be missing, but a certificate needs its key. Nil means
// that there is neither.
func TLS(data map[string][]byte) (*tls.Config, error) {
	ca, cert, key := pick(data, "ca.crt", "caFile"), pick(data, "tls.crt", "certFile"), pick(data, "tls.key", "keyFile")
	if len(data[ca])+len(data[cert])+len(data[key]) == 0 {
		return nil, nil //nolint:nilnil // documented: nothing is configured
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if Has(data, ca) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(data[ca]) {
			return nil, &Error{ca, fmt.Errorf("%w: it holds no certificate in PEM form", ErrInvalid)}
		}
		config.RootCAs = pool
	}
	switch {
	case Has(data, cert) && !Has(data, key):
		return nil, &Error{key, fmt.Errorf("%w: %s needs it", ErrMissing, cert)}
	case Has(data, key) && !Has(data, cert):
		return nil, &Error{cert, fmt.Errorf("%w: %s needs it", ErrMissing, key)}
	case Has(data, cert):
		pair, err := tls.X509KeyPair(data[cert], data[key])
		if err != nil {
			return nil, &Error{cert + " and " + key, fmt.Errorf("%w: they are no pair of certificate and key in PEM form", ErrInvalid)}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// pick returns the first name, unless only the second is there.
func pick(data map[string][]byte, name, older string) string {
	if !Has(data, name) && Has(data, older) {
		return older
	}
	return name
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

// SSH returns the entries identity and known_hosts, both required, and
// password, the passphrase of the identity.
func SSH(data map[string][]byte) (*SSHKey, error) {
	for _, e := range []string{"identity", "known_hosts"} {
		if !Has(data, e) {
			return nil, &Error{e, ErrMissing}
		}
	}
	return &SSHKey{Identity: data["identity"], Passphrase: string(data["password"]), KnownHosts: data["known_hosts"]}, nil
}

// Kubeconfig returns the entry of a kubeconfig: that of the given key, or value, or value.yaml, if the key is empty. It
// is for package tenancy to say whether it may be used.
func Kubeconfig(data map[string][]byte, key string) ([]byte, error) {
	if key == "" {
		key = pick(data, "value", "value.yaml")
	}
	if !Has(data, key) {
		return nil, &Error{key, ErrMissing}
	}
	return data[key], nil
}
