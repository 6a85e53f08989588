package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/archive"
	"github.com/gitopskit/gitopskit/source/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Example() {
	var blob bytes.Buffer
	if err := source.WriteArchive(context.Background(), &blob, fstest.MapFS{"app.yaml": {Data: []byte("kind: List\n")}}, nil); err != nil {
		fmt.Println(err)
	}
	sum := digest.FromBytes(blob.Bytes())
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob.Bytes()) }))
	defer web.Close()

	c := &archive.Client{}
	a, err := c.Fetch(context.Background(), web.URL+"/app.tar.gz", sum)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	data, err := fs.ReadFile(a, "app.yaml")
	fmt.Print(string(data), err)
	// Output:
	// kind: List
	// <nil>
}

func packed(t *testing.T) ([]byte, digest.Digest) {
	t.Helper()
	var blob bytes.Buffer
	if err := source.WriteArchive(t.Context(), &blob, fstest.MapFS{"a": {Data: []byte("1")}}, nil); err != nil {
		t.Fatal(err)
	}
	return blob.Bytes(), digest.FromBytes(blob.Bytes())
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	return web.URL + "/a.tar.gz"
}

// TestFromStore is the way from the store of one process to the files in another.
func TestFromStore(t *testing.T) {
	s, err := store.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	files := fstest.MapFS{"deploy/app.yaml": {Data: []byte("kind: List\n")}, "run": {Mode: 0o755}}
	info, err := s.Put(t.Context(), store.Key{Kind: "Bucket", Namespace: "a", Name: "b"}, files)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.Handler())
	defer web.Close()
	a, err := (&archive.Client{}).Fetch(t.Context(), web.URL+"/"+info.Path, info.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	want, err1 := source.ContentDigest(t.Context(), files)
	got, err2 := a.Digest(t.Context())
	if got != want || err1 != nil || err2 != nil || a.Revision.Digest != info.Digest {
		t.Errorf("got %s %v, want %s %v; revision %s", got, err2, want, err1, a.Revision)
	}
	data, err := (&archive.Client{}).FetchBytes(t.Context(), web.URL+"/"+info.Path, info.Digest)
	if err != nil || digest.FromBytes(data) != info.Digest {
		t.Errorf("bytes: %v", err)
	}
}

func TestDigest(t *testing.T) {
	blob, sum := packed(t)
	for name, body := range map[string][]byte{
		"other archive": func() []byte { b, _ := packed(t); return append(b, 0) }(),
		"no archive":    []byte("<html>"),
		"half":          blob[:len(blob)/2],
		"nothing":       nil,
	} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
		a, err := (&archive.Client{}).Fetch(t.Context(), url, sum)
		if a != nil || !errors.Is(err, source.ErrUnverified) {
			t.Errorf("%s: %v", name, err)
		}
		data, err := (&archive.Client{}).FetchBytes(t.Context(), url, sum)
		if data != nil || !errors.Is(err, source.ErrUnverified) {
			t.Errorf("%s as bytes: %v", name, err)
		}
	}
	// Other algorithms; an archive that is what its digest says and still none.
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) })
	if a, err := (&archive.Client{}).Fetch(t.Context(), url, digest.SHA512.FromBytes(blob)); err != nil {
		t.Error(err)
	} else {
		a.Close()
	}
	url = serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	if _, err := (&archive.Client{Attempts: 1}).Fetch(t.Context(), url, digest.FromString("hello")); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("no archive: %v", err)
	}
}

func TestStatus(t *testing.T) {
	blob, sum := packed(t)
	for _, test := range []struct {
		status   int
		want     error
		requests int32
	}{
		{404, source.ErrNotFound, 1}, {410, source.ErrNotFound, 1}, {401, source.ErrUnauthorized, 1}, {403, source.ErrUnauthorized, 1},
		{500, source.ErrUnavailable, 3}, {206, source.ErrUnavailable, 3},
	} {
		var requests atomic.Int32
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.WriteHeader(test.status)
		})
		_, err := (&archive.Client{Attempts: 3, Pause: time.Microsecond}).Fetch(t.Context(), url+"?token=secret", sum)
		var typed *source.Error
		if !errors.Is(err, test.want) || !errors.As(err, &typed) || strings.Contains(err.Error(), "secret") || requests.Load() != test.requests {
			t.Errorf("%d: %v after %d requests", test.status, err, requests.Load())
		}
	}
	var requests atomic.Int32
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		switch requests.Add(1) {
		case 1:
			w.WriteHeader(503)
		case 2:
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			_, _ = w.Write(blob[:9])
		default:
			_, _ = w.Write(blob)
		}
	})
	a, err := (&archive.Client{Pause: time.Microsecond}).Fetch(t.Context(), url, sum)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
}

