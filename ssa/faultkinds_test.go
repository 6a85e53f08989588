package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

// TestThrottled: what the server has no time for is asked again, not sooner than it
// said, and the caller hears nothing of it.
func TestThrottled(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	p := newFaultProxy(t, env.Config(), *seed)
	c, _ := clientFor(t, p.config(), "app", env.Namespace)
	at := map[string]time.Time{}
	p.set(func(r *http.Request) fault { // is called by one at a time
		if r.Method != http.MethodPatch {
			return ""
		}
		request := r.Method + r.URL.String()
		if first, again := at[request]; again {
			if waited := time.Since(first); waited < time.Second {
				t.Errorf("%s is sent again after %s", request, waited)
			}
			return ""
		}
		at[request] = time.Now()
		return throttled
	})
	set := must(t)(c.Apply(t.Context(), objects(t, configMap("a", "1")), nil))
	if set.Count(ssa.Created) != 1 || len(at) != 2 {
		t.Errorf("%v after %d refusals", actions(set), len(at))
	}
}

// TestThrottledForEver: that ends, too, by itself or with the context, and the
// error says when to try again.
func TestThrottledForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		config := &rest.Config{Host: "http://cluster.example.com", QPS: -1, Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			resp := answer(r, http.StatusTooManyRequests, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"TooManyRequests","code":429,"details":{"retryAfterSeconds":30}}`)
			resp.Header.Set("Retry-After", "30")
			return resp, nil
		})}
		dyn, err := dynamic.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		mapper := meta.NewDefaultRESTMapper(nil)
		mapper.Add(configMaps, meta.RESTScopeNamespace)
		mapper.Add(secrets, meta.RESTScopeNamespace)
		c := &ssa.Client{Dynamic: dyn, Mapper: mapper, Owner: ssa.Owner{Name: "app", Namespace: "ns"}, DefaultNamespace: "ns"}
		begin := time.Now()
		_, err = c.Apply(t.Context(), objects(t, configMap("a", "1")+"---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"), nil)
		var one *ssa.ObjectError
		if !errors.Is(err, ssa.ErrUnavailable) || !errors.As(err, &one) || one.RetryAfter() != 30*time.Second {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin); took < 30*time.Second || took > 11*time.Minute || requests.Load() > 44 {
			t.Errorf("%d requests in %s", requests.Load(), took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		begin = time.Now()
		_, err = c.Apply(ctx, objects(t, configMap("a", "1")), nil)
		if took := time.Since(begin); err == nil || took > 46*time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// TestNoAnswer: a request that is never answered ends with the call's context.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	env := testenv.Start(t)
	admin, _ := clientFor(t, env.Config(), "app", env.Namespace)
	must(t)(admin.Apply(t.Context(), objects(t, configMap("a", "1")+configMap("old", "1")), nil))
	objs := objects(t, configMap("a", "2"))
	is := func(method, path, query string) func(r *http.Request) bool {
		return func(r *http.Request) bool {
			return r.Method == method && strings.HasSuffix(r.URL.Path, path) && strings.Contains(r.URL.RawQuery, query) && (query != "" || r.URL.RawQuery == "" || method == http.MethodPatch && !strings.Contains(r.URL.RawQuery, "dryRun"))
		}
	}
	apply := func(ctx context.Context, c *ssa.Client) error { _, err := c.Apply(ctx, objs, nil); return err }
	prune := func(ctx context.Context, c *ssa.Client) error { _, err := c.Prune(ctx, objs, nil); return err }
	wait := func(ctx context.Context, c *ssa.Client) error {
		_, err := c.Wait(ctx, []ssa.ObjectID{c.ID(objs[0])}, nil)
		return err
	}
	for _, tc := range []struct {
		name    string
		call    func(context.Context, *ssa.Client) error
		matches func(r *http.Request) bool
		says    string
	}{
		{"list", apply, is(http.MethodGet, "/configmaps", "labelSelector"), ""},
		{"dry run", apply, is(http.MethodPatch, "/a", "dryRun"), "validate ConfigMap/" + env.Namespace + "/a"},
		{"inventory", apply, is(http.MethodGet, "/app-inventory", ""), "read inventory ConfigMap"},
		{"apply", apply, is(http.MethodPatch, "/a", ""), "apply ConfigMap/" + env.Namespace + "/a"},
		{"victim", prune, is(http.MethodGet, "/old", ""), "ConfigMap/" + env.Namespace + "/old"},
		{"delete", prune, is(http.MethodDelete, "/old", ""), "delete ConfigMap/" + env.Namespace + "/old"},
		{"watch", wait, is(http.MethodGet, "/configmaps", "watch"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newFaultProxy(t, env.Config(), *seed)
			c, _ := clientFor(t, p.config(), "app", env.Namespace)
			c.ID(objs[0]) // what the mapper reads does not end with a context
			asked := make(chan struct{}, 1)
			p.set(func(r *http.Request) fault {
				if !tc.matches(r) {
					return ""
				}
				select {
				case asked <- struct{}{}:
				default:
				}
				return hangs
			})
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			begin := time.Now()
			err := tc.call(ctx, c)
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			if tc.name != "watch" { // there, the list has told that it is ready
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v", err)
				}
				soon(t, asked, "request")
			}
		})
	}
}

// TestRecreateInsists: between the deletion and the creation a failure of the
// network is not the end.
func TestRecreateInsists(t *testing.T) {
	c, w := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, fixed(1, "enabled")), nil))
	failures := 0
	var deleted bool
	w.tamper(func(r *http.Request) error {
		deleted = deleted || r.Method == http.MethodDelete
		if deleted && r.Method == http.MethodPatch && failures < 2 {
			failures++
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	set := must(t)(c.Apply(t.Context(), objects(t, fixed(2, "enabled")), nil))
	if failures != 2 || set.Count(ssa.Recreated) != 1 || imageOf(get(t, c, deploymentKind, "once"), "main") != "example.com/main:2" {
		t.Errorf("%v after %d failures", actions(set), failures)
	}
}

// TestServerRestart: a server that stops and starts again, with its data, has the
// callers of that time told so, and a store that finds what was done before it
// was connected again.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	ctx := context.WithoutCancel(t.Context())
	options := &testenv.Options{Dir: t.TempDir()}
	server, err := testenv.Launch(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { stop() })
	config := server.Config()
	admin, _ := clientFor(t, config, "admin", "default")
	namespaces := admin.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	if _, err := namespaces.Create(ctx, objects(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: restart}\n")[0], metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f := follow(t, config, "restart", nil)
	objs := objects(t, configMap("a", "1")+configMap("b", "1")+configMap("c", "1"))
	f.pass(t, objs)
	set := f.quiet(t, objs)
	drifts, ended := make(chan ssa.Drift, 10), make(chan error, 2)
	watching, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- f.Watch(watching, set, func(d ssa.Drift) { drifts <- d }) }()
	go func() {
		_, err := f.Wait(watching, append(set.Objects(), ssa.ObjectID{Kind: "ConfigMap", Namespace: "restart", Name: "late"}), nil)
		ended <- err
	}()

	stop()
	failures := 0
	eventually(t, "failure without a server", func() bool {
		_, err := f.Apply(t.Context(), objs, nil)
		if err != nil {
			failures++
			checkErrors(t, "apply", err)
			if !errors.Is(err, ssa.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		}
		return failures == 3
	})
	if server, err = testenv.Launch(ctx, options); err != nil {
		t.Fatal(err)
	}
	if server.URL() != config.Host {
		t.Fatalf("it is at %s, was at %s", server.URL(), config.Host)
	}
	admin, _ = clientFor(t, config, "admin", "restart")
	cms := admin.Dynamic.Resource(configMapsGVR).Namespace("restart")
	eventually(t, "write to the server", func() bool {
		_, err := cms.Patch(ctx, "a", types.MergePatchType, []byte(`{"data":{"key":"x"}}`), metav1.PatchOptions{FieldManager: "rival"})
		return err == nil
	})
	if err := cms.Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	told := []string{soon(t, drifts, "drift").Object.Name, soon(t, drifts, "drift").Object.Name}
	slices.Sort(told)
	same(t, "drift", told, []string{"a", "b"})
	repaired, requests := f.pass(t, objs)
	if repaired.Count(ssa.Created) != 1 || repaired.Count(ssa.Configured) != 1 || count(requests, "PATCH") != 2 {
		t.Errorf("%v, %v", actions(repaired), requests)
	}
	if _, err := cms.Create(ctx, objects(t, strings.Replace(configMap("late", "1"), "name: late", fmt.Sprintf("name: late, labels: {gitopskit.github.io/name: app, gitopskit.github.io/namespace: %s}", "restart"), 1))[0], metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := soon(t, ended, "end of the wait"); err != nil {
		t.Errorf("the wait: %v", err)
	}
	f.quiet(t, objs)
	cancel()
	if err := soon(t, ended, "end of the watch"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(drifts) > 0 {
		t.Errorf("told twice: %v", <-drifts)
	}
	f.stop()
}
