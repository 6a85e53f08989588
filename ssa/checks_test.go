package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

// TestLeastPrivilege: a binding is applied after its role, by an identity that
// may bind no role that does not exist, in whatever order they come.
func TestLeastPrivilege(t *testing.T) {
	c, _ := newClient(t)
	must(t)(c.Apply(t.Context(), objects(t, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenant-%[1]s}
subjects: [{kind: User, name: tenant-%[1]s, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: tenant-%[1]s}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: ["*"]}
- {apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings], verbs: [get, list, watch, create, patch, update, delete]}
`, c.Owner.Namespace)), nil))
	config := rest.CopyConfig(testenv.Start(t).Config())
	config.Impersonate.UserName = "tenant-" + c.Owner.Namespace
	tenant, _ := clientFor(t, config, "tenant", c.Owner.Namespace)
	set := objects(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: User, name: somebody, apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
`)
	eventually(t, "permission", func() bool {
		_, err := tenant.Diff(t.Context(), objects(t, configMap("any", "1")), nil)
		return err == nil
	})
	applied := must(t)(tenant.Apply(t.Context(), set, nil))
	same(t, "applied", actions(applied), []string{"Role/reader created", "RoleBinding/readers created"})
}

// TestFailsHalfway: an apply that fails half-way has everything it made in the
// inventory, so that going back prunes exactly that.
func TestFailsHalfway(t *testing.T) {
	c, w := newClient(t)
	c.Concurrency = 1
	before := objects(t, configMap("kept", "1"))
	must(t)(c.Apply(t.Context(), before, nil))
	var manifests strings.Builder
	manifests.WriteString(configMap("kept", "1"))
	for i := range 10 {
		manifests.WriteString(configMap(fmt.Sprintf("new-%d", i), "1"))
	}
	w.tamper(func(r *http.Request) error {
		if r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" && strings.HasSuffix(r.URL.Path, "/new-6") {
			return errors.New("connection reset")
		}
		return nil
	})
	set, err := c.Apply(t.Context(), objects(t, manifests.String()), nil)
	if err == nil || set.Count(ssa.Failed) != 1 {
		t.Fatal(actions(set), err)
	}
	w.tamper(nil)
	inventory, err := (&ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: "app-inventory"}).Load(t.Context())
	if err != nil || len(inventory.Entries) != 11 {
		t.Fatalf("the inventory has %d entries, %v", len(inventory.Entries), err)
	}
	must(t)(c.Apply(t.Context(), before, nil))
	w.take()
	pruned := must(t)(c.Prune(t.Context(), before, nil))
	if made := set.Count(ssa.Created); pruned.Count(ssa.Deleted) < made || count(w.take(), "DELETE") != made {
		t.Errorf("%d were made, pruned: %v", made, actions(pruned))
	}
	inventory, err = (&ssa.ConfigMapInventory{Dynamic: c.Dynamic, Namespace: c.Owner.Namespace, Name: "app-inventory"}).Load(t.Context())
	if err != nil || len(inventory.Entries) != 1 || get(t, c, configMaps, "kept") == nil {
		t.Errorf("after going back: %v, %v", inventory.Entries, err)
	}
}

// TestDriftIsReported: who only wants to know of drift hears at once which object
// it is, and from a diff which fields, and nothing is written.
func TestDriftIsReported(t *testing.T) {
	f := newFollowed(t, nil)
	objs := objects(t, deployment("web", 0))
	f.pass(t, objs)
	set := f.quiet(t, objs)
	drifts := make(chan ssa.Drift, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- f.Watch(ctx, set, func(d ssa.Drift) { drifts <- d }) }()
	f.patch(t, deployments, "web", `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"evil"}]`, "somebody")
	drift := soon(t, drifts, "drift")
	same(t, "drift", drift.Object, set.Changes[0].Object)
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.wire.take()
	diff := must(t)(f.Diff(t.Context(), objs, nil))
	var pointers []string
	for _, field := range diff.Changes[0].Fields {
		pointers = append(pointers, field.Pointer)
	}
	same(t, "pointers", pointers, []string{"/spec/template/spec/containers/0/image"})
	if writes := slices.DeleteFunc(f.wire.take(), func(r string) bool { return strings.HasPrefix(r, "GET") || strings.HasPrefix(r, "DRYRUN") }); len(writes) > 0 {
		t.Errorf("written: %v", writes)
	}
	live := get(t, f.Client, deploymentKind, "web")
	containers, _ := field(live, "spec", "template", "spec", "containers").([]any)
	if len(containers) != 1 || containers[0].(map[string]any)["image"] != "evil" {
		t.Error("it was repaired")
	}
}
