package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gitopskit/gitopskit/source"
)

// conn is one client of one registry that knows how to authorize itself.
type conn struct {
	repo   name.Repository
	client *http.Client
	limits source.Limits
}

// operation runs f against the registry and makes its error one of package
// source.
func (r *Repository) operation(ctx context.Context, op string, f func(context.Context, *conn) error) error {
	return operate(ctx, &r.opts.Client, r.link, r.opts.Limits, op, r.String(), func(ctx context.Context) error {
		return r.converse(ctx, f)
	})
}

// operate bounds one operation in time and bytes.
func operate(ctx context.Context, client *Client, l link, limits source.Limits, op, on string, f func(context.Context) error) error {
	ctx, cancel := client.deadline(ctx)
	defer cancel()
	defer l.closeIdle()
	m := &meter{}
	m.left.Store(limits.Download)
	err := ctx.Err()
	if err == nil {
		err = f(context.WithValue(ctx, meterKey{}, m))
	}
	if err != nil {
		return failure(ctx, op, on, time.Duration(m.after.Load()), err)
	}
	return nil
}

// converse asks the registry once who it is. When it refuses what it allowed
// before, because credentials changed or a token was withdrawn, f runs again
// as a new client.
func (r *Repository) converse(ctx context.Context, f func(context.Context, *conn) error) error {
	r.mu.Lock()
	c := r.conn
	r.mu.Unlock()
	if c != nil {
		if err := f(ctx, c); !errors.Is(err, source.ErrUnauthorized) {
			return err
		}
	}
	c, err := dial(ctx, r.link, r.repo, r.opts.Keychain, r.opts.Limits, transport.PullScope)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.conn = c
	r.mu.Unlock()
	return f(ctx, c)
}

// dial asks the registry how it wants to be asked.
func dial(ctx context.Context, l link, repo name.Repository, keys authn.Keychain, limits source.Limits, scope string) (*conn, error) {
	auth := authn.Anonymous
	if keys != nil {
		var err error
		if auth, err = authn.Resolve(ctx, keys, repo); err != nil {
			return nil, fmt.Errorf("%w: get credentials: %w", source.ErrUnauthorized, err)
		}
	}
	rt, err := transport.NewWithContext(ctx, repo.Registry, auth, l, []string{repo.Scope(scope)})
	if err != nil {
		return nil, answered(err)
	}
	return &conn{repo: repo, limits: limits, client: &http.Client{Transport: rt, CheckRedirect: checkRedirect}}, nil
}

// maxRedirects is plenty for registries that keep blobs elsewhere.
const maxRedirects = 5

func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d redirects", source.ErrUnavailable, maxRedirects)
	case r.URL.Scheme != "https" && via[len(via)-1].URL.Scheme == "https", r.URL.User != nil:
		return fmt.Errorf("%w: refused to follow a redirect to %s://%s", source.ErrUnavailable, r.URL.Scheme, r.URL.Host)
	}
	return nil
}

// get asks for something below the repository. The caller closes the body.
func (c *conn) get(ctx context.Context, method, path string, accept ...string) (*http.Response, error) {
	return c.ask(ctx, method, &url.URL{Scheme: c.repo.Scheme(), Host: c.repo.RegistryStr(), Path: "/v2/" + c.repo.RepositoryStr() + "/" + path}, accept...)
}

func (c *conn) ask(ctx context.Context, method string, at *url.URL, accept ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	if len(accept) > 0 {
		r.Header.Set("Accept", strings.Join(accept, ","))
	}
	res, err := c.client.Do(r)
	if err != nil {
		return nil, answered(err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, answered(transport.CheckError(res, http.StatusOK))
	}
	return res, nil
}
