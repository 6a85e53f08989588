package kinds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/health"
)

// kustomizationUnsupported are the fields that cannot be honoured yet.
func kustomizationUnsupported() []string {
	return []string{
		"spec.sourceRef.kind!=GitRepository|OCIRepository|Bucket|ExternalArtifact", "spec.kubeConfig.configMapRef",
		"spec.decryption.provider!=sops", "spec.decryption.serviceAccountName",
	}
}

// refused returns why the spec cannot be reconciled at all.
func (r *kustomization) refused(o *kustomizev1.Kustomization) error {
	if err := errors.Join(kube.Unsupported(o, kustomizationUnsupported()...), wrongFields(o)); err != nil {
		return err
	}
	ref := sourceRef(o)
	return r.env.Policy.Ref(o.Namespace, ref.Kind, ref.Namespace, ref.Name)
}

// build turns the artifact into objects.
func (r *kustomization) build(ctx context.Context, o *kustomizev1.Kustomization, from *inputs, tree fs.FS) ([]*unstructured.Unstructured, error) {
	if from.keys != nil {
		tree = from.keys.FS(tree)
	}
	opts, err := buildOptions(o)
	if err != nil {
		return nil, err
	}
	objects, err := kustomize.Build(ctx, tree, path.Clean("./"+o.Spec.Path), opts)
	if err != nil {
		return nil, err
	}
	if err := from.keys.Objects(objects); err != nil {
		return nil, err
	}
	if post := o.Spec.PostBuild; post != nil {
		opts := &kustomize.SubstituteOptions{Always: post.SubstituteStrategy == kustomizev1.SubstituteStrategyAlways}
		if objects, err = kustomize.Substitute(ctx, objects, from.vars, opts); err != nil {
			return nil, err
		}
	}
	if common := o.Spec.CommonMetadata; common != nil {
		kustomize.SetMetadata(objects, common.Labels, common.Annotations)
	}
	return objects, nil
}

// buildOptions are the fields of a spec that shape a build.
func buildOptions(o *kustomizev1.Kustomization) (*kustomize.Options, error) {
	s := o.Spec
	opts, err := edits(s.Patches, s.Images)
	opts.Namespace, opts.NamePrefix, opts.NameSuffix = s.TargetNamespace, s.NamePrefix, s.NameSuffix
	opts.Components, opts.IgnoreMissingComponents = s.Components, s.IgnoreMissingComponents
	for _, m := range s.BuildMetadata {
		opts.BuildMetadata = append(opts.BuildMetadata, string(m))
	}
	return opts, err
}

// client applies as whom, and where, the spec says.
func (r *kustomization) client(ctx context.Context, o *kustomizev1.Kustomization, pass *kube.Pass) (*ssa.Client, error) {
	cluster, err := r.env.cluster(ctx, o.Namespace, o.Spec.ServiceAccountName, o.Spec.KubeConfig)
	if err != nil {
		return nil, err
	}
	policy := ssa.Policy{TakeOver: []string{"kubectl*", "before-first-apply"}}
	if o.Spec.Force {
		policy.Recreate = ssa.RecreateAlways
	}
	ignore, err1 := form[[]ssa.IgnoreRule](o.Spec.Ignore)
	exprs, err2 := form[[]health.Expression](o.Spec.HealthCheckExprs)
	rules, err3 := health.Compile(exprs, nil)
	if err := errors.Join(in("spec.ignore", err1), in("spec.healthCheckExprs", errors.Join(err2, err3))); err != nil {
		return nil, err
	}
	policy.Ignore = ignore
	c := &ssa.Client{
		Dynamic: cluster.Dynamic, Mapper: cluster.Mapper, FieldManager: "kustomize-controller", Policy: policy, Health: rules,
		Owner:     ssa.Owner{Name: o.Name, Namespace: o.Namespace, Group: kustomizev1.GroupVersion.Group},
		Inventory: &statusInventory{o, pass},
	}
	r.env.know(c, o.Spec.ServiceAccountName, o.Spec.KubeConfig)
	return c, nil
}

// sameRevision holds an object back until what it depends on has applied the
// same revision of the source that both share.
func (r *kustomization) sameRevision(ctx context.Context, o, dependency *kustomizev1.Kustomization) error {
	ref := sourceRef(o)
	if ref != sourceRef(dependency) {
		return nil
	}
	a, missing := r.env.source(ctx, ref.Kind, ref.ObjectKey)
	if missing != nil || a.Revision == dependency.Status.LastAppliedRevision {
		return nil
	}
	return fmt.Errorf("dependency %s/%s has not applied revision %s yet", dependency.Namespace, dependency.Name, a.Revision)
}
