package controllers_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/internal/gitserver"
)

// TestSharedFetch: 200 GitRepositories of one repository and ref cost one fetch, and little memory; one with other
// credentials has its own.
func TestSharedFetch(t *testing.T) {
	w := newWorld(t)
	git, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := git.Commit("apps", "main", "Add apps", map[string]string{"a.yaml": strings.Repeat("a: 1\n", 50_000)}); err != nil {
		t.Fatal(err)
	}
	var fetches atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(body, []byte("command=fetch")) {
			fetches.Add(1)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		git.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	const many = 200
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: git}\nstringData: {username: robot, password: pa55word}")
	object := "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: app-%d}\nspec: {interval: 1h, url: %s/apps, ref: {branch: main}%s}\n"
	text := fmt.Sprintf(object, many, server.URL, ", secretRef: {name: git}")
	for i := range many {
		text += fmt.Sprintf(object, i, server.URL, "")
	}
	w.apply(text)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w.run(all(), w.options())
	w.all("GitRepository", many+1, func(o *unstructured.Unstructured) bool { return condition(o, "Ready")["status"] == "True" })
	if n := fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want one for all, and one for other credentials", n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

// all waits until all objects of a kind are as wanted.
func (w *world) all(kind string, n int, ok func(*unstructured.Unstructured) bool) {
	w.t.Helper()
	w.until("Namespace/"+w.namespace+"/"+w.namespace, fmt.Sprintf("%d of %s", n, kind), func(*unstructured.Unstructured) bool {
		list, err := w.resource(w.kind(kind), w.namespace).List(w.t.Context(), metav1.ListOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		are := 0
		for i := range list.Items {
			if ok(&list.Items[i]) {
				are++
			}
		}
		return are == n && len(list.Items) == n
	})
}

// TestEmptyStore: after a restart that has lost the store, nobody is sent to an artifact that is not there: artifacts are
// taken back before the first one is fetched, and announced again when they are stored.
func TestEmptyStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const many = 8 // more than workers
	git, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := git.Commit("apps", "main", "Add apps", map[string]string{"a.yaml": "a: 1\n"}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(git)
	t.Cleanup(server.Close)
	for i := range many {
		w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: NAME}\nspec: {interval: 1h, timeout: 5s, url: URL/apps, ref: {branch: main}}", "NAME", fmt.Sprintf("app-%d", i), "URL", server.URL)
	}
	w.apply("apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: made}\nspec: {sources: [{alias: apps, kind: GitRepository, name: app-0}], artifacts: [{name: made, copy: [{from: \"@apps/**\", to: \"@artifact/\"}]}]}")
	o := w.options()
	o.StorageAddr = freeAddr(t)
	stop := w.run(all(), o)
	ready := func(o *unstructured.Unstructured) bool { return condition(o, "Ready")["status"] == "True" }
	w.all("GitRepository", many, ready)
	w.until("ExternalArtifact/made", "ready", ready)
	stop()

	git.SetFaults(func(gitserver.Request) *gitserver.Fault { return &gitserver.Fault{Stall: true} })
	seen := make(chan struct{})
	watches := 0
	for _, kind := range []string{"GitRepository", "ExternalArtifact"} {
		list, err := w.resource(w.kind(kind), w.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		watch, err := w.resource(w.kind(kind), w.namespace).Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(watch.Stop)
		watches++
		go func() {
			defer func() { seen <- struct{}{} }()
			for event := range watch.ResultChan() {
				o, _ := event.Object.(*unstructured.Unstructured)
				if o.GetName() == "end" {
					return
				}
				url := text(o, "status", "artifact", "url")
				if !ready(o) && url == "" {
					continue
				}
				res, err := http.Get(url)
				if err != nil {
					t.Errorf("%s says %v: %v", o.GetName(), condition(o, "Ready"), err)
					continue
				}
				res.Body.Close()
				if res.StatusCode != http.StatusOK {
					t.Errorf("%s says %v: %s", o.GetName(), condition(o, "Ready"), res.Status)
				}
			}
		}()
	}
	o.StoragePath = t.TempDir()
	w.run(all(), o)
	taken := func(o *unstructured.Unstructured) bool {
		return !ready(o) && text(o, "status", "artifact", "url") == ""
	}
	w.all("GitRepository", many, taken)
	w.until("ExternalArtifact/made", "taken back", taken)
	git.SetFaults(nil)
	w.all("GitRepository", many, ready)
	w.until("ExternalArtifact/made", "ready", ready)
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: end}\nspec: {interval: 1h, suspend: true, url: http://127.0.0.1:1/end}\n---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: ExternalArtifact\nmetadata: {name: end}\nspec: {}")
	for range watches {
		<-seen
	}
}
