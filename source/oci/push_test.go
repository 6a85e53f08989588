package oci_test

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

var insecure = oci.Client{Insecure: true}

func TestPush(t *testing.T) {
	srv, url := newRegistry(t)
	files := tree(t, map[string]string{"app.yaml": "a", "dir/b.yaml": "b"})
	opts := &oci.PushOptions{Source: "https://example.com/app", Revision: "main@sha1:1", Annotations: map[string]string{"own": "1"}, Tags: []string{"1.0.0"}, Client: insecure}
	first, err := oci.Push(t.Context(), url+":latest", files, opts)
	if err != nil {
		t.Fatal(err)
	}
	var m v1.Manifest
	if err := json.Unmarshal(srv.Manifest("org/app", "1.0.0"), &m); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"own": "1", oci.AnnotationSource: opts.Source, oci.AnnotationRevision: opts.Revision, oci.AnnotationCreated: "1970-01-01T00:00:00Z",
	}
	if diff := cmp.Diff(want, m.Annotations); diff != "" {
		t.Error(diff)
	}
	if m.MediaType != types.OCIManifestSchema1 || m.Config.MediaType != oci.ConfigMediaType || len(m.Layers) != 1 || m.Layers[0].MediaType != oci.ContentMediaType {
		t.Errorf("not what Flux pushes: %+v", m)
	}
	a := get(t, open(t, url, nil))
	if a.Revision.Digest != first {
		t.Errorf("pushed %s, found %s", first, a.Revision)
	}
	got, err := a.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := source.ContentDigest(t.Context(), files); got != want {
		t.Errorf("content %s, want %s", got, want)
	}
	again, err := oci.Push(t.Context(), url+":again", files, &oci.PushOptions{Source: opts.Source, Revision: opts.Revision, Annotations: opts.Annotations, Client: insecure})
	if err != nil || again != first {
		t.Errorf("the same tree gave %s and %s, %v", first, again, err)
	}
	opts.Created = time.Date(2024, 1, 1, 2, 0, 0, 0, time.FixedZone("", 7200))
	if _, err := oci.Push(t.Context(), url+":dated", files, opts); err != nil || !strings.Contains(string(srv.Manifest("org/app", "dated")), `"2024-01-01T00:00:00Z"`) {
		t.Errorf("created: %v", err)
	}
}

// What is pushed is an image to others, and what others push is read.
func TestPeer(t *testing.T) {
	_, url := newRegistry(t)
	if _, err := oci.Push(t.Context(), url+":ours", tree(t, map[string]string{"a": "1"}), &oci.PushOptions{Client: insecure}); err != nil {
		t.Fatal(err)
	}
	ref := func(tag string) name.Tag {
		r, err := name.NewTag(strings.TrimPrefix(url, oci.Scheme)+":"+tag, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	base := (&closing{}).of(t)
	img, err := remote.Image(ref("ours"), remote.WithTransport(base))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Errorf("our image is not valid to the peer: %v", err)
	}
	theirs := mutate.Annotations(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), oci.ConfigMediaType), map[string]string{"a": "b"}).(v1.Image)
	theirs, err = mutate.Append(theirs, mutate.Addendum{Layer: static.NewLayer(archive(t, map[string]string{"a": "theirs"}), oci.ContentMediaType)})
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref("theirs"), theirs, remote.WithTransport(base)); err != nil {
		t.Fatal(err)
	}
	a := get(t, open(t, url, &oci.Options{Ref: oci.Ref{Tag: "theirs"}}))
	want, err := theirs.Digest()
	if err != nil || a.Revision.Digest.String() != want.String() || text(t, a, "a") != "theirs" || a.Metadata["a"] != "b" {
		t.Errorf("%s, want %s, %v, %v", a.Revision, want, a.Metadata, err)
	}
}

func TestPushRefuses(t *testing.T) {
	srv, url := newRegistry(t)
	good := tree(t, map[string]string{"a": "1"})
	for _, test := range []struct {
		dst   string
		opts  *oci.PushOptions
		class error
	}{
		{strings.TrimSuffix(url, "/org/app"), nil, source.ErrInvalidSpec},
		{"oci://me:secret@example.com/app:1", nil, source.ErrInvalidSpec},
		{url, nil, source.ErrInvalidSpec}, // no tag
		{url + ":1", &oci.PushOptions{Tags: []string{"a/b"}, Client: insecure}, source.ErrInvalidSpec},
		{url + ":1", &oci.PushOptions{Limits: source.Limits{Files: -9}, Client: insecure}, source.ErrInvalidSpec},
		{url + ":1", nil, source.ErrUnavailable}, // plain HTTP
	} {
		if _, err := oci.Push(t.Context(), test.dst, good, test.opts); !errors.Is(err, test.class) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", test.dst, err)
		}
	}
	big := fstest.MapFS{"a": {Data: make([]byte, 2000)}}
	if _, err := oci.Push(t.Context(), url+":1", big, &oci.PushOptions{Limits: source.Limits{File: 1000}, Client: insecure}); !errors.Is(err, source.ErrLimit) {
		t.Errorf("more than the limit: %v", err)
	}
	if n := srv.Count("PUT", ""); n > 0 {
		t.Errorf("%d uploads", n)
	}
	srv.Username, srv.Password = "me", "secret"
	if _, err := oci.Push(t.Context(), url+":1", good, &oci.PushOptions{Client: insecure}); !errors.Is(err, source.ErrUnauthorized) {
		t.Errorf("without credentials: %v", err)
	}
}

func TestTagAndCopy(t *testing.T) {
	srv, url := newRegistry(t)
	d := put(t, srv, "a", "latest")
	if err := oci.Tag(t.Context(), url+":latest", &insecure, "stable", "1.0.0"); err != nil {
		t.Fatal(err)
	}
	if a := get(t, open(t, url, &oci.Options{Ref: oci.Ref{Tag: "stable"}})); a.Revision.Digest.String() != d {
		t.Errorf("stable is %s, want %s", a.Revision, d)
	}
	if err := oci.Tag(t.Context(), url+":none", &insecure, "x"); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("no such tag: %v", err)
	}
	index, err := random.Index(100, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(url, oci.Scheme)
	ref, err := name.NewTag(host+":index", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index, remote.WithTransport((&closing{}).of(t))); err != nil {
		t.Fatal(err)
	}
	other, to := newRegistry(t)
	for _, tag := range []string{"latest", "index"} {
		got, err := oci.Copy(t.Context(), to+":"+tag, url+":"+tag, &insecure)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(srv.Manifest("org/app", tag)), string(other.Manifest("org/app", tag))); diff != "" || got.String() == "" {
			t.Error(diff)
		}
	}
}
