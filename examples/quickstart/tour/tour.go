// Package tour is the story the quickstart tells when it has no repository of
// yours: a demo repository, and what can happen to it and to its objects.
package tour

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/internal/gitserver"
)

//go:embed demo
var demo embed.FS

// Tour serves the demo repository.
type Tour struct {
	// URL of the repository.
	URL string

	repo   *gitserver.Server
	server *http.Server
	dir    string
}

const repository, branch = "demo.git", "main"

// New makes the repository and serves it on a free port. Close ends that.
func New() (t *Tour, err error) {
	t = &Tour{}
	if t.dir, err = os.MkdirTemp("", "gitopskit-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	if t.repo, err = gitserver.New(t.dir); err != nil {
		return nil, err
	}
	files := map[string]string{}
	err = fs.WalkDir(demo, "demo", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := demo.ReadFile(name)
		files[path.Base(name)] = string(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err = t.repo.Commit(repository, branch, "the demo application", files); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t.server = &http.Server{Handler: t.repo, ReadHeaderTimeout: 10 * time.Second}
	go t.server.Serve(listener) //nolint:errcheck // it ends with Close
	t.URL = "http://" + listener.Addr().String() + "/" + repository
	return t, nil
}

// Close removes the repository and its server.
func (t *Tour) Close() {
	if t.server != nil {
		t.server.Close() //nolint:errcheck // nobody is left to serve
	}
	os.RemoveAll(t.dir) //nolint:errcheck // a temporary directory
}

// scene is one thing that happens.
type scene struct {
	title string
	// act changes the repository or the cluster.
	act func(ctx context.Context) error
	// committed is true if the repository has a new commit.
	committed bool
}

// Play makes everything happen, one after the other: it calls title, acts,
// calls committed, as the webhook of a forge would, if there is a new commit,
// and waits for the outcome.
func (t *Tour) Play(ctx context.Context, cluster dynamic.Interface, title func(string), committed func(), wait func(context.Context) error) error {
	for _, s := range t.scenes(cluster) {
		title(s.title)
		if err := s.act(ctx); err != nil {
			return err
		}
		if s.committed {
			committed()
		}
		if err := wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tour) scenes(cluster dynamic.Interface) []scene {
	deployments := cluster.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("demo")
	return []scene{
		{title: "A commit rolls out: image 1.1.0, three replicas", committed: true, act: func(context.Context) error {
			web, err := demo.ReadFile("demo/web.yaml")
			next := strings.NewReplacer("web:1.0.0", "web:1.1.0", "replicas: 2", "replicas: 3").Replace(string(web))
			_, commitErr := t.repo.Commit(repository, branch, "web 1.1.0", map[string]string{"web.yaml": next})
			return errors.Join(err, commitErr)
		}},
		{title: "Somebody scales the Deployment by hand", act: func(ctx context.Context) error {
			_, err := deployments.Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), metav1.PatchOptions{FieldManager: "by-hand"})
			return err
		}},
		{title: "Somebody deletes the Deployment", act: func(ctx context.Context) error {
			return deployments.Delete(ctx, "web", metav1.DeleteOptions{})
		}},
		{title: "An object is removed from Git", committed: true, act: func(context.Context) error {
			_, err := t.repo.Delete(repository, branch, "settings are no longer needed", "settings.yaml")
			return err
		}},
	}
}
