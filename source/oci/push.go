package oci

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/gitopskit/gitopskit/source"
)

// The annotations that say where an artifact comes from.
const (
	AnnotationSource   = "org.opencontainers.image.source"
	AnnotationRevision = "org.opencontainers.image.revision"
	AnnotationCreated  = "org.opencontainers.image.created"
)

// PushOptions are the optional parts of Push.
type PushOptions struct {
	// Source is where the files come from, usually the URL of a Git
	// repository, and Revision which of its revisions they are. They become
	// AnnotationSource and AnnotationRevision.
	Source, Revision string
	// Created becomes AnnotationCreated, in UTC. Zero is the Unix epoch, so
	// that equal trees have equal digests whenever they are pushed.
	Created time.Time
	// Annotations are added to the manifest's.
	Annotations map[string]string
	// Tags are further tags of the same manifest.
	Tags []string
	Client
	// Limits bound the tree: Unpacked, File, Files and Depth. The zero value is
	// the defaults.
	Limits source.Limits
}

// Push stores the files of a tree in a registry, as an artifact that Flux
// reads, and returns the digest of its manifest. dst is
// "oci://host/path:tag". The archive is that of source.WriteArchive: no
// owners, no times, links refused. To leave files out, pass a view of the tree
// without them.
func Push(ctx context.Context, dst string, tree fs.FS, opts *PushOptions) (digest.Digest, error) {
	if opts == nil {
		opts = &PushOptions{}
	}
	ref, l, err := target("push", dst, &opts.Client, opts.Limits, opts.Tags...)
	if err != nil {
		return "", err
	}
	var d digest.Digest
	limits := opts.Limits.OrDefaults()
	err = operate(ctx, &opts.Client, l, limits, "push", Scheme+ref.Name(), func(ctx context.Context) error {
		var archive bytes.Buffer
		if err := source.WriteArchive(ctx, &archive, tree, nil); err != nil {
			return err
		}
		// Whoever reads it has limits too: what is pushed can be fetched.
		limits.Download = source.Unlimited
		if _, err := source.ReadArchive(ctx, source.Revision{}, bytes.NewReader(archive.Bytes()), &source.ReadArchiveOptions{Limits: limits}); err != nil {
			return err
		}
		var err error
		d, err = push(ctx, l, ref, archive.Bytes(), opts)
		return err
	})
	return d, err
}

// target checks everything about a push that can be known without a network.
func target(op, dst string, client *Client, limits source.Limits, tags ...string) (name.Tag, link, error) {
	nameOpts := []name.Option{name.StrictValidation}
	if client.Insecure {
		nameOpts = append(nameOpts, name.Insecure)
	}
	var errs []error
	var ref name.Tag
	var err error
	if strings.ContainsRune(dst, '@') {
		errs = append(errs, errors.New("the destination contains credentials or a digest: want oci://host/path:tag"))
	} else if ref, err = name.NewTag(strings.TrimPrefix(dst, Scheme), nameOpts...); err != nil {
		errs = append(errs, fmt.Errorf("the destination: %w", err))
	}
	for _, tag := range tags {
		if !tagForm.MatchString(tag) {
			errs = append(errs, fmt.Errorf("%q is not a tag", tag))
		}
	}
	if err := limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	l, err := client.link()
	if err := errors.Join(append(errs, err)...); err != nil {
		return ref, l, &source.Error{Op: op, Source: redact(dst), Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)}
	}
	return ref, l, nil
}

func push(ctx context.Context, l link, ref name.Tag, archive []byte, opts *PushOptions) (digest.Digest, error) {
	c, err := dial(ctx, l, ref.Repository, opts.Keychain, source.Limits{}, transport.PushScope)
	if err != nil {
		return "", err
	}
	config, err := imageConfig(archive)
	if err != nil {
		return "", err
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Annotations: opts.annotations()}
	put := func(data []byte, mediaType types.MediaType) (v1.Descriptor, error) {
		sum := digest.FromBytes(data)
		d := v1.Descriptor{MediaType: mediaType, Size: int64(len(data)), Digest: v1.Hash{Algorithm: "sha256", Hex: sum.Encoded()}}
		return d, answered(remote.WriteLayer(ref.Repository, static.NewLayer(data, mediaType), c.options(ctx)...))
	}
	if m.Config, err = put(config, ConfigMediaType); err != nil {
		return "", err
	}
	layer, err := put(archive, ContentMediaType)
	if err != nil {
		return "", err
	}
	m.Layers = []v1.Descriptor{layer}
	data, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	for _, tag := range append([]string{ref.TagStr()}, opts.Tags...) {
		if err := remote.Put(ref.Tag(tag), rawManifest{data, types.OCIManifestSchema1}, c.options(ctx)...); err != nil {
			return "", answered(err)
		}
	}
	return digest.FromBytes(data), nil
}

