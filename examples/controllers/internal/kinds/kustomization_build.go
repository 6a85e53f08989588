package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/kustomize/sops"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/ssa"
)

// kustomizationUnsupported are the fields that cannot be honoured yet.
func kustomizationUnsupported() []string {
	return []string{
		"spec.sourceRef.kind!=GitRepository|OCIRepository|Bucket|ExternalArtifact", "spec.kubeConfig.configMapRef", "spec.healthCheckExprs", "spec.ignore", "spec.force",
		"spec.decryption.provider!=sops", "spec.decryption.serviceAccountName", "spec.dependsOn.readyExpr",
	}
}

// refused returns why the spec cannot be reconciled at all.
func (r *kustomization) refused(o *kustomizev1.Kustomization) error {
	if err := kube.Unsupported(o, kustomizationUnsupported()...); err != nil {
		return err
	}
	ref := sourceRef(o)
	return r.env.Policy.Ref(o.Namespace, ref.Kind, ref.Namespace, ref.Name)
}

// refusal is the reason of a condition for a spec that is refused.
func refusal(err error) string {
	if _, denied := errors.AsType[*tenancy.DeniedError](err); denied {
		return "AccessDenied"
	}
	return "UnsupportedField"
}

// build turns the artifact into objects.
func (r *kustomization) build(ctx context.Context, o *kustomizev1.Kustomization, tree fs.FS) ([]*unstructured.Unstructured, error) {
	var keys *sops.Keys
	if d := o.Spec.Decryption; d != nil {
		data, err := r.env.secret(ctx, o.Namespace, d.SecretRef)
		if err != nil {
			return nil, in("decryption", err)
		}
		if keys, err = sops.ParseKeys(data); err != nil {
			return nil, in("decryption: Secret "+o.Namespace+"/"+secretName(d.SecretRef), err)
		}
		tree = keys.FS(tree)
	}
	objects, err := kustomize.Build(ctx, tree, path.Clean("./"+o.Spec.Path), buildOptions(o))
	if err != nil {
		return nil, err
	}
	if err := keys.Objects(objects); err != nil {
		return nil, err
	}
	if post := o.Spec.PostBuild; post != nil {
		vars, err := r.variables(ctx, o.Namespace, post)
		if err != nil {
			return nil, err
		}
		opts := &kustomize.SubstituteOptions{Always: post.SubstituteStrategy == kustomizev1.SubstituteStrategyAlways}
		if objects, err = kustomize.Substitute(ctx, objects, vars, opts); err != nil {
			return nil, err
		}
	}
	if common := o.Spec.CommonMetadata; common != nil {
		kustomize.SetMetadata(objects, common.Labels, common.Annotations)
	}
	return objects, nil
}

// buildOptions are the fields of a spec that shape a build.
func buildOptions(o *kustomizev1.Kustomization) *kustomize.Options {
	s := o.Spec
	opts := &kustomize.Options{
		Namespace: s.TargetNamespace, NamePrefix: s.NamePrefix, NameSuffix: s.NameSuffix,
		Components: s.Components, IgnoreMissingComponents: s.IgnoreMissingComponents,
	}
	for _, m := range s.BuildMetadata {
		opts.BuildMetadata = append(opts.BuildMetadata, string(m))
	}
	for _, p := range s.Patches {
		patch := kustomize.Patch{Patch: p.Patch}
		if t := p.Target; t != nil {
			patch.Target = &kustomize.Target{
				Group: t.Group, Version: t.Version, Kind: t.Kind, Namespace: t.Namespace, Name: t.Name,
				LabelSelector: t.LabelSelector, AnnotationSelector: t.AnnotationSelector,
			}
		}
		opts.Patches = append(opts.Patches, patch)
	}
	for _, i := range s.Images {
		opts.Images = append(opts.Images, kustomize.Image{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
	}
	return opts
}

// variables are those of the spec and of what it refers to; later ones win.
func (r *kustomization) variables(ctx context.Context, namespace string, post *kustomizev1.PostBuild) (map[string]string, error) {
	vars := map[string]string{}
	for _, ref := range post.SubstituteFrom {
		cm, secret := &corev1.ConfigMap{}, &corev1.Secret{}
		var obj client.Object = cm
		if ref.Kind == "Secret" {
			obj = secret
		}
		err := r.env.Manager.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, obj)
		if apierrors.IsNotFound(err) && ref.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("substitute from '%s/%s' error: %w", ref.Kind, ref.Name, err)
		}
		maps.Copy(vars, cm.Data)
		for k, v := range secret.Data {
			vars[k] = string(v)
		}
	}
	maps.Copy(vars, post.Substitute)
	return vars, nil
}

// client applies as whom, and where, the spec says.
func (r *kustomization) client(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass) (*ssa.Client, error) {
	cluster, err := r.env.cluster(ctx, o.Namespace, o.Spec.ServiceAccountName, o.Spec.KubeConfig)
	if err != nil {
		return nil, err
	}
	return &ssa.Client{
		Dynamic: cluster.Dynamic, Mapper: cluster.Mapper, FieldManager: "kustomize-controller",
		Owner:     ssa.Owner{Name: o.Name, Namespace: o.Namespace, Group: kustomizev1.GroupVersion.Group},
		Inventory: &statusInventory{o, pass},
	}, nil
}

// sameRevision holds an object back until what it depends on has applied the
// same revision of the source that both share.
func (r *kustomization) sameRevision(o, dependency *kustomizev1.Kustomization) error {
	ref := sourceRef(o)
	if ref != sourceRef(dependency) {
		return nil
	}
	a, missing := r.env.source(context.Background(), ref.Kind, ref.ObjectKey)
	if missing != nil || a.Revision == dependency.Status.LastAppliedRevision {
		return nil
	}
	return fmt.Errorf("dependency %s/%s has not applied revision %s yet", dependency.Namespace, dependency.Name, a.Revision)
}

// statusInventory keeps the inventory in the status of a Kustomization, and
// writes it to the API server before anything is applied.
type statusInventory struct {
	o    *kustomizev1.Kustomization
	pass *kube.Pass
}

// Load reads the inventory.
func (s *statusInventory) Load(context.Context) (*ssa.Inventory, error) {
	inv := &ssa.Inventory{}
	if s.o.Status.Inventory == nil {
		return inv, nil
	}
	for _, e := range s.o.Status.Inventory.Entries {
		id, err := ssa.ParseObjectID(e.ID)
		if err != nil {
			return nil, in("status.inventory", err)
		}
		inv.Entries = append(inv.Entries, ssa.Entry{Object: id, Version: e.Version})
	}
	return inv, nil
}

// Save writes the inventory.
func (s *statusInventory) Save(ctx context.Context, inv *ssa.Inventory) error {
	s.o.Status.Inventory = &kustomizev1.ResourceInventory{Entries: []kustomizev1.ResourceRef{}}
	for _, e := range inv.Entries {
		s.o.Status.Inventory.Entries = append(s.o.Status.Inventory.Entries, kustomizev1.ResourceRef{ID: e.Object.Encode(), Version: e.Version})
	}
	return s.pass.Record(ctx)
}

func secretName(ref *meta.LocalObjectReference) string {
	if ref == nil {
		return ""
	}
	return ref.Name
}