// transport answers without a network, for tests with a clock of their own.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		c := &archive.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			res := &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody}
			if len(at) == 3 {
				res.Header.Set("Retry-After", "60")
			}
			return res, nil
		})}
		_, err := c.FetchBytes(t.Context(), "http://x/a", digest.FromString(""))
		if !errors.Is(err, source.ErrUnavailable) || fmt.Sprint(at) != "[0s 1s 3s 1m3s 1m11s]" {
			t.Errorf("requests at %v: %v", at, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		before := time.Now()
		if _, err := c.FetchBytes(ctx, "http://x/a", digest.FromString("")); !errors.Is(err, context.DeadlineExceeded) || time.Since(before) != 2*time.Second {
			t.Errorf("after %v: %v", time.Since(before), err)
		}
	})
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := &archive.Client{Attempts: 2, Transport: transport(func(r *http.Request) (*http.Response, error) {
			n++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		start := time.Now()
		_, err := c.FetchBytes(t.Context(), "http://x/a", digest.FromString(""))
		if !errors.Is(err, source.ErrUnavailable) || n != 2 || time.Since(start) != 2*time.Minute+time.Second {
			t.Errorf("%d attempts in %v: %v", n, time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.Timeout = -1
		if _, err := c.FetchBytes(ctx, "http://x/a", digest.FromString("")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	blob, sum := packed(t)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(blob) })
	for name, limits := range map[string]source.Limits{"download": {Download: int64(len(blob)) - 1}, "file": {File: 1}} {
		if _, err := (&archive.Client{Limits: limits}).FetchBytes(t.Context(), url, sum); !errors.Is(err, source.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&archive.Client{Limits: source.Limits{Download: 20}}).Fetch(t.Context(), url, sum); !errors.Is(err, source.ErrLimit) {
		t.Errorf("archive: %v", err)
	}
	for _, limits := range []source.Limits{{Download: int64(len(blob)), File: int64(len(blob))}, {Download: -1, File: -1}} {
		if _, err := (&archive.Client{Limits: limits}).FetchBytes(t.Context(), url, sum); err != nil {
			t.Errorf("%+v: %v", limits, err)
		}
	}
	flood := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for err == nil {
			_, err = w.Write(bytes.Repeat(blob, 1000))
		}
	})
	if _, err := (&archive.Client{Limits: source.Limits{Download: 1 << 20}}).Fetch(t.Context(), flood, sum); !errors.Is(err, source.ErrLimit) && !errors.Is(err, source.ErrUnverified) {
		t.Errorf("flood: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	blob, sum := packed(t)
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			t.Error("credentials were sent")
		}
		_, _ = w.Write(blob)
	})
	from := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) })
	if _, err := (&archive.Client{}).FetchBytes(t.Context(), from, sum); err != nil {
		t.Error(err)
	}
	loop := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
	if _, err := (&archive.Client{Attempts: 1}).FetchBytes(t.Context(), loop, sum); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("loop: %v", err)
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, target, http.StatusFound) }))
	defer secure.Close()
	c := &archive.Client{Attempts: 1, Transport: secure.Client().Transport}
	if _, err := c.FetchBytes(t.Context(), secure.URL, sum); !errors.Is(err, source.ErrUnavailable) || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("from https to http: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	sum := digest.FromString("")
	for _, test := range []struct {
		url string
		sum digest.Digest
		lim source.Limits
	}{
		{"ftp://x/a", sum, source.Limits{}}, {"http:///a", sum, source.Limits{}}, {"http://me:secret@x/a", sum, source.Limits{}}, {"://secret", sum, source.Limits{}},
		{"http://x/a", "", source.Limits{}}, {"http://x/a", "md5:0", source.Limits{}}, {"http://x/a", sum, source.Limits{File: -2}},
	} {
		c := &archive.Client{Limits: test.lim, Transport: transport(func(*http.Request) (*http.Response, error) { return nil, io.EOF })}
		_, err := c.Fetch(t.Context(), test.url, test.sum)
		var typed *source.Error
		if !errors.Is(err, source.ErrInvalidSpec) || !errors.As(err, &typed) || !typed.Terminal() || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
