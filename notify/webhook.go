package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

// WebhookOptions configure a [Webhook]; nil means the defaults.
type WebhookOptions struct {
	// Headers are added to every request, for instance Authorization. They are treated as secrets. The headers
	// the webhook itself sets cannot be given.
	Headers map[string]string
	// Transport makes the requests: share it between webhooks, or give it a proxy, certificates, or a rule on
	// where it may connect. nil means a transport of its own without a proxy, which Close releases.
	Transport http.RoundTripper
	// Timeout bounds a request, the reading of its answer included; 0 means 15 seconds.
	Timeout time.Duration
}

// Webhook is a [Sender] that posts events as JSON, as Flux's providers generic and generic-hmac do: the body is the
// event, the header Gotk-Component its reporting controller, and the header X-Signature, if there is a key, is
// "sha256=" and the hexadecimal HMAC-SHA-256 of the body. It is made by [NewWebhook] or [NewSignedWebhook].
//
// An answer 2xx is a success; 408, 425, 429, 5xx, and connections that fail are worth a retry, after Retry-After if
// the answer has it; any other answer is terminal. A redirect is followed only if it repeats the POST (307, 308) on the
// same scheme, host and port. Of an answer at most 64 KiB are read, and nothing of it is shown.
type Webhook struct {
	url     string
	host    string // scheme and host, what errors show
	headers map[string]string
	key     []byte
	secrets []string
	timeout time.Duration
	client  *http.Client
	own     *http.Transport // nil if it is shared
}

var _ Sender = (*Webhook)(nil)

const (
	defaultTimeout = 15 * time.Second
	maxAnswer      = 64 << 10       // read, so that the connection can be used again
	maxRetryAfter  = 24 * time.Hour // more is not believed
	headerSender   = "Gotk-Component"
	headerSign     = "X-Signature"
)

// NewWebhook returns a webhook without a signature. The error is a [*SendError] that lists all problems with the
// arguments; no connection is made.
func NewWebhook(address string, o *WebhookOptions) (*Webhook, error) {
	return newWebhook(address, nil, false, o)
}

// NewSignedWebhook returns a webhook that signs with the key, which must not be empty. The error is as for
// [NewWebhook].
func NewSignedWebhook(address string, key []byte, o *WebhookOptions) (*Webhook, error) {
	return newWebhook(address, key, true, o)
}

func newWebhook(address string, key []byte, signed bool, o *WebhookOptions) (*Webhook, error) {
	if o == nil {
		o = &WebhookOptions{}
	}
	u, host, errs := parseAddress(address)
	if signed && len(key) == 0 {
		errs = append(errs, errors.New("the HMAC key is empty: give a key, or use NewWebhook for no signature"))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("Timeout is %v, want 0 or more", o.Timeout))
	}
	errs = append(errs, checkHeaders(o.Headers)...)
	if len(errs) > 0 {
		return nil, &SendError{Op: "new webhook", Destination: host, Err: errors.Join(errs...), permanent: true}
	}
	w := &Webhook{
		url: address, host: host, headers: maps.Clone(o.Headers), key: bytes.Clone(key), timeout: o.Timeout,
	}
	if w.timeout == 0 {
		w.timeout = defaultTimeout
	}
	transport := o.Transport
	if transport == nil {
		w.own = &http.Transport{
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 256 << 10,
		}
		transport = w.own
	}
	w.client = &http.Client{Transport: transport, CheckRedirect: sameServer}
	w.secrets = secretsOf(u, w.headers, w.key)
	return w, nil
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
func checkHeaders(headers map[string]string) []error {
	own := []string{"Content-Type", "Content-Length", "Transfer-Encoding", "Host", headerSender, headerSign}
	var errs []error
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case name == "" || strings.Trim(name, tokenChars) != "":
			errs = append(errs, fmt.Errorf("header name %q is not a token", name))
		case slices.Contains(own, canonical):
			errs = append(errs, fmt.Errorf("header %s is set by the webhook: remove it", canonical))
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

// String names the webhook without anything secret.
func (w *Webhook) String() string { return "webhook " + w.host }

// GoString is String, so that %#v shows no secrets either.
func (w *Webhook) GoString() string { return w.String() }

// Close releases idle connections; the webhook can still be used. It does nothing to a Transport given in the
// options. The error is always nil.
func (w *Webhook) Close() error {
	if w.own != nil {
		w.own.CloseIdleConnections()
	}
	return nil
}

// Send posts the event. The error is a [*SendError].
func (w *Webhook) Send(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return w.fail(err, true)
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	req, err := w.request(ctx, e, body)
	if err != nil {
		return w.fail(err, true)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return w.fail(err, false)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
		_ = resp.Body.Close()
	}()
	return w.judge(resp)
}

func (w *Webhook) request(ctx context.Context, e Event, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range w.headers {
		req.Header.Set(name, value)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "gitopskit")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(headerSender, headerValue(e.ReportingController))
	if len(w.key) > 0 {
		mac := hmac.New(sha256.New, w.key)
		mac.Write(body)
		req.Header.Set(headerSign, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return req, nil
}

// headerValue leaves out what no header may hold.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return -1
		}
		return r
	}, s)
}

// judge makes an error of an answer that is not a success.
func (w *Webhook) judge(resp *http.Response) error {
	status := resp.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	err := &SendError{
		Op: "send", Destination: w.host, Status: status, permanent: !retriable(status),
		Err: fmt.Errorf("answer %d %s", status, http.StatusText(status)),
	}
	if status >= 300 && status < 400 {
		err.Err = fmt.Errorf("answer %d %s redirects elsewhere, which is not followed: use the final address", status,
			http.StatusText(status))
	}
	if !err.permanent {
		err.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
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

// fail makes an error without secrets of one of the HTTP client.
func (w *Webhook) fail(err error, permanent bool) error {
	if ue, ok := errors.AsType[*url.Error](err); ok { // its text has the address in it
		err = ue.Err
	}
	return &SendError{Op: "send", Destination: w.host, Err: redact(err, w.secrets), permanent: permanent}
}
