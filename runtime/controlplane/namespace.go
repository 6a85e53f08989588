package controlplane

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/namespace/deletion"
)

// namespaceGrace is how long the deletion of a namespace waits before it looks at what is in it, so that the server has
// noticed that nothing may be created there any more. kube-controller-manager waits 5 seconds because there may be several
// servers, and up to 16 more between two looks; there is one server here, and tests wait for it.
const namespaceGrace = 100 * time.Millisecond

// namespaceFinisher empties and finalizes namespaces that are being deleted. What and in which order it deletes is decided
// by the code of the namespace controller; only the waiting in between is shorter.
type namespaceFinisher struct {
	deleter deletion.NamespacedResourcesDeleterInterface
	lister  corelisters.NamespaceLister
	queue   workqueue.TypedRateLimitingInterface[string]
}

// namespaceController returns the function that runs the namespace controller.
func (m *manager) namespaceController(ctx context.Context) (func(context.Context), error) {
	informer := m.informers.Core().V1().Namespaces()
	f := &namespaceFinisher{
		deleter: deletion.NewNamespacedResourcesDeleter(ctx, m.client.CoreV1().Namespaces(), m.metadata, m.client.CoreV1(),
			m.client.Discovery().ServerPreferredNamespacedResources, corev1.FinalizerKubernetes),
		lister: informer.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, 5*time.Second)),
	}
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    f.enqueue,
		UpdateFunc: func(_, obj any) { f.enqueue(obj) },
	})
	return f.run, err
}

func (f *namespaceFinisher) enqueue(obj any) {
	if ns, ok := obj.(*corev1.Namespace); ok && ns.DeletionTimestamp != nil {
		f.queue.AddAfter(ns.Name, namespaceGrace)
	}
}

func (f *namespaceFinisher) run(ctx context.Context) {
	for range workers {
		go f.work(ctx)
	}
	<-ctx.Done()
	f.queue.ShutDown()
}

func (f *namespaceFinisher) work(ctx context.Context) {
	for {
		name, quit := f.queue.Get()
		if quit {
			return
		}
		if err := f.finish(ctx, name); err != nil {
			var remaining *deletion.ResourcesRemainingError
			if !errors.As(err, &remaining) {
				klog.ErrorS(err, "Deletion of namespace failed", "namespace", name)
			}
			f.queue.AddRateLimited(name)
		} else {
			f.queue.Forget(name)
		}
		f.queue.Done(name)
	}
}

func (f *namespaceFinisher) finish(ctx context.Context, name string) error {
	if _, err := f.lister.Get(name); apierrors.IsNotFound(err) {
		return nil
	}
	return f.deleter.Delete(ctx, name)
}
