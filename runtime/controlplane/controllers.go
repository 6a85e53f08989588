package controlplane

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/statefulset"
)

// workers is how many objects of one kind a controller handles at a time.
const workers = 10

// discoveryPeriod is how often the garbage collector looks for new kinds. kube-controller-manager takes 30 seconds; a test
// that has just created a definition does not want to wait for that.
const discoveryPeriod = 2 * time.Second

// manager holds what the controllers share.
type manager struct {
	config    *rest.Config
	client    kubernetes.Interface
	metadata  metadata.Interface
	informers informers.SharedInformerFactory
	started   chan struct{} // closed when the informers run
}

// runControllers is the child process that runs the controllers and, with simulated nodes, scheduler and kubelets.
func runControllers(ctx context.Context, cfg *childConfig, out *reporter) error {
	kubeconfig := filepath.Join(cfg.Dir, kubeconfigFile)
	m, err := newManager(kubeconfig)
	if err != nil {
		return err
	}
	for _, name := range cfg.Controllers {
		run, err := m.controller(ctx, name)
		if err != nil {
			return fmt.Errorf("start controller %s: %w", name, err)
		}
		go run(ctx)
	}
	if cfg.Nodes > 0 {
		if err := m.startVolumes(ctx); err != nil {
			return fmt.Errorf("start simulated volumes: %w", err)
		}
	}
	m.informers.Start(ctx.Done())
	close(m.started)
	m.informers.WaitForCacheSync(ctx.Done())
	if cfg.Nodes > 0 {
		if err := startScheduler(ctx, m.config, m.client); err != nil {
			return fmt.Errorf("start scheduler: %w", err)
		}
		if err := startNodes(ctx, kubeconfig, m.client, cfg.Nodes); err != nil {
			return fmt.Errorf("start simulated nodes: %w", err)
		}
	}
	if err := m.waitForServiceAccount(ctx, cfg); err != nil {
		return err
	}
	out.send(event{Kind: eventReady})
	<-ctx.Done()
	return nil
}

func newManager(kubeconfig string) (*manager, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.RateLimiter = flowcontrol.NewFakeAlwaysRateLimiter()
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(typed)
	if err != nil {
		return nil, err
	}
	return &manager{
		config:    typed,
		client:    client,
		metadata:  meta,
		informers: informers.NewSharedInformerFactory(client, 12*time.Hour),
		started:   make(chan struct{}),
	}, nil
}

// controller creates the named controller and returns the function that runs it.
func (m *manager) controller(ctx context.Context, name string) (func(context.Context), error) {
	apps, core := m.informers.Apps().V1(), m.informers.Core().V1()
	switch name {
	case DaemonSet:
		c, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(),
			m.client, flowcontrol.NewBackOff(time.Second, 15*time.Minute))
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) { c.Run(ctx, workers) }, nil
	case Deployment:
		c, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), m.client)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) { c.Run(ctx, workers) }, nil
	case Job:
		c, err := job.NewController(ctx, m.client, core.Pods(), m.informers.Batch().V1().Jobs(), nil, nil)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) { c.Run(ctx, workers) }, nil
	case ReplicaSet:
		c := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), m.client, replicaset.BurstReplicas)
		return func(ctx context.Context) { c.Run(ctx, workers) }, nil
	case StatefulSet:
		c := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(),
			apps.ControllerRevisions(), m.client)
		return func(ctx context.Context) { c.Run(ctx, workers) }, nil
	case ServiceAccount:
		c, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(), core.Namespaces(),
			m.client, serviceaccount.DefaultServiceAccountsControllerOptions())
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) { c.Run(ctx, 1) }, nil
	case Namespace:
		return m.namespaceController(ctx)
	case GarbageCollector:
		return m.garbageCollector(ctx)
	}
	return nil, fmt.Errorf("no controller of that name")
}

// garbageCollector deletes what is owned by objects that are gone.
func (m *manager) garbageCollector(ctx context.Context) (func(context.Context), error) {
	uncached, err := discovery.NewDiscoveryClientForConfig(m.config)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(uncached))
	factory := informerfactory.NewInformerFactory(m.informers, metadatainformer.NewSharedInformerFactory(m.metadata, 12*time.Hour))
	graph := garbagecollector.NewDependencyGraphBuilder(ctx, m.metadata, mapper, garbagecollector.DefaultIgnoredResources(), factory, m.started)
	gc, err := garbagecollector.NewComposedGarbageCollector(ctx, m.client, m.metadata, mapper, graph)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		go gc.Sync(ctx, uncached, discoveryPeriod)
		gc.Run(ctx, workers, discoveryPeriod)
	}, nil
}

// waitForServiceAccount waits until pods can be created in the namespace "default".
func (m *manager) waitForServiceAccount(ctx context.Context, cfg *childConfig) error {
	if !cfg.ServiceAccounts {
		return nil
	}
	lister := m.informers.Core().V1().ServiceAccounts().Lister().ServiceAccounts(corev1.NamespaceDefault)
	return wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(context.Context) (bool, error) {
		_, err := lister.Get("default")
		return err == nil, nil
	})
}
