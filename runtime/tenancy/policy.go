package tenancy

import (
	"fmt"
)

// Policy is what tenants may do. The zero value allows references across
// namespaces and acts as the controller itself, as Flux does by default.
type Policy struct {
	// NoCrossNamespaceRefs refuses references to another namespace.
	NoCrossNamespaceRefs bool
	// DefaultServiceAccount is used where an object names none; empty means
	// that the controller acts as itself.
	DefaultServiceAccount string
}

// Ref returns a *[DeniedError] if an object in namespace may not refer to the
// object of the given kind, namespace and name. An empty refNamespace is the
// own one.
func (p Policy) Ref(namespace, kind, refNamespace, name string) error {
	if !p.NoCrossNamespaceRefs || refNamespace == "" || refNamespace == namespace {
		return nil
	}
	return &DeniedError{Namespace: namespace, Kind: kind, RefNamespace: refNamespace, Name: name}
}

// Identity returns as whom to act for an object in namespace that names a
// service account, or none.
func (p Policy) Identity(namespace, serviceAccount string) Identity {
	if serviceAccount == "" {
		serviceAccount = p.DefaultServiceAccount
	}
	if serviceAccount == "" {
		return Identity{}
	}
	return Identity{Namespace: namespace, ServiceAccount: serviceAccount}
}

// DeniedError says which reference is not allowed.
type DeniedError struct {
	// Namespace is where the object is that refers.
	Namespace string
	// Kind, RefNamespace and Name are what it refers to.
	Kind, RefNamespace, Name string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("access to %s %s/%s from namespace %s is denied: references to other namespaces are not allowed here", e.Kind, e.RefNamespace, e.Name, e.Namespace)
}

// Terminal says that only a changed object can help.
func (e *DeniedError) Terminal() bool { return true }
