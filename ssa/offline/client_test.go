package offline_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/offline"
)

// newClient returns the client that is used with real clusters, for one that
// is not.
func newClient(t testing.TB) (*ssa.Client, *offline.Cluster) {
	t.Helper()
	cluster := newCluster(t)
	return &ssa.Client{
		Dynamic: cluster.Dynamic(), Mapper: cluster.Mapper(), DefaultNamespace: "default",
		Owner: ssa.Owner{Name: "app", Namespace: "default"},
	}, cluster
}

func resourceOf(c *offline.Cluster, group, version, resource string) dynamic.ResourceInterface {
	return c.Dynamic().Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: resource}).Namespace("default")
}

func configMaps(c *offline.Cluster) dynamic.ResourceInterface {
	return resourceOf(c, "", "v1", "configmaps")
}

func actions(set *ssa.ChangeSet) []string {
	var out []string
	for _, c := range set.Changes {
		out = append(out, c.Object.Kind+"/"+c.Object.Name+" "+string(c.Action))
	}
	return out
}

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "web:1", env: [{name: A, value: "1"}, {name: B, value: "2"}]}
      - {name: side, image: "side:1"}
`

// TestClientLife is a set of objects from its first apply to its deletion.
func TestClientLife(t *testing.T) {
	c, cluster := newClient(t)
	objs := objects(t, web+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {a: one, b: two}\n")
	check := func(want ...string) {
		t.Helper()
		set := must[*ssa.ChangeSet](t)(c.Apply(t.Context(), objs, nil))
		if diff := cmp.Diff(want, actions(set)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
	before := len(cluster.Objects())
	diff := must[*ssa.ChangeSet](t)(c.Diff(t.Context(), objs, nil))
	if diff.Count(ssa.Created) != 2 || len(cluster.Objects()) != before {
		t.Errorf("diff: %v", actions(diff))
	}
	check("ConfigMap/config created", "Deployment/web created")
	check("ConfigMap/config unchanged", "Deployment/web unchanged")

	// Somebody else adds fields; ours that change are noticed, theirs stay.
	deployments := resourceOf(cluster, "apps", "v1", "deployments")
	must[*unstructured.Unstructured](t)(deployments.Patch(t.Context(), "web", types.StrategicMergePatchType,
		[]byte(`{"metadata":{"labels":{"theirs":"z"}},"spec":{"replicas":3,"template":{"spec":{"containers":[{"name":"main","image":"web:0"},{"name":"theirs","image":"x"}]}}}}`),
		metav1.PatchOptions{FieldManager: "kubectl-edit"}))
	check("ConfigMap/config unchanged", "Deployment/web configured")
	// Fields, labels and list items that leave the manifest leave the object.
	objs = objects(t, strings.NewReplacer(", tier: front", "", ", {name: B, value: \"2\"}", "", "      - {name: side, image: \"side:1\"}\n", "").Replace(web)+
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {a: one}\n")
	check("ConfigMap/config configured", "Deployment/web configured")
	live := must[*unstructured.Unstructured](t)(deployments.Get(t.Context(), "web", metav1.GetOptions{}))
	containers, _, err := unstructured.NestedSlice(live.Object, "spec", "template", "spec", "containers")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, container := range containers {
		names = append(names, container.(map[string]any)["name"].(string))
	}
	if diff := cmp.Diff([]string{"main", "theirs"}, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if labels := live.GetLabels(); labels["theirs"] != "z" || labels["tier"] != "" {
		t.Errorf("labels: %v", labels)
	}
	if n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); n != 3 {
		t.Errorf("replicas: %d", n)
	}

	pruned := must[*ssa.ChangeSet](t)(c.Prune(t.Context(), objs[:1], nil))
	if diff := cmp.Diff([]string{"ConfigMap/config deleted"}, actions(pruned)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	must[*ssa.ChangeSet](t)(c.Prune(t.Context(), nil, nil))
	if _, err := c.WaitDeleted(t.Context(), []ssa.ObjectID{ssa.IDOf(live)}, nil); err != nil {
		t.Error(err)
	}
}

// TestClientStages: definitions, namespaces and what needs them, in one set.
func TestClientStages(t *testing.T) {
	c, cluster := newClient(t)
	objs := objects(t, `
