package kinds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"testing/fstest"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// helmReleaseUnsupported are the fields that cannot be honoured yet.
func helmReleaseUnsupported() []string {
	return []string{
		"spec.chartRef.kind!=OCIRepository|HelmChart", "spec.kubeConfig.configMapRef", "spec.healthCheckExprs", "spec.dependsOn.readyExpr",
		"spec.driftDetection.ignore", "spec.postRenderStrategy=separate", "spec.waitStrategy.name!=poller",
		"spec.install.disableOpenAPIValidation", "spec.install.replace",
		"spec.upgrade.disableOpenAPIValidation", "spec.upgrade.preserveValues", "spec.upgrade.force", "spec.upgrade.cleanupOnFail",
		"spec.upgrade.serverSideApply=disabled", "spec.upgrade.chartNameChangeStrategy=InPlaceUpdate",
		"spec.rollback.recreate", "spec.rollback.force", "spec.rollback.cleanupOnFail", "spec.rollback.serverSideApply=disabled",
	}
}

// refused returns why the spec cannot be reconciled at all.
func (r *helmRelease) refused(o *helmv2.HelmRelease) error {
	if err := kube.Unsupported(o, helmReleaseUnsupported()...); err != nil {
		return err
	}
	ref := chartRef(o)
	return r.env.Policy.Ref(o.Namespace, ref.Kind, ref.Namespace, ref.Name)
}

// chartOf is the HelmChart that a chart template describes.
func chartOf(o *helmv2.HelmRelease) *sourcev1.HelmChart {
	t := o.Spec.Chart
	key := chartRef(o).ObjectKey
	c := &sourcev1.HelmChart{
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
		c.Annotations = maps.Clone(m.Annotations)
	}
	c.Labels[helmv2.GroupVersion.Group+"/name"], c.Labels[helmv2.GroupVersion.Group+"/namespace"] = o.Name, o.Namespace
	if v := t.Spec.Verify; v != nil {
		c.Spec.Verify = &sourcev1.HelmChartVerification{Provider: v.Provider, SecretRef: v.SecretRef}
	}
	return c
}

// sameChart reports that nothing is to be changed.
func sameChart(have, want *sourcev1.HelmChart) bool {
	for k, v := range want.Labels {
		if have.Labels[k] != v {
			return false
		}
	}
	for k, v := range want.Annotations {
		if have.Annotations[k] != v {
			return false
		}
	}
	return reflect.DeepEqual(have.Spec, want.Spec)
}

// lookup reads the objects that values come from.
func (r *helmRelease) lookup(namespace string) helm.Lookup {
	return func(ctx context.Context, kind, name string) (map[string][]byte, error) {
		key := client.ObjectKey{Namespace: namespace, Name: name}
		cm, secret := &corev1.ConfigMap{}, &corev1.Secret{}
		var obj client.Object = secret
		if kind == "ConfigMap" {
			obj = cm
		}
		err := r.env.Manager.GetAPIReader().Get(ctx, key, obj)
		if apierrors.IsNotFound(err) {
			return nil, fs.ErrNotExist
		}
		data := maps.Clone(secret.Data)
		if data == nil {
			data = map[string][]byte{}
		}
		for k, v := range cm.Data {
			data[k] = []byte(v)
		}
		return data, err
	}
}

func references(o *helmv2.HelmRelease) []helm.Reference {
	var out []helm.Reference
	for _, v := range o.Spec.ValuesFrom {
		out = append(out, helm.Reference{Kind: v.Kind, Name: v.Name, ValuesKey: v.ValuesKey, TargetPath: v.TargetPath, Literal: v.Literal, Optional: v.Optional})
	}
	return out
}

// desired is the release that a spec describes. Without a chart it can be
// uninstalled only.
func (r *helmRelease) desired(o *helmv2.HelmRelease, chart *helm.Chart, values map[string]any) (*release.Desired, error) {
	install, upgrade, rollback, uninstall, test := o.GetInstall(), o.GetUpgrade(), o.GetRollback(), o.GetUninstall(), o.GetTest()
	limit := func(d metav1.Duration) time.Duration { return d.Duration }
	d := &release.Desired{
		Name: helm.ReleaseName(o.GetReleaseName()), Namespace: o.GetReleaseNamespace(), Chart: chart, Values: values,
		Generation: fmt.Sprintf("%d/%s", o.Generation, o.Status.LastHandledResetAt), Force: helmv2.ShouldHandleForceRequest(o),
		Install:   release.ActionOptions{Timeout: limit(install.GetTimeout(o.GetTimeout())), DisableWait: install.DisableWait, DisableWaitForJobs: install.DisableWaitForJobs, DisableHooks: install.DisableHooks},
		Upgrade:   release.ActionOptions{Timeout: limit(upgrade.GetTimeout(o.GetTimeout())), DisableWait: upgrade.DisableWait, DisableWaitForJobs: upgrade.DisableWaitForJobs, DisableHooks: upgrade.DisableHooks},
		Rollback:  release.ActionOptions{Timeout: limit(rollback.GetTimeout(o.GetTimeout())), DisableWait: rollback.DisableWait, DisableWaitForJobs: rollback.DisableWaitForJobs, DisableHooks: rollback.DisableHooks},
		Uninstall: release.ActionOptions{Timeout: limit(uninstall.GetTimeout(o.GetTimeout())), DisableWait: uninstall.DisableWait, DisableHooks: uninstall.DisableHooks},
		Test:      release.ActionOptions{Timeout: limit(test.GetTimeout(o.GetTimeout()))},
		CRDs:      crdPolicy(o), CreateNamespace: install.CreateNamespace, TakeOwnership: !install.DisableTakeOwnership && !upgrade.DisableTakeOwnership,
		KeepHistory: uninstall.KeepHistory, Propagation: propagation(uninstall.GetDeletionPropagation()), MaxHistory: o.GetMaxHistory(),
		Policy: release.Policy{Test: test.Enable, IgnoreTestFailures: test.IgnoreFailures, Drift: driftMode(o), Install: installRemediation(o), Upgrade: upgradeRemediation(o)},
	}
	if d.MaxHistory == 0 {
		d.MaxHistory = -1 // Flux: no limit
	}
	for _, f := range test.GetFilters() {
		if f.Exclude {
			d.ExcludeTests = append(d.ExcludeTests, f.Name)
		} else {
			d.IncludeTests = append(d.IncludeTests, f.Name)
		}
	}
	if helmv2.ShouldHandleResetRequest(o) {
		d.Generation = fmt.Sprintf("%d/%s", o.Generation, o.Status.LastHandledResetAt)
	}
	if o.Status.History.Latest() == nil {
		d.Render.SkipSchema = install.DisableSchemaValidation
	} else {
		d.Render.SkipSchema = upgrade.DisableSchemaValidation
	}
	return d, postRender(o, d)
}

