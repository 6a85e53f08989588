package tenancy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
)

// Identity is as whom, and in which cluster, something is done. The zero value is nobody, which is an error wherever
// an identity is needed: that of the controller is [Identity.Self], never something left out. A [Policy] makes
// identities of objects.
type Identity struct {
	// Self is the identity of the connection itself: the controller in its own cluster, the user of the kubeconfig in
	// another one. It excludes the fields up to Groups.
	Self bool
	// Namespace and ServiceAccount name a service account to impersonate, as a member of no group.
	Namespace, ServiceAccount string
	// User and Groups are impersonated as they are; a user is needed, groups are not. They exclude the service
	// account.
	User   string
	Groups []string
	// Kubeconfig leads to another cluster; nil means the own one, and an empty one is an error. It is checked, see
	// [Config].
	Kubeconfig []byte
}

// Identity returns as whom to act for an object in namespace that names a service account, or none. The error is an
// *[IdentityError].
func (p Policy) Identity(namespace, serviceAccount string) (Identity, error) {
	return p.identity(namespace, serviceAccount, p.DefaultServiceAccount)
}

// Remote is Identity in the cluster of a kubeconfig, which the object brings. Without a service account, that is the
// user of the kubeconfig, in lockdown as well: it is not the controller's. An empty kubeconfig is an error, and never
// means the own cluster.
func (p Policy) Remote(namespace, serviceAccount string, kubeconfig []byte) (Identity, error) {
	p.Lockdown = false
	id, err := p.Identity(namespace, serviceAccount)
	if err == nil && len(kubeconfig) == 0 {
		err = &IdentityError{Namespace: namespace, Err: errEmptyKubeconfig}
	}
	if err != nil {
		return Identity{}, err
	}
	id.Kubeconfig = kubeconfig
	return id, nil
}

// Decryption returns as whom keys are fetched for an object in namespace.
func (p Policy) Decryption(namespace, serviceAccount string) (Identity, error) {
	return p.objectLevel("decryption", namespace, serviceAccount, p.DefaultDecryptionServiceAccount)
}

// ForKubeconfig returns as whom a kubeconfig is fetched for an object in namespace, where it does not come from a
// Secret.
func (p Policy) ForKubeconfig(namespace, serviceAccount string) (Identity, error) {
	return p.objectLevel("kubeconfig", namespace, serviceAccount, p.DefaultKubeconfigServiceAccount)
}

func (p Policy) objectLevel(what, namespace, serviceAccount, byDefault string) (Identity, error) {
	if serviceAccount != "" && !p.ObjectLevelIdentity {
		return Identity{}, &IdentityError{Namespace: namespace, ServiceAccount: serviceAccount, Err: fmt.Errorf("%w: service accounts of objects for %s are not enabled here", ErrDenied, what)}
	}
	return p.identity(namespace, serviceAccount, byDefault)
}

func (p Policy) identity(namespace, serviceAccount, byDefault string) (Identity, error) {
	if serviceAccount == "" {
		serviceAccount = byDefault
	}
	if serviceAccount == "" {
		if p.Lockdown {
			return Identity{}, &IdentityError{Namespace: namespace, Err: fmt.Errorf("%w: name a service account: nothing is done here as the controller", ErrDenied)}
		}
		return Identity{Self: true}, nil
	}
	id := Identity{Namespace: namespace, ServiceAccount: serviceAccount}
	if err := id.check(); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// ErrNoIdentity: an identity is empty or half given. It is always a mistake of a program or of an object, and nothing
// is done.
var ErrNoIdentity = errors.New("no identity")

var errEmptyKubeconfig = fmt.Errorf("%w: the kubeconfig is empty", ErrNoIdentity)

// IdentityError says that there is nobody to act as. It matches [ErrDenied] where a policy is the cause, and
// [ErrNoIdentity] where the identity is not one.
type IdentityError struct {
	// Namespace and ServiceAccount are what was given.
	Namespace, ServiceAccount string
	// Err is the cause.
	Err error
}

func (e *IdentityError) Error() string {
	if e.ServiceAccount != "" {
		return fmt.Sprintf("service account %q in namespace %q: %s", e.ServiceAccount, e.Namespace, e.Err)
	}
	if e.Namespace != "" {
		return fmt.Sprintf("identity for namespace %q: %s", e.Namespace, e.Err)
	}
	return "identity: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *IdentityError) Unwrap() error { return e.Err }

// Terminal says that only a changed object can help.
func (e *IdentityError) Terminal() bool { return true }

// check returns an *IdentityError unless the identity is exactly one.
func (id Identity) check() error {
	fail := func(err error) error {
		return &IdentityError{Namespace: id.Namespace, ServiceAccount: id.ServiceAccount, Err: err}
	}
	account := id.Namespace != "" || id.ServiceAccount != ""
	named := id.User != "" || len(id.Groups) > 0
	switch {
	case id.Kubeconfig != nil && len(id.Kubeconfig) == 0:
		return fail(errEmptyKubeconfig)
	case id.Self && (account || named), account && named:
		return fail(fmt.Errorf("%w: it is more than one", ErrNoIdentity))
	case id.Self:
		return nil
	case account:
		return id.checkAccount(fail)
	case id.User == "" && named:
		return fail(fmt.Errorf("%w: groups without a user", ErrNoIdentity))
	case id.User == "":
		return fail(fmt.Errorf("%w: neither a service account nor a user, nor the controller by name", ErrNoIdentity))
	}
	for _, s := range append([]string{id.User}, id.Groups...) {
		if strings.TrimSpace(s) == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fail(fmt.Errorf("%w: a user or group is empty or has control characters", ErrNoIdentity))
		}
	}
	return nil
}

func (id Identity) checkAccount(fail func(error) error) error {
	if id.Namespace == "" || id.ServiceAccount == "" {
		return fail(fmt.Errorf("%w: a service account needs a namespace and a name", ErrNoIdentity))
	}
	if problems := validation.IsDNS1123Label(id.Namespace); len(problems) > 0 {
		return fail(fmt.Errorf("%w: %q is no name of a namespace", ErrNoIdentity, id.Namespace))
	}
	if err := checkName(id.ServiceAccount); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrNoIdentity, err))
	}
	return nil
}

// checkName keeps names from meaning more than a service account of the own namespace.
func checkName(name string) error {
	if strings.ContainsAny(name, "/:") {
		return fmt.Errorf("%q is no name of a service account: it is always one of the own namespace, named without it", name)
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("%q is no name of a service account", name)
	}
	return nil
}

// String is the name that API servers and their audit logs know the identity by, "self" for [Identity.Self], "nobody"
// for none.
func (id Identity) String() string {
	switch {
	case id.Self:
		return "self"
	case id.ServiceAccount != "":
		return "system:serviceaccount:" + id.Namespace + ":" + id.ServiceAccount
	case id.User != "":
		return id.User
	}
	return "nobody"
}

// impersonation is empty for Self only.
func (id Identity) impersonation() rest.ImpersonationConfig {
	if id.Self {
		return rest.ImpersonationConfig{}
	}
	return rest.ImpersonationConfig{UserName: id.String(), Groups: slices.Clone(id.Groups)}
}
