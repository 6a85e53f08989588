package git_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"time"

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

func ExampleSource_Commit() {
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
	commit, err := src.Commit(ctx, rev, git.Change{
		Author:  git.Person{Name: "Robot", Email: "robot@example.com"},
		Message: "scale the app",
		When:    time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC),
		Files:   map[string][]byte{"deploy/app.yaml": []byte("kind: Deployment\nreplicas: 2\n")},
	})
	if err != nil {
		log.Fatal(err)
	}
	pushed, err := src.Push(ctx, commit, &git.PushOptions{Branch: "scale"})
	fmt.Println(pushed, err)

	_, err = src.Commit(ctx, rev, git.Change{
		Author:  git.Person{Email: "robot@example.com"},
		Message: "once more",
		Files:   map[string][]byte{"deploy/app.yaml": []byte("kind: Deployment\n")},
	})
	fmt.Println(errors.Is(err, git.ErrNoChanges))
	// Output:
	// scale@sha1:d2382d06db0ab4ded07bbc07e7a08a724c5be0ec <nil>
	// true
}

// demo serves a repository with one commit, to which everybody may push.
func demo() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := gitserver.New(dir)
	if err != nil {
		log.Fatal(err)
	}
	srv.Writable = true
	if _, err := srv.Commit("app.git", "main", "deploy the app", map[string]string{"deploy/app.yaml": "kind: Deployment\n"}); err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(srv)
	return web.URL + "/app.git", func() { web.Close(); _ = os.RemoveAll(dir) }
}
