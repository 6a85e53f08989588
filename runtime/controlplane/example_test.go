package controlplane_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gitopskit/gitopskit/runtime/controlplane"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// In a program, controlplane.Reexec() is the first line of main; in tests, of TestMain.
func ExampleStart() {
	ctx := context.Background()
	cp, err := controlplane.Start(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(cp.Config())
	if err != nil {
		log.Fatal(err)
	}
	ns, err := clientset.CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(ns.Name, ns.Status.Phase)
	fmt.Println(cp.Stop())
	// Output:
	// default Active
	// <nil>
}
