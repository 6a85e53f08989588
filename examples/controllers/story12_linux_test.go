package controllers_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// limitFiles bounds the files that a process writes from now on, as a disk does
// that has no more room for them.
func limitFiles(t *testing.T, pid int, bytes uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: bytes, Max: ^uint64(0)}
	const fileSize = syscall.RLIMIT_FSIZE
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), fileSize, uintptr(unsafe.Pointer(&limit)), 0, 0, 0); errno != 0 {
		t.Fatalf("limit the files of the controllers: %v", errno)
	}
}

// watched checks the status of objects at every moment, until it is stopped.
func (w *world) watched(stop <-chan struct{}, kind string, as func() status.Object) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	defer cancel()
	go func() { <-stop; cancel() }()
	for ctx.Err() == nil {
		events, err := w.resource(w.kind(kind), w.namespace).Watch(ctx, metav1.ListOptions{})
		if err != nil { // there is no server just now
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		for e := range events.ResultChan() {
			u, isObject := e.Object.(*unstructured.Unstructured)
			if !isObject {
				continue
			}
			o := as()
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o); err != nil {
				w.t.Errorf("%s: %v", kind, err)
			}
			if n, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); n < 0 {
				continue // nobody has judged it yet
			}
			if wrong := status.Check(o); len(wrong) > 0 {
				w.t.Errorf("%s %s: %v: %v", kind, u.GetName(), wrong, u.Object["status"])
			}
		}
		events.Stop()
	}
}

// TestStoryOutages takes away what the controllers need, one thing after the other, and has a commit made meanwhile: the
// server of the repository, the room on the disk, and the API server, which is restarted in the midst of a pass. What was
// deployed stays, what is wrong is told, and when all is back the last commit is what the cluster has, and nothing else.
func TestStoryOutages(t *testing.T) {
	t.Parallel()
	options := &testenv.Options{Dir: t.TempDir()}
	ctx := context.WithoutCancel(t.Context())
	server, err := testenv.Launch(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	stopServer := func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { stopServer() })
	w, g := worldOf(t, &testenv.Env{Namespace: "outages", Server: server}), newGit(t)
	namespaces := w.dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": w.namespace}}}
	if _, err := namespaces.Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var watches sync.WaitGroup
	watches.Go(func() { w.watched(stop, "GitRepository", func() status.Object { return &sourcev1.GitRepository{} }) })
	watches.Go(func() { w.watched(stop, "Kustomization", func() status.Object { return &kustomizev1.Kustomization{} }) })
	defer watches.Wait()
	defer close(stop)

	var down atomic.Bool
	asked := make(chan struct{})
	git := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(rw, "out of order", http.StatusServiceUnavailable)
			return
		}
		g.ServeHTTP(rw, r)
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(git.Close)
	w.apply(follower, "URL", git.URL+"/app")
	o := w.options()
	o.StorageAddr = freeAddr(t)
	cmd := w.start(child{Kubeconfig: server.Kubeconfig(), Options: o})
	defer func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
	}()
	turn := 0
	commit := func() string { turn++; return g.commitMap(t, w.namespace, turn) }
	deployed := func(revision string) {
		t.Helper()
		w.readyAt("Kustomization/app", revision)
		w.sameAsInventory(w.get("Kustomization/app"))
	}
	stays := func(what string) {
		t.Helper()
		if k := w.get("Kustomization/app"); condition(k, "Ready")["status"] != "True" {
			t.Errorf("%s: the Kustomization is no longer ready: %v", what, k.Object["status"])
		}
		artifact, err := http.Get(text(w.get("GitRepository/app"), "status", "artifact", "url"))
		if err != nil {
			t.Fatal(err)
		}
		defer artifact.Body.Close()
		if artifact.StatusCode != http.StatusOK {
			t.Errorf("%s: the last artifact is no longer served: %s", what, artifact.Status)
		}
	}
	deployed(commit())

	down.Store(true)
	last := commit()
	w.failed("GitRepository/app", "GitOperationFailed", "503")
	stays("the server of the repository is down")
	down.Store(false)
	deployed(last)

	limitFiles(t, cmd.Process.Pid, 16)
	last = commit()
	failed := w.until("GitRepository/app", "a failure for want of room", func(o *unstructured.Unstructured) bool {
		return condition(o, "Ready")["status"] == "False" && strings.Contains(condition(o, "Ready")["message"], "too large")
	})
	if message := condition(failed, "Ready")["message"]; !strings.Contains(message, o.StoragePath) {
		t.Errorf("the message does not say which file: %s", message)
	}
	stays("the disk is full")
	limitFiles(t, cmd.Process.Pid, ^uint64(0))
	deployed(last)

	commit()
	<-asked // it is in the midst of a pass
	stopServer()
	last = commit()
	if server, err = testenv.Launch(ctx, options); err != nil {
		t.Fatal(err)
	}
	deployed(last)
}
