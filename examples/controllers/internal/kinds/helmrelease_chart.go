package kinds

import (
	"context"
	"maps"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// chartObject makes the HelmChart of a chart template, and removes one that is
// not of the spec any more.
func (r *helmRelease) chartObject(ctx context.Context, o *helmv2.HelmRelease) error {
	name := ""
	if o.Spec.Chart != nil {
		name = chartRef(o).ObjectKey.String()
	}
	if o.Status.HelmChart != name {
		if err := r.removeChartObject(ctx, o); err != nil {
			return err
		}
	}
	if o.Status.HelmChart = name; name == "" {
		return nil
	}
	have, want := &sourcev1.HelmChart{}, chartOf(o)
	err := r.env.Manager.GetClient().Get(ctx, client.ObjectKeyFromObject(want), have)
	same := equality.Semantic.DeepEqual(have.Spec, want.Spec) && equality.Semantic.DeepDerivative(want.ObjectMeta, have.ObjectMeta)
	if client.IgnoreNotFound(err) != nil || err == nil && same {
		return err
	}
	//nolint:staticcheck // the generated apply configurations are not part of the API modules
	return r.env.Manager.GetClient().Patch(ctx, want, client.Apply, client.ForceOwnership, client.FieldOwner("helm-controller"))
}

// removeChartObject deletes the HelmChart that was made for a release.
func (r *helmRelease) removeChartObject(ctx context.Context, o *helmv2.HelmRelease) error {
	namespace, name := o.Status.GetHelmChart()
	if name == "" {
		return nil
	}
	old := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := client.IgnoreNotFound(r.env.Manager.GetClient().Delete(ctx, old)); err != nil {
		return err
	}
	o.Status.HelmChart = ""
	return nil
}

// chartOf is the HelmChart that a chart template describes.
func chartOf(o *helmv2.HelmRelease) *sourcev1.HelmChart {
	t := o.Spec.Chart
	key := chartRef(o).ObjectKey
	c := &sourcev1.HelmChart{
		TypeMeta:   metav1.TypeMeta{APIVersion: sourcev1.GroupVersion.String(), Kind: sourcev1.HelmChartKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{}},
		Spec: sourcev1.HelmChartSpec{
			Chart: t.Spec.Chart, Version: or(t.Spec.Version, "*"), Interval: t.GetInterval(o.Spec.Interval),
			SourceRef:         sourcev1.LocalHelmChartSourceReference{Kind: t.Spec.SourceRef.Kind, Name: t.Spec.SourceRef.Name},
			ReconcileStrategy: or(t.Spec.ReconcileStrategy, sourcev1.ReconcileStrategyChartVersion),
			ValuesFiles:       t.Spec.ValuesFiles, IgnoreMissingValuesFiles: t.Spec.IgnoreMissingValuesFiles,
		},
	}
	if m := t.ObjectMeta; m != nil {
		maps.Copy(c.Labels, m.Labels)
		c.Annotations = m.Annotations
	}
	c.Labels[helmv2.GroupVersion.Group+"/name"], c.Labels[helmv2.GroupVersion.Group+"/namespace"] = o.Name, o.Namespace
	if v := t.Spec.Verify; v != nil {
		c.Spec.Verify = &sourcev1.HelmChartVerification{Provider: v.Provider, SecretRef: v.SecretRef}
	}
	return c
}
