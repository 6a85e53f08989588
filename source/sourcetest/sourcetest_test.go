package sourcetest_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

// broken is a Source whose methods a test replaces.
type broken struct {
	resolve func(context.Context) (source.Revision, error)
	fetch   func(context.Context, source.Revision) (*source.Artifact, error)
}

func (b broken) Resolve(ctx context.Context) (source.Revision, error) { return b.resolve(ctx) }
func (b broken) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	return b.fetch(ctx, rev)
}

func TestSuiteFindsViolations(t *testing.T) {
	good := &source.Files{FS: fstest.MapFS{"a": {Data: []byte("1")}}}
	if err := sourcetest.TestSource(t.Context(), good, "a"); err != nil {
		t.Fatal(err)
	}
	rev, err := good.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	for name, test := range map[string]struct {
		src  broken
		want string
	}{
		"unstable": {broken{fetch: good.Fetch, resolve: func(context.Context) (source.Revision, error) {
			return source.Revision{Ref: fmt.Sprint(n.Add(1)), Digest: rev.Digest}, nil
		}}, "resolve"},
		"any revision": {broken{resolve: good.Resolve, fetch: func(ctx context.Context, r source.Revision) (*source.Artifact, error) {
			a, err := good.Fetch(ctx, rev)
			if err == nil {
				a.Revision = r
			}
			return a, err
		}}, "unknown revision"},
		"other revision": {broken{resolve: good.Resolve, fetch: func(ctx context.Context, r source.Revision) (*source.Artifact, error) {
			a, err := good.Fetch(ctx, r)
			if err == nil {
				a.Revision = source.Revision{}
			}
			return a, err
		}}, "artifact"},
		"deaf to its context": {broken{resolve: good.Resolve, fetch: func(ctx context.Context, r source.Revision) (*source.Artifact, error) {
			return good.Fetch(context.WithoutCancel(ctx), r)
		}}, "context"},
		"untyped error": {broken{resolve: good.Resolve, fetch: func(ctx context.Context, r source.Revision) (*source.Artifact, error) {
			if r != rev {
				return nil, source.ErrNotFound
			}
			return good.Fetch(ctx, r)
		}}, "unknown revision"},
	} {
		err := sourcetest.TestSource(t.Context(), test.src, "a")
		if err == nil || !strings.Contains(err.Error(), "sourcetest: "+test.want+":") {
			t.Errorf("%s: got %v, want a violation of %q", name, err, test.want)
		}
	}
	if err := sourcetest.TestSource(t.Context(), good, "missing"); err == nil {
		t.Error("a missing file is not noticed")
	}
}
