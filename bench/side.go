package main

import (
	"context"
	"io/fs"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/ssa"
)

// Names of the owner on both sides.
const (
	ownerName      = "bench"
	ownerNamespace = "default"
)

// side is one of the two that are compared. It may change the objects it is given.
type side interface {
	// reconcile makes the cluster hold objects and deletes what the last call had and this one has not.
	reconcile(ctx context.Context, objects []*unstructured.Unstructured) error
	// diff asks what reconcile would change, and returns how many objects.
	diff(ctx context.Context, objects []*unstructured.Unstructured) (int, error)
	// wait returns when all objects of the last reconcile are ready.
	wait(ctx context.Context) error
}

// sides are both, by name, in the order of the table.
var sides = []struct {
	name  string
	new   func(*rest.Config) (side, error)
	build func(context.Context, *input) ([]*unstructured.Unstructured, error)
}{
	{"ours", newOurs, buildOurs},
	{"peer", newPeer, buildPeer},
}

// ours is this module.
type ours struct {
	client *ssa.Client
	ids    []ssa.ObjectID
}

func newOurs(config *rest.Config) (side, error) {
	client, err := newClient(config)
	if err != nil {
		return nil, err
	}
	return &ours{client: client}, nil
}

func newClient(config *rest.Config) (*ssa.Client, error) {
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &ssa.Client{
		Dynamic:          dyn,
		Mapper:           restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		Owner:            ssa.Owner{Name: ownerName, Namespace: ownerNamespace},
		DefaultNamespace: ownerNamespace,
	}, nil
}

func (s *ours) reconcile(ctx context.Context, objects []*unstructured.Unstructured) error {
	set, err := s.client.Apply(ctx, objects, nil)
	if err != nil {
		return err
	}
	s.ids = set.Objects()
	_, err = s.client.Prune(ctx, objects, nil)
	return err
}

func (s *ours) diff(ctx context.Context, objects []*unstructured.Unstructured) (int, error) {
	set, err := s.client.Diff(ctx, objects, nil)
	return set.Count(ssa.Created, ssa.Configured, ssa.Deleted), err
}

func (s *ours) wait(ctx context.Context) error {
	_, err := s.client.Wait(ctx, s.ids, nil)
	return err
}

// buildOurs reads the tree through an [fs.FS] that cannot be left.
func buildOurs(ctx context.Context, in *input) ([]*unstructured.Unstructured, error) {
	root, err := os.OpenRoot(in.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var tree fs.FS = root.FS()
	return kustomize.Build(ctx, tree, in.dir, nil)
}
