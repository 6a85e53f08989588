// Command mirror keeps a directory with every commit of a Git repository's
// default branch, with no Kubernetes: "mirror https://host/repo.git dir".
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/source/git"
)

func main() { log.Fatal(mirror(context.Background(), os.Args[1], os.Args[2])) }

func mirror(ctx context.Context, url, dir string) error {
	repo, err := git.New(url, nil)
	if err != nil {
		return err
	}
	loop, err := rt.New(rt.Func[string](func(ctx context.Context, p rt.Pass[string]) rt.Result {
		rev, err := repo.Resolve(ctx)
		if err != nil || rev.String() == p.Prev.Revision {
			return rt.Of(err)
		}
		tree, err := repo.Fetch(ctx, rev)
		if err != nil {
			return rt.Fail(err)
		}
		defer tree.Close()
		return rt.Of(os.CopyFS(filepath.Join(dir, rev.Digest.Encoded()), tree)).At(rev.String())
	}), nil)
	if err != nil {
		return err
	}
	if err := loop.Set(url, rt.Spec[string]{Interval: time.Minute}); err != nil {
		return err
	}
	return loop.Run(ctx)
}
