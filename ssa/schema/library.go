package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	refPrefix    = "#/components/schemas/"
	gvkExtension = "x-kubernetes-group-version-kind"
	metaV1       = "io.k8s.apimachinery.pkg.apis.meta.v1."
)

// library holds OpenAPI definitions, and decodes each when it is needed first.
type library struct {
	raw   map[string]json.RawMessage
	kinds map[schema.GroupVersionKind]string // the definition of a kind

	mu         sync.Mutex
	decoded    map[string]*spec.Schema
	nodes      map[string]*node
	converters map[schema.GroupVersion]managedfields.TypeConverter
}

func newLibrary() *library {
	return &library{
		raw: map[string]json.RawMessage{}, kinds: map[schema.GroupVersionKind]string{},
		decoded: map[string]*spec.Schema{}, nodes: map[string]*node{}, converters: map[schema.GroupVersion]managedfields.TypeConverter{},
	}
}

// add adds a definition; only while the library is built.
func (l *library) add(name string, body json.RawMessage) {
	l.raw[name] = body
	if strings.HasPrefix(name, metaV1) {
		return // DeleteOptions and the like belong to every group version
	}
	_, tail, ok := bytes.Cut(body, []byte(`"`+gvkExtension+`":`))
	if !ok {
		return
	}
	var gvks []schema.GroupVersionKind
	if err := json.NewDecoder(bytes.NewReader(tail)).Decode(&gvks); err != nil {
		return // not of the form of Kubernetes: nothing that could be a kind
	}
	for _, gvk := range gvks {
		l.kinds[gvk] = name
	}
}

// decode returns a definition. The caller holds the lock.
func (l *library) decode(name string) (*spec.Schema, error) {
	if s, ok := l.decoded[name]; ok {
		return s, nil
	}
	body, ok := l.raw[name]
	if !ok {
		return nil, fmt.Errorf("%w: the schemas refer to %s, which they do not have", ErrInvalid, name)
	}
	s := &spec.Schema{}
	if err := s.UnmarshalJSON(body); err != nil {
		return nil, fmt.Errorf("%w: definition %s: %w", ErrInvalid, name, err)
	}
	l.decoded[name] = s
	return s, nil
}

// converter returns what knows the types of a group version, built at the
// first call.
func (l *library) converter(gv schema.GroupVersion) (managedfields.TypeConverter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.converters[gv]; ok {
		return c, nil
	}
	models := map[string]*spec.Schema{}
	for gvk, name := range l.kinds {
		if gvk.GroupVersion() != gv {
			continue
		}
		if err := l.closure(name, models); err != nil {
			return nil, err
		}
	}
	c, err := managedfields.NewTypeConverter(models, false)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	l.converters[gv] = c
	return c, nil
}

// closure adds a definition and all that it refers to.
func (l *library) closure(name string, models map[string]*spec.Schema) error {
	if models[name] != nil {
		return nil
	}
	s, err := l.decode(name)
	if err != nil {
		return err
	}
	models[name] = s
	for _, ref := range references(s, nil) {
		if err := l.closure(ref, models); err != nil {
			return err
		}
	}
	return nil
}

// references appends the names of the definitions that a schema refers to.
func references(s *spec.Schema, to []string) []string {
	if s == nil {
		return to
	}
	if name, ok := strings.CutPrefix(s.Ref.String(), refPrefix); ok {
		to = append(to, name)
	}
	for i := range s.AllOf {
		to = references(&s.AllOf[i], to)
	}
	for _, p := range s.Properties {
		to = references(&p, to)
	}
	if s.Items != nil {
		to = references(s.Items.Schema, to)
	}
	if s.AdditionalProperties != nil {
		to = references(s.AdditionalProperties.Schema, to)
	}
	return to
}
