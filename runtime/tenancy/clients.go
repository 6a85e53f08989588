package tenancy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
)

// Mapper finds the resource of a kind, and can be reset to look again.
type Mapper = meta.ResettableRESTMapper

// Clients makes connections and keeps them: one for each cluster, credentials and identity. Those to other clusters
// have transports of their own, which are closed when nobody needs them; those of the own cluster share the
// controller's. Base is required; change no field after the first use. Clients is safe for concurrent use and must not
// be copied.
type Clients struct {
	// Base is the controller's own connection.
	Base *rest.Config
	// Kubeconfig is what kubeconfigs of tenants may do.
	Kubeconfig KubeconfigPolicy
	// Proxy is used for kubeconfigs without a proxy-url; nil is no proxy. http.ProxyFromEnvironment is what kubectl does.
	Proxy func(*http.Request) (*url.URL, error)
	// Max is how many connections are kept; 0 means 100. The one that was not used for longest goes first.
	Max int
	// TTL is how long a connection is kept that nobody asks for; 0 means 30 minutes.
	TTL time.Duration
	// Patience is how long to wait until another cluster is connected, and until an answer begins; 0 means 30 seconds.
	// When that is over, or a third of it and the deadline of the request, or when the connection fails, the cluster
	// counts as unreachable: requests fail at once with an [UnreachableError], and after 5 seconds, doubling to 2
	// minutes, one of them tries again.
	Patience time.Duration

	mu       sync.Mutex
	tick     uint64
	known    map[key]*entry
	links    map[[sha256.Size]byte]*link
	catalogs map[string]*catalog
	reaches  map[string]*reach
}

type key struct {
	identity string
	remote   [sha256.Size]byte
}

type entry struct {
	cluster *Cluster
	link    *link
	used    uint64
	at      time.Time
}

// ownCluster is the target of the own cluster.
const ownCluster = "own"

// For returns the connection of an identity. It makes no request, and two calls for one identity return the same. The
// error is a *[KubeconfigError] or an *[IdentityError].
func (c *Clients) For(id Identity) (*Cluster, error) {
	if err := id.check(); err != nil {
		return nil, err
	}
	if c.Base == nil {
		return nil, errors.New("tenancy: Clients.Base is missing")
	}
	k := key{identity: fmt.Sprintf("%t %q %q", id.Self, id.String(), id.Groups)}
	if id.Kubeconfig != nil {
		k.remote = sha256.Sum256(id.Kubeconfig)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick++
	now := time.Now()
	c.expire(now)
	if e := c.known[k]; e != nil {
		e.used, e.at = c.tick, now
		return e.cluster, nil
	}
	e, err := c.open(k, id)
	if err != nil {
		return nil, err
	}
	c.makeRoom()
	e.used, e.at = c.tick, now
	if c.known == nil {
		c.known = map[key]*entry{}
	}
	e.link.users++
	c.known[k] = e
	c.tidy()
	return e.cluster, nil
}

// Close closes what connections to other clusters are idle, and forgets all; requests that are under way end as they
// would. Clients can be used again.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.known {
		c.drop(k)
	}
	c.tidy()
}

// Len returns how many connections are kept.
func (c *Clients) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}

func (c *Clients) patience() time.Duration {
	if c.Patience > 0 {
		return c.Patience
	}
	return 30 * time.Second
}

func (c *Clients) limit() int {
	if c.Max > 0 {
		return c.Max
	}
	return 100
}

// open makes a connection; c.mu is held.
func (c *Clients) open(k key, id Identity) (*entry, error) {
	l, err := c.link(k, id)
	if err != nil {
		return nil, err
	}
	if c.catalogs == nil {
		c.catalogs, c.reaches = map[string]*catalog{}, map[string]*reach{}
	}
	if c.catalogs[l.target] == nil {
		c.catalogs[l.target] = &catalog{}
		c.reaches[l.target] = &reach{host: hostOf(l.config.Host)}
	}
	cluster, err := c.connect(id, l, c.catalogs[l.target], c.reaches[l.target])
	if err != nil {
		return nil, err
	}
	return &entry{cluster: cluster, link: l}, nil
}

// link returns the transport of a kubeconfig, or the own one; c.mu is held.
func (c *Clients) link(k key, id Identity) (*link, error) {
	if l := c.links[k.remote]; l != nil {
		return l, nil
	}
	l := &link{config: c.Base, target: ownCluster}
	if id.Kubeconfig != nil {
		var err error
		if l, err = c.linkTo(id.Kubeconfig); err != nil {
			return nil, err
		}
	}
	if c.links == nil {
		c.links = map[[sha256.Size]byte]*link{}
	}
	c.links[k.remote] = l
	return l, nil
}

// expire drops what nobody asked for in a long time; c.mu is held.
func (c *Clients) expire(now time.Time) {
	ttl := c.TTL
	if ttl <= 0 {
		ttl = 30 * time.Minute
	}
	for k, e := range c.known {
		if now.Sub(e.at) > ttl {
			c.drop(k)
		}
	}
}

// makeRoom drops what was not used for longest until there is room for one more; c.mu is held.
func (c *Clients) makeRoom() {
	for len(c.known) >= c.limit() {
		var oldest key
		var found *entry
		for k, e := range c.known {
			if found == nil || e.used < found.used {
				oldest, found = k, e
			}
		}
		c.drop(oldest)
	}
}

// drop forgets a connection; c.mu is held.
func (c *Clients) drop(k key) {
	c.known[k].link.users--
	delete(c.known, k)
}

// tidy closes the transports that nobody uses, and forgets what is known of clusters that nobody is connected to, but
// for those that are unreachable now; c.mu is held.
func (c *Clients) tidy() {
	used := map[string]bool{}
	for remote, l := range c.links {
		if l.users > 0 {
			used[l.target] = true
			continue
		}
		if l.wire != nil {
			l.wire.CloseIdleConnections()
		}
		delete(c.links, remote)
	}
	for target, r := range c.reaches {
		if !used[target] && (!r.down() || len(c.reaches) > 2*c.limit()) {
			delete(c.catalogs, target)
			delete(c.reaches, target)
		}
	}
}

// hostOf is an address as it may be shown.
func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return strings.TrimSpace(server)
	}
	return u.Host
}
