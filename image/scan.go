package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// DefaultExclude is what ScannerOptions.Exclude is when nothing is said: the
// signatures that cosign stores as tags, as in Flux.
const DefaultExclude = `^.*\.sig$`

// Scanner lists the tags of one repository. It keeps no connection between
// calls, but remembers the registry's token. It is safe for concurrent use. Make
// one with NewScanner.
type Scanner struct {
	repo    name.Repository
	client  Client
	link    link
	exclude []*regexp.Regexp
	limits  Limits

	mu   sync.Mutex
	conn *conn // the last one, with its token
}

// ScannerOptions configure a Scanner. The zero value is an anonymous client of
// https with the default exclusions and limits.
type ScannerOptions struct {
	Client
	// Exclude are regular expressions, not anchored; a tag that matches one of
	// them is left out. Nil means DefaultExclude, and a list of none leaves out
	// none. At most 25, of at most 1,000 bytes each.
	Exclude []string
	// Limits bound what the registry can cost. The zero value is the defaults.
	Limits Limits
}

// Unlimited turns a field of Limits off.
const Unlimited = -1

// Limits bound what a hostile or mistaken registry can cost one call. The zero
// value stands for the defaults named at each field; Unlimited turns one off.
// Reaching a limit is an ErrLimit that names it.
type Limits struct {
	// Tags is the number of tags: 100,000, ten times as many as the largest
	// public repositories have.
	Tags int
	// Pages is the number of pages of tags: 1,000.
	Pages int
	// Download is the number of bytes received: 32 MiB.
	Download int64
}

func (l Limits) orDefaults() (Limits, error) {
	for field, v := range map[string]int64{"Tags": int64(l.Tags), "Pages": int64(l.Pages), "Download": l.Download} {
		if v < Unlimited {
			return l, fmt.Errorf("Limits.%s is %d: use Unlimited for no limit", field, v)
		}
	}
	const maxInt64, maxInt = 1<<63 - 1, int(^uint(0) >> 1)
	return Limits{
		Tags:     orDefault(l.Tags, 100_000, maxInt),
		Pages:    orDefault(l.Pages, 1_000, maxInt),
		Download: orDefault(l.Download, 32<<20, maxInt64),
	}, nil
}

func orDefault[T int | int64](v, def, most T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return most
	}
	return v
}

// NewScanner returns a scanner of an image, "host/path" or a name of Docker Hub,
// without scheme, tag or digest. It checks all that can be checked without a
// network and returns every problem at once, as an *Error of class ErrInvalid.
// Nil opts are the defaults.
func NewScanner(image string, opts *ScannerOptions) (*Scanner, error) {
	if opts == nil {
		opts = &ScannerOptions{}
	}
	s := &Scanner{client: opts.Client}
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	s.repo, err = parseName(image, opts.Insecure)
	add(err)
	s.exclude, err = compileExclude(opts.Exclude)
	add(err)
	s.limits, err = opts.Limits.orDefaults()
	add(err)
	s.link, err = s.client.link()
	add(err)
	if len(errs) > 0 {
		return nil, invalid("new", image, errors.Join(errs...))
	}
	return s, nil
}

func compileExclude(patterns []string) ([]*regexp.Regexp, error) {
	const most, longest = 25, 1_000
	if patterns == nil {
		patterns = []string{DefaultExclude}
	}
	if len(patterns) > most {
		return nil, fmt.Errorf("Exclude has %d patterns: at most %d", len(patterns), most)
	}
	var all []*regexp.Regexp
	var errs []error
	for i, p := range patterns {
		re, err := compile(p, longest)
		if err != nil {
			errs = append(errs, fmt.Errorf("Exclude[%d]: %w", i, err))
		}
		all = append(all, re)
	}
	return all, errors.Join(errs...)
}

func compile(pattern string, longest int) (*regexp.Regexp, error) {
	if len(pattern) > longest {
		return nil, fmt.Errorf("the pattern has %d bytes: at most %d", len(pattern), longest)
	}
	return regexp.Compile(pattern)
}

// String is the canonical name of the image.
func (s *Scanner) String() string { return s.repo.Name() }

// Tags are what one scan found.
type Tags struct {
	// Image is the canonical name of the repository.
	Image string
	// Names are the tags in byte order, each once.
	Names []string
	// Excluded is how many tags ScannerOptions.Exclude left out.
	Excluded int
	// Malformed is how many names were left out that are no tags.
	Malformed int
}

// All yields the tags, for a Policy.
func (t *Tags) All() iter.Seq[string] { return slices.Values(t.Names) }

