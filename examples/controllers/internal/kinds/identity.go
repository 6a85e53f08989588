package kinds

import (
	"context"
	"fmt"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/ssa"
)

// cluster connects as whom, and where, a spec says.
func (e *Env) cluster(ctx context.Context, namespace, serviceAccount string, k *meta.KubeConfigReference) (*tenancy.Cluster, error) {
	if k == nil {
		id, err := e.Policy.Identity(namespace, serviceAccount)
		if err != nil {
			return nil, err
		}
		return e.Clients.For(id)
	}
	if k.SecretRef == nil || k.SecretRef.Name == "" { // never the own cluster by accident
		return nil, &kube.UnsupportedError{Fields: []string{"spec.kubeConfig without secretRef"}}
	}
	data, err := e.secret(ctx, namespace, &meta.LocalObjectReference{Name: k.SecretRef.Name})
	if err != nil {
		return nil, in("kubeConfig", err)
	}
	kubeconfig, err := secrets.Kubeconfig(data, k.SecretRef.Key)
	if err != nil {
		return nil, in("kubeConfig: Secret "+namespace+"/"+k.SecretRef.Name, err)
	}
	id, err := e.Policy.Remote(namespace, serviceAccount, kubeconfig)
	if err != nil {
		return nil, err
	}
	return e.Clients.For(id)
}

// know has a client make use of what is known of the own cluster.
func (e *Env) know(c *ssa.Client, serviceAccount string, k *meta.KubeConfigReference) {
	if id, err := e.Policy.Identity(c.Owner.Namespace, serviceAccount); err == nil && k == nil {
		c.Store, c.Prover, c.Identity = e.Applied, e.Proof, id.String()
	}
}

// identityLost returns an error if the service account to delete as does not
// exist any more. One of another cluster is for that cluster to know.
func (e *Env) identityLost(ctx context.Context, namespace, serviceAccount string, k *meta.KubeConfigReference) error {
	id, err := e.Policy.Identity(namespace, serviceAccount)
	if err != nil {
		return err
	}
	if id.ServiceAccount == "" || k != nil {
		return nil
	}
	err = e.Manager.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: id.Namespace, Name: id.ServiceAccount}, &corev1.ServiceAccount{})
	if !apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("ServiceAccount %s/%s does not exist any more", id.Namespace, id.ServiceAccount)
}
