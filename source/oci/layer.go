package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gitopskit/gitopskit/source"
)

// The media types of the artifacts that Flux pushes, and of Helm charts.
const (
	ConfigMediaType  = "application/vnd.cncf.flux.config.v1+json"
	ContentMediaType = "application/vnd.cncf.flux.content.v1.tar+gzip"
	ChartMediaType   = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// MetaFile is the metadata key under which a copied layer has its file name.
const MetaFile = "oci.file"

// Operation is what becomes of a layer.
type Operation int

const (
	// ExtractLayer opens the layer, a tar archive with or without gzip.
	ExtractLayer Operation = iota
	// CopyLayer takes the layer as one file, byte for byte, "<hex of its digest>.tgz",
	// which the artifact's metadata names under MetaFile.
	CopyLayer
)

// Layer says which layer of an image is the content. The zero value is the
// first one, extracted.
type Layer struct {
	// MediaType chooses the first layer of that media type. Empty means the
	// first layer.
	MediaType string
	// Operation is what becomes of it. Zero is ExtractLayer.
	Operation Operation
}

func (l Layer) check() error {
	if l.Operation < ExtractLayer || l.Operation > CopyLayer {
		return fmt.Errorf("Layer.Operation is %d, which is none", l.Operation)
	}
	return nil
}

// of finds the layer in an image.
func (l Layer) of(m *v1.Manifest) (v1.Descriptor, error) {
	if len(m.Layers) == 0 {
		return v1.Descriptor{}, fmt.Errorf("%w: the image has no layers", source.ErrNotFound)
	}
	if l.MediaType == "" {
		return m.Layers[0], nil
	}
	for _, d := range m.Layers {
		if d.MediaType == types.MediaType(l.MediaType) {
			return d, nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("%w: none of the %d layers of the image is a %q: the first one is a %q", source.ErrNotFound, len(m.Layers), l.MediaType, short(string(m.Layers[0].MediaType)))
}

// open reads the layer.
func (l Layer) open(ctx context.Context, c *conn, rev source.Revision, d v1.Descriptor) (tree fs.FS, metadata map[string]string, err error) {
	if l.Operation == CopyLayer {
		if d.Size > c.limits.File {
			return nil, nil, fmt.Errorf("%w: the layer has %d bytes, more than Limits.File", source.ErrLimit, d.Size)
		}
		name := d.Digest.Hex + ".tgz"
		var data []byte
		if err = c.blob(ctx, d, func(r io.Reader) error { data, err = io.ReadAll(r); return err }); err != nil {
			return nil, nil, err
		}
		tree, err = source.MapFS(map[string][]byte{name: data})
		return tree, map[string]string{MetaFile: name}, err
	}
	err = c.blob(ctx, d, func(r io.Reader) error {
		a, err := source.ReadArchive(ctx, rev, r, &source.ReadArchiveOptions{Limits: unlimit(c.limits)})
		if err != nil {
			return err
		}
		tree, metadata = a, a.Metadata
		return nil
	})
	if errors.Is(err, source.ErrUnverified) {
		err = fmt.Errorf("layer of type %q: %w", short(string(d.MediaType)), err)
	}
	return tree, metadata, err
}

// unlimit leaves the counting of received bytes to the link.
func unlimit(l source.Limits) source.Limits {
	l.Download = source.Unlimited
	return l
}
