package controllers_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// endpoint keeps what is posted to it.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string // path and body
}

func newEndpoint(t *testing.T, status int, answer string) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.calls = append(e.calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		e.mu.Unlock()
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	t.Cleanup(e.Close)
	return e
}

// got waits for a call that has all the texts.
func (e *endpoint) got(t *testing.T, texts ...string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		e.mu.Lock()
		calls := append([]string(nil), e.calls...)
		e.mu.Unlock()
		for _, call := range calls {
			found := true
			for _, s := range texts {
				found = found && strings.Contains(call, s)
			}
			if found {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no call with %q; there were\n%s", texts, strings.Join(calls, "\n"))
		}
		<-time.After(20 * time.Millisecond)
	}
}

const notifications = `
apiVersion: v1
kind: Secret
metadata: {name: forge}
stringData: {token: forge-token-for-the-test}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Provider
metadata: {name: TYPE}
spec: {type: TYPE, address: ADDRESS, channel: general, secretRef: {name: forge}}
---
apiVersion: notification.toolkit.fluxcd.io/v1beta3
kind: Alert
metadata: {name: TYPE}
spec:
  providerRef: {name: TYPE}
  eventSeverity: info
  eventMetadata: {cluster: test}
  eventSources: [{kind: Kustomization, name: "*"}, {kind: GitRepository, name: apps}]
`

// TestStoryNotify reaches a repository by a webhook at once, tells of what
// happens in every form, and is not slowed by an endpoint that is dead.
func TestStoryNotify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.ReceiverAddr = l.Addr().String()
	l.Close()
	hook, slack, alertmanager, gitea := newEndpoint(t, 200, ""), newEndpoint(t, 200, "ok"), newEndpoint(t, 200, ""), newEndpoint(t, 201, "{}")
	dead, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0") // takes calls, answers none
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dead.Close() })
	for typ, address := range map[string]string{
		"generic": hook.URL, "slack": slack.URL, "alertmanager": alertmanager.URL + "/api/v2/alerts", "gitea": gitea.URL + "/org/apps", "discord": "http://" + dead.Addr().String() + "/hook",
	} {
		w.apply(notifications, "TYPE", typ, "ADDRESS", address)
	}
	w.run(all(), o)
	g := w.apps("", map[string]string{"a.yaml": configMap("a", w.namespace)})
	w.apply("apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: apps, annotations: {event.toolkit.fluxcd.io/team: of the object}}\nspec: {interval: 1h, prune: true, path: ./, sourceRef: {kind: GitRepository, name: apps}}")
	applied := w.ready("Kustomization/apps")
	first := strings.TrimPrefix(text(applied, "status", "lastAppliedRevision"), "main@sha1:")
	hook.got(t, `"kind":"Kustomization"`, `"reason":"ReconciliationSucceeded"`, first, `"cluster":"test"`, `"team":"of the object"`)
	slack.got(t, "general", "Applied revision", first)
	gitea.got(t, "POST /api/v1/repos/org/apps/statuses/"+first, `"state":"success"`, "forge-token-for-the-test")

	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: webhook}\nstringData: {token: a-token-of-the-webhook}")
	w.apply("apiVersion: notification.toolkit.fluxcd.io/v1\nkind: Receiver\nmetadata: {name: github}\nspec: {type: github, events: [ping, push], secretRef: {name: webhook}, resources: [{kind: GitRepository, name: apps}]}")
	path := text(w.ready("Receiver/github"), "status", "webhookPath")
	post := func(key, event string) int {
		t.Helper()
		body, err := json.Marshal(map[string]any{"ref": "refs/heads/main", "now": time.Now().UnixNano(), "repository": map[string]any{"full_name": "org/apps"}})
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write(body)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+o.ReceiverAddr+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-GitHub-Event", event)
		req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	broken := g.commit(t, "apps", "Break it", map[string]string{"a.yaml": "kind: ["})
	before := w.get("GitRepository/apps").GetResourceVersion()
	if got := post("another-token-entirely", "push"); got != http.StatusBadRequest {
		t.Errorf("a call with another key: status %d", got)
	}
	if got := post("a-token-of-the-webhook", "star"); got != http.StatusBadRequest {
		t.Errorf("a call of another event: status %d", got)
	}
	if now := w.get("GitRepository/apps").GetResourceVersion(); now != before {
		t.Error("a call that was refused has an effect")
	}
	began := time.Now()
	if got := post("a-token-of-the-webhook", "push"); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	w.until("GitRepository/apps", "fetched by the webhook", func(o *unstructured.Unstructured) bool {
		return strings.HasSuffix(text(o, "status", "artifact", "revision"), broken)
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a webhook took %v", took)
	}
	w.failed("Kustomization/apps", "BuildFailed", "a.yaml")
	alertmanager.got(t, `"severity":"error"`, "BuildFailed", "Kustomization")
	slack.got(t, "a.yaml")
	hook.got(t, `"severity":"error"`, "BuildFailed")
	gitea.got(t, "statuses/"+broken, `"state":"failure"`)
	mended := g.commit(t, "apps", "Mend it", map[string]string{"a.yaml": configMap("a", w.namespace)})
	if got := post("a-token-of-the-webhook", "push"); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	w.readyAt("Kustomization/apps", mended)
	gitea.got(t, "statuses/"+mended, `"state":"success"`)

	w.delete("Receiver/github")
	w.until("Receiver/github", "deleted", func(o *unstructured.Unstructured) bool { return o == nil })
	if got := post("a-token-of-the-webhook", "push"); got != http.StatusNotFound {
		t.Errorf("a hook that is deleted: status %d", got)
	}
}

// TestBadReceivers says of receivers what is wrong, and recovers.
func TestBadReceivers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	o.ReceiverAddr = "127.0.0.1:0"
	w.run(all(), o)
	apply := func(name, typ, secret string) {
		w.apply(fmt.Sprintf("apiVersion: notification.toolkit.fluxcd.io/v1\nkind: Receiver\nmetadata: {name: %s}\nspec: {type: %s, secretRef: {name: %s}, resources: [{kind: GitRepository, name: apps}]}", name, typ, secret))
	}
	apply("missing", "generic", "hook")
	w.failed("Receiver/missing", "TokenNotFound", "Secret "+w.namespace+"/hook does not exist")
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: hook}\nstringData: {token: \"\"}")
	w.failed("Receiver/missing", "TokenNotFound", "no entry token")
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: hook}\nstringData: {token: a-token-of-the-webhook}")
	w.ready("Receiver/missing")
	apply("quay", "quay", "hook")
	w.failed("Receiver/quay", "UnsupportedField", "spec.type: quay")
}
