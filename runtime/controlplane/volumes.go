package controlplane

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// SimulatedStorageClass is the default storage class of a control plane with simulated nodes. Claims of it are bound at
// once to volumes that hold nothing.
const SimulatedStorageClass = "simulated"

// simulatedProvisioner is the provisioner the class names.
const simulatedProvisioner = "gitopskit.github.io/simulated"

// Annotations by which the scheduler knows that a claim is bound for good.
const (
	annBindCompleted     = "pv.kubernetes.io/bind-completed"
	annBoundByController = "pv.kubernetes.io/bound-by-controller"
)

// volumeBinder takes the place of the volume controllers for claims of SimulatedStorageClass.
type volumeBinder struct {
	client kubernetes.Interface
	claims corelisters.PersistentVolumeClaimLister
	queue  workqueue.TypedRateLimitingInterface[types.NamespacedName]
}

// startVolumes creates the storage class and binds claims from now on.
func (m *manager) startVolumes(ctx context.Context) error {
	_, err := m.client.StorageV1().StorageClasses().Create(ctx, simulatedClass(), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	informer := m.informers.Core().V1().PersistentVolumeClaims()
	b := &volumeBinder{
		client: m.client,
		claims: informer.Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](20*time.Millisecond, 10*time.Second)),
	}
	_, err = informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    b.enqueue,
		UpdateFunc: func(_, obj any) { b.enqueue(obj) },
		DeleteFunc: func(obj any) { b.release(ctx, obj) },
	})
	if err != nil {
		return err
	}
	go b.work(ctx)
	go func() {
		<-ctx.Done()
		b.queue.ShutDown()
	}()
	return nil
}

func simulatedClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        SimulatedStorageClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner:          simulatedProvisioner,
		ReclaimPolicy:        new(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode:    new(storagev1.VolumeBindingImmediate),
		AllowVolumeExpansion: new(true),
	}
}

// ours says whether the claim is of the simulated class.
func ours(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.StorageClassName != nil && *claim.Spec.StorageClassName == SimulatedStorageClass
}

func (b *volumeBinder) enqueue(obj any) {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if ok && ours(claim) && claim.Status.Phase != corev1.ClaimBound {
		b.queue.Add(types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name})
	}
}

func (b *volumeBinder) work(ctx context.Context) {
	for {
		key, quit := b.queue.Get()
		if quit {
			return
		}
		if err := b.bind(ctx, key); err != nil {
			klog.ErrorS(err, "Binding of volume claim failed", "claim", key)
			b.queue.AddRateLimited(key)
		} else {
			b.queue.Forget(key)
		}
		b.queue.Done(key)
	}
}

// bind gives the claim a volume of the size it asks for.
func (b *volumeBinder) bind(ctx context.Context, key types.NamespacedName) error {
	cached, err := b.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || cached.DeletionTimestamp != nil || cached.Status.Phase == corev1.ClaimBound {
		return err
	}
	claim := cached.DeepCopy()
	volumes := b.client.CoreV1().PersistentVolumes()
	volume, err := volumes.Create(ctx, volumeFor(claim), metav1.CreateOptions{})
	if err == nil {
		volume.Status.Phase = corev1.VolumeBound
		_, err = volumes.UpdateStatus(ctx, volume, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create volume: %w", err)
	}
	claims := b.client.CoreV1().PersistentVolumeClaims(key.Namespace)
	if claim.Spec.VolumeName == "" {
		claim.Spec.VolumeName = volumeName(claim)
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, annBindCompleted, "yes")
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, annBoundByController, "yes")
		if claim, err = claims.Update(ctx, claim, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	claim.Status.Phase = corev1.ClaimBound
	claim.Status.AccessModes = claim.Spec.AccessModes
	claim.Status.Capacity = claim.Spec.Resources.Requests
	_, err = claims.UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	return err
}

// release deletes the volume of a claim that is gone.
func (b *volumeBinder) release(ctx context.Context, obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok || !ours(claim) {
		return
	}
	err := b.client.CoreV1().PersistentVolumes().Delete(ctx, volumeName(claim), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		klog.ErrorS(err, "Deletion of volume failed", "claim", klog.KObj(claim))
	}
}

func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

func volumeFor(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        volumeName(claim),
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": simulatedProvisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			StorageClassName:              SimulatedStorageClass,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: "/simulated/" + volumeName(claim)},
			},
		},
	}
}