// postRender adds what changes the objects of a chart.
func postRender(o *helmv2.HelmRelease, d *release.Desired) error {
	for _, p := range o.Spec.PostRenderers {
		if p.Kustomize != nil {
			d.Render.PostRender = append(d.Render.PostRender, overlay(p.Kustomize))
		}
	}
	if m := o.Spec.CommonMetadata; m != nil {
		d.Render.PostRender = append(d.Render.PostRender, helm.CommonMetadata(m.Labels, m.Annotations))
	}
	d.Render.PostRenderHooks = o.Spec.PostRenderStrategy == helmv2.PostRenderStrategyCombined
	if len(d.Render.PostRender) == 0 {
		return nil
	}
	data, err := json.Marshal([]any{o.Spec.PostRenderers, o.Spec.CommonMetadata, o.Spec.PostRenderStrategy})
	sum := sha256.Sum256(data)
	d.RenderKey = "sha256:" + hex.EncodeToString(sum[:])
	return err
}

// overlay changes objects as a kustomization with these patches and images does.
func overlay(k *helmv2.Kustomize) helm.PostRenderer {
	opts := &kustomize.Options{}
	for _, p := range k.Patches {
		patch := kustomize.Patch{Patch: p.Patch}
		if t := p.Target; t != nil {
			patch.Target = &kustomize.Target{
				Group: t.Group, Version: t.Version, Kind: t.Kind, Namespace: t.Namespace, Name: t.Name,
				LabelSelector: t.LabelSelector, AnnotationSelector: t.AnnotationSelector,
			}
		}
		opts.Patches = append(opts.Patches, patch)
	}
	for _, i := range k.Images {
		opts.Images = append(opts.Images, kustomize.Image{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
	}
	return func(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
		tree := fstest.MapFS{}
		for i, o := range objects {
			data, err := yaml.Marshal(o.Object)
			if err != nil {
				return nil, err
			}
			tree[fmt.Sprintf("%06d.yaml", i)] = &fstest.MapFile{Data: data}
		}
		return kustomize.Build(ctx, tree, ".", opts)
	}
}

// crdPolicy is that of the action that will be made.
func crdPolicy(o *helmv2.HelmRelease) release.CRDPolicy {
	policy := o.GetUpgrade().CRDs
	if policy == "" {
		policy = helmv2.Skip
	}
	if install := o.GetInstall(); o.Status.History.Latest() == nil {
		if policy = install.CRDs; install.SkipCRDs {
			policy = helmv2.Skip
		}
	}
	switch policy {
	case helmv2.Skip:
		return release.SkipCRDs
	case helmv2.CreateReplace:
		return release.CreateReplaceCRDs
	case helmv2.Create:
	}
	return release.CreateCRDs
}

func propagation(s string) metav1.DeletionPropagation {
	switch s {
	case "foreground":
		return metav1.DeletePropagationForeground
	case "orphan":
		return metav1.DeletePropagationOrphan
	}
	return metav1.DeletePropagationBackground
}

func driftMode(o *helmv2.HelmRelease) release.DriftMode {
	detection := o.GetDriftDetection()
	switch detection.GetMode() {
	case helmv2.DriftDetectionEnabled:
		return release.DriftCorrected
	case helmv2.DriftDetectionWarn:
		return release.DriftReported
	}
	return release.DriftIgnored
}

func installRemediation(o *helmv2.HelmRelease) release.Remediation {
	var out release.Remediation
	install := o.GetInstall()
	if m := install.Remediation; m != nil {
		out = release.Remediation{Retries: m.Retries, IgnoreTestFailures: m.MustIgnoreTestFailures(o.GetTest().IgnoreFailures), RemediateLast: m.RemediateLastFailure}
	}
	if s := install.Strategy; s != nil && s.Name == string(helmv2.ActionStrategyRetryOnFailure) {
		out.RetryOnFailure, out.RetryInterval = true, s.GetRetryInterval()
	}
	return out
}

func upgradeRemediation(o *helmv2.HelmRelease) release.Remediation {
	var out release.Remediation
	upgrade := o.GetUpgrade()
	if m := upgrade.Remediation; m != nil {
		out = release.Remediation{
			Retries: m.Retries, IgnoreTestFailures: m.MustIgnoreTestFailures(o.GetTest().IgnoreFailures), RemediateLast: m.RemediateLastFailure,
			Uninstall: m.GetStrategy() == helmv2.UninstallRemediationStrategy,
		}
	}
	if s := upgrade.Strategy; s != nil && s.Name == string(helmv2.ActionStrategyRetryOnFailure) {
		out.RetryOnFailure, out.RetryInterval = true, s.GetRetryInterval()
	}
	return out
}
