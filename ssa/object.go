package ssa

import (
	"cmp"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ObjectID names one object of a cluster, whatever version it is read in.
type ObjectID struct {
	Group     string `json:"group,omitempty"` // "" for the core group
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // "" for cluster-scoped objects
	Name      string `json:"name"`
}

// IDOf returns the identity of obj.
func IDOf(obj *unstructured.Unstructured) ObjectID {
	var id ObjectID
	metadata, _ := obj.Object["metadata"].(map[string]any) // what is missing or of another type is empty
	id.Kind, _ = obj.Object["kind"].(string)
	id.Namespace, _ = metadata["namespace"].(string)
	id.Name, _ = metadata["name"].(string)
	apiVersion, _ := obj.Object["apiVersion"].(string)
	if gv, err := schema.ParseGroupVersion(apiVersion); err == nil {
		id.Group = gv.Group
	}
	return id
}

// String returns the identity for people: "Deployment/shop/web",
// "ClusterRole/reader", and, outside the groups that Kubernetes ships,
// "Widget.example.com/shop/blue".
func (id ObjectID) String() string {
	kind := id.Kind
	if strings.Contains(id.Group, ".") && !strings.HasSuffix(id.Group, ".k8s.io") {
		kind += "." + id.Group
	}
	if id.Namespace == "" {
		return kind + "/" + id.Name
	}
	return kind + "/" + id.Namespace + "/" + id.Name
}

// GroupKind returns the type of the object.
func (id ObjectID) GroupKind() schema.GroupKind {
	return schema.GroupKind{Group: id.Group, Kind: id.Kind}
}

// Compare orders identities by group, kind, namespace and name, for [slices.SortFunc].
func (id ObjectID) Compare(other ObjectID) int {
	if id.Group != other.Group {
		return cmp.Compare(id.Group, other.Group)
	}
	if id.Kind != other.Kind {
		return cmp.Compare(id.Kind, other.Kind)
	}
	if id.Namespace != other.Namespace {
		return cmp.Compare(id.Namespace, other.Namespace)
	}
	return cmp.Compare(id.Name, other.Name)
}

// Encode returns the identity in the form Flux stores in status.inventory:
// "<namespace>_<name>_<group>_<kind>", with each colon of the name, which RBAC
// allows, written as two underscores. [ParseObjectID] reads it back, unless the
// name itself has an underscore, which RBAC allows too.
func (id ObjectID) Encode() string {
	return strings.Join([]string{id.Namespace, strings.ReplaceAll(id.Name, ":", "__"), id.Group, id.Kind}, "_")
}

// ParseObjectID reads the form that Encode writes. The error matches [ErrInvalid].
func ParseObjectID(s string) (ObjectID, error) {
	bad := fmt.Errorf("%w: object id %q is not <namespace>_<name>_<group>_<kind>", ErrInvalid, s)
	namespace, rest, ok := strings.Cut(s, "_")
	if !ok {
		return ObjectID{}, bad
	}
	i := strings.LastIndexByte(rest, '_')
	if i < 0 {
		return ObjectID{}, bad
	}
	rest, kind := rest[:i], rest[i+1:]
	if i = strings.LastIndexByte(rest, '_'); i < 0 {
		return ObjectID{}, bad
	}
	name, group := strings.ReplaceAll(rest[:i], "__", ":"), rest[i+1:]
	if name == "" || kind == "" || strings.Contains(name, "_") {
		return ObjectID{}, bad
	}
	return ObjectID{Group: group, Kind: kind, Namespace: namespace, Name: name}, nil
}
