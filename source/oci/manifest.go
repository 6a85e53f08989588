package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// maxManifest is what the distribution specification wants registries to
// accept at least, and most accept at most.
const maxManifest = 4 << 20

func manifestTypes() []string {
	return []string{
		string(types.OCIManifestSchema1), string(types.OCIImageIndex),
		string(types.DockerManifestSchema2), string(types.DockerManifestList),
	}
}

// head is the digest of a tag. Registries that do not know HEAD, or do not say
// the digest, are asked for the whole manifest.
func (c *conn) head(ctx context.Context, tag string) (digest.Digest, error) {
	res, err := c.get(ctx, http.MethodHead, "manifests/"+tag, manifestTypes()...)
	if err == nil {
		_ = res.Body.Close()
		if d, err := parseDigest(res.Header.Get("Docker-Content-Digest")); err == nil {
			return d, nil
		}
	} else if errors.Is(err, source.ErrUnauthorized) || ctx.Err() != nil {
		return "", err
	}
	m, err := c.manifest(ctx, tag)
	if err != nil {
		return "", err
	}
	return m.Digest, nil
}

// manifest reads a manifest or index by tag or digest.
func (c *conn) manifest(ctx context.Context, reference string) (*Manifest, error) {
	res, err := c.get(ctx, http.MethodGet, "manifests/"+reference, manifestTypes()...)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := readAll(res.Body, min(maxManifest, c.limits.Download), "the manifest")
	if err != nil {
		return nil, err
	}
	m := &Manifest{Digest: digest.FromBytes(data), MediaType: res.Header.Get("Content-Type"), Data: data}
	if strings.Contains(reference, ":") && reference != m.Digest.String() {
		return nil, fmt.Errorf("%w: the registry sent another manifest for %s: %s", source.ErrUnverified, reference, m.Digest)
	}
	// The content has the last word on what it is: it is what the digest covers.
	var own struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(data, &own) == nil && own.MediaType != "" {
		m.MediaType = own.MediaType
	}
	return m, nil
}

func readAll(r io.Reader, most int64, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return nil, answered(err)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", source.ErrLimit, what, most)
	}
	return data, nil
}

func isIndex(m *Manifest) bool { return types.MediaType(m.MediaType).IsIndex() }

// choose finds the image for a platform. An index of one image needs no
// platform, as in those that only carry an attestation beside it.
func choose(m *Manifest, want v1.Platform) (v1.Hash, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(m.Data))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%w: index %s: %w", source.ErrUnverified, m.Digest, err)
	}
	var offered []string
	for _, d := range index.Manifests {
		if !d.MediaType.IsImage() {
			continue
		}
		if d.Platform != nil && d.Platform.Satisfies(want) || d.Platform == nil && len(index.Manifests) == 1 {
			return d.Digest, nil
		}
		if d.Platform != nil && len(offered) < 20 {
			offered = append(offered, short(d.Platform.String()))
		}
	}
	return v1.Hash{}, fmt.Errorf("%w: index %s has no image for %s, but for [%s]: set Options.Platform", source.ErrNotFound, m.Digest, want, strings.Join(offered, ", "))
}

func decodeImage(m *Manifest) (*v1.Manifest, error) {
	if !types.MediaType(m.MediaType).IsImage() {
		return nil, fmt.Errorf("%w: manifest %s is a %q, not an image", source.ErrUnverified, m.Digest, short(m.MediaType))
	}
	image, err := v1.ParseManifest(bytes.NewReader(m.Data))
	if err != nil {
		return nil, fmt.Errorf("%w: manifest %s: %w", source.ErrUnverified, m.Digest, err)
	}
	return image, nil
}

