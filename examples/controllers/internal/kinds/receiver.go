package kinds

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	notificationv1 "github.com/fluxcd/notification-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/notify/receiver"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// Receiver reconciles notification.toolkit.fluxcd.io Receiver.
func Receiver(ctx context.Context, env *Env) (*kube.Controller[*notificationv1.Receiver], error) {
	return add(ctx, env, &receiverKind{env}, kube.Options[*notificationv1.Receiver]{
		Schedule: func(o *notificationv1.Receiver) kube.Schedule {
			return kube.Schedule{Interval: o.GetInterval(), Timeout: time.Minute, Retry: env.backoff(), Suspend: o.Spec.Suspend}
		},
	})
}

type receiverKind struct{ env *Env }

// receiverUnsupported are the fields that cannot be honoured yet.
func receiverUnsupported() []string {
	return []string{"spec.type!=generic|generic-hmac|github|gitlab|bitbucket|harbor|dockerhub", "spec.oidcProviders", "spec.resourceFilter", "spec.resources.filter"}
}

// Reconcile opens the hook.
func (r *receiverKind) Reconcile(ctx context.Context, o *notificationv1.Receiver, pass *kube.Pass) kube.Result {
	open := false
	defer func() {
		if !open { // what is wrong now must not go on as it was
			r.env.Hooks.Delete(pass.Key.String())
		}
	}()
	if err := kube.Unsupported(o, receiverUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	for _, res := range o.Spec.Resources {
		if err := r.env.Policy.Ref(o.Namespace, res.Kind, res.Namespace, res.Name); err != nil {
			return kube.Fail("AccessDenied", err)
		}
	}
	data, err := r.env.secret(ctx, o.Namespace, o.Spec.SecretRef)
	if err != nil {
		return kube.Fail("TokenNotFound", err)
	}
	if len(data["token"]) == 0 {
		return kube.Fail("TokenNotFound", fmt.Errorf("Secret %s/%s has no entry token", o.Namespace, secretName(o.Spec.SecretRef)))
	}
	resources, generation, key := o.Spec.Resources, o.Generation, pass.Key
	hook, err := receiver.New(receiver.Type(o.Spec.Type), data["token"], func(ctx context.Context, _ receiver.Hook) error {
		now := &notificationv1.Receiver{}
		if err := r.env.Manager.GetClient().Get(ctx, key, now); err != nil {
			return err
		}
		if now.Spec.Suspend || now.Generation != generation || now.DeletionTimestamp != nil {
			return errors.New("the receiver is suspended or has just changed")
		}
		return r.request(ctx, key.Namespace, resources)
	}, &receiver.Options{Events: events(o), AllowWeakToken: true, Report: func(_ receiver.Hook, err error) {
		if err != nil {
			r.env.Log.Warn("a call of a webhook was refused", "receiver", pass.Key.String(), "error", err)
		}
	}})
	if err != nil {
		return kube.Fail("InvalidReceiver", err)
	}
	path := receiver.Path(string(data["token"]), o.Name, o.Namespace)
	if err := r.env.Hooks.Set(pass.Key.String(), path, hook); err != nil {
		return kube.Fail("InvalidReceiver", err)
	}
	open, o.Status.WebhookPath = true, path
	return kube.Ready("Receiver initialized for path: " + path)
}

// events are those of the spec, for the types whose callers name them; Flux
// ignores them for the others.
func events(o *notificationv1.Receiver) []string {
	switch o.Spec.Type {
	case notificationv1.GenericReceiver, notificationv1.GenericHMACReceiver, notificationv1.DockerHubReceiver:
		return nil
	}
	return o.Spec.Events
}

// Finalize closes the hook.
func (r *receiverKind) Finalize(_ context.Context, _ *notificationv1.Receiver, pass *kube.Pass) kube.Result {
	r.env.Hooks.Delete(pass.Key.String())
	return kube.Ready("closed")
}

// request asks for a pass of the resources, as `flux reconcile` does.
func (r *receiverKind) request(ctx context.Context, namespace string, resources []notificationv1.ReceiverResource) error {
	token := strconv.FormatInt(time.Now().UnixNano(), 10)
	var errs []error
	for _, res := range resources {
		gvk, err := r.gvk(res)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keys := []client.ObjectKey{{Namespace: or(res.Namespace, namespace), Name: res.Name}}
		if res.Name == "*" {
			if keys, err = r.matching(ctx, gvk, or(res.Namespace, namespace), res.MatchLabels); err != nil {
				errs = append(errs, err)
			}
		}
		for _, key := range keys {
			errs = append(errs, r.annotate(ctx, gvk, key, token))
		}
	}
	return errors.Join(errs...)
}

// gvk finds the newest version of a kind of Flux.
func (r *receiverKind) gvk(res notificationv1.ReceiverResource) (schema.GroupVersionKind, error) {
	gv, err := schema.ParseGroupVersion(res.APIVersion)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	groups := []string{gv.Group}
	if gv.Group == "" {
		groups = nil
		for _, g := range []string{"source", "kustomize", "helm", "image"} {
			groups = append(groups, g+".toolkit.fluxcd.io")
		}
		groups = append(groups, "source.extensions.fluxcd.io")
	}
	for _, g := range groups {
		if m, err := r.env.Manager.GetRESTMapper().RESTMapping(schema.GroupKind{Group: g, Kind: res.Kind}); err == nil {
			return m.GroupVersionKind, nil
		}
	}
	return schema.GroupVersionKind{}, fmt.Errorf("there is no kind %s", res.Kind)
}

// matching lists the objects of a kind with the labels.
func (r *receiverKind) matching(ctx context.Context, gvk schema.GroupVersionKind, namespace string, labels map[string]string) ([]client.ObjectKey, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	if err := r.env.Manager.GetAPIReader().List(ctx, list, client.InNamespace(namespace), client.MatchingLabels(labels)); err != nil {
		return nil, err
	}
	var out []client.ObjectKey
	for i := range list.Items {
		out = append(out, client.ObjectKeyFromObject(&list.Items[i]))
	}
	return out, nil
}

func (r *receiverKind) annotate(ctx context.Context, gvk schema.GroupVersionKind, key client.ObjectKey, token string) error {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	o.SetGroupVersionKind(gvk)
	base := o.DeepCopy()
	o.SetAnnotations(map[string]string{kube.RequestedAt: token})
	return r.env.Manager.GetClient().Patch(ctx, o, client.MergeFrom(base), client.FieldOwner("notification-controller"))
}
