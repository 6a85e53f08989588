package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gitopskit/gitopskit/source"
)

// httpConn is a conversation by Git's smart HTTP protocol.
type httpConn struct {
	client  *http.Client
	close   func()
	service string   // uploadPack or receivePack
	origin  *url.URL // where the credentials belong
	base    *url.URL // where the repository is, after redirects
	auth    Auth
	body    io.ReadCloser // the last answer
}

// maxRedirects is plenty for forges that move a repository or add ".git".
const maxRedirects = 5

// The services of a Git server.
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// mediaType is how a part of a conversation is labelled: "advertisement",
// "request" or "result".
func (c *httpConn) mediaType(part string) string { return "application/x-" + c.service + "-" + part }

func (c *httpConn) advertisement(ctx context.Context) (io.Reader, error) {
	const suffix = "/info/refs"
	at := *c.base
	at.Path, at.RawPath = strings.TrimSuffix(at.Path, "/")+suffix, ""
	at.RawQuery = "service=" + c.service
	for range maxRedirects + 1 {
		res, err := c.do(ctx, http.MethodGet, &at, nil) //nolint:bodyclose // see do
		if err != nil {
			return nil, err
		}
		if res.StatusCode/100 == 3 {
			next, err := redirect(&at, res)
			if err != nil {
				return nil, err
			}
			at = *next
			continue
		}
		if err := c.check(res, "advertisement"); err != nil {
			return nil, err
		}
		base := at
		var ok bool
		if base.Path, ok = strings.CutSuffix(at.Path, suffix); !ok {
			return nil, fmt.Errorf("%w: the server redirected to %s, which is not a repository", source.ErrUnavailable, redactURL(&at))
		}
		base.RawPath, base.RawQuery = "", ""
		c.base = &base
		return c.body, nil
	}
	return nil, fmt.Errorf("%w: more than %d redirects", source.ErrUnavailable, maxRedirects)
}

// request posts to where the advertisement came from. It follows no redirect:
// whoever answers it has already had its chance to send us elsewhere.
func (c *httpConn) request(ctx context.Context, body []byte) (io.Reader, error) {
	at := *c.base
	at.Path, at.RawPath = strings.TrimSuffix(at.Path, "/")+"/"+c.service, ""
	res, err := c.do(ctx, http.MethodPost, &at, body) //nolint:bodyclose // see do
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 3 {
		return nil, fmt.Errorf("%w: the server redirects a request that must not be redirected", source.ErrUnavailable)
	}
	if err := c.check(res, "result"); err != nil {
		return nil, err
	}
	return c.body, nil
}

// do sends one request; the answer's body is closed by the next one or by Close.
func (c *httpConn) do(ctx context.Context, method string, at *url.URL, body []byte) (*http.Response, error) {
	if c.body != nil {
		_, _ = io.CopyN(io.Discard, c.body, 4<<10) // the few bytes that let the connection be used again
	}
	c.closeBody()
	r, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	r.Header.Set("User-Agent", "git/"+agent) // some servers speak the smart protocol only with "git/..."
	if c.service == uploadPack {
		r.Header.Set("Git-Protocol", "version=2") // there is no such version of the other
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", c.mediaType("request"))
		r.Header.Set("Accept", c.mediaType("result"))
	}
	if at.Scheme == c.origin.Scheme && at.Host == c.origin.Host {
		authorize(r, c.auth)
	}
	res, err := c.client.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL
		}
		return nil, fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	c.body = res.Body
	return res, nil
}

// check turns the status and type of an answer into an error.
func (c *httpConn) check(res *http.Response, part string) error {
	var class error
	switch code := res.StatusCode; {
	case code == http.StatusOK:
		got, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
		if strings.TrimSpace(got) == c.mediaType(part) {
			return nil
		}
		if strings.HasPrefix(got, "text/plain") && part == "advertisement" {
			return fmt.Errorf("%w: the server offers only the dumb HTTP protocol, which is not supported", source.ErrUnavailable)
		}
		return fmt.Errorf("%w: the server answered with %q, so this is not the URL of a Git repository", source.ErrNotFound, printable([]byte(got)))
	case code == http.StatusUnauthorized && c.auth == nil:
		return fmt.Errorf("%w: the server wants credentials, or there is no such repository", source.ErrUnauthorized)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		class = source.ErrUnauthorized
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%w: no such repository, or these credentials may not see it (%s)", source.ErrNotFound, status(res))
	default:
		class = source.ErrUnavailable
	}
	err := fmt.Errorf("%w: the server answered %s", class, status(res))
	if after := retryAfter(res); after > 0 {
		return &delayedError{err, after}
	}
	return err
}

func status(res *http.Response) string {
	return strings.TrimSpace(strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode))
}

// delayedError carries a server's wish to be left alone.
type delayedError struct {
	error
	after time.Duration
}

func (e *delayedError) Unwrap() error { return e.error }

func retryAfter(res *http.Response) time.Duration {
	value := res.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 1<<20))*time.Second, 24*time.Hour)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, time.Until(at)), 24*time.Hour)
	}
	return 0
}

// redirect is where an answer sends us, if we may go there.
func redirect(from *url.URL, res *http.Response) (*url.URL, error) {
	to, err := from.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" {
		return nil, fmt.Errorf("%w: the server answered %s without a usable location", source.ErrUnavailable, status(res))
	}
	if to.Scheme != "https" && to.Scheme != from.Scheme || to.User != nil {
		return nil, fmt.Errorf("%w: refused to follow a redirect to %s", source.ErrUnavailable, redactURL(to))
	}
	return to, nil
}

// redactURL shows a URL of the server without anything secret.
func redactURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func (c *httpConn) closeBody() {
	if c.body != nil {
		_ = c.body.Close()
		c.body = nil
	}
}

func (c *httpConn) Close() error {
	c.closeBody()
	c.close()
	return nil
}
