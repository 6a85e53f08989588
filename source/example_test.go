package source_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/source"
)

func Example() {
	ctx := context.Background()
	var src source.Source = &source.Files{FS: fstest.MapFS{"app.yaml": {Data: []byte("kind: List\n")}}}

	rev, err := src.Resolve(ctx)
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := src.Fetch(ctx, rev)
	if err != nil {
		log.Fatal(err)
	}
	defer artifact.Close()

	data, err := fs.ReadFile(artifact, "app.yaml")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(artifact.Revision, "\n", string(data))
	// Output:
	// sha256:0b137b2e80ede89d7b388e51d6085c9752811c9d54f928294f198a56f9e2db1e
	// kind: List
}

func ExampleParseRevision() {
	rev, err := source.ParseRevision("feature/x@sha1:5394cb7f48332b2de7c17dd8b8384bbc84b7e738")
	fmt.Println(rev.Ref, rev.Digest.Encoded()[:7], err)
	// Output: feature/x 5394cb7 <nil>
}
