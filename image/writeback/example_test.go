package writeback_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/image/update"
	"github.com/gitopskit/gitopskit/image/writeback"
	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

// gitRepository makes a writeback.Repository of package source/git.
type gitRepository struct {
	url  string
	opts git.Options // what to read, credentials, limits
}

func (r gitRepository) source(branch string) (*git.Source, error) {
	opts := r.opts
	if branch != "" {
		opts.Ref = git.Ref{Branch: branch}
	}
	return git.New(r.url, &opts)
}

func (r gitRepository) Fetch(ctx context.Context, branch string) (*writeback.Snapshot, error) {
	src, err := r.source(branch)
	if err != nil {
		return nil, err
	}
	rev, err := src.Resolve(ctx)
	if errors.Is(err, source.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, err
	}
	artifact, err := src.Fetch(ctx, rev)
	if err != nil {
		return nil, err
	}
	return &writeback.Snapshot{Revision: rev.String(), Tree: artifact, Close: artifact.Close}, nil
}

func (r gitRepository) Push(ctx context.Context, base *writeback.Snapshot, c *writeback.Commit) (string, error) {
	parent, err := source.ParseRevision(base.Revision)
	if err != nil {
		return "", err
	}
	src, err := r.source(parent.Ref)
	if err != nil {
		return "", err
	}
	made, err := src.Commit(ctx, parent, git.Change{Author: git.Person(c.Author), Message: c.Message, Files: c.Files, Signer: c.Signer})
	if err != nil {
		return "", err
	}
	pushed, err := src.Push(ctx, made, &git.PushOptions{Branch: c.Branch, Refs: c.Refs, Options: c.Options})
	if errors.Is(err, git.ErrMoved) {
		return "", fmt.Errorf("%w: %w", writeback.ErrMoved, err)
	}
	if err != nil {
		return "", err
	}
	return pushed.String(), nil
}

func Example() {
	srv, url, stop := demo()
	defer stop()
	ctx := context.Background()
	policies := map[string]image.Ref{"apps:web": {Name: "ghcr.io/org/web", Tag: "1.2.0"}}

	w, err := writeback.New(gitRepository{url: url}, writeback.Person{Name: "Robot", Email: "robot@example.com"}, &writeback.Options{
		PushBranch: "image-updates",
		Message: writeback.Message{
			Template: `update images

{{ range $object, $changes := .Changed.Objects }}{{ range $changes -}}
{{ $object.Kind }} {{ $object.Name }}: {{ .OldValue }} -> {{ .NewValue }}
{{ end }}{{ end }}`,
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		result, err := w.Write(ctx, func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
			return update.Setters(ctx, tree, policies, nil)
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Changed(), result.Branch)
	}
	message, err := srv.Git("app.git", "", "log", "-1", "--format=%an: %B", "image-updates")
	fmt.Println(message, err)
	// Output:
	// true image-updates
	// false image-updates
	// Robot: update images
	//
	// Deployment web: ghcr.io/org/web:1.1.0 -> ghcr.io/org/web:1.2.0
	//  <nil>
}

// demo serves a repository of one manifest.
func demo() (*gitserver.Server, string, func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := gitserver.New(dir)
	if err != nil {
		log.Fatal(err)
	}
	srv.Writable = true
	_, err = srv.Commit("app.git", "main", "deploy", map[string]string{
		"web.yaml": "kind: Deployment\nmetadata: {name: web}\nimage: ghcr.io/org/web:1.1.0 # {\"$imagepolicy\": \"apps:web\"}\n",
	})
	if err != nil {
		log.Fatal(err)
	}
	web := httptest.NewServer(srv)
	return srv, web.URL + "/app.git", func() {
		web.Close()
		_ = os.RemoveAll(dir)
	}
}
