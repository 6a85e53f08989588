package tenancy

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
)

// refreshPause is how soon after a look at what kinds there are an unknown kind leads to another one, so that an
// object of a kind that is never defined costs little.
const refreshPause = time.Second

// catalog is the kinds of one cluster, which all its identities share: what kinds there are is no secret of one of
// them. It is read when it is first needed, when it is reset, and when a kind is not in it.
type catalog struct {
	mu      sync.Mutex
	kinds   meta.RESTMapper // nil before the first look, and after a reset
	at      time.Time       // when that look began
	looking chan struct{}   // closed when the present look ends; nil if there is none
	stale   bool            // reset while a look was under way
}

// mapper is a catalog with the connection of one identity.
type mapper struct {
	catalog *catalog
	look    func() (meta.RESTMapper, error)
}

var _ meta.ResettableRESTMapper = (*mapper)(nil)

func newMapper(c *catalog, d discovery.DiscoveryInterface) *mapper {
	return &mapper{catalog: c, look: func() (meta.RESTMapper, error) {
		groups, err := restmapper.GetAPIGroupResources(d)
		if err != nil {
			return nil, err
		}
		return restmapper.NewDiscoveryRESTMapper(groups), nil
	}}
}

// Reset has the next question be answered from a look that begins after this.
func (m *mapper) Reset() {
	c := m.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds, c.stale = nil, c.looking != nil
}

// current returns the kinds, from a look that began after since; the zero time is any. One looks at a time, and the
// others wait for it. Whoever finds that it has failed tries with its own connection: the other one's may be at fault.
func (m *mapper) current(since time.Time) (meta.RESTMapper, time.Time, error) {
	c := m.catalog
	c.mu.Lock()
	for c.kinds == nil || c.at.Before(since) {
		if c.looking == nil {
			c.looking, c.stale = make(chan struct{}), false
			at := time.Now()
			c.mu.Unlock()
			kinds, err := m.look()
			c.mu.Lock()
			close(c.looking)
			c.looking = nil
			if err != nil {
				c.mu.Unlock()
				return nil, time.Time{}, err
			}
			if c.stale {
				continue
			}
			c.kinds, c.at = kinds, at
			break
		}
		ended := c.looking
		c.mu.Unlock()
		<-ended // ends with the look, which has a timeout
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	return c.kinds, c.at, nil
}

// ask asks the kinds, and once more if there is no match and the look was a while ago.
func ask[T any](m *mapper, question func(meta.RESTMapper) (T, error)) (T, error) {
	kinds, at, err := m.current(time.Time{})
	var answer T
	if err != nil {
		return answer, err
	}
	if answer, err = question(kinds); !meta.IsNoMatchError(err) || time.Since(at) < refreshPause {
		return answer, err
	}
	if kinds, _, err = m.current(at.Add(refreshPause)); err != nil {
		return answer, err
	}
	return question(kinds)
}

func (m *mapper) KindFor(resource schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return ask(m, func(k meta.RESTMapper) (schema.GroupVersionKind, error) { return k.KindFor(resource) })
}

func (m *mapper) KindsFor(resource schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return ask(m, func(k meta.RESTMapper) ([]schema.GroupVersionKind, error) { return k.KindsFor(resource) })
}

func (m *mapper) ResourceFor(resource schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return ask(m, func(k meta.RESTMapper) (schema.GroupVersionResource, error) { return k.ResourceFor(resource) })
}

func (m *mapper) ResourcesFor(resource schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return ask(m, func(k meta.RESTMapper) ([]schema.GroupVersionResource, error) { return k.ResourcesFor(resource) })
}

func (m *mapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return ask(m, func(k meta.RESTMapper) (*meta.RESTMapping, error) { return k.RESTMapping(kind, versions...) })
}

func (m *mapper) RESTMappings(kind schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return ask(m, func(k meta.RESTMapper) ([]*meta.RESTMapping, error) { return k.RESTMappings(kind, versions...) })
}

func (m *mapper) ResourceSingularizer(resource string) (string, error) {
	return ask(m, func(k meta.RESTMapper) (string, error) { return k.ResourceSingularizer(resource) })
}
