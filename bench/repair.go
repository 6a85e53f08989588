package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/ssa"
)

// configMaps is the resource of the objects that somebody edits.
var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// measureRepair lets somebody edit an owned field of n of the objects, one after the other, and returns how long each
// stayed edited: from before the edit is sent until the apply that the watch led to has returned.
func measureRepair(ctx context.Context, config *rest.Config, f *following, objects []*unstructured.Unstructured, n int) ([]time.Duration, error) {
	editor, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	set, err := f.client.Apply(ctx, clone(objects), nil)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	drifts, ended := make(chan ssa.ObjectID, 2*n), make(chan error, 1)
	go func() { ended <- f.client.Watch(ctx, set, func(d ssa.Drift) { drifts <- d.Object }) }()
	took, err := repairs(ctx, editor, f.client, objects, drifts, n)
	stop()
	if watched := <-ended; !errors.Is(watched, context.Canceled) {
		err = errors.Join(err, watched)
	}
	slices.Sort(took)
	return took, err
}

func repairs(ctx context.Context, editor dynamic.Interface, client *ssa.Client, objects []*unstructured.Unstructured, drifts <-chan ssa.ObjectID, n int) ([]time.Duration, error) {
	var took []time.Duration
	for _, o := range objects {
		if o.GetKind() != "ConfigMap" {
			continue
		}
		if len(took) == n {
			break
		}
		live, err := editor.Resource(configMaps).Namespace(ownerNamespace).Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return took, err
		}
		live.Object["data"] = map[string]any{"key": "edited"}
		start := time.Now()
		if _, err := editor.Resource(configMaps).Namespace(ownerNamespace).Update(ctx, live, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
			return took, err
		}
		for id := client.ID(o); ; {
			var drifted ssa.ObjectID
			select {
			case drifted = <-drifts:
			case <-time.After(30 * time.Second):
				return took, fmt.Errorf("%s: nobody noticed that it was edited", id)
			}
			if drifted == id {
				break
			}
		}
		set, err := client.Apply(ctx, []*unstructured.Unstructured{o.DeepCopy()}, nil)
		if err != nil {
			return took, err
		}
		if set.Count(ssa.Configured) != 1 {
			return took, fmt.Errorf("%s was edited and not repaired: %s", o.GetName(), set.Summary())
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}
