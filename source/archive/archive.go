// Package archive downloads artifacts: archives at an HTTP address with a known
// digest, such as those that package store and the controllers of Flux serve.
//
//	c := &archive.Client{}
//	a, err := c.Fetch(ctx, obj.Status.Artifact.URL, digest.Digest(obj.Status.Artifact.Digest))
//	if err != nil {
//		return err
//	}
//	defer a.Close()
//	data, err := fs.ReadFile(a, "kustomization.yaml")
//
// Nothing is handed out before all of it was compared with the digest. What
// may pass by itself, a server that is away or overloaded, is tried again; the
// context says for how long.
//
// # Errors
//
// Errors are *source.Error: ErrInvalidSpec for an address or a digest that can
// never work, ErrNotFound, ErrUnauthorized, ErrUnverified for another content
// than the digest's, ErrLimit and ErrUnsafePath as in source.ReadArchive, and
// ErrUnavailable after the last attempt.
//
// # Concurrency
//
// A Client is safe for concurrent use while its fields do not change.
//
// The package sends no credentials and does not cache.
package archive

import (
	"bytes"
	"context"
	_ "crypto/sha512" // for digests of that kind
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Client downloads artifacts. The zero value is ready for use.
type Client struct {
	// Transport sends the requests. Nil means direct connections that end with
	// each call; no environment variable is read.
	Transport http.RoundTripper
	// Limits bound what is received. The zero value is the defaults.
	Limits source.Limits
	// Attempts is how often a request is made at most. Zero means 5.
	Attempts int
	// Pause is the time before the second attempt, which doubles for each one
	// after it, to half a minute at most; a server may ask for more. Zero means
	// one second.
	Pause time.Duration
	// Timeout bounds each attempt. Zero means one minute; negative means that
	// only the context does.
	Timeout time.Duration
}

// Fetch downloads an archive with gzip compression and returns its files; the
// revision of the artifact is the digest.
func (c *Client) Fetch(ctx context.Context, rawURL string, want digest.Digest) (*source.Artifact, error) {
	var a *source.Artifact
	err := c.get(ctx, rawURL, want, func(ctx context.Context, r io.Reader) (err error) {
		a, err = source.ReadArchive(ctx, source.Revision{Digest: want}, r, &source.ReadArchiveOptions{Limits: c.Limits})
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// FetchBytes downloads a file, such as a packaged chart, of at most Limits.File bytes.
func (c *Client) FetchBytes(ctx context.Context, rawURL string, want digest.Digest) ([]byte, error) {
	most := c.Limits.OrDefaults().File
	var data []byte
	err := c.get(ctx, rawURL, want, func(_ context.Context, r io.Reader) (err error) {
		if most < 1<<63-1 {
			r = io.LimitReader(r, most+1)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(r); err != nil {
			return err
		}
		if int64(b.Len()) > most {
			return fmt.Errorf("%w: the file is larger than Limits.File", source.ErrLimit)
		}
		data = b.Bytes()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// get downloads until the answer is final.
func (c *Client) get(ctx context.Context, rawURL string, want digest.Digest, read func(context.Context, io.Reader) error) error {
	u, err := c.check(rawURL, want)
	if err != nil {
		return &source.Error{Op: "fetch", Source: redact(u), Err: err}
	}
	transport, closeIdle := c.Transport, func() {}
	if transport == nil {
		own := &http.Transport{ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10, TLSHandshakeTimeout: 30 * time.Second}
		transport, closeIdle = own, own.CloseIdleConnections
	}
	defer closeIdle()
	client := &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	attempts, pause := c.Attempts, c.Pause
	if attempts <= 0 {
		attempts = 5
	}
	if pause <= 0 {
		pause = time.Second
	}
	for n := 1; ; n++ {
		after, err := c.attempt(ctx, client, u, want, read)
		if err == nil {
			return nil
		}
		failure := &source.Error{Op: "fetch", Source: redact(u), Err: err, After: after}
		if ctx.Err() != nil {
			failure.Err = context.Cause(ctx)
			if !errors.Is(err, failure.Err) {
				failure.Err = fmt.Errorf("%w (the last attempt: %w)", failure.Err, err)
			}
			return failure
		}
		if n == attempts || !errors.Is(err, source.ErrUnavailable) {
			return failure
		}
		timer := time.NewTimer(max(after, pause))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		pause = min(2*pause, 30*time.Second)
	}
}

func (c *Client) check(rawURL string, want digest.Digest) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("%w: the URL cannot be parsed", source.ErrInvalidSpec) // its error repeats the URL
	}
	var errs []error
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("want an http or https URL with a host, not scheme %q", u.Scheme))
	}
	if u.User != nil {
		errs = append(errs, errors.New("the URL contains credentials, which are not sent"))
	}
	if err := want.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("digest %q: %w", want, err))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return u, fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))
	}
	return u, nil
}

// checkRedirect allows few redirects, and none that gives up encryption.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > 5 {
		return errors.New("more than 5 redirects")
	}
	if from := via[len(via)-1].URL.Scheme; r.URL.Scheme != from && r.URL.Scheme != "https" {
		return fmt.Errorf("refused to follow a redirect from %s to %s", from, r.URL.Scheme)
	}
	return nil
}

// attempt makes one request. Its answer counts only if all of it has the digest.
func (c *Client) attempt(ctx context.Context, client *http.Client, u *url.URL, want digest.Digest, read func(context.Context, io.Reader) error) (time.Duration, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	// The digest is that of the bytes as they are stored.
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", "gitopskit")
	res, err := client.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL
		}
		return 0, fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return retryAfter(res), statusError(res)
	}
	return 0, verified(ctx, res.Body, want, c.Limits.OrDefaults().Download, read)
}

// verified reads a body and compares it with its digest, also when read fails:
// that the content is another one is then the better reason.
func verified(ctx context.Context, body io.Reader, want digest.Digest, most int64, read func(context.Context, io.Reader) error) error {
	sum := want.Verifier()
	in := &bounded{r: io.TeeReader(body, sum), left: most}
	readErr := read(ctx, in)
	if errors.Is(readErr, source.ErrLimit) {
		return readErr // there may be no end
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		if errors.Is(err, source.ErrLimit) {
			return err
		}
		return fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	if !sum.Verified() {
		return fmt.Errorf("%w: the content is not %s", source.ErrUnverified, want)
	}
	return readErr
}

// bounded ends with ErrLimit when the allowance is used up.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: the server sent more than Limits.Download allows", source.ErrLimit)
	}
	return n, err
}

func statusError(res *http.Response) error {
	class := source.ErrUnavailable
	switch res.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		class = source.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		class = source.ErrUnauthorized
	}
	return fmt.Errorf("%w: the server answered %d %s", class, res.StatusCode, http.StatusText(res.StatusCode))
}

func retryAfter(res *http.Response) time.Duration {
	seconds, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 24*60*60)) * time.Second
}

// redact shows an address without anything secret.
func redact(u *url.URL) string {
	if u == nil {
		return "artifact"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
