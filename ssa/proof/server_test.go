package proof_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/openapi"

	"github.com/gitopskit/gitopskit/ssa/proof"
)

// documents are what a server publishes, by path.
type documents map[string][]byte

// client returns a client of the documents that counts and can fail.
func (d documents) client(before func(what string) error) *published {
	if before == nil {
		before = func(string) error { return nil }
	}
	return &published{documents: d, before: before, hash: map[string]string{}}
}

type published struct {
	mu        sync.Mutex
	documents documents
	before    func(what string) error
	hash      map[string]string // of a path; none means no hash
	requests  []string
}

func (p *published) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := strings.Join(p.requests, " ")
	p.requests = nil
	return out
}

func (p *published) request(what string) error {
	p.mu.Lock()
	p.requests = append(p.requests, what)
	p.mu.Unlock()
	return p.before(what)
}

func (p *published) Paths() (map[string]openapi.GroupVersion, error) {
	if err := p.request("index"); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]openapi.GroupVersion{}
	for path := range p.documents {
		url := "/openapi/v3/" + path
		if hash := p.hash[path]; hash != "" {
			url += "?hash=" + hash
		}
		out[path] = document{p, path, url}
	}
	return out, nil
}

type document struct {
	of        *published
	path, url string
}

func (d document) ServerRelativeURL() string { return d.url }

func (d document) Schema(string) ([]byte, error) {
	if err := d.of.request(d.path); err != nil {
		return nil, err
	}
	return d.of.documents[d.path], nil
}

func secretDocument(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/secret-openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var secretKind = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}

func TestServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := documents{"api/v1": secretDocument(t)}.client(nil)
		p.hash["api/v1"] = "1"
		s := &proof.Server{Client: p}
		ask := func(want string) {
			t.Helper()
			var wg sync.WaitGroup
			for range 10 { // they wait for one request
				wg.Go(func() {
					if _, err := s.TypeConverter(t.Context(), secretKind); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got := p.take(); got != want {
				t.Errorf("requests: %q, want %q", got, want)
			}
		}
		ask("index api/v1")
		ask("")
		time.Sleep(11 * time.Second)
		ask("index")
		p.hash["api/v1"] = "2"
		ask("")
		time.Sleep(11 * time.Second)
		ask("index api/v1")
		p.hash["api/v1"] = ""
		time.Sleep(11 * time.Second)
		ask("index api/v1")
		time.Sleep(11 * time.Second)
		ask("index api/v1") // nothing tells whether it changed
	})
}

func TestServerKeepsFew(t *testing.T) {
	all := documents{}
	for i := range 5 {
		all[fmt.Sprintf("apis/g%d/v1", i)] = secretDocument(t)
	}
	p := all.client(nil)
	for path := range all {
		p.hash[path] = "1"
	}
	s := &proof.Server{Client: p, Keep: 2, MaxAge: time.Hour}
	ask := func(i int) string {
		t.Helper()
		if _, err := s.TypeConverter(t.Context(), schema.GroupVersionKind{Group: fmt.Sprintf("g%d", i), Version: "v1", Kind: "Secret"}); err != nil {
			t.Fatal(err)
		}
		return p.take()
	}
	ask(0)
	ask(1)
	ask(0)
	ask(2) // in the place of 1
	if got := ask(0); got != "" {
		t.Errorf("what is in use was dropped: %s", got)
	}
	if got := ask(1); got != "apis/g1/v1" {
		t.Errorf("kept too many: %q", got)
	}
	s = &proof.Server{Client: p, Keep: -1, MaxBytes: -1, MaxAge: -1}
	ask(0) // as if they were zero
}

func TestServerErrors(t *testing.T) {
	fail := ""
	p := documents{"api/v1": secretDocument(t), "apis/broken/v1": []byte("{"), "apis/dangling/v1": []byte(`{"components":{"schemas":{"a":{"$ref":"#/nowhere"}}}}`)}.client(func(what string) error {
		if what == fail {
			return errAway
		}
		return nil
	})
	s := &proof.Server{Client: p, MaxAge: time.Nanosecond, MaxBytes: 1000}
	ask := func(group, version string) error {
		_, err := s.TypeConverter(t.Context(), schema.GroupVersionKind{Group: group, Version: version, Kind: "Secret"})
		return err
	}
	for _, what := range []string{"index", "api/v1"} {
		fail = what
		if err := ask("", "v1"); !errors.Is(err, errAway) {
			t.Errorf("%s: %v", what, err)
		}
	}
	fail = ""
	if err := ask("", "v1"); err != nil {
		t.Errorf("after a failure: %v", err)
	}
	if err := ask("none", "v1"); !errors.Is(err, proof.ErrNoSchema) {
		t.Error(err)
	}
	if err := ask("broken", "v1"); err == nil {
		t.Error("a broken document was taken")
	}
	s.MaxBytes = 10
	if err := ask("", "v1"); err == nil || !strings.Contains(err.Error(), "more than the 10 allowed") {
		t.Error(err)
	}
}

// A caller that gives up does not wait for the request of another.
func TestServerCancelled(t *testing.T) {
	asked, answer, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	s := &proof.Server{Client: documents{}.client(func(string) error {
		close(asked)
		<-answer
		return errAway
	})}
	go func() {
		_, err := s.TypeConverter(context.Background(), secretKind)
		ended <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := s.TypeConverter(ctx, secretKind); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	close(answer)
	if err := <-ended; !errors.Is(err, errAway) {
		t.Error(err)
	}
}

func FuzzServer(f *testing.F) {
	f.Add([]byte(`{"components":{"schemas":{"a":{"type":"object","x-kubernetes-group-version-kind":[{"group":"","kind":"Secret","version":"v1"}]}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &proof.Server{Client: documents{"api/v1": data}.client(nil)}
		proof.NoOp(t.Context(), parse(t, strings.ReplaceAll(liveText, "ConfigMap", "Secret")), parse(t, strings.ReplaceAll(desiredText, "ConfigMap", "Secret")), manager, s)
	})
}
