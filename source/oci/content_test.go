package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

func TestLayers(t *testing.T) {
	srv, url := newRegistry(t)
	first, second := content(t, map[string]string{"first": "1"}), content(t, map[string]string{"second": "2"})
	second.MediaType = "application/vnd.example"
	srv.Tag("org/app", srv.PutImage("org/app", map[string]string{oci.MetaFile: "spoofed"}, first, second), "latest")

	if got := text(t, get(t, open(t, url, nil)), "first"); got != "1" {
		t.Error(got)
	}
	if got := text(t, get(t, open(t, url, &oci.Options{Layer: oci.Layer{MediaType: "application/vnd.example"}})), "second"); got != "2" {
		t.Error(got)
	}
	err := try(t, open(t, url, &oci.Options{Layer: oci.Layer{MediaType: "application/none"}}), source.ErrNotFound)
	if !strings.Contains(err.Error(), "application/none") {
		t.Error(err)
	}
	a := get(t, open(t, url, &oci.Options{Layer: oci.Layer{MediaType: "application/vnd.example", Operation: oci.CopyLayer}}))
	entries, err := fs.ReadDir(a, ".")
	if err != nil || len(entries) != 1 || entries[0].Name() != a.Metadata[oci.MetaFile] {
		t.Fatalf("%v, %v, %v", entries, a.Metadata, err)
	}
	if text(t, a, a.Metadata[oci.MetaFile]) != string(second.Data) {
		t.Error("a copied layer is another one")
	}
	srv.Tag("org/app", srv.PutImage("org/app", nil), "latest")
	refuses(t, open(t, url, nil), source.ErrNotFound)
}

func TestIndex(t *testing.T) {
	srv, url := newRegistry(t)
	amd := srv.PutImage("org/app", nil, content(t, map[string]string{"a": "amd64"}))
	arm := srv.PutImage("org/app", nil, content(t, map[string]string{"a": "arm64"}))
	index := srv.PutIndex("org/app", registry.Platform{OS: "linux", Architecture: "arm64", Digest: arm}, registry.Platform{OS: "linux", Architecture: "amd64", Digest: amd})
	srv.Tag("org/app", index, "latest")
	for platform, want := range map[string]string{"": "amd64", "linux/arm64": "arm64"} {
		a := get(t, open(t, url, &oci.Options{Platform: platform}))
		if got := text(t, a, "a"); got != want || a.Revision.Digest.String() != index {
			t.Errorf("%q: %s of %s", platform, got, a.Revision)
		}
	}
	err := try(t, open(t, url, &oci.Options{Platform: "windows/amd64"}), source.ErrNotFound)
	if !strings.Contains(err.Error(), "linux/arm64, linux/amd64") {
		t.Errorf("the error does not say what there is: %v", err)
	}
}

func TestNotAnImage(t *testing.T) {
	srv, url := newRegistry(t)
	for _, data := range []string{"", "null", "[]", `{"mediaType":"application/x"}`, `{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":7}`} {
		srv.PutRaw("org/app", "latest", "application/vnd.oci.image.manifest.v1+json", []byte(data))
		rev, err := open(t, url, nil).Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, url, nil).Fetch(t.Context(), rev); err == nil {
			t.Errorf("%s is an image", data)
		}
	}
	layer := registry.Layer{MediaType: oci.ContentMediaType, Data: []byte("\x28\xb5\x2f\xfd....")}
	srv.Tag("org/app", srv.PutImage("org/app", nil, layer), "latest")
	if err := try(t, open(t, url, nil), source.ErrUnverified); !strings.Contains(err.Error(), "zstd") {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	srv, url := newRegistry(t)
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	out := tar.NewWriter(zip)
	_ = out.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: 8 << 20, Mode: 0o600})
	_, _ = out.Write(make([]byte, 8<<20))
	_, _ = out.Close(), zip.Close()
	srv.Tag("org/app", srv.PutImage("org/app", nil, registry.Layer{MediaType: oci.ContentMediaType, Data: bomb.Bytes()}), "bomb")
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("f%d", i)] = strings.Repeat("x", 100)
	}
	files["a/b/c/d/e"] = ""
	srv.Tag("org/app", srv.PutImage("org/app", nil, content(t, files)), "latest")
	for _, test := range []struct {
		tag    string
		limits source.Limits
		op     oci.Operation
		want   string
	}{
		{"bomb", source.Limits{Unpacked: 1 << 20}, oci.ExtractLayer, "Unpacked"},
		{"bomb", source.Limits{File: 1 << 20}, oci.ExtractLayer, "File"},
		{"bomb", source.Limits{Download: 2000}, oci.ExtractLayer, "Download"},
		{"bomb", source.Limits{File: 100}, oci.CopyLayer, "File"},
		{"latest", source.Limits{Files: 20}, oci.ExtractLayer, "20 files"},
		{"latest", source.Limits{Depth: 3}, oci.ExtractLayer, "3 directories"},
		{"latest", source.Limits{Download: 300}, oci.ExtractLayer, ""},
	} {
		err := try(t, open(t, url, &oci.Options{Ref: oci.Ref{Tag: test.tag}, Limits: test.limits, Layer: oci.Layer{Operation: test.op}}), source.ErrLimit)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.limits, err)
		}
	}
}

