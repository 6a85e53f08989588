package kube_test

import (
	"fmt"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

func ExampleUnsupported() {
	app := &kustomizev1.Kustomization{Spec: kustomizev1.KustomizationSpec{Force: true}}
	err := kube.Unsupported(app, "spec.force", "spec.kubeConfig")
	fmt.Println(err)
	fmt.Println("only a change helps:", rt.IsTerminal(err))
	// Output:
	// spec.force is not supported by this controller yet: remove it
	// only a change helps: true
}
