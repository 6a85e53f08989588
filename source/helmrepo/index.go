package helmrepo

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/source"
)

// IndexFile is the one file of the artifact of an Index.
const IndexFile = "index.yaml"

// Index is a source of the index of a repository over HTTP. Revisions are
// "sha256:<hex>" of its bytes. Make one with Repository.Index.
type Index struct{ repo *Repository }

var _ source.Source = (*Index)(nil)

// Index is the index as a source. Registries have none: an ErrInvalidSpec.
func (r *Repository) Index() (*Index, error) {
	if r.url == nil {
		return nil, &source.Error{Op: "new", Source: r.String(), Err: fmt.Errorf("%w: an OCI registry has no index", source.ErrInvalidSpec)}
	}
	return &Index{r}, nil
}

// String is the URL.
func (x *Index) String() string { return "index of " + x.repo.String() }

// Resolve asks for the index, by the validators of the last one, checks that it
// is one, and returns its digest.
func (x *Index) Resolve(ctx context.Context) (source.Revision, error) {
	var rev source.Revision
	err := x.repo.operation(ctx, "resolve", x.String(), func(ctx context.Context) error {
		i, err := x.repo.refresh(ctx)
		if err == nil {
			rev.Digest = i.digest
		}
		return err
	})
	return rev, err
}

// Fetch returns the index as its only file, IndexFile. If the repository has
// another one by now, it returns ErrNotFound.
func (x *Index) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	var a *source.Artifact
	err := x.repo.operation(ctx, "fetch", x.String(), func(ctx context.Context) error {
		if err := checkRevision(rev); err != nil {
			return err
		}
		i := x.repo.held()
		if i == nil || i.digest != rev.Digest {
			var err error
			if i, err = x.repo.refresh(ctx); err != nil {
				return err
			}
		}
		if i.digest != rev.Digest || rev.Ref != "" {
			return fmt.Errorf("%w: the index has changed: it is no longer %s but %s", source.ErrNotFound, rev, i.digest)
		}
		data, err := i.bytes()
		if err != nil {
			return err
		}
		tree, err := source.MapFS(map[string][]byte{IndexFile: data})
		a = source.NewArtifact(rev, tree, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func checkRevision(rev source.Revision) error {
	if parsed, err := source.ParseRevision(rev.String()); err != nil || parsed != rev || rev.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%w: revision %q: want one that Resolve returned", source.ErrInvalidSpec, rev)
	}
	return nil
}

// index is one index, compressed, as most of its text is repetition.
type index struct {
	digest     digest.Digest
	zipped     []byte
	conditions http.Header // nil when the server gave no validators

	mu       sync.Mutex
	versions map[string][]Version // of the charts that were asked for
}

func (r *Repository) held() *index {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index
}

// refresh asks for the index if it has changed.
func (r *Repository) refresh(ctx context.Context) (*index, error) {
	held := r.held()
	var conditions http.Header
	if held != nil {
		conditions = held.conditions
	}
	at := r.url.JoinPath(IndexFile)
	res, err := r.get(ctx, at, conditions)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		return held, nil
	}
	fresh, err := receive(&bounded{res.Body, r.opts.IndexSize, fmt.Sprintf("the index is larger than %d bytes (Options.IndexSize)", r.opts.IndexSize)})
	if err != nil {
		return nil, err
	}
	fresh.conditions = validators(res.Header)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index != nil && r.index.digest == fresh.digest {
		fresh.versions = r.index.known() // the server has no validators, or new ones
	}
	r.index = fresh
	return fresh, nil
}

func (i *index) known() map[string][]Version {
	i.mu.Lock()
	defer i.mu.Unlock()
	return maps.Clone(i.versions)
}

func validators(h http.Header) http.Header {
	conditions := http.Header{}
	if tag := h.Get("ETag"); tag != "" {
		conditions.Set("If-None-Match", tag)
	}
	if at := h.Get("Last-Modified"); at != "" {
		conditions.Set("If-Modified-Since", at)
	}
	if len(conditions) == 0 {
		return nil
	}
	return conditions
}

// receive reads an index and looks at what it is.
func receive(r io.Reader) (*index, error) {
	var zipped bytes.Buffer
	zip, err := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(h, zip), r); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	i := &index{digest: digest.NewDigest(digest.SHA256, h), zipped: zipped.Bytes(), versions: map[string][]Version{}}
	in, err := i.open()
	if err != nil {
		return nil, err
	}
	if s := slice(in, ""); s.known {
		if !s.version {
			return nil, errNoIndex
		}
		return i, nil
	}
	_, err = i.parse()
	return i, err
}

var errNoIndex = fmt.Errorf("%w: this is no index of a Helm repository: it has no apiVersion", source.ErrUnverified)

func (i *index) open() (io.Reader, error) { return gzip.NewReader(bytes.NewReader(i.zipped)) }

func (i *index) bytes() ([]byte, error) {
	in, err := i.open()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(in)
}

// parse reads all of an index, for those whose layout slice does not know.
func (i *index) parse() (map[string][]*entry, error) {
	data, err := i.bytes()
	if err != nil {
		return nil, err
	}
	var all struct {
		APIVersion string              `json:"apiVersion"`
		Entries    map[string][]*entry `json:"entries"`
	}
	if err := yaml.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%w: this is no index of a Helm repository: %w", source.ErrUnverified, shorten(err))
	}
	if all.APIVersion == "" {
		return nil, errNoIndex
	}
	return all.Entries, nil
}

// shorten keeps what an error repeats of its input small.
func shorten(err error) error {
	const most = 200
	if text := err.Error(); len(text) > most {
		return errors.New(strings.ToValidUTF8(text[:most], "?") + "...")
	}
	return err
}

// find lists the versions of a chart, the highest first.
func (i *index) find(name string) ([]Version, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if versions, ok := i.versions[name]; ok {
		return versions, nil
	}
	entries, err := i.entries(name)
	if err != nil {
		return nil, err
	}
	versions := sorted(name, entries)
	if len(versions) > 0 {
		i.versions[name] = versions
	}
	return versions, nil
}

func (i *index) entries(name string) ([]*entry, error) {
	in, err := i.open()
	if err != nil {
		return nil, err
	}
	s := slice(in, name)
	if s.known {
		if s.text == nil {
			return nil, nil
		}
		part := map[string][]*entry{}
		if yaml.Unmarshal(s.text, &part) == nil {
			return part[name], nil
		}
	}
	all, err := i.parse()
	return all[name], err
}
