// Package registry serves a real OCI registry from memory, for tests and
// examples: the protocol is that of go-containerregistry's own, with
// credentials, a record of requests, faults, and cheap ways to fill it.
//
//	srv := registry.New()
//	srv.Username, srv.Password = "me", "secret"
//	web := httptest.NewServer(srv) // or NewTLSServer, whose certificate is its own authority
//	defer web.Close()
//	head := srv.PutImage("org/app", nil, registry.Layer{MediaType: "text/plain", Data: []byte("hello")})
//	srv.Tag("org/app", head, "1.0.0", "1.1.0", "latest")
//	// pull web.Listener.Addr().String() + "/org/app:1.0.0"
//
// What tests put there directly needs no credentials, is not recorded and
// meets no faults. A Server is safe for concurrent use; its exported fields
// are set before it serves.
package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log" //nolint:depguard // the registry below wants a logger, which gets nothing to write to
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Server is one registry.
type Server struct {
	// Username and Password, when set, are demanded as HTTP basic credentials,
	// or at the token server if Bearer is set.
	Username, Password string
	// Bearer demands a token, as most public registries do: a client without
	// one is sent to /token.
	Bearer bool
	// NoHead refuses HEAD, as some old registries do.
	NoHead bool
	// PageSize is the most tags in one answer; zero means all that the client asks for.
	PageSize int

	api http.Handler

	mu       sync.Mutex
	requests []Request
	faults   func(Request) *Fault
	tokens   int
}

// New returns an empty registry with the referrers API.
func New() *Server { return newServer(true) }

// NewWithoutReferrers returns an empty registry of before version 1.1 of the
// distribution specification.
func NewWithoutReferrers() *Server { return newServer(false) }

func newServer(referrers bool) *Server {
	return &Server{api: registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers))}
}

// Layer is one blob of an image.
type Layer struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string
}

// Image is what PutManifest puts together. Zero fields are those of a Flux artifact.
type Image struct {
	MediaType    string // of the manifest: application/vnd.oci.image.manifest.v1+json
	ConfigType   string // application/vnd.cncf.flux.config.v1+json
	Config       []byte // {}
	ArtifactType string
	Annotations  map[string]string
	Layers       []Layer
	Subject      string // digest of the manifest this one refers to
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// PutImage stores an image with these annotations and layers and returns its digest.
func (s *Server) PutImage(repo string, annotations map[string]string, layers ...Layer) string {
	return s.PutManifest(repo, &Image{Annotations: annotations, Layers: layers})
}

// PutManifest stores an image and returns its digest.
func (s *Server) PutManifest(repo string, i *Image) string {
	m := manifest{SchemaVersion: 2, MediaType: or(i.MediaType, "application/vnd.oci.image.manifest.v1+json"), ArtifactType: i.ArtifactType, Annotations: i.Annotations, Layers: []descriptor{}}
	config := i.Config
	if config == nil {
		config = []byte("{}")
	}
	m.Config = s.blob(repo, or(i.ConfigType, "application/vnd.cncf.flux.config.v1+json"), config)
	for _, l := range i.Layers {
		d := s.blob(repo, l.MediaType, l.Data)
		d.Annotations = l.Annotations
		m.Layers = append(m.Layers, d)
	}
	if i.Subject != "" {
		m.Subject = &descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: i.Subject, Size: 1}
	}
	return s.PutRaw(repo, "", m.MediaType, encode(m))
}

// Platform is one entry of an index.
type Platform struct{ OS, Architecture, Digest string }

// PutIndex stores an index of images that are in the repository.
func (s *Server) PutIndex(repo string, platforms ...Platform) string {
	type entry struct {
		descriptor
		Platform map[string]string `json:"platform"`
	}
	entries := []entry{}
	for _, p := range platforms {
		entries = append(entries, entry{
			descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: p.Digest, Size: len(s.Manifest(repo, p.Digest))},
			map[string]string{"os": p.OS, "architecture": p.Architecture},
		})
	}
	const mediaType = "application/vnd.oci.image.index.v1+json"
	return s.PutRaw(repo, "", mediaType, encode(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": entries}))
}

// PutRaw stores the bytes of a manifest, whatever they are, under a tag, or
// under their digest alone if tag is empty. It returns the digest.
func (s *Server) PutRaw(repo, tag, mediaType string, data []byte) string {
	dig := Digest(data)
	if tag == "" {
		tag = dig
	}
	s.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, data)
	return dig
}

// PutBlob stores a blob and returns its digest.
func (s *Server) PutBlob(repo string, data []byte) string { return s.blob(repo, "", data).Digest }

// Tag gives a stored manifest any number of tags, at the price of one map
// entry each.
func (s *Server) Tag(repo, digest string, tags ...string) {
	res := s.do(http.MethodGet, "/v2/"+repo+"/manifests/"+digest, "", nil)
	data := res.Body.Bytes()
	for _, tag := range tags {
		s.PutRaw(repo, tag, res.Header().Get("Content-Type"), data)
	}
}

// Untag removes a tag.
func (s *Server) Untag(repo, tag string) {
	s.do(http.MethodDelete, "/v2/"+repo+"/manifests/"+tag, "", nil)
}

// Manifest returns the bytes of a stored manifest, by tag or digest.
func (s *Server) Manifest(repo, reference string) []byte {
	return s.do(http.MethodGet, "/v2/"+repo+"/manifests/"+reference, "", nil).Body.Bytes()
}

// Digest is the name a registry has for content.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (s *Server) blob(repo, mediaType string, data []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: Digest(data), Size: len(data)}
	s.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(d.Digest), "application/octet-stream", data)
	return d
}

// do asks the registry itself. A refusal is a mistake of the test.
func (s *Server) do(method, target, contentType string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, bytes.NewReader(body)) //nolint:noctx // nothing waits
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		panic(fmt.Sprintf("registry: %s %s: %d %s", method, target, w.Code, strings.TrimSpace(w.Body.String()))) //nolint:forbidigo // a mistake in the test that calls
	}
	return w
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) //nolint:forbidigo // strings and numbers only
	}
	return data
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
