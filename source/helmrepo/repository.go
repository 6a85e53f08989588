package helmrepo

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/oci"
)

// Repository is a repository of charts. It keeps no connection between calls,
// but remembers the last index. It is safe for concurrent use. Make one with New.
type Repository struct {
	url  *url.URL // nil for a registry
	oci  string
	opts Options

	transport http.RoundTripper
	closeIdle func()

	mu    sync.Mutex
	index *index // the last one
}

// Options configure a Repository. The zero value reads without credentials.
type Options struct {
	// Username and Password are sent as basic credentials, to registries too.
	Username, Password string
	// PassCredentials sends them also to the hosts of charts that the index has
	// elsewhere. Whoever writes the index then decides who gets to see them.
	PassCredentials bool
	// Client is how servers are reached. Its Keychain is for registries and
	// excludes Username and Password; its Insecure is for registries too, since
	// the URL of others says it.
	oci.Client
	// Verifier must vouch for charts in registries. Repositories over HTTP have
	// nothing that it could verify, so that New refuses it for them.
	Verifier oci.Verifier
	// IndexSize bounds index.yaml in bytes. Zero is 50 MiB; source.Unlimited
	// means no bound.
	IndexSize int64
	// Limits bound a chart. The zero value is the defaults of chart.Limits.
	Limits source.Limits
}

// defaultIndexSize is Flux's: twice the largest index that is known.
const defaultIndexSize = 50 << 20

// New returns a repository at an http, https or oci URL. It checks all that can
// be checked without a network and returns every problem at once, as a
// *source.Error of class ErrInvalidSpec. Nil opts are the defaults.
func New(rawURL string, opts *Options) (*Repository, error) {
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
	if strings.HasPrefix(rawURL, oci.Scheme) {
		r.oci = strings.TrimSuffix(rawURL, "/")
		add(r.checkOCI())
	} else {
		var err error
		r.url, err = parseURL(rawURL)
		add(err)
		if r.opts.Verifier != nil {
			add(errors.New("Verifier is for OCI registries: signatures of repositories over HTTP are not supported"))
		}
		if r.opts.Keychain != nil {
			add(errors.New("Keychain is for OCI registries: use Username and Password"))
		}
	}
	add(r.checkCredentials())
	add(r.opts.Limits.Validate())
	if r.opts.IndexSize < source.Unlimited {
		add(fmt.Errorf("IndexSize is %d: use source.Unlimited for no limit", r.opts.IndexSize))
	}
	var err error
	r.transport, r.closeIdle, err = r.opts.Client.Open()
	add(err)
	if len(errs) > 0 {
		return nil, &source.Error{Op: "new", Source: redact(rawURL), Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))}
	}
	switch r.opts.IndexSize {
	case 0:
		r.opts.IndexSize = defaultIndexSize
	case source.Unlimited:
		r.opts.IndexSize = 1<<63 - 2
	}
	return r, nil
}

func (r *Repository) checkCredentials() error {
	o := &r.opts
	switch {
	case o.Username == "" && o.Password != "":
		return errors.New("Password without Username")
	case strings.ContainsRune(o.Username, ':'):
		return errors.New("Username contains a colon")
	case o.Username != "" && o.Keychain != nil:
		return errors.New("Username and Keychain exclude each other")
	case o.PassCredentials && o.Username == "":
		return errors.New("PassCredentials without Username")
	}
	return nil
}

// checkOCI has package oci look at the name, with a chart in it.
func (r *Repository) checkOCI() error {
	_, err := oci.New(r.oci+"/chart", nil)
	var typed *source.Error
	if errors.As(err, &typed) {
		return typed.Err
	}
	return err
}

// keychain has one pair of credentials for the registry of the repository.
type keychain struct{ username, password string }

// Resolve implements authn.Keychain. It is asked about that registry alone.
func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: k.username, Password: k.password}, nil
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("the URL is malformed") // the parser's message repeats it, and it may hold a password
	}
	var errs []error
	if u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("the URL's scheme is %q: want https, http or oci", u.Scheme))
	}
	if u.Hostname() == "" {
		errs = append(errs, errors.New("the URL has no host"))
	}
	if u.User != nil {
		errs = append(errs, errors.New("the URL contains credentials: move them to Options.Username and Password"))
	}
	if u.Fragment != "" {
		errs = append(errs, errors.New("the URL has a fragment"))
	}
	return u, errors.Join(errs...)
}

// redact shows a URL without credentials, query and fragment.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		raw, _, _ = strings.Cut(raw, "?")
		return strings.ToValidUTF8(raw[strings.LastIndexByte(raw, '@')+1:], "?")
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// String is the URL, without its query.
func (r *Repository) String() string {
	if r.url == nil {
		return r.oci
	}
	return redact(r.url.String())
}

// chartName is what a repository may call a chart.
var chartName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*(/[a-zA-Z0-9][a-zA-Z0-9._-]*)*$`)

func (r *Repository) limits() source.Limits { return chart.Limits(r.opts.Limits) }
