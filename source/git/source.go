package git

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Source reads one ref of one repository. It keeps nothing open between calls
// and is safe for concurrent use. Make one with New.
type Source struct {
	url  *url.URL
	opts Options
	tls  *tls.Config

	mu    sync.Mutex
	known *session // what the server said about itself the last time, for HTTP with version 2
	base  *url.URL // and where it said it
}

var _ source.Source = (*Source)(nil)

// Options configure a Source. The zero value reads the default branch without
// credentials.
type Options struct {
	// Ref is what to read. The zero value is the remote's default branch.
	Ref Ref
	// Auth is who we are: Basic, Token, SSH or AuthFunc. Nil means nobody, which
	// ssh URLs do not allow. Credentials are sent to the URL's own scheme, host
	// and port, and nowhere else a server may redirect to.
	Auth Auth
	// CAs are certificates in PEM that are trusted besides the system's, for https.
	CAs []byte
	// TLS is the configuration of https; its client certificates make mutual
	// TLS. It is copied. Nil means the default.
	TLS *tls.Config
	// Proxy returns the proxy of a request over http and https, as that of
	// http.Transport does: of the scheme http, https or socks5. SSH has Dial
	// for that. Nil means none; no environment variable is read.
	Proxy func(*http.Request) (*url.URL, error)
	// Transport sends HTTP requests in place of one of our own; its proxies,
	// certificates and idle connections are the caller's. It excludes CAs, TLS,
	// Proxy and Dial. Nil means one of our own.
	Transport http.RoundTripper
	// Dial makes network connections, for proxies and address filters. Nil
	// means a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds each Resolve and each Fetch. Zero means one minute;
	// negative means that only the context does.
	Timeout time.Duration
	// Symlinks says what becomes of symbolic links. Zero is SkipSymlinks.
	Symlinks Symlinks
	// Verifier decides who may sign what is fetched: verify.Keyring, or any
	// other. Its evidence is in the artifact. Nil means that nothing is verified.
	Verifier Verifier
	// VerifyMode says which objects must be signed. Empty means VerifyHEAD.
	VerifyMode VerifyMode
	// Limits bound what the server can cost. The zero value is the defaults.
	Limits source.Limits
	// TempDir is where packs of more than 32 MiB are held until the artifact is
	// closed. Empty means os.TempDir.
	TempDir string
}

// defaultTimeout bounds an operation when Options.Timeout is zero.
const defaultTimeout = time.Minute

// New returns a source for a repository's http, https or ssh URL. It checks
// all that can be checked without a network and returns every problem at once,
// as a *source.Error of class ErrInvalidSpec. Nil opts are the defaults.
func New(rawURL string, opts *Options) (*Source, error) {
	s := &Source{}
	if opts != nil {
		s.opts = *opts
	}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	u, err := parseURL(rawURL)
	add(err)
	add(s.opts.Ref.check())
	add(s.opts.Limits.Validate())
	if u != nil {
		add(s.checkAuth(u.Scheme))
	}
	add(s.checkTransport())
	add(s.opts.checkVerify())
	if s.opts.Symlinks < SkipSymlinks || s.opts.Symlinks > RejectSymlinks {
		add(fmt.Errorf("Symlinks is %d, which is no policy", s.opts.Symlinks))
	}
	if len(errs) > 0 {
		return nil, &source.Error{Op: "new", Source: redactRaw(rawURL), Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))}
	}
	s.url = u
	if s.opts.Timeout == 0 {
		s.opts.Timeout = defaultTimeout
	}
	s.opts.Limits = s.opts.Limits.OrDefaults()
	if s.opts.Dial == nil {
		s.opts.Dial = defaultDial
	}
	return s, nil
}

func (s *Source) checkAuth(scheme string) error {
	switch {
	case s.opts.Auth != nil:
		return s.opts.Auth.check(scheme)
	case scheme == "ssh":
		return errors.New("an ssh URL needs Options.Auth as git.SSH, with a key and known hosts")
	}
	return nil
}

func (s *Source) checkTransport() error {
	o := &s.opts
	if o.Transport != nil && (o.TLS != nil || o.CAs != nil || o.Dial != nil || o.Proxy != nil) {
		return errors.New("Transport excludes TLS, CAs, Proxy and Dial: configure the transport itself")
	}
	s.tls = o.TLS.Clone()
	if s.tls == nil {
		s.tls = &tls.Config{}
	}
	if s.tls.ClientSessionCache == nil {
		s.tls.ClientSessionCache = tls.NewLRUClientSessionCache(4) // polls resume; connections are not kept
	}
	if o.CAs == nil {
		return nil
	}
	if s.tls.RootCAs != nil {
		s.tls.RootCAs = s.tls.RootCAs.Clone()
	} else if pool, err := x509.SystemCertPool(); err == nil {
		s.tls.RootCAs = pool
	} else {
		s.tls.RootCAs = x509.NewCertPool()
	}
	if !s.tls.RootCAs.AppendCertsFromPEM(o.CAs) {
		return errors.New("CAs holds no certificate in PEM")
	}
	return nil
}

// String is the URL, without credentials, and the ref.
func (s *Source) String() string { return redactRaw(s.url.String()) + " " + s.opts.Ref.String() }

