package tenancy_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
	)
}

var (
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	roles      = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}
	bindings   = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
)

func create(t *testing.T, d dynamic.Interface, r schema.GroupVersionResource, namespace string, content map[string]any) {
	t.Helper()
	if _, err := d.Resource(r).Namespace(namespace).Create(t.Context(), &unstructured.Unstructured{Object: content}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestImpersonation acts as a service account, which may do what RBAC grants
// it and nothing else, in the own cluster and through a kubeconfig.
func TestImpersonation(t *testing.T) {
	env := testenv.Start(t)
	kubeconfig, err := os.ReadFile(env.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	clients := &tenancy.Clients{Base: env.Config()}
	t.Cleanup(clients.Close)
	admin, err := clients.For(tenancy.Identity{Self: true})
	if err != nil {
		t.Fatal(err)
	}
	create(t, admin.Dynamic, roles, env.Namespace, map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": map[string]any{"name": "reader"},
		"rules": []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"list"}}},
	})
	create(t, admin.Dynamic, bindings, env.Namespace, map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": map[string]any{"name": "reader"},
		"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": "tenant", "namespace": env.Namespace}},
	})
	for name, remote := range map[string][]byte{"own": nil, "remote": kubeconfig} {
		tenant, err := clients.For(tenancy.Identity{Namespace: env.Namespace, ServiceAccount: "tenant", Kubeconfig: remote})
		if err != nil {
			t.Fatal(err)
		}
		if err := eventually(func() error { // the authorizer learns of a binding by a watch
			_, err := tenant.Dynamic.Resource(configMaps).Namespace(env.Namespace).List(t.Context(), metav1.ListOptions{})
			return err
		}); err != nil {
			t.Errorf("%s: what is granted: %v", name, err)
		}
		if _, err := tenant.Dynamic.Resource(configMaps).Namespace("kube-system").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("%s: what is not granted: %v", name, err)
		}
		if _, err := tenant.Mapper.RESTMapping(schema.GroupKind{Group: "apps", Kind: "Deployment"}); err != nil {
			t.Errorf("%s: mapper: %v", name, err)
		}
		again, err := clients.For(tenancy.Identity{Namespace: env.Namespace, ServiceAccount: "tenant", Kubeconfig: remote})
		if err != nil || again != tenant {
			t.Errorf("%s: the connection is not shared: %v", name, err)
		}
	}
}

// eventually repeats f until it succeeds, for ten seconds.
func eventually(f func() error) (err error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

func TestClientsAreBounded(t *testing.T) {
	env := testenv.Start(t)
	clients := &tenancy.Clients{Base: env.Config(), Max: 2}
	get := func(name string) *tenancy.Cluster {
		t.Helper()
		c, err := clients.For(tenancy.Identity{Namespace: "ns", ServiceAccount: name})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := get("a"), get("b")
	if get("a") != a {
		t.Error("a is not kept")
	}
	get("c")
	if get("a") != a {
		t.Error("the one that was used last is gone")
	}
	if get("b") == b {
		t.Error("the bound does not hold")
	}
	if n := clients.Len(); n != 2 {
		t.Errorf("%d are kept", n)
	}
}

func Example() {
	policy := tenancy.Policy{NoCrossNamespaceRefs: true}
	fmt.Println(policy.Ref("team-a", "GitRepository", "team-b", "apps"))
	fmt.Println(policy.Ref("team-a", "GitRepository", "team-a", "apps"))
	// Output:
	// access to GitRepository team-b/apps from namespace team-a is denied: references to other namespaces are not allowed here
	// <nil>
}
