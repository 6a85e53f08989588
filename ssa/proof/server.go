package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// ErrNoSchema is the class of errors of a kind for which the server publishes
// no schema.
var ErrNoSchema = errors.New("no schema")

// Server reads types from the OpenAPI documents of an API server
// (https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3),
// one for each group version that is asked for, when it is first asked for, and
// again when the server says that it changed.
//
// The zero value but for Client is ready for use. It is safe for concurrent
// use: callers that need the same document wait for one request.
type Server struct {
	// Client reads the documents. Required: OpenAPIV3() of a discovery client.
	Client openapi.Client
	// MaxAge is for how long the server's list of documents is believed, which
	// tells what changed; 0 means ten seconds. Reading it again is one small
	// request.
	MaxAge time.Duration
	// Keep is the number of group versions to keep; 0 means 32. The least
	// recently used one goes first. The types of the core group, the largest,
	// take some megabytes.
	Keep int
	// MaxBytes is the largest document that is accepted; 0 means 64 MiB. That
	// of the core group has 1.6 MiB.
	MaxBytes int

	once      sync.Once
	indexLock chan struct{} // one request at a time
	index     map[string]openapi.GroupVersionWithContext
	indexed   time.Time

	mu        sync.Mutex
	documents map[string]*document
	clock     uint64 // counts uses
}

var _ Types = (*Server)(nil)

// document is the types of one group version.
type document struct {
	lock      chan struct{} // one request at a time
	url       string        // with the hash of the content
	read      time.Time
	converter managedfields.TypeConverter
	used      uint64
}

// TypeConverter returns the types of a group version. The error matches
// [ErrNoSchema] if the server does not publish it.
func (s *Server) TypeConverter(ctx context.Context, gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	path := "apis/" + gvk.GroupVersion().String()
	if gvk.Group == "" {
		path = "api/" + gvk.Version
	}
	index, err := s.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the list of schemas: %w", err)
	}
	source, ok := index[path]
	if !ok {
		return nil, fmt.Errorf("%w: the server publishes none for %s", ErrNoSchema, gvk.GroupVersion())
	}
	d := s.document(path)
	if err := acquire(ctx, d.lock); err != nil {
		return nil, err
	}
	defer func() { <-d.lock }()
	if d.fresh(source, s.maxAge()) {
		return d.converter, nil
	}
	converter, err := s.read(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("read the schema of %s: %w", gvk.GroupVersion(), err)
	}
	d.url, d.converter, d.read = source.ServerRelativeURL(), converter, time.Now()
	return converter, nil
}

// fresh reports that a document is what the server has. One whose address does
// not tell its content has to be read again after a while.
func (d *document) fresh(source openapi.GroupVersionWithContext, maxAge time.Duration) bool {
	url := source.ServerRelativeURL()
	return d.converter != nil && d.url == url && (strings.Contains(url, "hash=") || time.Since(d.read) < maxAge)
}

func (s *Server) maxAge() time.Duration {
	if s.MaxAge <= 0 {
		return 10 * time.Second
	}
	return s.MaxAge
}

// acquire takes a lock that is held for the time of a request.
func acquire(ctx context.Context, lock chan struct{}) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// list returns the documents that the server has.
func (s *Server) list(ctx context.Context) (map[string]openapi.GroupVersionWithContext, error) {
	s.once.Do(func() { s.indexLock = make(chan struct{}, 1) })
	if err := acquire(ctx, s.indexLock); err != nil {
		return nil, err
	}
	defer func() { <-s.indexLock }()
	if s.index != nil && time.Since(s.indexed) < s.maxAge() {
		return s.index, nil
	}
	asked := time.Now()
	index, err := openapi.ToClientWithContext(s.Client).PathsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	s.index, s.indexed = index, asked
	return index, nil
}

// document returns the place of a group version, and makes room for it.
func (s *Server) document(path string) *document {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.documents == nil {
		s.documents = map[string]*document{}
	}
	d := s.documents[path]
	if d == nil {
		d = &document{lock: make(chan struct{}, 1)}
		s.documents[path] = d
	}
	s.clock++
	d.used = s.clock
	keep := s.Keep
	if keep <= 0 {
		keep = 32
	}
	for len(s.documents) > keep {
		oldest := path
		for p, other := range s.documents {
			if other.used < s.documents[oldest].used {
				oldest = p
			}
		}
		delete(s.documents, oldest)
	}
	return d
}

func (s *Server) read(ctx context.Context, source openapi.GroupVersionWithContext) (managedfields.TypeConverter, error) {
	data, err := source.SchemaWithContext(ctx, "application/json")
	if err != nil {
		return nil, err
	}
	largest := s.MaxBytes
	if largest <= 0 {
		largest = 64 << 20
	}
	if len(data) > largest {
		return nil, fmt.Errorf("it has %d bytes, more than the %d allowed", len(data), largest)
	}
	return parse(data)
}

// parse reads the schemas of an OpenAPI v3 document.
func parse(data []byte) (managedfields.TypeConverter, error) {
	var document struct {
		Components struct {
			Schemas map[string]*spec.Schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, err
	}
	return managedfields.NewTypeConverter(document.Components.Schemas, false)
}
