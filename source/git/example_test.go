package git_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source/git"
)

func Example() {
	url, stop := demo()
	defer stop()
	ctx := context.Background()

	src, err := git.New(url, &git.Options{Ref: git.Ref{Branch: "main"}})
	if err != nil {
		log.Fatal(err)
	}
	rev, err := src.Resolve(ctx)
	if err != nil {
		log.Fatal(err)
	}
	artifact, err := src.Fetch(ctx, rev)
	if err != nil {
		log.Fatal(err)
	}
	defer artifact.Close()

	data, err := fs.ReadFile(artifact, "deploy/app.yaml")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(artifact.Revision)
	fmt.Println(artifact.Metadata[git.MetaSubject])
	fmt.Print(string(data))
	// Output:
	// main@sha1:0e751871448307843856c3ba507df49ec1dd9388
	// deploy the app
	// kind: Deployment
}

// demo serves a repository with one commit.
func demo() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := gitserver.New(dir)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := srv.Commit("app.git", "main", "deploy the app", map[string]string{"deploy/app.yaml": "kind: Deployment\n"}); err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(srv)
	return web.URL + "/app.git", func() { web.Close(); _ = os.RemoveAll(dir) }
}
