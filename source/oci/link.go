package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gitopskit/gitopskit/source"
)

// link sends requests below everything that knows of registries and their
// credentials: it keeps to https, counts what arrives, and notes how long the
// server wants to be left alone.
type link struct {
	base      http.RoundTripper
	closeIdle func()
	insecure  bool
}

// link checks the client and makes its link.
func (c *Client) link() (link, error) {
	base, closeIdle, err := c.Open()
	return link{base: base, closeIdle: closeIdle, insecure: c.Insecure}, err
}

// Open checks the client and returns what sends its requests, without
// credentials, and a function that closes the connections that nobody uses,
// for those who ask a server in other ways than a Repository does. It makes no
// connection.
func (c *Client) Open() (rt http.RoundTripper, closeIdle func(), err error) {
	if c.Transport != nil {
		if c.TLS != nil || c.CAs != nil || c.Dial != nil || c.Proxy != nil {
			return nil, nil, errors.New("Transport excludes TLS, CAs, Proxy and Dial: configure the transport itself")
		}
		return c.Transport, func() {}, nil
	}
	conf := c.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	if conf.ClientSessionCache == nil {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4) // polls resume; connections are not kept
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
			return nil, nil, errors.New("CAs holds no certificate in PEM")
		}
	}
	own := &http.Transport{
		DialContext:            c.Dial,
		Proxy:                  c.Proxy,
		TLSClientConfig:        conf,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout:    30 * time.Second,
	}
	return own, own.CloseIdleConnections, nil
}

// RoundTrip implements http.RoundTripper.
func (l link) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !l.insecure {
		return nil, fmt.Errorf("%w: %s does not answer by https, and plain HTTP was not allowed: set Client.Insecure for it", source.ErrUnavailable, r.URL.Host)
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

// meter is what one operation costs.
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
		return 0, fmt.Errorf("%w: the registry sent more than Limits.Download", source.ErrLimit)
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

// answered gives an error of the network, or of a registry, its class. What a
// registry says about itself is shown in short.
func answered(err error) error {
	if err == nil || classOf(err) != nil {
		return err
	}
	return status(err)
}

// failure makes the error of an operation: it has one of source's classes, or
// is the end of the context.
func failure(ctx context.Context, op, on string, after time.Duration, err error) error {
	e := &source.Error{Op: op, Source: on, Err: err, After: after}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = cause
		if errors.Is(cause, context.DeadlineExceeded) {
			e.Err = fmt.Errorf("the registry did not answer in time: %w", cause)
		}
		return e
	}
	if classOf(err) == nil {
		e.Err = fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	return e
}

// classOf is the class of an error that has one.
func classOf(err error) error {
	for _, class := range []error{
		source.ErrLimit, source.ErrUnverified, source.ErrUnsafePath, source.ErrInvalidSpec,
		source.ErrUnauthorized, source.ErrNotFound, source.ErrUnavailable,
	} {
		if errors.Is(err, class) {
			return class
		}
	}
	return nil
}
