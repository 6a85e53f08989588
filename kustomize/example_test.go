package kustomize_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/kustomize"
)

func ExampleBuild() {
	tree := fstest.MapFS{
		"base/kustomization.yaml": {Data: []byte("resources: [app.yaml]\n")},
		"base/app.yaml": {Data: []byte(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 1
`)},
		"production/kustomization.yaml": {Data: []byte(`
namePrefix: prod-
resources: [../base]
replicas: [{name: app, count: 3}]
`)},
	}
	objects, err := kustomize.Build(context.Background(), tree, "production", &kustomize.Options{Namespace: "shop"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range objects {
		fmt.Println(o.GetKind(), o.GetNamespace(), o.GetName(), o.Object["spec"])
	}
	// Output: Deployment shop prod-app map[replicas:3]
}

func ExampleBuild_errors() {
	tree := fstest.MapFS{"app.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  key: [\n")}}
	_, err := kustomize.Build(context.Background(), tree, "", nil)
	fmt.Println(err)
	// Output: kustomize: build "": app.yaml:5: invalid kustomization: yaml: line 5: did not find expected node content
}

func ExampleGenerate() {
	tree := fstest.MapFS{
		"app.yaml":                    {},
		"crds/widget.yml":             {},
		"overlay/kustomization.yaml":  {},
		".github/workflows/test.yaml": {},
		"README.md":                   {},
	}
	file, err := kustomize.Generate(context.Background(), tree, ".", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(file))
	// Output:
	// apiVersion: kustomize.config.k8s.io/v1beta1
	// kind: Kustomization
	// resources:
	// - ./app.yaml
	// - ./crds/widget.yml
	// - ./overlay
}
