package oci_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source/oci"
)

func Example() {
	web := httptest.NewServer(registry.New())
	defer web.Close()
	ctx, at := context.Background(), "oci://"+web.Listener.Addr().String()+"/org/deploy"

	tree := fstest.MapFS{"app.yaml": {Data: []byte("kind: List")}}
	_, err := oci.Push(ctx, at+":1.0.0", tree, &oci.PushOptions{Revision: "main@sha1:5394cb7f", Client: oci.Client{Insecure: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	repo, err := oci.New(at, &oci.Options{Ref: oci.Ref{SemVer: "1.x"}, Client: oci.Client{Insecure: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	rev, err := repo.Resolve(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	artifact, err := repo.Fetch(ctx, rev)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer artifact.Close()
	data, err := fs.ReadFile(artifact, "app.yaml")
	fmt.Println(rev.Ref, artifact.Metadata[oci.AnnotationRevision], string(data), err)
	// Output: 1.0.0 main@sha1:5394cb7f kind: List <nil>
}
