package testenv_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"k8s.io/client-go/rest"
)

// A program that needs a cluster for a while; the progress of a first build goes to standard error.
func ExampleLaunch() {
	ctx := context.Background()
	server, err := testenv.Launch(ctx, &testenv.Options{Progress: os.Stderr})
	if err != nil {
		log.Fatal(err)
	}
	client, err := rest.HTTPClientFor(server.Config())
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.Get(server.URL() + "/livez")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status)
	fmt.Println(resp.Body.Close(), server.Stop())
	// Output:
	// 200 OK
	// <nil> <nil>
}
