package schema

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is what discovery says about a kind in one version.
type Kind struct {
	schema.GroupVersionKind
	// Resource is the plural name in paths: "deployments".
	Resource string
	// Singular is "deployment".
	Singular string
	// ShortNames are those of kubectl: "deploy".
	ShortNames []string
	// Categories are groups of kinds, such as "all".
	Categories []string
	// Namespaced: objects live in a namespace.
	Namespaced bool
	// Verbs are what can be done, sorted: "create", "delete", "deletecollection",
	// "get", "list", "patch", "update", "watch".
	Verbs []string
	// Subresources, by name.
	Subresources []Subresource
	// Priority orders the versions of a group: 0 is what clients use that ask
	// for none.
	Priority int
	// Optional: the API server serves this version only where somebody switched
	// it on, as all alpha and beta versions of Kubernetes are.
	Optional bool
	// Definition is the name of the custom resource definition, "" for kinds of
	// Kubernetes.
	Definition string
}

// Subresource is a part of an object with a path of its own.
type Subresource struct {
	// Name is "status", "scale", "eviction" or the like.
	Name string
	// Kind is what is sent there: the kind itself for "status", autoscaling/v1
	// Scale for "scale".
	Kind schema.GroupVersionKind
	// Verbs are sorted.
	Verbs []string
}

// GroupVersionResource returns the path of the kind.
func (k Kind) GroupVersionResource() schema.GroupVersionResource {
	return k.GroupVersion().WithResource(k.Resource)
}

// Subresource returns a sub-resource by its name.
func (k Kind) Subresource(name string) (Subresource, bool) {
	for _, s := range k.Subresources {
		if s.Name == name {
			return s, true
		}
	}
	return Subresource{}, false
}

// Mapper returns a mapper of the kinds and resources of the set, as discovery
// of a cluster would give it: the preferred version of a kind comes first.
// Kinds that are [Kind.Optional] come last.
func (s *Set) Mapper() meta.RESTMapper {
	kinds := s.Kinds()
	slices.SortStableFunc(kinds, func(a, b Kind) int {
		optional := func(k Kind) int {
			if k.Optional {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(optional(a), optional(b)), cmp.Compare(a.Priority, b.Priority))
	})
	var order []schema.GroupVersion
	for _, k := range kinds {
		if !slices.Contains(order, k.GroupVersion()) {
			order = append(order, k.GroupVersion())
		}
	}
	mapper := meta.NewDefaultRESTMapper(order)
	for _, k := range kinds {
		scope := meta.RESTScopeRoot
		if k.Namespaced {
			scope = meta.RESTScopeNamespace
		}
		mapper.AddSpecific(k.GroupVersionKind, k.GroupVersionResource(), k.GroupVersion().WithResource(k.Singular), scope)
	}
	return mapper
}
