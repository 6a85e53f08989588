package secrets

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// TLSOptions are choices about what entries mean. Nil means the defaults.
type TLSOptions struct {
	// SystemRoots trusts the authorities of the system besides those of the Secret, as Flux does; otherwise those of
	// the Secret are all that is trusted.
	SystemRoots bool
	// ServerName is the name that the certificate of the server must have, if it is not that of the host.
	ServerName string
}

// TLS is [TLSWith] without options.
func TLS(data map[string][]byte) (*tls.Config, error) { return TLSWith(data, nil) }

// TLSWith returns the configuration of a client from the entries ca.crt, tls.crt and tls.key, or their older names
// caFile, certFile and keyFile: the authorities to trust, and a certificate to show. Each part may be missing, but a
// certificate needs its key. Nil means that there is neither. For a certificate that only one host may see, see
// [HostTransport].
func TLSWith(data map[string][]byte, opts *TLSOptions) (*tls.Config, error) {
	if opts == nil {
		opts = &TLSOptions{}
	}
	ca, cert, key := pick(data, "ca.crt", "caFile"), pick(data, "tls.crt", "certFile"), pick(data, "tls.key", "keyFile")
	if len(data[ca])+len(data[cert])+len(data[key]) == 0 {
		return nil, nil //nolint:nilnil // documented: nothing is configured
	}
	for _, name := range []string{ca, cert, key} {
		if _, err := optional(data, name); err != nil {
			return nil, err
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: opts.ServerName}
	if Has(data, ca) {
		pool, err := roots(opts.SystemRoots)
		if err != nil {
			return nil, &Error{ca, err}
		}
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

// roots is the beginning of a pool.
func roots(system bool) (*x509.CertPool, error) {
	if !system {
		return x509.NewCertPool(), nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the authorities of the system: %w", err)
	}
	return pool, nil
}

// HostTransport sends requests to one host over a transport of its own, for instance one with a client certificate and
// an authority that nobody else should see or be trusted by, and all others, such as those after a redirect, over
// another. Set its fields before the first use.
type HostTransport struct {
	// Host is the host, with its port unless that is the usual one: "example.com", "example.com:8443".
	Host string
	// Bound sends the requests to it. Required.
	Bound http.RoundTripper
	// Other sends all others; nil is http.DefaultTransport.
	Other http.RoundTripper
}

// RoundTrip sends a request. Only HTTPS is sent over Bound.
func (t *HostTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" && withPort(r.URL) == withPort(&url.URL{Scheme: "https", Host: t.Host}) {
		return t.Bound.RoundTrip(r)
	}
	if t.Other == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return t.Other.RoundTrip(r)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *HostTransport) CloseIdleConnections() {
	for _, rt := range []http.RoundTripper{t.Bound, t.Other} {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// withPort is a host in one form.
func withPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") + ":" + port
}
