package tenancy

import (
	"context"
	"errors"
	"fmt"
)

// Policy is what tenants may do. The zero value allows references across namespaces and acts as the controller itself,
// as Flux does by default. It is a value: two controllers of one process may have different ones.
type Policy struct {
	// NoCrossNamespaceRefs refuses references to another namespace, even where the other side allows them.
	NoCrossNamespaceRefs bool
	// DefaultServiceAccount is whom to act as for an object that names no service account; empty means the controller
	// itself, unless Lockdown forbids that.
	DefaultServiceAccount string
	// DefaultDecryptionServiceAccount and DefaultKubeconfigServiceAccount are the same for the identities that keys
	// and kubeconfigs are fetched as. They need ObjectLevelIdentity.
	DefaultDecryptionServiceAccount, DefaultKubeconfigServiceAccount string
	// ObjectLevelIdentity says that objects may name a service account of their own for decryption and kubeconfigs.
	ObjectLevelIdentity bool
	// Lockdown forbids to act as the controller itself on behalf of an object: where neither the object nor a default
	// names a service account, there is no identity but an error.
	Lockdown bool
}

// Validate returns what is wrong with the policy, everything at once: names that no service account can have, and
// settings that contradict each other. A controller refuses to start with such a policy.
func (p Policy) Validate() error {
	var errs []error
	for _, f := range []struct{ field, name string }{
		{"DefaultServiceAccount", p.DefaultServiceAccount},
		{"DefaultDecryptionServiceAccount", p.DefaultDecryptionServiceAccount},
		{"DefaultKubeconfigServiceAccount", p.DefaultKubeconfigServiceAccount},
	} {
		if f.name == "" {
			continue
		}
		if err := checkName(f.name); err != nil {
			errs = append(errs, fmt.Errorf("tenancy: policy: %s: %w", f.field, err))
		}
		if f.field != "DefaultServiceAccount" && !p.ObjectLevelIdentity {
			errs = append(errs, fmt.Errorf("tenancy: policy: %s is set without ObjectLevelIdentity, so that it would not count", f.field))
		}
	}
	return errors.Join(errs...)
}

// Ref returns a *[DeniedError] if an object in namespace may not refer to the object of the given kind, namespace and
// name. An empty refNamespace is the own one. For kinds that say themselves who may refer to them, use [Policy.Access].
func (p Policy) Ref(namespace, kind, refNamespace, name string) error {
	if refNamespace == "" || refNamespace == namespace || !p.NoCrossNamespaceRefs {
		return nil
	}
	return &DeniedError{Namespace: namespace, Kind: kind, RefNamespace: refNamespace, Name: name}
}

// AccessFrom is who may refer to an object from another namespace: the objects of those namespaces that one of the
// selectors selects. Nil, and no selectors, is nobody.
type AccessFrom struct {
	// NamespaceSelectors are labels that a namespace must have, all of one selector; a selector without labels selects
	// every namespace.
	NamespaceSelectors []map[string]string
}

// Labels returns the labels of a namespace. It is asked only for references that cross namespaces and may be allowed.
type Labels func(ctx context.Context, namespace string) (map[string]string, error)

// Access is [Policy.Ref] for a kind whose objects say who may refer to them: without access from the namespace, a
// reference to another one is denied, whatever the policy; with it, the policy decides. An error other than a
// *[DeniedError] means that the labels could not be read, and that nothing is allowed yet.
func (p Policy) Access(ctx context.Context, namespace, kind, refNamespace, name string, from *AccessFrom, labels Labels) error {
	if refNamespace == "" || refNamespace == namespace {
		return nil
	}
	if err := p.Ref(namespace, kind, refNamespace, name); err != nil {
		return err
	}
	denied := &DeniedError{Namespace: namespace, Kind: kind, RefNamespace: refNamespace, Name: name, ACL: true}
	if from == nil || len(from.NamespaceSelectors) == 0 {
		return denied
	}
	has, err := labels(ctx, namespace)
	if err != nil {
		return fmt.Errorf("tenancy: labels of namespace %s: %w", namespace, err)
	}
	for _, selector := range from.NamespaceSelectors {
		if selects(selector, has) {
			return nil
		}
	}
	return denied
}

func selects(selector, labels map[string]string) bool {
	for name, want := range selector {
		if has, ok := labels[name]; !ok || has != want {
			return false
		}
	}
	return true
}

// ErrDenied is the class of everything that a policy refuses, for errors.Is: it is a matter of the condition
// AccessDenied.
var ErrDenied = errors.New("access denied")

// DeniedError says which reference is not allowed.
type DeniedError struct {
	// Namespace is where the object is that refers.
	Namespace string
	// Kind, RefNamespace and Name are what it refers to.
	Kind, RefNamespace, Name string
	// ACL says that it is the other object that does not allow it.
	ACL bool
}

func (e *DeniedError) Error() string {
	why := "references to other namespaces are not allowed here"
	if e.ACL {
		why = "its accessFrom does not select namespace " + e.Namespace
	}
	return fmt.Sprintf("access to %s %s/%s from namespace %s is denied: %s", e.Kind, e.RefNamespace, e.Name, e.Namespace, why)
}

// Is reports whether target is [ErrDenied].
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// Terminal says that only a changed object can help; where it is the other object that must change, its own change
// is what triggers.
func (e *DeniedError) Terminal() bool { return true }
