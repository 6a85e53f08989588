package helmrepo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/oci"
)

// Chart is one chart of a repository, at a version or in a range of versions.
// It is a source of the files of the chart. Make one with Repository.Chart.
type Chart struct {
	repo          *Repository
	name, version string
	image         *oci.Repository // in a registry

	mu    sync.Mutex
	known identity // what was downloaded to know its digest
	sum   digest.Digest
}

// identity is what an index without digests says about a package.
type identity struct {
	version, url string
	created      time.Time
}

var _ source.Source = (*Chart)(nil)

// Chart is a chart of the repository. The version is one in full, or a range
// such as "1.x" of which the highest is taken; empty or "*" is the latest that
// is not a prerelease. What can never work is an ErrInvalidSpec.
func (r *Repository) Chart(name, version string) (*Chart, error) {
	c := &Chart{repo: r, name: name, version: version}
	var errs []error
	if !chartName.MatchString(name) {
		errs = append(errs, fmt.Errorf("%q is not the name of a chart", name))
	}
	_, err := semver.NewConstraint(orLatest(version))
	if _, exact := semver.NewVersion(version); err != nil && exact != nil {
		errs = append(errs, fmt.Errorf("version %q: %w", version, err))
	}
	if r.url == nil && len(errs) == 0 {
		c.image, err = r.imageOf(name, version)
		var typed *source.Error
		if errors.As(err, &typed) {
			err = typed.Err
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, &source.Error{Op: "new", Source: c.String(), Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))}
	}
	return c, nil
}

// besidesPackage is what manifests and signatures may have, or a list of tags.
const besidesPackage = 16 << 20

// imageOf is the chart in a registry.
func (r *Repository) imageOf(name, version string) (*oci.Repository, error) {
	opts := &oci.Options{
		Layer:    oci.Layer{MediaType: oci.ChartMediaType, Operation: oci.CopyLayer},
		Verifier: r.opts.Verifier, Client: r.opts.Client, Limits: r.limits(),
	}
	// The package is one file, and arrives together with manifests.
	opts.Limits.File = opts.Limits.Download
	opts.Limits.Download += min(besidesPackage, math.MaxInt64-opts.Limits.Download)
	if r.opts.Username != "" {
		opts.Keychain = keychain{r.opts.Username, r.opts.Password}
	}
	if _, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v")); err == nil {
		opts.Ref.Tag = strings.ReplaceAll(version, "+", "_")
	} else {
		opts.Ref.SemVer = orLatest(version)
	}
	return oci.New(r.oci+"/"+name, opts)
}

// String is the chart and its repository.
func (c *Chart) String() string {
	return fmt.Sprintf("chart %s %s of %s", c.name, orLatest(c.version), c.repo)
}

// Resolve says which version of the chart there is. The revision has the
// version and the digest of the package, or in a registry that of the manifest.
func (c *Chart) Resolve(ctx context.Context) (source.Revision, error) {
	var rev source.Revision
	err := c.repo.operation(ctx, "resolve", c.String(), func(ctx context.Context) error {
		var err error
		if c.image != nil {
			rev, err = c.image.Resolve(ctx)
			rev.Ref = strings.ReplaceAll(rev.Ref, "_", "+")
			return err
		}
		rev, err = c.resolve(ctx)
		return err
	})
	if err != nil {
		return source.Revision{}, err
	}
	return rev, nil
}

func (c *Chart) resolve(ctx context.Context) (source.Revision, error) {
	i, err := c.repo.refresh(ctx)
	if err != nil {
		return source.Revision{}, err
	}
	versions, err := i.find(c.name)
	if err != nil {
		return source.Revision{}, err
	}
	v, err := pick(c.name, versions, c.version)
	if err != nil {
		return source.Revision{}, err
	}
	sum := v.Digest
	if sum == "" {
		if sum, err = c.measure(ctx, v); err != nil {
			return source.Revision{}, err
		}
	}
	rev := source.Revision{Ref: v.Version, Digest: sum}
	if _, err := source.ParseRevision(rev.String()); err != nil {
		return source.Revision{}, fmt.Errorf("%w: the index has a malformed digest for chart %s %s: %.80q", source.ErrUnverified, c.name, v.Version, v.Digest)
	}
	return rev, nil
}

// measure downloads a package to know its digest.
func (c *Chart) measure(ctx context.Context, v Version) (digest.Digest, error) {
	id := identity{v.Version, v.URLs[0], v.Created}
	c.mu.Lock()
	known, sum := c.known, c.sum
	c.mu.Unlock()
	if known == id && sum != "" {
		return sum, nil
	}
	data, err := c.repo.archive(ctx, v)
	if err != nil {
		return "", err
	}
	sum = digest.FromBytes(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.sum = id, sum
	return sum, nil
}

// Archive is a chart as a repository serves it.
type Archive struct {
	*chart.Package
	// Revision is the one that was asked for.
	Revision source.Revision
	// Metadata are the annotations of the manifest, in a registry.
	Metadata map[string]string
	// Verified says who vouched for it, in a registry.
	Verified []source.Evidence
}

// Fetch returns the files of the chart of exactly that revision.
func (c *Chart) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	a, err := c.download(ctx, "fetch", rev)
	if err != nil {
		return nil, err
	}
	return source.NewArtifact(rev, a.FS(), &source.ArtifactOptions{Metadata: a.Metadata, Verified: a.Verified}), nil
}

// Download returns the package of exactly that revision, byte for byte.
func (c *Chart) Download(ctx context.Context, rev source.Revision) (*Archive, error) {
	return c.download(ctx, "download", rev)
}

