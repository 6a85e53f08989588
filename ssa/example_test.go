package ssa_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gitopskit/gitopskit/ssa"
)

func ExampleReadObjects() {
	objects, err := ssa.ReadObjects(strings.NewReader(`
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
---
# nothing but a comment
---
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"}}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range objects {
		fmt.Println(ssa.IDOf(o))
	}
	// Output:
	// ConfigMap/shop/settings
	// Secret/shop/keys
}

func ExampleChangeSet() {
	id := ssa.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}
	set := &ssa.ChangeSet{Changes: []ssa.Change{
		{Object: id, Action: ssa.Configured, Fields: []ssa.FieldChange{{Path: "spec.replicas", Old: int64(1), New: int64(3)}}},
		{Object: ssa.ObjectID{Kind: "Service", Namespace: "shop", Name: "web"}, Action: ssa.Failed, Err: fmt.Errorf("validate: %w", ssa.ErrInvalid)},
	}}
	fmt.Println(set.Summary())
	for _, c := range set.Changes {
		fmt.Println(c.Object, c.Action)
		for _, f := range c.Fields {
			fmt.Println(" ", f)
		}
	}
	fmt.Println(errors.Is(set.Err(), ssa.ErrInvalid))
	// Output:
	// 1 configured, 1 failed
	// Deployment/shop/web configured
	//   ~ spec.replicas: 1 -> 3
	// Service/shop/web failed
	// true
}

func ExampleObjectID_Encode() {
	id := ssa.ObjectID{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "system:reader"}
	fmt.Println(id.Encode())
	back, err := ssa.ParseObjectID(id.Encode())
	fmt.Println(back, err)
	// Output:
	// _system__reader_rbac.authorization.k8s.io_ClusterRole
	// ClusterRole/system:reader <nil>
}
