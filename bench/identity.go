package main

import (
	"context"

	"github.com/fluxcd/pkg/apis/meta"
	peerclient "github.com/fluxcd/pkg/runtime/client"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/ssa"
)

// measureIdentity returns the requests of discovery that reconciles as another identity send, each the second of its
// kind: by a client of ours that shares the mapper and store of f, and by a client of the peer's impersonator.
func measureIdentity(ctx context.Context, config *rest.Config, f *following, objects []*unstructured.Unstructured) (ours, peer int64, err error) {
	var w wire
	counted := w.config(config)
	counted.Impersonate = rest.ImpersonationConfig{UserName: "tenant", Groups: []string{"system:masters"}}
	if ours, err = discoveryOfOurs(ctx, counted, &w, f, objects); err != nil {
		return 0, 0, err
	}
	peer, err = discoveryOfPeer(ctx, counted, &w, objects)
	return ours, peer, err
}

func discoveryOfOurs(ctx context.Context, config *rest.Config, w *wire, f *following, objects []*unstructured.Unstructured) (int64, error) {
	for range 2 {
		dyn, err := dynamic.NewForConfig(config)
		if err != nil {
			return 0, err
		}
		tenant := *f.client // every reconcile has a client of its own
		tenant.Dynamic, tenant.Identity = dyn, "tenant"
		tenant.Owner = ssa.Owner{Name: "tenant", Namespace: ownerNamespace}
		w.take()
		s := &ours{client: &tenant}
		if err := s.reconcile(ctx, clone(objects)); err != nil {
			return 0, err
		}
	}
	return w.take().discovery, nil
}

// discoveryOfPeer makes a client as kustomize-controller does for each reconcile, and reads the objects by it.
func discoveryOfPeer(ctx context.Context, config *rest.Config, w *wire, objects []*unstructured.Unstructured) (int64, error) {
	provide := func(context.Context, meta.KubeConfigReference, string, client.Client) (*rest.Config, error) {
		return config, nil
	}
	impersonator := peerclient.NewImpersonator(nil,
		peerclient.WithScheme(runtime.NewScheme()),
		peerclient.WithKubeConfig(&meta.KubeConfigReference{}, peerclient.KubeConfigOptions{}, ownerNamespace, provide))
	for range 2 {
		w.take()
		c, _, err := impersonator.GetClient(ctx)
		if err != nil {
			return 0, err
		}
		for _, o := range objects {
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), o.DeepCopy()); err != nil {
				return 0, err
			}
		}
	}
	return w.take().discovery, nil
}
