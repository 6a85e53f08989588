package controllers_test

import (
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

const tenants = `
apiVersion: v1
kind: Namespace
metadata: {name: team-a}
---
apiVersion: v1
kind: Namespace
metadata: {name: team-b}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer, namespace: team-a}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer, namespace: team-a}
rules: [{apiGroups: [""], resources: [configmaps], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployer, namespace: team-a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}
subjects: [{kind: ServiceAccount, name: deployer, namespace: team-a}]
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: apps, namespace: team-a}
spec: {interval: 1h, url: URL, ref: {branch: main}}
`

const tenant = `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: NAME, namespace: TEAM}
spec:
  interval: 1h
  retryInterval: 1s
  prune: true
  path: ./PATH
  sourceRef: {kind: GitRepository, name: apps, namespace: team-a}
`

func configMap(name, namespace string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n  namespace: " + namespace + "\ndata:\n  a: b\n"
}

// TestStoryTenants keeps two teams apart: each acts as its own service account,
// and neither reads the sources of the other.
func TestStoryTenants(t *testing.T) {
	t.Parallel()
	audit := filepath.Join(t.TempDir(), "audit.log")
	server := testenv.StartServer(t, &testenv.Options{AuditLog: audit})
	w, g := worldOf(t, server), newGit(t)
	g.Username, g.Password = "", ""
	g.commit(t, "apps", "Add apps", map[string]string{
		"own/a.yaml": configMap("a", "team-a"), "other/b.yaml": configMap("b", "team-b"),
	})
	o := w.options()
	o.WatchAllNamespaces, o.NoCrossNamespaceRefs, o.DefaultServiceAccount = true, true, "deployer"
	w.run(all(), o)
	w.apply(tenants, "URL", g.url+"/apps")
	w.apply(tenant, "NAME", "own", "TEAM", "team-a", "PATH", "own")
	w.ready("Kustomization/team-a/own")
	if w.get("ConfigMap/team-a/a") == nil {
		t.Error("what is allowed was not applied")
	}

	w.apply(tenant, "NAME", "trespass", "TEAM", "team-a", "PATH", "other")
	k := w.failed("Kustomization/team-a/trespass", "ReconciliationFailed", "system:serviceaccount:team-a:deployer")
	if w.get("ConfigMap/team-b/b") != nil {
		t.Error("a tenant has written to the namespace of another")
	}
	if message := condition(k, "Ready")["message"]; !strings.Contains(message, "team-b/b") && !strings.Contains(message, "b") {
		t.Error(message)
	}

	w.apply(tenant, "NAME", "foreign", "TEAM", "team-b", "PATH", "own")
	w.failed("Kustomization/team-b/foreign", "AccessDenied", "GitRepository team-a/apps")
	if got := condition(w.get("Kustomization/team-b/foreign"), "Stalled"); got["status"] != "True" {
		t.Errorf("Stalled %v", got)
	}

	w.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: deployer, namespace: team-b}")
	w.apply(strings.Replace(tenant, ", namespace: team-a}\n", "}\n", 1), "NAME", "foreign", "TEAM", "team-b", "PATH", "own")
	w.failed("Kustomization/team-b/foreign", "ArtifactFailed", "GitRepository 'team-b/apps' does not exist")

	w.delete("Kustomization/team-a/own")
	w.until("ConfigMap/team-a/a", "deleted by its owner", func(o *unstructured.Unstructured) bool { return o == nil })
	writesOfTenants(t, audit)
}

// writesOfTenants looks at what the API server saw: the controllers wrote as themselves to the objects that they
// reconcile, to leases and events, and as a service account to everything else.
func writesOfTenants(t *testing.T, audit string) {
	t.Helper()
	writes, err := testenv.ReadAudit(audit)
	if err != nil {
		t.Fatal(err)
	}
	as := map[string]int{}
	for _, w := range writes {
		own := strings.HasSuffix(w.Group, ".fluxcd.io") || w.Group == "coordination.k8s.io" || w.Resource == "events"
		if w.Agent != all().Name || own && w.As == "" {
			continue
		}
		as[w.As]++
		if !strings.HasPrefix(w.As, "system:serviceaccount:team-") || own || w.Code < 300 && w.As != "system:serviceaccount:"+w.Namespace+":deployer" {
			t.Errorf("%+v", w)
		}
	}
	if as["system:serviceaccount:team-a:deployer"] == 0 {
		t.Errorf("nothing was written as the service account: %v", as)
	}
}
