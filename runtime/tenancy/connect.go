package tenancy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
)

// Cluster is a connection to a cluster as one identity. It is safe for concurrent use.
type Cluster struct {
	Dynamic dynamic.Interface
	// Mapper finds the resource of a kind. It is shared by all identities in a cluster, looks again when a kind is not
	// in it, and can be reset.
	Mapper Mapper
	// HTTP and Config are for clients of other kinds: rest.RESTClientForConfigAndClient, controller-runtime's
	// client.Options.HTTPClient. Change neither. Config alone would open connections of its own, which nobody closes.
	HTTP   *http.Client
	Config *rest.Config
}

// ErrImpersonation: a request as a tenant had not the header that says so, and was not sent.
var ErrImpersonation = errors.New("tenancy: a request was not sent: it does not act as the identity of its connection")

// Guard returns a transport that lets only those requests through that impersonate exactly id; the others fail with
// [ErrImpersonation] and are not sent. It belongs below what sets the header, as rest.Config.WrapTransport does. The
// connections of [Clients] have it.
func Guard(id Identity, base http.RoundTripper) http.RoundTripper {
	return &guard{id.impersonation(), base}
}

type guard struct {
	as   rest.ImpersonationConfig
	base http.RoundTripper
}

func (g *guard) WrappedRoundTripper() http.RoundTripper { return g.base }

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	users, groups := r.Header.Values(transport.ImpersonateUserHeader), r.Header.Values(transport.ImpersonateGroupHeader)
	if g.as.UserName == "" || len(users) != 1 || users[0] != g.as.UserName || !slices.Equal(groups, g.as.Groups) {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, ErrImpersonation
	}
	return g.base.RoundTrip(r)
}

// link is the transport to a cluster with the credentials of one kubeconfig, shared by those who are impersonated
// through it, or the controller's own.
type link struct {
	config *rest.Config
	// target tells one cluster, and way to it, from another.
	target string
	// wire is what connections belong to and close with; nil for the own cluster, whose transport others use too.
	wire  *http.Transport
	users int
}

// linkTo makes a transport for a kubeconfig.
func (c *Clients) linkTo(kubeconfig []byte) (*link, error) {
	config, err := Config(kubeconfig, &c.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst, config.UserAgent = c.Base.QPS, c.Base.Burst, c.Base.UserAgent
	tc, err := config.TransportConfig()
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	tlsConfig, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	wire := &http.Transport{
		Proxy: config.Proxy, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableCompression: config.DisableCompression,
		DialContext:         (&net.Dialer{Timeout: c.patience(), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: c.patience(), MaxIdleConnsPerHost: 25, IdleConnTimeout: 90 * time.Second,
	}
	if wire.Proxy == nil {
		wire.Proxy = c.Proxy
	}
	return &link{config: config, target: targetOf(config, tc), wire: wire}, nil
}

// targetOf tells clusters and ways to them apart: what one tenant's kubeconfig says of a host must not count for
// another's that leads there by another way, or trusts somebody else.
func targetOf(config *rest.Config, tc *transport.Config) string {
	h := sha256.New()
	proxy := ""
	if config.Proxy != nil {
		if u, err := config.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "cluster.invalid"}}); err == nil && u != nil {
			proxy = u.Redacted()
		}
	}
	fmt.Fprintf(h, "%q %q %q %t %x", config.Host, proxy, tc.TLS.ServerName, tc.TLS.Insecure, sha256.Sum256(tc.TLS.CAData))
	return hex.EncodeToString(h.Sum(nil))
}

// connect makes the connection of an identity over a link.
func (c *Clients) connect(id Identity, l *link, catalog *catalog, r *reach) (*Cluster, error) {
	config := rest.CopyConfig(l.config)
	if !id.Self {
		config.Impersonate = id.impersonation()
		config.Wrap(func(base http.RoundTripper) http.RoundTripper { return Guard(id, base) })
	}
	client, err := c.client(config, l, r)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	brief := rest.CopyConfig(config)
	brief.Timeout = c.patience()
	limited := *client
	limited.Timeout = c.patience() // what kinds there are is asked without a context
	d, err := discovery.NewDiscoveryClientForConfigAndClient(brief, &limited)
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", err)
	}
	return &Cluster{Dynamic: dyn, Mapper: newMapper(catalog, d), HTTP: client, Config: config}, nil
}

// client puts the credentials, the identity and the guard on top of a transport.
func (c *Clients) client(config *rest.Config, l *link, r *reach) (*http.Client, error) {
	if l.wire == nil {
		return rest.HTTPClientFor(config)
	}
	rt, err := rest.HTTPWrappersForConfig(config, &reaching{reach: r, base: l.wire, patience: c.patience()})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: rt}, nil
}
