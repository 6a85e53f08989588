// Command mirror keeps an archive of every commit of a Git repository's default
// branch that it meets, with no Kubernetes: "mirror https://host/repo.git dir".
// It may be stopped at any time, because an archive is there as a whole or not
// at all.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/store"
)

func main() { log.Fatal(mirror(context.Background(), os.Args[1], os.Args[2])) }

func mirror(ctx context.Context, url, dir string) error {
	repo, err1 := git.New(url, nil)
	archives, err2 := store.Open(dir, nil)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	defer archives.Close() //nolint:errcheck // the end
	loop, err := rt.New(rt.Func[string](func(ctx context.Context, p rt.Pass[string]) rt.Result {
		rev, err := repo.Resolve(ctx)
		if err != nil || rev.String() == p.Prev.Revision {
			return rt.Of(err)
		}
		tree, err := repo.Fetch(ctx, rev)
		if err == nil {
			defer tree.Close()
			_, err = archives.Put(ctx, store.Key{Kind: "Commit", Namespace: "mirror", Name: rev.Digest.Encoded()}, tree)
		}
		return rt.Of(err).At(rev.String())
	}), nil)
	if err == nil {
		err = loop.Set(url, rt.Spec[string]{Interval: time.Minute})
	}
	if err != nil {
		return err
	}
	return loop.Run(ctx)
}
