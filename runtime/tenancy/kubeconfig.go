package tenancy

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// KubeconfigError says what is wrong with a kubeconfig.
type KubeconfigError struct {
	// Field is the path of the field at fault; empty if the whole cannot be read.
	Field string
	// Err is the cause.
	Err error
}

func (e *KubeconfigError) Error() string {
	if e.Field == "" {
		return "kubeconfig: " + e.Err.Error()
	}
	return "kubeconfig: " + e.Field + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *KubeconfigError) Unwrap() error { return e.Err }

var (
	// ErrNotAllowed: a kubeconfig would run a program, read a file, or not verify the server.
	ErrNotAllowed = errors.New("not allowed")
	// ErrKubeconfig: a kubeconfig is not one, or does not say which cluster it means.
	ErrKubeconfig = errors.New("invalid")
)

// KubeconfigPolicy is what a kubeconfig of a tenant may do besides the harmless. The zero value allows nothing more.
type KubeconfigPolicy struct {
	// Exec allows programs that produce credentials: whoever writes the kubeconfig runs them with the rights of this
	// process.
	Exec bool
	// InsecureTLS allows insecure-skip-tls-verify.
	InsecureTLS bool
	// PlainHTTP allows servers without TLS.
	PlainHTTP bool
	// Host is asked about the host of the server and of the proxy, "name" or "name:port"; nil allows all. It is where
	// addresses of the own network, and of the metadata service of a cloud, are refused.
	Host func(host string) bool
	// MaxBytes bounds the file; 0 means 1 MiB, which is what a Secret holds.
	MaxBytes int
}

// Config reads a kubeconfig that comes from a tenant. A nil policy is the zero one. Only the current context counts,
// with its cluster and its user; the rest of the file is neither checked nor used. What it refers to must be in it:
// paths of files and auth-provider are always refused, exec, insecure-skip-tls-verify and servers without TLS unless
// the policy allows them, proxies unless they are http, https or socks5.
//
// Every error is, or joins, a *[KubeconfigError] that names the field and matches [ErrNotAllowed] or [ErrKubeconfig].
// It holds names of the file, never credentials. No file is opened, and no program is run, by Config.
func Config(kubeconfig []byte, policy *KubeconfigPolicy) (*rest.Config, error) {
	if policy == nil {
		policy = &KubeconfigPolicy{}
	}
	if err := policy.readable(kubeconfig); err != nil {
		return nil, err
	}
	file, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, &KubeconfigError{Err: fmt.Errorf("%w: it is no YAML of kind Config", ErrKubeconfig)}
	}
	current, err := currentOf(file)
	if err != nil {
		return nil, err
	}
	if err := policy.allowed(current); err != nil {
		return nil, err
	}
	config, err := clientcmd.NewDefaultClientConfig(*current, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil { // what could be named was named before; this may quote anything
		return nil, &KubeconfigError{Err: fmt.Errorf("%w: the current context cannot be used", ErrKubeconfig)}
	}
	if _, err := rest.TLSConfigFor(withoutExec(config)); err != nil {
		return nil, &KubeconfigError{Field: "certificates of the current context", Err: fmt.Errorf("%w: they are no certificate, or no pair of certificate and key, in PEM form", ErrKubeconfig)}
	}
	return config, nil
}

// withoutExec keeps a check from starting what only a request should start.
func withoutExec(config *rest.Config) *rest.Config {
	c := rest.CopyConfig(config)
	c.ExecProvider = nil
	return c
}

