package tenancy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Identity is as whom, and in which cluster, objects are applied. The zero
// value is the controller in its own cluster.
type Identity struct {
	// Namespace and ServiceAccount name a service account to impersonate; both
	// or neither.
	Namespace, ServiceAccount string
	// Kubeconfig leads to another cluster; nil means the own one. It is
	// checked, see [Config].
	Kubeconfig []byte
}

// Cluster is a connection to a cluster as one identity.
type Cluster struct {
	Dynamic dynamic.Interface
	// Mapper finds the resource of a kind. It can be reset.
	Mapper meta.RESTMapper
}

// Clients makes connections and keeps them. Base is required; do not change it
// after the first use. Clients must not be copied.
type Clients struct {
	// Base is the controller's own connection.
	Base *rest.Config
	// Max is how many connections are kept; 0 means 100. The one that was not
	// used for longest goes first.
	Max int

	mu      sync.Mutex
	tick    uint64
	known   map[key]*entry
	mappers map[string]meta.RESTMapper
}

type key struct {
	user   string
	remote [sha256.Size]byte
}

type entry struct {
	cluster *Cluster
	host    string
	used    uint64
}

// For returns the connection of an identity. It makes no request. The error is
// a *[KubeconfigError], or says that the identity is half given.
func (c *Clients) For(id Identity) (*Cluster, error) {
	if (id.Namespace == "") != (id.ServiceAccount == "") {
		return nil, errors.New("tenancy: an identity needs both namespace and service account, or neither")
	}
	k := key{}
	if id.ServiceAccount != "" {
		k.user = "system:serviceaccount:" + id.Namespace + ":" + id.ServiceAccount
	}
	if id.Kubeconfig != nil {
		k.remote = sha256.Sum256(id.Kubeconfig)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick++
	if e := c.known[k]; e != nil {
		e.used = c.tick
		return e.cluster, nil
	}
	e, err := c.connect(k, id.Kubeconfig)
	if err != nil {
		return nil, err
	}
	c.evict()
	if c.known == nil {
		c.known = map[key]*entry{}
	}
	c.known[k] = e
	return e.cluster, nil
}

// connect makes a connection; c.mu is held.
func (c *Clients) connect(k key, kubeconfig []byte) (*entry, error) {
	base, target := c.Base, "own"
	if kubeconfig != nil {
		remote, err := Config(kubeconfig)
		if err != nil {
			return nil, err
		}
		remote.QPS, remote.UserAgent = c.Base.QPS, c.Base.UserAgent
		base, target = remote, fmt.Sprintf("%x", k.remote)
	}
	config := rest.CopyConfig(base)
	if k.user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: k.user}
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	mapper, err := c.mapper(target, base)
	if err != nil {
		return nil, err
	}
	return &entry{cluster: &Cluster{Dynamic: dyn, Mapper: mapper}, host: target, used: c.tick}, nil
}

// mapper returns the mapper of a cluster, which all its identities share: what
// kinds there are is no secret of one of them.
func (c *Clients) mapper(target string, base *rest.Config) (meta.RESTMapper, error) {
	if m := c.mappers[target]; m != nil {
		return m, nil
	}
	d, err := discovery.NewDiscoveryClientForConfig(base)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	if c.mappers == nil {
		c.mappers = map[string]meta.RESTMapper{}
	}
	m := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	c.mappers[target] = m
	return m, nil
}

// evict makes room for one more; c.mu is held.
func (c *Clients) evict() {
	limit := c.Max
	if limit <= 0 {
		limit = 100
	}
	for len(c.known) >= limit {
		var oldest key
		var found *entry
		for k, e := range c.known {
			if found == nil || e.used < found.used {
				oldest, found = k, e
			}
		}
		delete(c.known, oldest)
		c.forget(found.host)
	}
}

// forget drops the mapper of a cluster that nobody uses.
func (c *Clients) forget(target string) {
	for _, e := range c.known {
		if e.host == target {
			return
		}
	}
	delete(c.mappers, target)
}