// Limits.Download is for everything that one call receives.
func TestDownloadIsSummed(t *testing.T) {
	srv, url := newRegistry(t)
	layer := content(t, map[string]string{"a": "b"})
	digest := srv.PutImage("org/app", nil, layer)
	srv.Tag("org/app", digest, "latest")
	manifest := len(srv.Manifest("org/app", digest))
	most := max(manifest, len(layer.Data)) + 50
	if most >= manifest+len(layer.Data) {
		t.Fatalf("%d and %d bytes prove nothing", manifest, len(layer.Data))
	}
	err := try(t, open(t, url, &oci.Options{Limits: source.Limits{Download: int64(most)}}), source.ErrLimit)
	if !strings.Contains(err.Error(), "Download") {
		t.Error(err)
	}
}

// A manifest that lies about the size of a layer is not believed.
func TestSizeOfLayer(t *testing.T) {
	srv, url := newRegistry(t)
	layer := content(t, map[string]string{"a": "b"})
	digest := srv.PutImage("org/app", nil, layer)
	for _, wrong := range []int{-1, 1} {
		size := fmt.Sprintf(`"size":%d}]`, len(layer.Data))
		data := strings.Replace(string(srv.Manifest("org/app", digest)), size, fmt.Sprintf(`"size":%d}]`, len(layer.Data)+wrong), 1)
		if data == string(srv.Manifest("org/app", digest)) {
			t.Fatal("nothing was replaced")
		}
		srv.PutRaw("org/app", "latest", "application/vnd.oci.image.manifest.v1+json", []byte(data))
		class := source.ErrUnverified
		if wrong > 0 {
			class = source.ErrUnavailable // it may have been cut
		}
		refuses(t, open(t, url, nil), class)
	}
}

// A registry that never ends costs no more than the limit.
func TestDownloadIsCounted(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "latest")
	srv.SetFaults(func(r registry.Request) *registry.Fault {
		if strings.Contains(r.Path, "/manifests/sha256") {
			return &registry.Fault{Body: make([]byte, 1<<20)}
		}
		return nil
	})
	refuses(t, open(t, url, &oci.Options{Limits: source.Limits{Download: 10_000}}), source.ErrLimit)
}

func TestVerifier(t *testing.T) {
	srv, url := newRegistry(t)
	digest := put(t, srv, "a", "latest")
	good := source.Evidence{Kind: "test", Object: "manifest", Signer: "me"}
	for _, test := range []struct {
		name     string
		evidence []source.Evidence
		err      error
		want     error
	}{
		{"vouched for", []source.Evidence{good}, nil, nil},
		{"no evidence", nil, nil, source.ErrUnverified},
		{"refused", nil, errors.New("bad signature"), source.ErrUnverified},
		{"unavailable", nil, fmt.Errorf("%w: later", source.ErrUnavailable), source.ErrUnavailable},
		{"evidence and an error", []source.Evidence{good}, errors.New("bad"), source.ErrUnverified},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv.ResetRequests()
			repo := open(t, url, &oci.Options{Verifier: oci.VerifierFunc(func(_ context.Context, s *oci.Subject) ([]source.Evidence, error) {
				if s.Digest.String() != digest || !strings.HasSuffix(s.Repository, "/org/app") {
					t.Errorf("asked about %s of %s", s.Digest, s.Repository)
				}
				return test.evidence, test.err
			})})
			if test.want == nil {
				if a := get(t, repo); len(a.Verified) != 1 || a.Verified[0] != good {
					t.Errorf("evidence %v", a.Verified)
				}
				return
			}
			refuses(t, repo, test.want)
			if n := srv.Count("", "/blobs/"); n > 0 {
				t.Errorf("%d blobs were read", n)
			}
			rev, _ := repo.Resolve(t.Context())
			if _, err := repo.Verify(t.Context(), rev); !errors.Is(err, test.want) {
				t.Errorf("verify: %v", err)
			}
		})
	}
}