func (c *Chart) download(ctx context.Context, op string, rev source.Revision) (*Archive, error) {
	a := &Archive{Revision: rev}
	err := c.repo.operation(ctx, op, c.String(), func(ctx context.Context) error {
		if err := checkRevision(rev); err != nil {
			return err
		}
		var data []byte
		var err error
		if c.image != nil {
			data, err = c.pull(ctx, rev, a)
		} else {
			data, err = c.get(ctx, rev)
		}
		if err != nil {
			return err
		}
		a.Package, err = chart.Open(ctx, data, c.repo.opts.Limits)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// pull reads the package from a registry.
func (c *Chart) pull(ctx context.Context, rev source.Revision, a *Archive) ([]byte, error) {
	artifact, err := c.image.Fetch(ctx, rev)
	if err != nil {
		return nil, err
	}
	defer artifact.Close()
	a.Metadata, a.Verified = artifact.Metadata, artifact.Verified
	name := a.Metadata[oci.MetaFile]
	delete(a.Metadata, oci.MetaFile)
	return fs.ReadFile(artifact, name)
}

// get downloads the package of a revision that the index has.
func (c *Chart) get(ctx context.Context, rev source.Revision) ([]byte, error) {
	if i := c.repo.held(); i != nil {
		if v, err := i.at(c.name, rev); err == nil {
			return c.repo.verified(ctx, v, rev.Digest)
		}
	}
	i, err := c.repo.refresh(ctx)
	if err != nil {
		return nil, err
	}
	v, err := i.at(c.name, rev)
	if err != nil {
		return nil, err
	}
	return c.repo.verified(ctx, v, rev.Digest)
}

// at is the version of a revision.
func (i *index) at(name string, rev source.Revision) (Version, error) {
	versions, err := i.find(name)
	if err != nil {
		return Version{}, err
	}
	for _, v := range versions {
		if v.Version == rev.Ref && (v.Digest == "" || v.Digest == rev.Digest) {
			return v, nil
		}
	}
	return Version{}, fmt.Errorf("%w: the repository has no chart %s at revision %s any more", source.ErrNotFound, name, rev)
}

// verified downloads a package and compares its digest.
func (r *Repository) verified(ctx context.Context, v Version, want digest.Digest) ([]byte, error) {
	data, err := r.archive(ctx, v)
	if err != nil {
		return nil, err
	}
	switch got := digest.FromBytes(data); {
	case got == want:
		return data, nil
	case v.Digest == "":
		return nil, fmt.Errorf("%w: the package of chart %s %s is no longer %s but %s", source.ErrNotFound, v.Name, v.Version, want, got)
	default:
		return nil, fmt.Errorf("%w: the package of chart %s %s is %s, and the index says %s", source.ErrUnverified, v.Name, v.Version, got, want)
	}
}

// archive downloads a package from the first of its URLs.
func (r *Repository) archive(ctx context.Context, v Version) ([]byte, error) {
	at, err := r.locate(v.URLs[0])
	if err != nil {
		return nil, fmt.Errorf("chart %s %s: %w", v.Name, v.Version, err)
	}
	// Some servers say that a .tgz is something that was compressed on the way.
	res, err := r.get(ctx, at, http.Header{"Accept-Encoding": {"identity"}})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	most := r.limits().Download
	return io.ReadAll(&bounded{res.Body, most, fmt.Sprintf("the package of chart %s %s is larger than %d bytes (Limits.Download)", v.Name, v.Version, most)})
}

// locate makes the URL of a package absolute. Like Helm it gives relative ones
// the query of the repository, where some keep a token.
func (r *Repository) locate(text string) (*url.URL, error) {
	ref, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: the index has a malformed URL", source.ErrUnavailable)
	}
	base := *r.url
	base.Path, base.RawPath = strings.TrimSuffix(base.Path, "/")+"/", ""
	at := base.ResolveReference(ref)
	if !ref.IsAbs() && ref.Host == "" && ref.RawQuery == "" {
		at.RawQuery = r.url.RawQuery
	}
	switch {
	case at.Scheme != "https" && at.Scheme != r.url.Scheme:
		return nil, fmt.Errorf("%w: the index has a URL of scheme %.20q: want https", source.ErrUnavailable, at.Scheme)
	case at.User != nil || at.Host == "":
		return nil, fmt.Errorf("%w: the index has a URL with credentials or without a host", source.ErrUnavailable)
	}
	return at, nil
}

// Resolver provides the dependencies of charts, see package chart. The zero
// value reads without credentials.
type Resolver struct {
	// Options are those of a repository, as Chart.yaml has its URL. Nil means
	// the defaults for each.
	Options func(ctx context.Context, repository string) (*Options, error)
}

var _ chart.Resolver = (*Resolver)(nil)

// ResolveChart implements chart.Resolver.
func (r *Resolver) ResolveChart(ctx context.Context, repository, name, version string) ([]byte, error) {
	var opts *Options
	if r.Options != nil {
		var err error
		if opts, err = r.Options(ctx, repository); err != nil {
			return nil, err
		}
	}
	repo, err := New(repository, opts)
	if err != nil {
		return nil, err
	}
	c, err := repo.Chart(name, version)
	if err != nil {
		return nil, err
	}
	rev, err := c.Resolve(ctx)
	if err != nil {
		return nil, err
	}
	a, err := c.Download(ctx, rev)
	if err != nil {
		return nil, err
	}
	return a.Data, nil
}
