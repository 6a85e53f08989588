// Package clusterflags gives example programs the flags for a cluster: the one
// of a kubeconfig, or a control plane of their own with simulated nodes.
package clusterflags

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/gitopskit/gitopskit/examples/internal/console"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

// Flags are the values given on the command line.
type Flags struct {
	// Kubeconfig is empty for a control plane of our own.
	Kubeconfig string
	// Namespace and Name are those of the owner of all objects.
	Namespace, Name string
}

// Register adds the flags to a set.
func (f *Flags) Register(set *flag.FlagSet) {
	set.StringVar(&f.Kubeconfig, "kubeconfig", "", "use the current context of this file instead of starting a cluster")
	set.StringVar(&f.Namespace, "namespace", "default", "namespace of the inventory, and of objects that name none")
	set.StringVar(&f.Name, "name", "quickstart", "owner of the objects; another name is another, independent set")
}

// Cluster is an open cluster.
type Cluster struct {
	*ssa.Client
	// Kubeconfig is the path of the file that opens it.
	Kubeconfig string
	// Stop ends the control plane if it is our own.
	Stop func() error
}

// Open opens the cluster. A control plane is built first if this machine has
// none; progress of that goes to stderr.
func (f *Flags) Open(ctx context.Context, out *console.Printer, stderr io.Writer) (*Cluster, error) {
	// client-go writes failures to standard error that it also returns.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	if f.Kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", f.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("-kubeconfig %s: %w", f.Kubeconfig, err)
		}
		config.QPS = -1 // the API server has its own fairness
		client, err := f.connect(config)
		return &Cluster{Client: client, Kubeconfig: f.Kubeconfig, Stop: func() error { return nil }}, err
	}
	started := time.Now()
	server, err := testenv.Launch(ctx, &testenv.Options{SimulatedNodes: 2, Progress: stderr})
	if err != nil {
		return nil, err
	}
	out.Step("cluster", "Kubernetes %s at %s, ready in %s", server.Version(), server.URL(), console.Since(started))
	out.Detail("its nodes are simulated: pods are scheduled and reported Running and Ready, nothing runs")
	client, err := f.connect(server.Config())
	return &Cluster{Client: client, Kubeconfig: server.Kubeconfig(), Stop: server.Stop}, err
}

func (f *Flags) connect(config *rest.Config) (*ssa.Client, error) {
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
		Owner:            ssa.Owner{Name: f.Name, Namespace: f.Namespace},
		DefaultNamespace: f.Namespace,
	}, nil
}
