package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HTTPOptions configure a [Sender] that speaks HTTP; nil means the defaults.
type HTTPOptions struct {
	// Headers are added to every request. They are treated as secrets. The headers the sender itself sets cannot be
	// given.
	Headers map[string]string
	// Transport makes the requests: share it between senders, or give it a rule on where it may connect. nil means
	// a transport of its own, which Close releases.
	Transport http.RoundTripper
	// Proxy is the http, https or socks5 proxy of the sender's own transport, credentials in it included; nil means
	// none. It cannot be given together with Transport.
	Proxy *url.URL
	// TLS holds the authorities and certificates of the sender's own transport; nil means those of the system. It
	// cannot be given together with Transport.
	TLS *tls.Config
	// Timeout bounds a request, the reading of its answer included; 0 means 15 seconds.
	Timeout time.Duration
}

const (
	defaultTimeout = 15 * time.Second
	maxAnswer      = 64 << 10       // read, so that the connection can be used again
	maxRetryAfter  = 24 * time.Hour // more is not believed
)

// endpoint is a server that a sender talks to.
type endpoint struct {
	kind    string // what errors call the sender
	url     *url.URL
	host    string // scheme and host, what errors show
	headers map[string]string
	secrets []string
	timeout time.Duration
	client  *http.Client
	own     *http.Transport // nil if it is shared
}

// newEndpoint returns the endpoint of an address, for a sender that sets the headers own, and has secrets that no
// error may show. The problems are those that the sender has found before; the error lists them too.
func newEndpoint(kind, address string, o HTTPOptions, own, secrets []string, problems ...error) (*endpoint, error) {
	u, host, errs := parseAddress(address)
	errs = append(errs, problems...)
	errs = append(errs, o.check(own)...)
	if errors.Join(errs...) != nil {
		return nil, &SendError{Op: "new " + kind, Destination: host, Err: errors.Join(errs...), permanent: true}
	}
	p := &endpoint{kind: kind, url: u, host: host, headers: maps.Clone(o.Headers), timeout: o.Timeout}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	transport := o.Transport
	if transport == nil {
		p.own = &http.Transport{
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 256 << 10,
		}
		if o.TLS != nil {
			p.own.TLSClientConfig = o.TLS.Clone()
		}
		if o.Proxy != nil {
			p.own.Proxy = http.ProxyURL(o.Proxy)
			secrets = append(secrets, userinfo(o.Proxy)...)
		}
		transport = p.own
	}
	p.client = &http.Client{Transport: transport, CheckRedirect: sameServer}
	p.secrets = secretsOf(u, p.headers, secrets)
	return p, nil
}

// check returns everything wrong with the options of a sender that sets the headers own.
func (o HTTPOptions) check(own []string) []error {
	var errs []error
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("Timeout is %v, want 0 or more", o.Timeout))
	}
	if o.Transport != nil && (o.Proxy != nil || o.TLS != nil) {
		errs = append(errs, errors.New("Proxy and TLS configure the sender's own transport: give them to the Transport instead"))
	}
	if o.Proxy != nil && (o.Proxy.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, o.Proxy.Scheme)) {
		errs = append(errs, errors.New("Proxy is no URL of a proxy: want http://host:port, https:// or socks5://"))
	}
	return append(errs, checkHeaders(o.Headers, own)...)
}

// parseAddress returns the address, what may be shown of it, and everything wrong with it.
func parseAddress(address string) (*url.URL, string, []error) {
	const hint = "want an absolute URL as https://host/path"
	u, err := url.Parse(address)
	if err != nil { // its text has the address in it
		return nil, "(unreadable address)", []error{errors.New("the address is not a URL: " + hint)}
	}
	shown := u.Scheme + "://" + u.Host
	if u.Scheme != "https" && u.Scheme != "http" {
		return u, "(address without http scheme)", []error{errors.New("the address has no scheme http or https: " + hint)}
	}
	var errs []error
	if u.Hostname() == "" {
		errs = append(errs, errors.New("the address has no host: "+hint))
	}
	if u.Fragment != "" {
		errs = append(errs, errors.New("the address has a fragment, which is never sent: remove it"))
	}
	return u, shown, errs
}

