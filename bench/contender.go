package main

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/proof"
)

// contender is one of those that hold the same large set of objects in a cluster. It may change the objects it is given.
type contender interface {
	// reconcile is what is done in every interval: make the cluster hold objects.
	reconcile(ctx context.Context, objects []*unstructured.Unstructured) error
	// close ends what goes on in the background.
	close() error
}

// waiter is a contender that can wait.
type waiter interface {
	// wait returns when all objects of the last reconcile are ready, or ctx ends.
	wait(ctx context.Context) error
}

// contenders are all, in the order of the table. A new one knows nothing, as in a new process.
var contenders = []struct {
	name string
	new  func(*rest.Config) (contender, error)
}{
	{"gitopskit", newFollowing},
	{"fluxcd/pkg/ssa", newResting},
	{"kubectl apply", newKubectl},
}

// following is this module with a store and a prover.
type following struct {
	ours
	end func() error
}

func newFollowing(config *rest.Config) (contender, error) {
	types, err := newTypes(config)
	if err != nil {
		return nil, err
	}
	return follow(config, types)
}

// newTypes returns the schemas of a cluster, none of them read yet.
func newTypes(config *rest.Config) (*proof.Server, error) {
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &proof.Server{Client: disco.OpenAPIV3()}, nil
}

func follow(config *rest.Config, types proof.Types) (*following, error) {
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	client, err := newClient(config)
	if err != nil {
		return nil, err
	}
	client.Store = &ssa.Store{Dynamic: client.Dynamic, Version: func(context.Context) (string, error) {
		info, err := disco.ServerVersion()
		if err != nil {
			return "", err
		}
		return info.String(), nil
	}}
	client.Prover = &proof.Prover{Types: types}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- client.Store.Run(ctx) }()
	return &following{ours: ours{client: client}, end: sync.OnceValue(func() error {
		stop()
		return <-ended
	})}, nil
}

func (f *following) close() error { return f.end() }

// resting is the peer, which does nothing between its passes.
type resting struct{ side }

func newResting(config *rest.Config) (contender, error) {
	s, err := newPeer(config)
	return resting{s}, err
}

func (resting) close() error { return nil }