// blob lets read have the bytes of a blob and then says whether they were the
// right ones, which comes before any error of read.
func (c *conn) blob(ctx context.Context, d v1.Descriptor, read func(io.Reader) error) error {
	if _, err := parseDigest(d.Digest.String()); err != nil {
		return fmt.Errorf("%w: descriptor of a blob: %w", source.ErrUnverified, err)
	}
	if d.Size > c.limits.Download {
		return fmt.Errorf("%w: blob %s has %d bytes, more than Limits.Download", source.ErrLimit, d.Digest, d.Size)
	}
	res, err := c.get(ctx, http.MethodGet, "blobs/"+d.Digest.String())
	if err != nil {
		return err
	}
	defer res.Body.Close()
	h := sha256.New()
	in := &countingReader{r: io.LimitReader(io.TeeReader(res.Body, h), d.Size+1)}
	readErr := read(in)
	if errors.Is(readErr, source.ErrLimit) || ctx.Err() != nil {
		return readErr
	}
	if in.err == nil {
		_, _ = io.Copy(io.Discard, in)
	}
	switch got := digest.NewDigest(digest.SHA256, h).String(); {
	case in.err != nil && !errors.Is(in.err, io.EOF):
		return answered(in.err)
	case in.n < d.Size:
		return fmt.Errorf("%w: blob %s ends after %d of %d bytes", source.ErrUnavailable, d.Digest, in.n, d.Size)
	case in.n > d.Size || got != d.Digest.String():
		return fmt.Errorf("%w: the registry sent other bytes for blob %s", source.ErrUnverified, d.Digest)
	}
	return readErr
}

type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err != nil {
		r.err = err
	}
	return n, err
}

// referrers lists what refers to a manifest.
func (c *conn) referrers(ctx context.Context, d digest.Digest) ([]v1.Descriptor, error) {
	res, err := c.get(ctx, http.MethodGet, "referrers/"+d.String(), string(types.OCIImageIndex))
	var data []byte
	switch {
	case err == nil:
		defer res.Body.Close()
		if data, err = readAll(res.Body, min(maxManifest, c.limits.Download), "the list of referrers"); err != nil {
			return nil, err
		}
		if next, err := nextPage(res); err != nil || next != nil {
			return nil, fmt.Errorf("%w: manifest %s has more referrers than fit into one answer", source.ErrLimit, d)
		}
	case errors.Is(err, source.ErrNotFound):
		m, err := c.manifest(ctx, strings.Replace(d.String(), ":", "-", 1))
		if errors.Is(err, source.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		data = m.Data
	default:
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: referrers of %s: %w", source.ErrUnavailable, d, err)
	}
	return index.Manifests, nil
}

// tags lists all tags, page by page.
func (c *conn) tags(ctx context.Context) ([]string, error) {
	at := &url.URL{Scheme: c.repo.Scheme(), Host: c.repo.RegistryStr(), Path: "/v2/" + c.repo.RepositoryStr() + "/tags/list", RawQuery: "n=1000"}
	var tags []string
	for at != nil {
		page, next, err := c.page(ctx, at)
		if err != nil {
			return nil, err
		}
		tags = append(tags, page...)
		if len(tags) > c.limits.Files {
			return nil, fmt.Errorf("%w: the repository has more than %d tags (Limits.Files)", source.ErrLimit, c.limits.Files)
		}
		if next != nil && len(page) == 0 {
			return nil, fmt.Errorf("%w: the list of tags has a page without tags", source.ErrUnavailable)
		}
		at = next
	}
	return tags, nil
}

func (c *conn) page(ctx context.Context, at *url.URL) ([]string, *url.URL, error) {
	res, err := c.ask(ctx, http.MethodGet, at)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	data, err := readAll(res.Body, c.limits.Download, "a page of tags")
	if err != nil {
		return nil, nil, err
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, nil, fmt.Errorf("%w: the list of tags: %w", source.ErrUnavailable, err)
	}
	next, err := nextPage(res)
	return list.Tags, next, err
}

// nextPage is where the server says that the rest of a list is: on the same
// host, or nowhere.
func nextPage(res *http.Response) (*url.URL, error) {
	target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(res.Header.Get("Link")), "<"), ">")
	if !ok || !strings.Contains(rest, "next") {
		return nil, nil //nolint:nilnil // nil is the end
	}
	next, err := res.Request.URL.Parse(target)
	if err != nil || next.Scheme != res.Request.URL.Scheme || next.Host != res.Request.URL.Host || next.User != nil {
		return nil, fmt.Errorf("%w: the next page is not on the same host", source.ErrUnavailable)
	}
	return next, nil
}
