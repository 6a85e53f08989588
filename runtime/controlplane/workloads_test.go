package controlplane_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/runtime/controlplane"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

var (
	create = metav1.CreateOptions{}
	get    = metav1.GetOptions{}
	labels = map[string]string{"app": "web"}
)

func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Image: "example.invalid/web:1",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
			}},
		}}},
	}
}

func TestDeployment(t *testing.T) {
	cs, ns := client(t)
	d, err := cs.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(5)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate()},
	}, create)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	available := func(generation int64) func(context.Context) error {
		return func(ctx context.Context) error {
			d, err := cs.AppsV1().Deployments(ns).Get(ctx, "web", get)
			if err != nil || d.Status.ObservedGeneration < generation || d.Status.AvailableReplicas != 5 || d.Status.UpdatedReplicas != 5 || d.Status.Replicas != 5 {
				return fmt.Errorf("deployment has %+v: %v", d.Status, err)
			}
			return nil
		}
	}
	eventually(t, 20*time.Second, available(1))
	t.Logf("5 replicas available after %v", time.Since(begun))
	pods, err := cs.CoreV1().Pods(ns).List(t.Context(), noOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.Status.Phase != corev1.PodRunning || p.Spec.NodeName == "" || p.Status.PodIP == "" {
			t.Errorf("pod %s is %s on %q with address %q", p.Name, p.Status.Phase, p.Spec.NodeName, p.Status.PodIP)
		}
	}
	d.Spec.Template.Spec.Containers[0].Image = "example.invalid/web:2"
	if _, err := cs.AppsV1().Deployments(ns).Update(t.Context(), d, metav1.UpdateOptions{}); err == nil {
		t.Fatal("an update of an old version was accepted")
	}
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.invalid/web:2"}]}}}}`)
	if _, err := cs.AppsV1().Deployments(ns).Patch(t.Context(), "web", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, available(2))
}

func TestDaemonSet(t *testing.T) {
	cs, ns := client(t)
	_, err := cs.AppsV1().DaemonSets(ns).Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate()},
	}, create)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		d, err := cs.AppsV1().DaemonSets(ns).Get(ctx, "agent", get)
		if err != nil || d.Status.DesiredNumberScheduled != 3 || d.Status.NumberAvailable != 3 {
			return fmt.Errorf("daemon set has %+v: %v", d.Status, err)
		}
		return nil
	})
}

// A stateful set with claims needs bound volumes before its pods can be scheduled, one after the other.
func TestStatefulSet(t *testing.T) {
	cs, ns := client(t)
	set, err := cs.AppsV1().StatefulSets(ns).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(3)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(), ServiceName: "db",
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}, create)
	if err != nil {
		t.Fatal(err)
	}
	ready := func(revision string) func(context.Context) error {
		return func(ctx context.Context) error {
			s, err := cs.AppsV1().StatefulSets(ns).Get(ctx, "db", get)
			if err != nil || s.Status.ReadyReplicas != 3 || s.Status.UpdatedReplicas != 3 || s.Status.CurrentRevision == revision {
				return fmt.Errorf("stateful set has %+v: %v", s.Status, err)
			}
			set = s
			return nil
		}
	}
	eventually(t, 20*time.Second, ready(""))
	claim, err := cs.CoreV1().PersistentVolumeClaims(ns).Get(t.Context(), "data-db-2", get)
	if err != nil || claim.Status.Phase != corev1.ClaimBound || *claim.Spec.StorageClassName != controlplane.SimulatedStorageClass {
		t.Fatalf("claim %+v: %v", claim, err)
	}
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.invalid/web:2"}]}}}}`)
	if _, err := cs.AppsV1().StatefulSets(ns).Patch(t.Context(), "db", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, ready(set.Status.CurrentRevision))
	if err := cs.CoreV1().PersistentVolumeClaims(ns).Delete(t.Context(), "data-db-2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		_, err := cs.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, get)
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("volume of the deleted claim: %v, want not found", err)
		}
		return nil
	})
}

func TestJob(t *testing.T) {
	cs, ns := client(t)
	template := podTemplate()
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	_, err := cs.BatchV1().Jobs(ns).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "migrate"}, Spec: batchv1.JobSpec{Template: template, Completions: new(int32(2)), Parallelism: new(int32(2))},
	}, create)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		j, err := cs.BatchV1().Jobs(ns).Get(ctx, "migrate", get)
		if err != nil || j.Status.Succeeded != 2 || j.Status.CompletionTime == nil {
			return fmt.Errorf("job has %+v: %v", j.Status, err)
		}
		return nil
	})
}

func TestNamespaceDeletion(t *testing.T) {
	cs, ns := client(t)
	_, err := cs.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate()},
	}, create)
	if err != nil {
		t.Fatal(err)
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if _, err := cs.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), claim, create); err != nil {
		t.Fatal(err)
	}
	if err := cs.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		n, err := cs.CoreV1().Namespaces().Get(ctx, ns, get)
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("namespace has %+v: %v, want not found", n.Status, err)
		}
		return nil
	})
	t.Logf("gone after %v", time.Since(begun))
}

func TestGarbageCollection(t *testing.T) {
	cs, ns := client(t)
	owner, err := cs.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, create)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cs.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name:            "owned",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID}},
	}}, create)
	if err != nil {
		t.Fatal(err)
	}
	if err := cs.CoreV1().ConfigMaps(ns).Delete(t.Context(), "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		_, err := cs.CoreV1().ConfigMaps(ns).Get(ctx, "owned", get)
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("owned object: %v, want not found", err)
		}
		return nil
	})
}

// Without the controller that makes service accounts, pods can be created nonetheless.
func TestServerAlone(t *testing.T) {
	cs := clientOf(t, start(t, nil))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: podTemplate().Spec}
	if _, err := cs.CoreV1().Pods("default").Create(t.Context(), pod, create); err != nil {
		t.Error(err)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if s, err := cs.CoreV1().Services("default").Create(t.Context(), service, create); err != nil || s.Spec.ClusterIP == "" {
		t.Errorf("service without address: %v, %v", s, err)
	}
}

func tokenRequest() *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(3600))}}
}

// allowConfigMaps lets the default service account of the namespace list config maps there.
func allowConfigMaps(ctx context.Context, cs kubernetes.Interface, ns string) error {
	_, err := cs.RbacV1().Roles(ns).Create(ctx, &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"list"}}},
	}, create)
	if err != nil {
		return err
	}
	_, err = cs.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: "default"}},
	}, create)
	return err
}
