package tenancy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPauses: while a cluster is down, one request after each pause finds out, and the pauses grow; any answer ends
// that, and a caller who leaves says nothing.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var sent []time.Duration
		broken := errors.New("no route")
		up := false
		rt := &reaching{reach: &reach{host: "c"}, patience: 30 * time.Second, base: tripper(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, time.Since(begin))
			if up {
				return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
			}
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return nil, broken
		})}
		ask := func(ctx context.Context, path string) error {
			r, err := http.NewRequestWithContext(ctx, "GET", "https://c"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		left, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if err := ask(left, "/hang"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for time.Since(begin) < 8*time.Minute { // one request each second
			err := ask(t.Context(), "/")
			var of *UnreachableError
			if !errors.Is(err, broken) || errors.As(err, &of) && of.RetryAfter() > maxPause {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		var seconds []int
		for _, at := range sent {
			seconds = append(seconds, int(at.Seconds()))
		}
		if want := []int{0, 1, 6, 16, 36, 76, 156, 276, 396}; !slices.Equal(seconds, want) {
			t.Errorf("sent at %v, want %v", sent, want)
		}
		time.Sleep(maxPause)
		var tries sync.WaitGroup // of ten at a time, one is sent, and held for the time of its patience
		before := len(sent)
		for range 10 {
			tries.Go(func() {
				if err := ask(t.Context(), "/hang"); err == nil {
					t.Error("there was an answer")
				}
			})
		}
		tries.Wait()
		if n := len(sent) - before; n != 1 {
			t.Errorf("%d were sent", n)
		}
		up = true
		time.Sleep(maxPause)
		for range 3 {
			if err := ask(t.Context(), "/"); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDeadline: a caller whose time was over after a third of the patience has waited long enough; one who had less
// time, or who left, has not.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			after  time.Duration
			cancel bool
			down   bool
		}{{9 * time.Second, false, false}, {11 * time.Second, true, false}, {11 * time.Second, false, true}, {time.Minute, false, true}} {
			rt := &reaching{reach: &reach{host: "c"}, patience: 30 * time.Second, base: tripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}
			ctx, cancel := context.WithTimeout(t.Context(), c.after)
			if c.cancel {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(c.after, cancel)
			}
			r, err := http.NewRequestWithContext(ctx, "GET", "https://c", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			if down := rt.reach.down(); down != c.down || err == nil {
				t.Errorf("%+v: %t, %v", c, down, err)
			}
			cancel()
		}
	})
}

// TestCatalog: one looks at a time; who waited for a look that failed makes one with its own connection; an unknown kind
// leads to a further look, but not to one for each question.
func TestCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &catalog{}
		looks := 0
		kinds := meta.NewDefaultRESTMapper(nil)
		good := &mapper{c, func() (meta.RESTMapper, error) {
			looks++
			time.Sleep(time.Minute)
			return kinds, nil
		}}
		forbidden := errors.New("forbidden")
		bad := &mapper{c, func() (meta.RESTMapper, error) {
			time.Sleep(time.Second)
			return nil, forbidden
		}}
		kind := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
		find := func(m *mapper) error { _, err := m.RESTMapping(kind.GroupKind(), "v1"); return err }
		go func() {
			if err := find(bad); !errors.Is(err, forbidden) {
				t.Error(err)
			}
		}()
		synctest.Wait()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := find(good); !meta.IsNoMatchError(err) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if looks > 2 { // the first look took longer than the pause, so that those who found nothing look once more, together
			t.Errorf("%d looks", looks)
		}
		time.Sleep(refreshPause)
		looks = 0
		kinds = meta.NewDefaultRESTMapper(nil)
		kinds.Add(kind, meta.RESTScopeNamespace)
		for range 10 {
			if err := find(good); err != nil {
				t.Error(err)
			}
		}
		if looks != 1 {
			t.Errorf("%d looks for a new kind", looks)
		}
		go func() {
			time.Sleep(time.Second)
			good.Reset() // in the middle of a look: what that finds may be too old
		}()
		looks = 0
		good.Reset()
		if err := find(good); err != nil || looks != 2 {
			t.Errorf("%v after %d looks", err, looks)
		}
	})
}
