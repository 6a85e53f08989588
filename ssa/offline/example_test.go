package offline_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/offline"
)

func Example() {
	ctx := context.Background()
	cluster, err := offline.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &ssa.Client{
		Dynamic: cluster.Dynamic(), Mapper: cluster.Mapper(), DefaultNamespace: "default",
		Owner: ssa.Owner{Name: "shop", Namespace: "default"},
	}
	const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
`
	apply := func(manifest string) {
		objects, err := ssa.ReadObjects(strings.NewReader(manifest))
		if err != nil {
			fmt.Println(err)
			return
		}
		applied, err := client.Apply(ctx, objects, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, change := range applied.Changes {
			fmt.Println(change.Object, change.Action)
			if change.Action == ssa.Configured {
				fmt.Println(" ", change.Fields[0])
			}
		}
	}
	apply(manifest)
	apply(manifest)
	apply(strings.Replace(manifest, "web:1", "web:2", 1))
	apply(strings.Replace(manifest, "replicas", "replicass", 1))
	// Output:
	// Deployment/default/web created
	// Deployment/default/web unchanged
	// Deployment/default/web configured
	//   ~ spec.template.spec.containers[0].image: "web:1" -> "web:2"
	// ssa: apply for default/shop: validate Deployment/default/web: invalid object: failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.replicass: field not declared in schema
}

func ExampleCluster_MarkReady() {
	ctx := context.Background()
	cluster, err := offline.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &ssa.Client{
		Dynamic: cluster.Dynamic(), Mapper: cluster.Mapper(), DefaultNamespace: "default",
		Owner: ssa.Owner{Name: "shop", Namespace: "default"},
	}
	objects, err := ssa.ReadObjects(strings.NewReader(`
apiVersion: batch/v1
kind: Job
metadata: {name: migrate}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: migrate, image: "web:1"}]}}}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	applied, err := client.Apply(ctx, objects, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := cluster.MarkReady(applied.Objects()...); err != nil {
		fmt.Println(err)
		return
	}
	states, err := client.Wait(ctx, applied.Objects(), nil)
	fmt.Println(states[0].Object, states[0].State, err)
	// Output: Job/default/migrate Current <nil>
}
