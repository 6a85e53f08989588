package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/bucket"
)

// fake is a lister of anything, for what no server would say.
type fake struct {
	objects []bucket.Object
	get     func(ctx context.Context, o bucket.Object) (io.ReadCloser, error)
	list    func(ctx context.Context) error
}

func (f *fake) List(ctx context.Context, prefix string) iter.Seq2[bucket.Object, error] {
	return func(yield func(bucket.Object, error) bool) {
		if f.list != nil {
			if err := f.list(ctx); err != nil {
				yield(bucket.Object{}, err)
				return
			}
		}
		for _, o := range f.objects {
			if strings.HasPrefix(o.Key, prefix) && !yield(o, nil) {
				return
			}
		}
	}
}

func (f *fake) Get(ctx context.Context, o bucket.Object) (io.ReadCloser, error) {
	if f.get != nil {
		return f.get(ctx, o)
	}
	return io.NopCloser(strings.NewReader(strings.Repeat("x", int(o.Size)))), nil
}

func newFake(t *testing.T, f *fake, opts *bucket.Options) *bucket.Source {
	t.Helper()
	src, err := bucket.New("fake", f, opts)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"../x", "a/../../x", "/abs", `a\..\x`, "a//b", ".", "a/./b", "a\x00", "a\nb", "a\xff"} {
		src := newFake(t, &fake{objects: []bucket.Object{{Key: key, ETag: "1"}}}, nil)
		_, err := src.Resolve(t.Context())
		var typed *source.Error
		if !errors.Is(err, source.ErrUnsafePath) || !errors.As(err, &typed) || !typed.Terminal() {
			t.Errorf("%q: %v", key, err)
		}
	}
	src := newFake(t, &fake{objects: []bucket.Object{{Key: "a", ETag: "1"}, {Key: "a/b", ETag: "1"}}}, nil)
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrUnsafePath) || !strings.Contains(err.Error(), "a/b is below a") {
		t.Errorf("a file and a directory: %v", err)
	}
	long := strings.Repeat("x/", 40) + strings.Repeat("y", 900)
	src = newFake(t, &fake{objects: []bucket.Object{{Key: long, ETag: "1"}}}, nil)
	if _, err := src.Resolve(t.Context()); err != nil {
		t.Errorf("a long key: %v", err)
	}
}

func TestLimits(t *testing.T) {
	two := []bucket.Object{{Key: "a/b/c", ETag: "1", Size: 3}, {Key: "d", ETag: "1", Size: 3}}
	for name, test := range map[string]struct {
		objects []bucket.Object
		limits  source.Limits
	}{
		"files":    {two, source.Limits{Files: 1}},
		"file":     {two, source.Limits{File: 2}},
		"unpacked": {two, source.Limits{Unpacked: 5}},
		"download": {two, source.Limits{Download: 5}},
		"depth":    {two, source.Limits{Depth: 1}},
		"ignore":   {[]bucket.Object{{Key: ".sourceignore", ETag: "1", Size: 1 << 20}}, source.Limits{}},
		"listing":  {make([]bucket.Object, 40), source.Limits{Files: 1}},
	} {
		for i := range test.objects {
			if test.objects[i].Key == "" {
				test.objects[i].Key = "dir/"
			}
		}
		if _, err := newFake(t, &fake{objects: test.objects}, &bucket.Options{Limits: test.limits}).Resolve(t.Context()); !errors.Is(err, source.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	src := newFake(t, &fake{objects: two}, &bucket.Options{Limits: source.Limits{Files: 2, File: 3, Unpacked: 6, Download: 6, Depth: 2}})
	if len(contents(t, src)) != 2 {
		t.Error("exactly at the limits")
	}
	// An object that is not as long as it was listed.
	for _, data := range []string{"", "12", "1234"} {
		src := newFake(t, &fake{objects: two, get: func(context.Context, bucket.Object) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(data)), nil
		}}, nil)
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("%d bytes: %v", len(data), err)
		}
	}
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		src := newFake(t, &fake{list: wait}, nil)
		start := time.Now()
		if _, err := src.Resolve(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("resolve after %v: %v", time.Since(start), err)
		}
		objects := make([]bucket.Object, 100)
		for i := range objects {
			objects[i] = bucket.Object{Key: fmt.Sprint(i), ETag: "1"}
		}
		slow := &fake{objects: objects, get: func(ctx context.Context, _ bucket.Object) (io.ReadCloser, error) { return nil, wait(ctx) }}
		src = newFake(t, slow, &bucket.Options{Timeout: -1})
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := src.Fetch(ctx, rev); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("fetch: %v", err)
		}
		// One failure ends the others.
		var n int
		var mu sync.Mutex
		slow.get = func(ctx context.Context, _ bucket.Object) (io.ReadCloser, error) {
			mu.Lock()
			n++
			first := n == 1
			mu.Unlock()
			if first {
				return nil, errors.New("no route")
			}
			return nil, wait(ctx)
		}
		if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "no route") || n > 17 {
			t.Errorf("after %d requests: %v", n, err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for name, f := range map[string]func() error{
		"scheme":      func() error { _, err := bucket.NewS3("https://x", "deploy", nil); return err },
		"credentials": func() error { _, err := bucket.NewS3("me:s3cret@x", "deploy", nil); return err },
		"empty":       func() error { _, err := bucket.NewS3("", "deploy", nil); return err },
		"bucket":      func() error { _, err := bucket.NewS3("x", "../up", nil); return err },
		"half":        func() error { _, err := bucket.NewS3("x", "deploy", &bucket.S3Options{AccessKey: "a"}); return err },
		"session":     func() error { _, err := bucket.NewS3("x", "deploy", &bucket.S3Options{SessionToken: "a"}); return err },
		"CAs":         func() error { _, err := bucket.NewS3("x", "deploy", &bucket.S3Options{CAs: []byte("x")}); return err },
		"transport": func() error {
			_, err := bucket.NewS3("x", "deploy", &bucket.S3Options{CAs: []byte("x"), Transport: http.DefaultTransport})
			return err
		},
		"lister": func() error { _, err := bucket.New("x", nil, nil); return err },
		"limits": func() error {
			_, err := bucket.New("x", &fake{}, &bucket.Options{Limits: source.Limits{Files: -2}})
			return err
		},
	} {
		err := f()
		var typed *source.Error
		if !errors.Is(err, source.ErrInvalidSpec) || !errors.As(err, &typed) || typed.Op != "new" || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
