package gitopskit_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/ssa"
)

// A source gives an artifact, which is a file system; a build gives objects.
// Here the files are in memory: nothing but the packages is needed.
func Example() {
	files := source.Files{Name: "demo", FS: fstest.MapFS{
		"base/kustomization.yaml": {Data: []byte("resources: [app.yaml]\n")},
		"base/app.yaml":           {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\ndata: {level: info}\n")},
		"prod/kustomization.yaml": {Data: []byte("namespace: shop\nresources: [../base]\n")},
	}}
	if err := show(context.Background(), &files, "prod"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// ConfigMap/shop/app
}

func show(ctx context.Context, src source.Source, dir string) error {
	revision, err := src.Resolve(ctx) // which revision? moves no content
	if err != nil {
		return err
	}
	artifact, err := src.Fetch(ctx, revision) // exactly that one, as an fs.FS
	if err != nil {
		return err
	}
	defer artifact.Close()
	objects, err := kustomize.Build(ctx, artifact, dir, nil)
	if err != nil {
		return err // names the file and the line
	}
	for _, object := range objects {
		fmt.Println(ssa.IDOf(object))
	}
	return nil
}