// options make package remote use what dial found out. It does not retry:
// whoever called does.
func (c *conn) options(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(c.client.Transport),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryStatusCodes(),
	}
}

func (o *PushOptions) annotations() map[string]string {
	all := maps.Clone(o.Annotations)
	if all == nil {
		all = map[string]string{}
	}
	created := o.Created
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	all[AnnotationCreated] = created.UTC().Format(time.RFC3339)
	if o.Source != "" {
		all[AnnotationSource] = o.Source
	}
	if o.Revision != "" {
		all[AnnotationRevision] = o.Revision
	}
	return all
}

// imageConfig is the least that makes the artifact an image of one layer.
func imageConfig(archive []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	id := digest.SHA256.Digester()
	if _, err := io.Copy(id.Hash(), zip); err != nil {
		return nil, err
	}
	return json.Marshal(v1.ConfigFile{RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{{Algorithm: "sha256", Hex: id.Digest().Encoded()}}}})
}

// rawManifest is a manifest to be stored as it is.
type rawManifest struct {
	data      []byte
	mediaType types.MediaType
}

func (m rawManifest) RawManifest() ([]byte, error)        { return m.data, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// Tag gives the manifest at ref, "oci://host/path:tag", further tags. A nil
// client is an anonymous one.
func Tag(ctx context.Context, ref string, client *Client, tags ...string) error {
	if client == nil {
		client = &Client{}
	}
	from, l, err := target("tag", ref, client, source.Limits{}, tags...)
	if err != nil {
		return err
	}
	return operate(ctx, client, l, source.Limits{}.OrDefaults(), "tag", Scheme+from.Name(), func(ctx context.Context) error {
		c, err := dial(ctx, l, from.Repository, client.Keychain, source.Limits{}.OrDefaults(), transport.PushScope)
		if err != nil {
			return err
		}
		m, err := c.manifest(ctx, from.TagStr())
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if err := remote.Put(from.Tag(tag), rawManifest{m.Data, types.MediaType(m.MediaType)}, c.options(ctx)...); err != nil {
				return answered(err)
			}
		}
		return nil
	})
}

// Copy stores the image or index at src under dst, both "oci://host/path:tag",
// byte for byte, with everything it consists of, and returns its digest. What
// refers to it, such as its signatures, is not copied. A nil client is an
// anonymous one; its keychain knows both registries.
func Copy(ctx context.Context, dst, src string, client *Client) (digest.Digest, error) {
	if client == nil {
		client = &Client{}
	}
	to, l, err := target("copy", dst, client, source.Limits{})
	if err != nil {
		return "", err
	}
	from, _, err := target("copy", src, client, source.Limits{})
	if err != nil {
		return "", err
	}
	var d digest.Digest
	limits := source.Limits{}.OrDefaults()
	err = operate(ctx, client, l, limits, "copy", Scheme+from.Name(), func(ctx context.Context) error {
		in, err := dial(ctx, l, from.Repository, client.Keychain, limits, transport.PullScope)
		if err != nil {
			return err
		}
		out, err := dial(ctx, l, to.Repository, client.Keychain, limits, transport.PushScope)
		if err != nil {
			return err
		}
		desc, err := remote.Get(from, in.options(ctx)...)
		if err != nil {
			return answered(err)
		}
		d = digest.Digest(desc.Digest.String())
		if desc.MediaType.IsIndex() {
			index, err := desc.ImageIndex()
			if err != nil {
				return err
			}
			return answered(remote.WriteIndex(to, index, out.options(ctx)...))
		}
		image, err := desc.Image()
		if err != nil {
			return err
		}
		return answered(remote.Write(to, image, out.options(ctx)...))
	})
	return d, err
}

var _ http.RoundTripper = link{}