// Resolve says which commit the ref is now. It asks for this ref alone, which
// costs one small request once the server is known; a pinned commit costs none.
func (s *Source) Resolve(ctx context.Context) (source.Revision, error) {
	r := s.opts.Ref
	if r.Commit != "" {
		return source.Revision{Ref: r.Branch, Digest: digest.Digest("sha1:" + r.Commit)}, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var rev source.Revision
	err := s.converse(ctx, func(c *session) error {
		found, err := s.lookup(ctx, c, r)
		rev = r.revision(found)
		return err
	})
	if err != nil {
		return source.Revision{}, s.fail(ctx, "resolve", err)
	}
	return rev, nil
}

// lookup finds the ref on the server.
func (s *Source) lookup(ctx context.Context, c *session, r Ref) (reference, error) {
	if r.SemVer != "" {
		return s.newest(ctx, c, r.SemVer)
	}
	want := r.full()
	refs, err := c.list(ctx, want)
	if err != nil {
		return reference{}, err
	}
	for _, ref := range refs {
		if ref.name == want && ref.id != (oid{}) {
			return ref, nil
		}
	}
	// Only now is it worth a second question why there is nothing.
	any, err := c.list(ctx, "refs/heads/", "refs/tags/")
	if err != nil {
		return reference{}, err
	}
	if len(any) == 0 {
		return reference{}, fmt.Errorf("%w: the repository is empty, so it has no %s (%s)", source.ErrNotFound, r, want)
	}
	return reference{}, fmt.Errorf("%w: the repository has no %s (%s)", source.ErrNotFound, r, want)
}

// converse runs f in a conversation with the server. What the server said
// about itself is remembered, so that the next conversation can start with the
// question; if that fails, f runs again from the start.
func (s *Source) converse(ctx context.Context, f func(*session) error) error {
	auth, err := credentials(ctx, s.opts.Auth, s.url.Scheme)
	if err != nil {
		return err
	}
	if s.url.Scheme == "ssh" {
		return s.converseSSH(ctx, uploadPack, auth, f)
	}
	s.mu.Lock()
	known, base := s.known, s.base
	s.mu.Unlock()
	if known != nil {
		c := s.dialHTTP(uploadPack, base, auth)
		err := f(known.cached(c, s.opts.Limits.Download))
		_ = c.Close()
		if err == nil || ctx.Err() != nil || isFinal(err) {
			return err
		}
	}
	c := s.dialHTTP(uploadPack, s.url, auth)
	defer c.Close() //nolint:errcheck // nothing was written that matters
	session, err := openSession(ctx, c, s.opts.Limits.Download)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.known, s.base = nil, nil
	if session.version == 2 {
		s.known, s.base = session.cached(nil, 0), c.base
	}
	s.mu.Unlock()
	return f(session)
}

// isFinal says that asking the server anew what it is cannot change the error.
func isFinal(err error) bool {
	for _, class := range []error{
		source.ErrUnauthorized, source.ErrInvalidSpec, source.ErrUnverified, source.ErrLimit, source.ErrUnsafePath,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

func (s *Source) converseSSH(ctx context.Context, service string, auth Auth, f func(*session) error) error {
	login, ok := auth.(SSH)
	if !ok {
		return fmt.Errorf("%w: the AuthFunc returned no git.SSH for an ssh URL", source.ErrInvalidSpec)
	}
	c, err := dialSSH(ctx, s.url, service, login, s.opts.Dial)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing was written that matters
	session, err := openSession(ctx, c, s.opts.Limits.Download)
	if err != nil {
		return err
	}
	return f(session)
}

// dialHTTP prepares a conversation. Its connections last as long as it does,
// unless they are the caller's.
func (s *Source) dialHTTP(service string, base *url.URL, auth Auth) *httpConn {
	transport, closeIdle := s.opts.Transport, func() {}
	if transport == nil {
		own := &http.Transport{
			DialContext:            s.opts.Dial,
			Proxy:                  s.opts.Proxy,
			TLSClientConfig:        s.tls.Clone(),
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSHandshakeTimeout:    30 * time.Second,
		}
		transport, closeIdle = own, own.CloseIdleConnections
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &httpConn{client: client, close: closeIdle, service: service, origin: s.url, base: base, auth: auth}
}

func (s *Source) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.opts.Timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// fail makes the error of an operation: it has one of source's classes, or is
// the end of the context.
func (s *Source) fail(ctx context.Context, op string, err error) error {
	var delayed *delayedError
	e := &source.Error{Op: op, Source: redactRaw(s.url.String()), Err: err}
	if errors.As(err, &delayed) {
		e.After = delayed.after
	}
	if cause := context.Cause(ctx); cause != nil {
		e.Err = fmt.Errorf("the server did not answer in time: %w", cause)
		if !errors.Is(cause, context.DeadlineExceeded) {
			e.Err = cause
		}
		return e
	}
	for _, class := range []error{
		source.ErrNotFound, source.ErrUnauthorized, source.ErrInvalidSpec, source.ErrUnverified,
		source.ErrLimit, source.ErrUnsafePath, source.ErrUnavailable, ErrNoChanges, ErrMoved, ErrRejected,
	} {
		if errors.Is(err, class) {
			return e
		}
	}
	e.Err = fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	return e
}

func sha1Digest(id oid) digest.Digest { return digest.Digest("sha1:" + id.String()) }
