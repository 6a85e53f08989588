package oci

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// Repository reads one reference of one repository. It keeps no connection
// between calls, but remembers the registry's token. It is safe for concurrent
// use. Make one with New.
type Repository struct {
	repo     name.Repository
	opts     Options
	ref      selection
	platform *v1.Platform
	link     link

	mu   sync.Mutex
	conn *conn // the last one, with its token
}

var _ source.Source = (*Repository)(nil)

// Options configure a Repository. The zero value reads the first layer of the
// tag latest, without credentials.
type Options struct {
	// Ref is what to read. The zero value is the tag latest.
	Ref Ref
	// Layer says which layer is the content, and what to do with it. The zero
	// value extracts the first one.
	Layer Layer
	// Platform chooses an image of an index, as "os/architecture[/variant]".
	// Empty means linux/amd64.
	Platform string
	// Verifier must vouch for a manifest before any of its layers is read. Nil
	// means that nobody is asked.
	Verifier Verifier
	Client
	// Limits bound what the registry can cost. The zero value is the defaults.
	// Of tags there may be as many as of files.
	Limits source.Limits
}

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
	// Proxy returns the proxy of a request, as that of http.Transport does: of the
	// scheme http, https or socks5. Nil means none; no environment variable is
	// read.
	Proxy func(*http.Request) (*url.URL, error)
	// Transport sends requests in place of one of our own; its proxies,
	// certificates and idle connections are the caller's. It excludes CAs, TLS,
	// Proxy and Dial. Nil means one of our own.
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

// defaultTimeout bounds an operation when Client.Timeout is zero.
const defaultTimeout = time.Minute

// New returns a source of a repository, "oci://host/path" or "host/path". It
// checks all that can be checked without a network and returns every problem at
// once, as a *source.Error of class ErrInvalidSpec. Nil opts are the defaults.
func New(repository string, opts *Options) (*Repository, error) {
	r := &Repository{}
	if opts != nil {
		r.opts = *opts
	}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	r.repo, err = parseRepository(repository, r.opts.Insecure)
	add(err)
	r.ref, err = r.opts.Ref.compile()
	add(err)
	add(r.opts.Layer.check())
	platform := r.opts.Platform
	if platform == "" {
		platform = "linux/amd64"
	}
	if r.platform, err = v1.ParsePlatform(platform); err != nil || r.platform.OS == "" || r.platform.Architecture == "" {
		add(fmt.Errorf("Platform %q: want os/architecture, such as linux/arm64", r.opts.Platform))
	}
	add(r.opts.Limits.Validate())
	r.link, err = r.opts.Client.link()
	add(err)
	if len(errs) > 0 {
		return nil, &source.Error{Op: "new", Source: redact(repository), Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))}
	}
	r.opts.Limits = r.opts.Limits.OrDefaults()
	return r, nil
}

func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	switch {
	case c.Timeout < 0:
		return context.WithCancel(ctx)
	case c.Timeout == 0:
		return context.WithTimeout(ctx, defaultTimeout)
	}
	return context.WithTimeout(ctx, c.Timeout)
}

// String is the repository and what is read of it.
func (r *Repository) String() string { return Scheme + r.repo.Name() + " " + r.ref.String() }

// Resolve says which manifest the reference is now. For a tag that is one HEAD
// request once the registry is known, for a range the list of tags more; a
// pinned digest costs none.
func (r *Repository) Resolve(ctx context.Context) (source.Revision, error) {
	if r.ref.digest != "" {
		return source.Revision{Digest: r.ref.digest}, nil
	}
	var rev source.Revision
	err := r.operation(ctx, "resolve", func(ctx context.Context, c *conn) error {
		tag := r.ref.Tag
		if tag == "" {
			tags, err := c.tags(ctx)
			if err != nil {
				return err
			}
			if tag, err = r.ref.best(tags, r.opts.Layer.MediaType == ChartMediaType); err != nil {
				return err
			}
		}
		d, err := c.head(ctx, tag)
		rev = source.Revision{Ref: tag, Digest: d}
		return err
	})
	if err != nil {
		return source.Revision{}, err
	}
	return rev, nil
}

// Tags lists the tags of the repository, in byte order.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	err := r.operation(ctx, "list tags of", func(ctx context.Context, c *conn) error {
		var err error
		tags, err = c.tags(ctx)
		return err
	})
	return tags, err
}

// Fetch reads the manifest with the digest of rev, whatever its tag means by
// now, has it verified, and opens its layer. Metadata are the manifest's
// annotations, and MetaFile for a copied layer.
func (r *Repository) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	var a *source.Artifact
	err := r.operation(ctx, "fetch", func(ctx context.Context, c *conn) error {
		var err error
		a, err = r.fetch(ctx, c, rev)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (r *Repository) fetch(ctx context.Context, c *conn, rev source.Revision) (*source.Artifact, error) {
	if _, err := parseDigest(rev.Digest.String()); err != nil {
		return nil, fmt.Errorf("%w: revision %w", source.ErrInvalidSpec, err)
	}
	evidence, err := r.verify(ctx, c, rev.Digest)
	if err != nil {
		return nil, err
	}
	m, err := r.image(ctx, c, rev.Digest)
	if err != nil {
		return nil, err
	}
	layer, err := r.opts.Layer.of(m)
	if err != nil {
		return nil, err
	}
	tree, metadata, err := r.opts.Layer.open(ctx, c, rev, layer)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(m.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, metadata)
	return source.NewArtifact(rev, tree, &source.ArtifactOptions{Metadata: all, Verified: evidence}), nil
}

// image reads a manifest; of an index, the one for the platform.
func (r *Repository) image(ctx context.Context, c *conn, d digest.Digest) (*v1.Manifest, error) {
	m, err := c.manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	if isIndex(m) {
		child, err := choose(m, *r.platform)
		if err != nil {
			return nil, err
		}
		if m, err = c.manifest(ctx, child.String()); err != nil {
			return nil, err
		}
	}
	return decodeImage(m)
}
