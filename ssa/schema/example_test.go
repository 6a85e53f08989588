package schema_test

import (
	"context"
	"fmt"
	"strings"
	"testing/fstest"

	apischema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

func Example() {
	deploy := fstest.MapFS{
		"crd.yaml": {Data: []byte(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shops.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: shops, kind: Shop}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {open: {type: integer}, close: {type: integer}}
            x-kubernetes-validations: [{rule: self.open < self.close, message: opens after it closes}]
`)},
		"shop.yaml": {Data: []byte(`apiVersion: example.com/v1
kind: Shop
metadata: {name: corner}
spec: {open: 18, close: 9}
`)},
		"web.yaml": {Data: []byte(`apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selectors: {app: web}
  ports:
  - port: http
`)},
	}
	manifests, err := schema.Load(deploy, nil, nil)
	if err != nil {
		panic(err)
	}
	set, err := schema.Builtin("1.36")
	if err != nil {
		panic(err)
	}
	set, err = set.With(manifests.Objects...)
	if err != nil {
		panic(err)
	}
	for _, v := range set.Validate(context.Background(), manifests.Objects, &schema.ValidateOptions{Manifests: manifests}) {
		fmt.Println(v)
	}
	// Output:
	// shop.yaml:4: Shop.example.com/corner: spec: opens after it closes
	// web.yaml:5: Service/web: spec.selectors: unknown field, did you mean selector?
	// web.yaml:7: Service/web: spec.ports[0].port: expected an integer of 32 bits, not a text
}

func ExampleSet_TypeConverter() {
	set, err := schema.Builtin("")
	if err != nil {
		panic(err)
	}
	types, err := set.TypeConverter(context.Background(), apischema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
	if err != nil {
		panic(err)
	}
	manifests, err := schema.Decode("web.yaml", []byte("{apiVersion: apps/v1, kind: Deployment, spec: {replicass: 1}}"), nil)
	if err != nil {
		panic(err)
	}
	_, err = types.ObjectToTyped(manifests.Objects[0])
	fmt.Println(strings.TrimSpace(err.Error()))
	// Output: .spec.replicass: field not declared in schema
}

func ExampleVersions() {
	fmt.Println(schema.Versions())
	// Output: [1.37 1.36 1.35 1.34 1.33]
}