// Revision is "sha256:<hex>" of the tags, one a line and the greatest first, as
// Flux's file store has it: the same for the same tags.
func (t *Tags) Revision() string {
	sum := sha256.New()
	for _, name := range slices.Backward(t.Names) {
		sum.Write([]byte(name + "\n"))
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// Latest are the last n tags in byte order, the greatest first. Flux shows ten
// of them.
func (t *Tags) Latest(n int) []string {
	latest := slices.Clone(t.Names[max(0, len(t.Names)-max(0, n)):])
	slices.Reverse(latest)
	return latest
}

// Scan lists the tags of the repository: one request for each page, once the
// registry is known.
func (s *Scanner) Scan(ctx context.Context) (*Tags, error) {
	tags := &Tags{Image: s.String()}
	err := s.converse(ctx, "scan", func(ctx context.Context, c *conn) error {
		all, err := s.list(ctx, c)
		if err != nil {
			return err
		}
		tags.Names, tags.Excluded, tags.Malformed = s.sift(all)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tags, nil
}

// list reads all pages.
func (s *Scanner) list(ctx context.Context, c *conn) ([]string, error) {
	var all []string
	at := c.at("tags/list", "n=1000")
	for pages := 1; at != nil; pages++ {
		if pages > s.limits.Pages {
			return nil, fmt.Errorf("%w: the list of tags has more than %d pages (Limits.Pages)", ErrLimit, s.limits.Pages)
		}
		page, next, err := c.page(ctx, at)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(all) > s.limits.Tags {
			return nil, fmt.Errorf("%w: the repository has %d tags or more, the limit is %d (Limits.Tags)", ErrLimit, len(all), s.limits.Tags)
		}
		if next != nil && (len(page) == 0 || *next == *at) {
			return nil, fmt.Errorf("%w: the list of tags goes in circles", ErrUnavailable)
		}
		at = next
	}
	return all, nil
}

// page reads one page, and where the next one is.
func (c *conn) page(ctx context.Context, at *url.URL) ([]string, *url.URL, error) {
	res, err := c.ask(ctx, http.MethodGet, at)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body) // metered
	if err != nil {
		return nil, nil, classified(err)
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, nil, fmt.Errorf("%w: the list of tags: %w", ErrUnavailable, err)
	}
	next, err := nextPage(res)
	return list.Tags, next, err
}

func nextPage(res *http.Response) (*url.URL, error) {
	target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(res.Header.Get("Link")), "<"), ">")
	if !ok || !strings.Contains(rest, "next") {
		return nil, nil //nolint:nilnil // nil is the end
	}
	next, err := res.Request.URL.Parse(target)
	if err != nil || next.Scheme != res.Request.URL.Scheme || next.Host != res.Request.URL.Host || next.User != nil {
		return nil, fmt.Errorf("%w: the header Link leads to another host than the registry's", ErrUnavailable)
	}
	return next, nil
}

// sift sorts the tags and leaves out what is excluded or no tag at all.
func (s *Scanner) sift(all []string) (names []string, excluded, malformed int) {
	slices.Sort(all)
	for _, tag := range slices.Compact(all) {
		switch {
		case !tagForm.MatchString(tag):
			malformed++
		case slices.ContainsFunc(s.exclude, func(re *regexp.Regexp) bool { return re.MatchString(tag) }):
			excluded++
		default:
			names = append(names, tag)
		}
	}
	return names, excluded, malformed
}

// Digest asks which manifest a tag is now: "sha256:<hex>", of an index the
// index's own. It is one HEAD request; a registry that does not answer it is
// asked for the manifest.
func (s *Scanner) Digest(ctx context.Context, tag string) (string, error) {
	if !tagForm.MatchString(tag) {
		return "", invalid("digest", s.String(), fmt.Errorf("%q is not a tag", short(tag)))
	}
	var digest string
	err := s.converse(ctx, "digest", func(ctx context.Context, c *conn) error {
		var err error
		digest, err = c.digest(ctx, tag)
		return err
	})
	return digest, err
}

func (c *conn) digest(ctx context.Context, tag string) (string, error) {
	accept := []string{
		string(types.OCIManifestSchema1), string(types.OCIImageIndex),
		string(types.DockerManifestSchema2), string(types.DockerManifestList),
	}
	at := c.at("manifests/"+tag, "")
	res, err := c.ask(ctx, http.MethodHead, at, accept...)
	if err == nil {
		defer res.Body.Close()
		if d := res.Header.Get("Docker-Content-Digest"); digestForm.MatchString(d) {
			return d, nil
		}
	} else if errors.Is(err, ErrUnauthorized) || ctx.Err() != nil {
		return "", err
	}
	if res, err = c.ask(ctx, http.MethodGet, at, accept...); err != nil {
		return "", err
	}
	defer res.Body.Close()
	const most = 4 << 20 // as registries have it
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(res.Body, most+1))
	if err != nil {
		return "", classified(err)
	}
	if n > most {
		return "", fmt.Errorf("%w: the manifest has more than %d bytes", ErrLimit, most)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// converse bounds one call in time and bytes. It asks the registry once who it
// is. When it refuses what it allowed before, because credentials changed or a
// token was withdrawn, f runs again as a new client.
func (s *Scanner) converse(ctx context.Context, op string, f func(context.Context, *conn) error) error {
	ctx, cancel := s.client.deadline(ctx)
	defer cancel()
	defer s.link.closeIdle()
	m := &meter{}
	m.left.Store(s.limits.Download)
	err := ctx.Err()
	if err == nil {
		err = s.known(context.WithValue(ctx, meterKey{}, m), f)
	}
	if err != nil {
		return failure(ctx, op, s.String(), time.Duration(m.after.Load()), err)
	}
	return nil
}

func (s *Scanner) known(ctx context.Context, f func(context.Context, *conn) error) error {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		if err := f(ctx, c); !errors.Is(err, ErrUnauthorized) {
			return err
		}
	}
	c, err := dial(ctx, s.link, s.repo, s.client.Keychain)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.conn = c
	s.mu.Unlock()
	return f(ctx, c)
}
