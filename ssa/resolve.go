package ssa

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// resolver finds what the objects of a set are called in the cluster, and where.
type resolver struct {
	client    *Client
	defined   map[schema.GroupVersionKind]meta.RESTScope // by the set itself
	kinds     map[typeMeta]resolvedKind
	refreshed bool
}

type typeMeta struct{ apiVersion, kind string }

type resolvedKind struct {
	version string
	mapping *meta.RESTMapping // nil while only the set itself defines the kind
	scope   meta.RESTScopeName
	err     error
}

// resolved is an object of a set.
type resolved struct {
	id      ObjectID
	version string
	mapping *meta.RESTMapping
}

func (c *Client) resolver(objs []*unstructured.Unstructured) *resolver {
	return &resolver{client: c, defined: definitions(objs), kinds: map[typeMeta]resolvedKind{}}
}

// resolve returns the identity of an object as far as it can be told, even with
// an error.
func (r *resolver) resolve(obj *unstructured.Unstructured) (resolved, error) {
	var key typeMeta
	key.apiVersion, _ = obj.Object["apiVersion"].(string) // checked
	key.kind, _ = obj.Object["kind"].(string)
	kind, known := r.kinds[key]
	if !known {
		kind = r.kind(obj.GroupVersionKind())
		r.kinds[key] = kind
	}
	id := IDOf(obj)
	err := kind.err
	switch {
	case err != nil:
	case kind.scope == meta.RESTScopeNameRoot:
		id.Namespace = ""
	case id.Namespace == "" && r.client.DefaultNamespace == "":
		err = fmt.Errorf("%w: it has no namespace: set metadata.namespace or a default namespace", ErrInvalid)
	case id.Namespace == "":
		id.Namespace = r.client.DefaultNamespace
	}
	return resolved{id: id, version: kind.version, mapping: kind.mapping}, err
}

// kind asks the mapper, which takes a while.
func (r *resolver) kind(gvk schema.GroupVersionKind) resolvedKind {
	scope, ours := r.defined[gvk]
	m, err := r.client.mapping(gvk.GroupKind(), gvk.Version)
	if errors.Is(err, ErrUnknownKind) && !ours && !r.refreshed {
		r.refreshed = true // somebody else may have defined it since the mapper looked
		meta.MaybeResetRESTMapper(r.client.Mapper)
		m, err = r.client.mapping(gvk.GroupKind(), gvk.Version)
	}
	out := resolvedKind{version: gvk.Version, mapping: m, err: err}
	switch {
	case err == nil:
		out.scope = m.Scope.Name()
	case errors.Is(err, ErrUnknownKind) && ours:
		out.scope, out.err = scope.Name(), nil
	}
	return out
}

// setNamespace writes the namespace that an object has in the cluster.
func setNamespace(obj *unstructured.Unstructured, namespace string) {
	if obj.GetNamespace() != namespace {
		obj.SetNamespace(namespace) // which removes the field if it is empty
	}
}

// definitions returns the kinds that CustomResourceDefinitions of a set serve.
func definitions(objs []*unstructured.Unstructured) map[schema.GroupVersionKind]meta.RESTScope {
	out := map[schema.GroupVersionKind]meta.RESTScope{}
	for _, obj := range objs {
		if obj.GetKind() != "CustomResourceDefinition" {
			continue
		}
		gk := definedKind(obj)
		scope, _, _ := unstructured.NestedString(obj.Object, "spec", "scope")      // an invalid definition is reported by
		versions, _, _ := unstructured.NestedSlice(obj.Object, "spec", "versions") // the server, which knows its schema
		for _, v := range versions {
			version, ok := v.(map[string]any)
			if !ok || version["served"] != true {
				continue
			}
			name, _ := version["name"].(string) // as above
			rest := meta.RESTScopeNamespace
			if scope == "Cluster" {
				rest = meta.RESTScopeRoot
			}
			out[gk.WithVersion(name)] = rest
		}
	}
	return out
}

func errTwice() error {
	return fmt.Errorf("%w: the set holds it more than once, with and without the default namespace", ErrInvalid)
}