// checkHeaders returns everything wrong with the headers; values are not shown.
func checkHeaders(headers map[string]string, own []string) []error {
	own = append([]string{"Content-Type", "Content-Length", "Transfer-Encoding", "Host"}, own...)
	var errs []error
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case name == "" || strings.Trim(name, tokenChars) != "":
			errs = append(errs, fmt.Errorf("header name %q is not a token", name))
		case slices.Contains(own, canonical):
			errs = append(errs, fmt.Errorf("header %s is set by the sender: remove it", canonical))
		case seen[canonical]:
			errs = append(errs, fmt.Errorf("header %s is given twice", canonical))
		}
		seen[canonical] = true
		if strings.ContainsFunc(headers[name], isControl) {
			errs = append(errs, fmt.Errorf("the value of header %q has a control character", name))
		}
	}
	return errs
}

const tokenChars = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// sameServer follows a redirect only if it repeats the request on the same server.
func sameServer(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > 5 || next.Method != first.Method || next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// String names the sender without anything secret.
func (p *endpoint) String() string { return p.kind + " " + p.host }

// GoString is String, so that %#v shows no secrets either.
func (p *endpoint) GoString() string { return p.String() }

// Close releases idle connections; the sender can still be used. It does nothing to a Transport given in the options.
// The error is always nil.
func (p *endpoint) Close() error {
	if p.own != nil {
		p.own.CloseIdleConnections()
	}
	return nil
}

// call is one request to an endpoint.
type call struct {
	method string
	url    *url.URL
	header map[string]string
	body   []byte
}

// do makes a request and returns the start of the answer's body, at most limit bytes of it, and at most 64 KiB are
// read beyond. The error is a *SendError without secrets.
func (p *endpoint) do(ctx context.Context, c call, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, c.url.String(), bytes.NewReader(c.body))
	if err != nil {
		return nil, p.fail(err, true)
	}
	for name, value := range p.headers {
		req.Header.Set(name, value)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "gitopskit")
	}
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, p.fail(err, false)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
		_ = resp.Body.Close()
	}()
	if err := p.judge(resp); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return nil, p.fail(err, false)
	}
	return answer, nil
}

// post posts a body to the address of the endpoint.
func (p *endpoint) post(ctx context.Context, header map[string]string, body []byte) ([]byte, error) {
	return p.do(ctx, call{method: http.MethodPost, url: p.url, header: header, body: body}, maxAnswer)
}

// judge makes an error of an answer that is not a success.
func (p *endpoint) judge(resp *http.Response) error {
	status := resp.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	pause := patience(resp.Header, time.Now())
	err := &SendError{
		Op: "send", Destination: p.host, Status: status, Err: fmt.Errorf("answer %d %s", status, http.StatusText(status)),
		permanent: !retriable(status) && !(status == http.StatusForbidden && pause > 0), // GitHub's way of saying 429
	}
	switch {
	case !err.permanent:
		err.retryAfter = pause
	case status >= 300 && status < 400:
		err.Err = fmt.Errorf("%w redirects elsewhere, which is not followed: use the final address", err.Err)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		err.Err = fmt.Errorf("%w: check the credentials", err.Err)
	case status == http.StatusNotFound || status == http.StatusGone:
		err.Err = fmt.Errorf("%w: check the address", err.Err)
	}
	return err
}

// retriable reports whether an answer with this status may be another one later.
func retriable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// patience returns how long an answer asks to wait: by Retry-After, or by the headers of GitHub and Gitea that say
// until when no request is left; 0 if it does not.
func patience(header http.Header, now time.Time) time.Duration {
	if after := parseRetryAfter(header.Get("Retry-After"), now); after > 0 {
		return after
	}
	if header.Get("X-Ratelimit-Remaining") != "0" {
		return 0
	}
	reset, err := strconv.ParseInt(header.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil || reset <= now.Unix() {
		return 0
	}
	return time.Duration(min(reset-now.Unix(), int64(maxRetryAfter/time.Second))) * time.Second
}

// parseRetryAfter reads seconds or an HTTP date; what it cannot read, or is over, is 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// fail makes an error without secrets.
func (p *endpoint) fail(err error, permanent bool) error {
	if ue, ok := errors.AsType[*url.Error](err); ok { // its text has the address in it
		err = ue.Err
	}
	return &SendError{Op: "send", Destination: p.host, Err: redact(err, p.secrets), permanent: permanent}
}
