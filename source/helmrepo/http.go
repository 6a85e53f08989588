package helmrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gitopskit/gitopskit/source"
)

// maxRedirects is plenty for repositories that keep archives elsewhere.
const maxRedirects = 5

// defaultTimeout bounds an operation when Client.Timeout is zero.
const defaultTimeout = time.Minute

// operation bounds f in time and makes its error one of package source.
func (r *Repository) operation(ctx context.Context, op, on string, f func(context.Context) error) error {
	cancel := context.CancelFunc(func() {})
	switch timeout := r.opts.Timeout; {
	case timeout == 0:
		ctx, cancel = context.WithTimeout(ctx, defaultTimeout)
	case timeout > 0:
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	defer r.closeIdle()
	err := ctx.Err()
	if err == nil {
		err = f(ctx)
	}
	if err == nil {
		return nil
	}
	e := &source.Error{Op: op, Source: on, Err: err}
	var typed *source.Error
	var delayed *delayedError
	if errors.As(err, &typed) {
		e.Err, e.After = typed.Err, typed.After // said once
	}
	if errors.As(err, &delayed) {
		e.After = delayed.after
	}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = cause
		if errors.Is(cause, context.DeadlineExceeded) {
			e.Err = fmt.Errorf("the server did not answer in time: %w", cause)
		}
	} else if !classified(err) {
		e.Err = fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	return e
}

func classified(err error) bool {
	for _, class := range []error{
		source.ErrNotFound, source.ErrUnauthorized, source.ErrInvalidSpec, source.ErrUnverified,
		source.ErrLimit, source.ErrUnsafePath, source.ErrUnavailable,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// get asks for a URL and follows redirects. The answer is 200 or, if the header
// has conditions, 304. The caller closes its body.
func (r *Repository) get(ctx context.Context, first *url.URL, header http.Header) (*http.Response, error) {
	client := &http.Client{
		Transport:     r.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	at := first
	for range maxRedirects + 1 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("%w: the URL of a redirect is malformed", source.ErrUnavailable)
		}
		for key, values := range header {
			req.Header[key] = values
		}
		if r.opts.Username != "" && (sameOrigin(at, r.url) || r.opts.PassCredentials && sameOrigin(at, first)) {
			req.SetBasicAuth(r.opts.Username, r.opts.Password)
		}
		res, err := client.Do(req)
		if err != nil {
			var wrapped *url.Error
			if errors.As(err, &wrapped) {
				err = wrapped.Err // without the URL
			}
			return nil, fmt.Errorf("%w: %w", source.ErrUnavailable, err)
		}
		switch {
		case res.StatusCode == http.StatusOK, res.StatusCode == http.StatusNotModified && conditional(header):
			return res, nil
		case res.StatusCode/100 != 3, res.StatusCode == http.StatusNotModified:
			_ = res.Body.Close()
			return nil, refusal(res, at)
		}
		_ = res.Body.Close()
		if at, err = redirected(at, res); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: more than %d redirects", source.ErrUnavailable, maxRedirects)
}

func conditional(header http.Header) bool {
	return header.Get("If-None-Match") != "" || header.Get("If-Modified-Since") != ""
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

func redirected(from *url.URL, res *http.Response) (*url.URL, error) {
	to, err := from.Parse(res.Header.Get("Location"))
	if err != nil || res.Header.Get("Location") == "" {
		return nil, fmt.Errorf("%w: the server answered %d without a usable location", source.ErrUnavailable, res.StatusCode)
	}
	if to.Scheme != "https" && to.Scheme != from.Scheme || to.User != nil {
		return nil, fmt.Errorf("%w: refused to follow a redirect to %s", source.ErrUnavailable, redact(to.String()))
	}
	return to, nil
}

// refusal turns the status of an answer into an error.
func refusal(res *http.Response, at *url.URL) error {
	class := source.ErrUnavailable
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		class = source.ErrUnauthorized
	case http.StatusNotFound, http.StatusGone:
		class = source.ErrNotFound
	}
	err := fmt.Errorf("%w: %s: the server answered %d %s", class, redact(at.String()), res.StatusCode, http.StatusText(res.StatusCode))
	if after := retryAfter(res); after > 0 {
		return &delayedError{err, after}
	}
	return err
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

// bounded fails, instead of ending, after a number of bytes.
type bounded struct {
	r    io.Reader
	left int64
	what string
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: %s", source.ErrLimit, b.what)
	}
	return n, err
}