apiVersion: example.com/v1
kind: Gadget
metadata: {name: g, namespace: team}
spec: {size: 3}
---
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
`+gadgets)
	set := must[*ssa.ChangeSet](t)(c.Apply(t.Context(), objs, nil))
	if set.Count(ssa.Created) != 3 {
		t.Errorf("got %v", actions(set))
	}
	if set = must[*ssa.ChangeSet](t)(c.Apply(t.Context(), objs, nil)); set.Changed() {
		t.Errorf("again: %v", actions(set))
	}
	bad := objects(t, "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: bad, namespace: team}\nspec: {size: 30, sise: 1}\n")
	if _, err := c.Apply(t.Context(), bad, nil); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	must[*ssa.ChangeSet](t)(c.Prune(t.Context(), nil, nil))
	for _, obj := range cluster.Objects() {
		if obj.GetNamespace() == "team" || obj.GetName() == "team" || obj.GetKind() == "CustomResourceDefinition" {
			t.Errorf("%s %s is left", obj.GetKind(), obj.GetName())
		}
	}
}

const gadgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.com}
spec:
  group: example.com
  names: {kind: Gadget, plural: gadgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer, maximum: 10, default: 2}, note: {type: string}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
  - name: v1beta1
    served: true
    storage: false
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer, default: 2}, old: {type: string, default: was}}}
`

// TestClientOwners: two owners of an object take it from each other; one that
// has its manager's name alone is told of the conflict.
func TestClientOwners(t *testing.T) {
	c, cluster := newClient(t)
	other := *c
	other.Owner.Name, other.FieldManager = "other", "other"
	objs := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {k: x}\n")
	must[*ssa.ChangeSet](t)(c.Apply(t.Context(), objs, nil))
	objs[0].Object["data"] = map[string]any{"k": "y"}
	must[*ssa.ChangeSet](t)(other.Apply(t.Context(), objs, nil))
	_, err := configMaps(cluster).Apply(t.Context(), "shared", object(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {k: z}\n"), metav1.ApplyOptions{FieldManager: "third"})
	if err == nil || !strings.Contains(err.Error(), `conflict with "other": .data.k`) {
		t.Errorf("got %v", err)
	}
	set := must[*ssa.ChangeSet](t)(c.Prune(t.Context(), nil, nil))
	if set.Count(ssa.Kept) != 1 {
		t.Errorf("got %v", actions(set))
	}
}

// TestClientWait: objects become ready when they are marked, and drift is told.
func TestClientWait(t *testing.T) {
	c, cluster := newClient(t)
	objs := objects(t, web+`---
apiVersion: batch/v1
kind: Job
metadata: {name: job}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: public}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: pod}
spec: {containers: [{name: a, image: a}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: pdb}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: a, image: a}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: a, image: a}]}}
`+"---"+gadgets+"---\napiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\n")
	set := must[*ssa.ChangeSet](t)(c.Apply(t.Context(), objs, nil))
	if _, err := c.Wait(t.Context(), set.Objects(), &ssa.WaitOptions{Timeout: 50 * time.Millisecond}); !errors.Is(err, ssa.ErrNotReady) {
		t.Errorf("not ready: got %v", err)
	}
	ready := make(chan error)
	go func() {
		_, err := c.Wait(t.Context(), set.Objects(), nil)
		ready <- err
	}()
	if err := cluster.MarkReady(); err != nil {
		t.Fatal(err)
	}
	if err := <-ready; err != nil {
		t.Error(err)
	}
	if again := must[*ssa.ChangeSet](t)(c.Apply(t.Context(), objs, nil)); again.Changed() {
		t.Errorf("a status is no change: %v", actions(again))
	}
	if err := cluster.MarkReady(ssa.ObjectID{Kind: "ConfigMap", Namespace: "default", Name: "none"}); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if err := cluster.MarkReady(ssa.ObjectID{Kind: "Nothing", Name: "none"}); !errors.Is(err, ssa.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
