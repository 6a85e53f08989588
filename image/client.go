package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Client is how a registry is reached. The zero value is an anonymous client
// of https.
type Client struct {
	// Keychain has the credentials of registries. Nil means none; no
	// configuration of other programs is read. They are sent to the host of
	// the repository and to the token server that it names, nowhere else.
	Keychain authn.Keychain
	// CAs are certificates in PEM that are trusted besides the system's.
	CAs []byte
	// TLS is the configuration of https; its client certificates make mutual
	// TLS. It is copied. Nil means the default.
	TLS *tls.Config
	// Transport sends requests in place of one of our own; its proxies,
	// certificates and idle connections are the caller's. It excludes CAs, TLS
	// and Dial. Nil means direct connections; no environment variable is read.
	Transport http.RoundTripper
	// Dial makes network connections, for proxies and address filters. Nil
	// means a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Insecure allows plain HTTP, credentials included, for a registry that
	// does not answer by https. Certificates are always verified.
	Insecure bool
	// Timeout bounds each call. Zero means one minute; negative means that
	// only the context does.
	Timeout time.Duration
}

// defaultTimeout bounds a call when Client.Timeout is zero.
const defaultTimeout = time.Minute

func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	switch {
	case c.Timeout < 0:
		return context.WithCancel(ctx)
	case c.Timeout == 0:
		return context.WithTimeout(ctx, defaultTimeout)
	}
	return context.WithTimeout(ctx, c.Timeout)
}

// link sends requests below everything that knows of registries and their
// credentials: it keeps to https, counts what arrives, and notes how long the
// server wants to be left alone.
type link struct {
	base      http.RoundTripper
	closeIdle func()
	insecure  bool
}

// link checks the client and makes its link, without a connection.
func (c *Client) link() (link, error) {
	if c.Transport != nil {
		if c.TLS != nil || c.CAs != nil || c.Dial != nil {
			return link{}, errors.New("Transport excludes TLS, CAs and Dial: configure the transport itself")
		}
		return link{base: c.Transport, closeIdle: func() {}, insecure: c.Insecure}, nil
	}
	conf := c.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	if conf.ClientSessionCache == nil {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4) // scans resume; connections are not kept
	}
	if c.CAs != nil {
		if conf.RootCAs != nil {
			conf.RootCAs = conf.RootCAs.Clone()
		} else if pool, err := x509.SystemCertPool(); err == nil {
			conf.RootCAs = pool
		} else {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(c.CAs) {
			return link{}, errors.New("CAs holds no certificate in PEM")
		}
	}
	own := &http.Transport{
		DialContext:            c.Dial,
		TLSClientConfig:        conf,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout:    30 * time.Second,
	}
	return link{base: own, closeIdle: own.CloseIdleConnections, insecure: c.Insecure}, nil
}

// RoundTrip implements http.RoundTripper.
func (l link) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !l.insecure {
		return nil, fmt.Errorf("%w: %s does not answer by https, and plain HTTP was not allowed: set Client.Insecure for it", ErrUnavailable, r.URL.Host)
	}
	res, err := l.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if m, ok := r.Context().Value(meterKey{}).(*meter); ok {
		if after := retryAfter(res); after > 0 {
			m.after.Store(int64(after))
		}
		res.Body = &meteredBody{res.Body, m}
	}
	return res, nil
}

// meter is what one call costs.
type meter struct {
	left  atomic.Int64 // bytes
	after atomic.Int64 // nanoseconds
}

type meterKey struct{}

type meteredBody struct {
	io.ReadCloser
	m *meter
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.m.left.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("%w: the registry sent more than Limits.Download", ErrLimit)
	}
	return n, err
}

func retryAfter(res *http.Response) time.Duration {
	value := res.Header.Get("Retry-After")
	if res.StatusCode < 400 || value == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 1<<20))*time.Second, 24*time.Hour)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, time.Until(at)), 24*time.Hour)
	}
	return 0
}

// conn is one client of one registry that knows how to authorize itself.
type conn struct {
	repo   name.Repository
	client *http.Client
}

// dial asks the registry how it wants to be asked.
func dial(ctx context.Context, l link, repo name.Repository, keys authn.Keychain) (*conn, error) {
	auth := authn.Anonymous
	if keys != nil {
		var err error
		if auth, err = authn.Resolve(ctx, keys, repo); err != nil {
			return nil, fmt.Errorf("%w: get credentials: %w", ErrUnauthorized, err)
		}
	}
	rt, err := transport.NewWithContext(ctx, repo.Registry, auth, l, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, classified(err)
	}
	return &conn{repo: repo, client: &http.Client{Transport: rt, CheckRedirect: checkRedirect}}, nil
}

// maxRedirects is plenty for registries behind another name.
const maxRedirects = 5

func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d redirects", ErrUnavailable, maxRedirects)
	case r.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https", r.URL.User != nil:
		return fmt.Errorf("%w: refused to follow a redirect to %s://%s", ErrUnavailable, r.URL.Scheme, r.URL.Host)
	}
	return nil
}

// at is the URL of something below the repository.
func (c *conn) at(path, query string) *url.URL {
	return &url.URL{Scheme: c.repo.Scheme(), Host: c.repo.RegistryStr(), Path: "/v2/" + c.repo.RepositoryStr() + "/" + path, RawQuery: query}
}

// ask sends one request. The caller closes the body.
func (c *conn) ask(ctx context.Context, method string, at *url.URL, accept ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(accept) > 0 {
		r.Header.Set("Accept", strings.Join(accept, ","))
	}
	res, err := c.client.Do(r)
	if err != nil {
		return nil, classified(err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, classified(transport.CheckError(res, http.StatusOK))
	}
	return res, nil
}
