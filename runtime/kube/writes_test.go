package kube_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/client-go/rest"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

// bodies keeps what is sent to write a status.
type bodies struct {
	mu   sync.Mutex
	sent []string
}

func (b *bodies) wrap(config *rest.Config) {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPatch && strings.HasSuffix(req.URL.Path, "/status") {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					return nil, err
				}
				req.Body = io.NopCloser(bytes.NewReader(body))
				b.mu.Lock()
				b.sent = append(b.sent, string(body))
				b.mu.Unlock()
			}
			return next.RoundTrip(req)
		})
	})
}

func (b *bodies) take() (sent []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent, b.sent = b.sent, nil
	return sent
}

// TestWritesOfAPass counts in the log of the API server what passes at the interval write: nothing where nothing has
// changed, and once for a new revision, without the conditions unless they have changed.
func TestWritesOfAPass(t *testing.T) {
	t.Parallel()
	const agent = "controller-under-test"
	audit := filepath.Join(t.TempDir(), "audit.log")
	var sent bodies
	w := newWorldIn(t, testenv.StartServer(t, &testenv.Options{AuditLog: audit}), nil, sent.wrap, func(c *rest.Config) { c.UserAgent = agent })
	var mu sync.Mutex
	revision, message, passes := "r1", "applied", 0
	w.logic.set(func(_ context.Context, k *kustomizev1.Kustomization, p *kube.Pass) kube.Result {
		mu.Lock()
		defer mu.Unlock()
		if passes++; passes > 1 && p.Why != rt.CauseInterval {
			t.Errorf("a pass for %v", p.Why)
		}
		k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision = revision, revision
		return kube.Ready(message)
	})
	at := func() int { mu.Lock(); defer mu.Unlock(); return passes }
	writes := func() int {
		all, err := testenv.ReadAudit(audit)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, write := range all {
			if strings.HasPrefix(write.Agent, agent) {
				n++
				if write.Verb != "patch" || write.Resource != "kustomizations" || write.Code >= 300 {
					t.Errorf("%+v", write)
				}
			}
		}
		return n
	}
	w.create("app", func(k *kustomizev1.Kustomization) { k.Spec.Interval.Duration = 30 * time.Millisecond })
	w.eventually("app", "ready", ready)
	before := writes()
	if before != 2 {
		t.Errorf("%d writes for a new object; want the finalizer and the status", before)
	}
	sent.take()
	further := func(what string, want int) {
		t.Helper()
		from := at()
		w.until(what, func() bool { return at() >= from+5 }) // the first of them may have begun before
		if now := writes(); now != before+want {
			t.Errorf("%s: %d writes in passes at the interval; want %d", what, now-before, want)
			before = now
		} else {
			before = now
		}
	}
	further("no change", 0)
	for i := range 3 {
		mu.Lock()
		revision = fmt.Sprint("new", i)
		mu.Unlock()
		further("new revision", 1)
		if got := sent.take(); len(got) != 1 || strings.Contains(got[0], "conditions") || !strings.Contains(got[0], revision) {
			t.Errorf("sent %q", got)
		}
	}
	mu.Lock()
	revision, message = "last", "applied revision last"
	mu.Unlock()
	further("new revision and message", 1)
	if got := sent.take(); len(got) != 1 || !strings.Contains(got[0], "conditions") {
		t.Errorf("sent %q", got)
	}
	k := w.get("app")
	if c := status.Get(k, status.Ready); c.Message != "applied revision last" || k.Status.LastAppliedRevision != "last" {
		t.Errorf("%+v", k.Status)
	}
	further("no change any more", 0)
}
