package boltstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/boltstore"
)

func Example() {
	dir, err := os.MkdirTemp("", "states")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Println(err)
		}
	}()
	for range 2 { // the same program twice
		store := &boltstore.Store[string]{Path: filepath.Join(dir, "states.db")}
		ctx, stop := context.WithCancel(context.Background())
		loop, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
			fmt.Println(p.Key, p.Why)
			return rt.OK()
		}), &rt.Options[string]{Store: store, Observe: func(rt.Observation[string]) { stop() }})
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := loop.Set("clusters/eu", rt.Spec[string]{Interval: time.Hour, Version: "1"}); err != nil {
			fmt.Println(err)
		}
		time.AfterFunc(time.Second, stop)
		if err := loop.Run(ctx); err != nil {
			fmt.Println(err)
		}
		if err := store.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output: clusters/eu added
}
