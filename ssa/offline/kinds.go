package offline

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/version"
)

// kind is a kind in one version that the cluster serves.
type kind struct {
	gvk              schema.GroupVersionKind
	plural, singular string
	listKind         string
	namespaced       bool
	status           bool                // has the sub-resource
	custom           bool                // of a CustomResourceDefinition
	storage          schema.GroupVersion // what its objects are stored in
	rule             rule
	managers         map[string]*managedfields.FieldManager
}

func (k *kind) resource() schema.GroupVersionResource {
	return k.gvk.GroupVersion().WithResource(k.plural)
}

func (k *kind) groupResource() schema.GroupResource { return k.resource().GroupResource() }

// kindTable is what a cluster serves.
type kindTable struct {
	byResource map[schema.GroupVersionResource]*kind
	byKind     map[schema.GroupKind][]*kind // the preferred version first
	mapper     *meta.DefaultRESTMapper
}

func newKindTable(kinds []*kind) *kindTable {
	t := &kindTable{byResource: map[schema.GroupVersionResource]*kind{}, byKind: map[schema.GroupKind][]*kind{}}
	var versions []schema.GroupVersion
	for _, k := range kinds {
		t.byResource[k.resource()] = k
		t.byKind[k.gvk.GroupKind()] = append(t.byKind[k.gvk.GroupKind()], k)
		if !slices.Contains(versions, k.gvk.GroupVersion()) {
			versions = append(versions, k.gvk.GroupVersion())
		}
	}
	for _, same := range t.byKind {
		slices.SortStableFunc(same, func(a, b *kind) int { return version.CompareKubeAwareVersionStrings(b.gvk.Version, a.gvk.Version) })
	}
	slices.SortStableFunc(versions, func(a, b schema.GroupVersion) int {
		return version.CompareKubeAwareVersionStrings(b.Version, a.Version)
	})
	t.mapper = meta.NewDefaultRESTMapper(versions)
	for _, k := range kinds {
		scope := meta.RESTScopeRoot
		if k.namespaced {
			scope = meta.RESTScopeNamespace
		}
		t.mapper.AddSpecific(k.gvk, k.resource(), k.gvk.GroupVersion().WithResource(k.singular), scope)
	}
	return t
}

func compareKinds(a, b schema.GroupVersionKind) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
}

// kind finds what a resource serves. The error is that of a path where nothing
// is.
func (c *Cluster) kind(gvr schema.GroupVersionResource) (*kind, error) {
	if k := c.kinds.byResource[gvr]; k != nil {
		return k, nil
	}
	return nil, notServed()
}

// stored finds the kind of a resource in the version its objects are stored in.
func (c *Cluster) stored(gk schema.GroupKind) *kind {
	for _, k := range c.kinds.byKind[gk] {
		if k.gvk.GroupVersion() == k.storage {
			return k
		}
	}
	return nil
}

// mapper is a meta.RESTMapper that always knows what the cluster serves now.
type mapper struct{ cluster *Cluster }

var _ meta.ResettableRESTMapper = mapper{}

func (m mapper) now() meta.RESTMapper {
	m.cluster.mu.RLock()
	defer m.cluster.mu.RUnlock()
	return m.cluster.kinds.mapper // it is replaced, not changed
}

func (m mapper) KindFor(r schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return m.now().KindFor(r)
}

func (m mapper) KindsFor(r schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return m.now().KindsFor(r)
}

func (m mapper) ResourceFor(r schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return m.now().ResourceFor(r)
}

func (m mapper) ResourcesFor(r schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return m.now().ResourcesFor(r)
}

func (m mapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return m.now().RESTMapping(gk, versions...)
}

func (m mapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return m.now().RESTMappings(gk, versions...)
}

func (m mapper) ResourceSingularizer(r string) (string, error) {
	return m.now().ResourceSingularizer(r)
}

// Reset does nothing: the mapper is never out of date.
func (m mapper) Reset() {}
