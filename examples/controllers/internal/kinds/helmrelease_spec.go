package kinds

import (
	"context"
	"encoding/json"
	"io/fs"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/opencontainers/go-digest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/helm/release/fluxrelease"
	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// helmReleaseUnsupported are the fields that cannot be honoured yet.
func helmReleaseUnsupported() []string {
	return append(fluxrelease.Unsupported(),
		"spec.chartRef.kind!=OCIRepository|HelmChart", "spec.kubeConfig.configMapRef", "spec.healthCheckExprs", "spec.postRenderStrategy=separate")
}

// refused returns why the spec cannot be reconciled at all.
func (r *helmRelease) refused(o *helmv2.HelmRelease) error {
	if err := kube.Unsupported(o, helmReleaseUnsupported()...); err != nil {
		return err
	}
	ref := chartRef(o)
	if o.Spec.Chart != nil { // the HelmChart is ours; what the spec names is where it comes from
		ref.Kind, ref.Name = o.Spec.Chart.Spec.SourceRef.Kind, o.Spec.Chart.Spec.SourceRef.Name
	}
	return r.env.Policy.Ref(o.Namespace, ref.Kind, ref.Namespace, ref.Name)
}

// values composes those of the spec and of what it refers to.
func (r *helmRelease) values(ctx context.Context, o *helmv2.HelmRelease, pass *kube.Pass) (map[string]any, error) {
	refs, err := form[[]helm.Reference](o.Spec.ValuesFrom)
	if err != nil {
		return nil, err
	}
	return helm.Compose(ctx, func(ctx context.Context, kind, name string) (map[string][]byte, error) {
		data, err := r.env.data(ctx, kind, o.Namespace, name)
		if apierrors.IsNotFound(err) {
			err = fs.ErrNotExist
		}
		if kind == "Secret" {
			conceal(pass, data)
		}
		return data, err
	}, o.GetValues(), refs...)
}

// postRender adds what changes the objects of a chart.
func postRender(o *helmv2.HelmRelease, d *release.Desired) error {
	for _, p := range o.Spec.PostRenderers {
		if p.Kustomize == nil {
			continue
		}
		opts, err := edits(p.Kustomize.Patches, p.Kustomize.Images)
		if err != nil {
			return err
		}
		d.Render.PostRender = append(d.Render.PostRender, func(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
			return kustomize.Transform(ctx, objects, opts)
		})
	}
	if m := o.Spec.CommonMetadata; m != nil {
		d.Render.PostRender = append(d.Render.PostRender, helm.CommonMetadata(m.Labels, m.Annotations))
	}
	d.Render.PostRenderHooks = o.Spec.PostRenderStrategy == helmv2.PostRenderStrategyCombined
	if len(d.Render.PostRender) == 0 {
		return nil
	}
	data, err := json.Marshal([]any{o.Spec.PostRenderers, o.Spec.CommonMetadata, o.Spec.PostRenderStrategy})
	d.RenderKey = digest.FromBytes(data).String()
	return err
}