// readable refuses files that are costly to read: big ones, and those with aliases, which no kubeconfig needs and which
// make bombs.
func (p *KubeconfigPolicy) readable(kubeconfig []byte) error {
	limit := p.MaxBytes
	if limit <= 0 {
		limit = 1 << 20
	}
	if len(kubeconfig) > limit {
		return &KubeconfigError{Err: fmt.Errorf("%w: it has %d bytes, more than %d", ErrKubeconfig, len(kubeconfig), limit)}
	}
	if len(bytes.TrimSpace(kubeconfig)) == 0 {
		return &KubeconfigError{Err: fmt.Errorf("%w: it is empty", ErrKubeconfig)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(kubeconfig, &doc); err != nil {
		return &KubeconfigError{Err: fmt.Errorf("%w: it is no YAML", ErrKubeconfig)}
	}
	if line := alias(&doc); line > 0 {
		return &KubeconfigError{Field: fmt.Sprintf("line %d", line), Err: fmt.Errorf("%w: YAML aliases", ErrNotAllowed)}
	}
	return nil
}

// alias returns the line of the first alias, 0 if there is none.
func alias(n *yaml.Node) int {
	if n.Kind == yaml.AliasNode {
		return n.Line
	}
	for _, c := range n.Content {
		if line := alias(c); line > 0 {
			return line
		}
	}
	return 0
}

// currentOf returns a file with nothing but the current context.
func currentOf(file *api.Config) (*api.Config, error) {
	name := file.CurrentContext
	fail := func(field, format string, args ...any) (*api.Config, error) {
		return nil, &KubeconfigError{Field: field, Err: fmt.Errorf("%w: "+format, append([]any{ErrKubeconfig}, args...)...)}
	}
	context, ok := file.Contexts[name]
	switch {
	case len(file.Contexts) == 0:
		return fail("contexts", "there are none")
	case name == "":
		return fail("current-context", "it is missing")
	case !ok || context == nil:
		return fail("current-context", "there is no context %q", name)
	}
	cluster, ok := file.Clusters[context.Cluster]
	if !ok || cluster == nil {
		return fail(fmt.Sprintf("context %q: cluster", name), "there is no cluster %q", context.Cluster)
	}
	user, ok := file.AuthInfos[context.AuthInfo]
	if !ok || user == nil {
		return fail(fmt.Sprintf("context %q: user", name), "there is no user %q", context.AuthInfo)
	}
	out := api.NewConfig()
	out.CurrentContext, out.Contexts[name] = name, context
	out.Clusters[context.Cluster], out.AuthInfos[context.AuthInfo] = cluster, user
	return out, nil
}

// allowed refuses what a file with one context must not do, everything at once.
func (p *KubeconfigPolicy) allowed(file *api.Config) error {
	var errs []error
	refuse := func(set bool, format string, args ...any) {
		if set {
			errs = append(errs, &KubeconfigError{Field: fmt.Sprintf(format, args...), Err: ErrNotAllowed})
		}
	}
	for name, c := range file.Clusters {
		if err := p.server(name, c); err != nil {
			errs = append(errs, err)
		}
		refuse(c.InsecureSkipTLSVerify && !p.InsecureTLS, "cluster %q: insecure-skip-tls-verify", name)
		refuse(c.CertificateAuthority != "", "cluster %q: certificate-authority", name)
		if err := p.proxy(name, c.ProxyURL); err != nil {
			errs = append(errs, err)
		}
	}
	for name, u := range file.AuthInfos {
		refuse(u.Exec != nil && !p.Exec, "user %q: exec", name)
		refuse(u.AuthProvider != nil, "user %q: auth-provider", name)
		refuse(u.ClientCertificate != "", "user %q: client-certificate", name)
		refuse(u.ClientKey != "", "user %q: client-key", name)
		refuse(u.TokenFile != "", "user %q: tokenFile", name)
	}
	return errors.Join(errs...)
}

// server checks the address of a cluster.
func (p *KubeconfigPolicy) server(name string, c *api.Cluster) error {
	fail := func(err error) error {
		return &KubeconfigError{Field: fmt.Sprintf("cluster %q: server", name), Err: err}
	}
	if c.Server == "" {
		return fail(fmt.Errorf("%w: it is missing", ErrKubeconfig))
	}
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Host == "":
		return fail(fmt.Errorf("%w: it is no URL of a server", ErrKubeconfig))
	case u.User != nil:
		return fail(fmt.Errorf("%w: credentials in a URL", ErrNotAllowed))
	case u.Scheme != "https" && (u.Scheme != "http" || !p.PlainHTTP):
		return &KubeconfigError{Field: fmt.Sprintf("cluster %q: server without https", name), Err: ErrNotAllowed}
	case p.Host != nil && !p.Host(u.Host):
		return fail(fmt.Errorf("%w: host %s", ErrNotAllowed, u.Host))
	}
	return nil
}

// proxy checks the address of a proxy.
func (p *KubeconfigPolicy) proxy(name, address string) error {
	if address == "" {
		return nil
	}
	fail := func(err error) error {
		return &KubeconfigError{Field: fmt.Sprintf("cluster %q: proxy-url", name), Err: err}
	}
	u, err := url.Parse(address)
	if err != nil {
		return fail(fmt.Errorf("%w: it is no URL", ErrKubeconfig))
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https", "socks5":
	default:
		return fail(fmt.Errorf("%w: use http, https or socks5", ErrNotAllowed))
	}
	if u.Host == "" {
		return fail(fmt.Errorf("%w: it has no host", ErrKubeconfig))
	}
	if p.Host != nil && !p.Host(u.Host) {
		return fail(fmt.Errorf("%w: host %s", ErrNotAllowed, u.Host))
	}
	return nil
}
