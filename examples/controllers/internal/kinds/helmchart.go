package kinds

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/helmrepo"
)

// HelmChart reconciles source.toolkit.fluxcd.io HelmChart.
func HelmChart(ctx context.Context, env *Env) (*kube.Controller[*sourcev1.HelmChart], error) {
	return add(ctx, env, &helmChart{sourceKind{env, sourcev1.HelmChartKind, "ChartPullError"}}, kube.Options[*sourcev1.HelmChart]{
		Schedule: func(o *sourcev1.HelmChart) kube.Schedule { return env.schedule(o.Spec.Interval, nil, o.Spec.Suspend) },
		References: func(o *sourcev1.HelmChart) []kube.Reference {
			return []kube.Reference{{
				GroupKind: schema.GroupKind{Group: sourcev1.GroupVersion.Group, Kind: o.Spec.SourceRef.Kind},
				ObjectKey: client.ObjectKey{Namespace: o.Namespace, Name: o.Spec.SourceRef.Name},
			}}
		},
		Watches: sourceWatches("HelmRepository", "GitRepository", "Bucket"),
	})
}

type helmChart struct{ sourceKind }

// helmChartUnsupported are the fields that cannot be honoured yet.
func helmChartUnsupported() []string {
	return []string{"spec.verify.provider!=cosign", "spec.verify.matchOIDCIdentity"}
}

// built is a chart and where it came from.
type built struct {
	*chart.Package
	evidence []source.Evidence
	from     string // revision of the source's artifact
	message  string
	reason   string
}

// Reconcile publishes the chart.
func (r *helmChart) Reconcile(ctx context.Context, o *sourcev1.HelmChart, pass *kube.Pass) kube.Result {
	if result, ok := r.lost(ctx, o, &o.Status.Artifact); ok {
		return result
	}
	if err := kube.Unsupported(o, helmChartUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	var b *built
	var stop *kube.Result
	if o.Spec.SourceRef.Kind == sourcev1.HelmRepositoryKind {
		b, stop = r.pull(ctx, o)
	} else {
		b, stop = r.pack(ctx, o)
	}
	if stop != nil {
		return *stop
	}
	artifact := o.Status.Artifact
	if b.Package != nil {
		info, err := r.env.Store.PutBlob(ctx, r.key(o), b.Filename(), bytes.NewReader(b.Data))
		if err != nil {
			return r.unstored(o, err)
		}
		artifact = r.announce(info, b.Version, nil)
		if old := o.Status.Artifact; old == nil || old.Digest != artifact.Digest {
			pass.Event(kube.Event{Reason: b.reason, Message: b.message, Metadata: map[string]string{"revision": artifact.Revision, "digest": artifact.Digest}})
		} else {
			artifact.LastUpdateTime = old.LastUpdateTime
		}
	}
	r.verified(o, b.evidence, artifact.Revision)
	o.Status.Artifact, o.Status.ObservedChartName, o.Status.ObservedSourceArtifactRevision = artifact, o.Spec.Chart, b.from
	o.Status.ObservedValuesFiles = slices.Clone(o.Spec.ValuesFiles)
	r.succeed(ctx, o, artifact)
	return kube.Ready(b.message).Because(b.reason).At(artifact.Revision)
}

// Finalize removes what was published.
func (r *helmChart) Finalize(_ context.Context, o *sourcev1.HelmChart, _ *kube.Pass) kube.Result {
	return r.finalize(o)
}

func (r *helmChart) stop(result kube.Result) (*built, *kube.Result) {
	return nil, &result
}

// options are the fields of a spec that change the chart.
func (r *helmChart) options(o *sourcev1.HelmChart) *chart.Options {
	return &chart.Options{ValuesFiles: o.Spec.ValuesFiles, IgnoreMissing: o.Spec.IgnoreMissingValuesFiles}
}

// pull takes the chart from a Helm repository, byte for byte unless values
// files are to be merged.
func (r *helmChart) pull(ctx context.Context, o *sourcev1.HelmChart) (*built, *kube.Result) {
	repo := &sourcev1.HelmRepository{}
	key := client.ObjectKey{Namespace: o.Namespace, Name: o.Spec.SourceRef.Name}
	err := r.env.Manager.GetClient().Get(ctx, key, repo)
	if apierrors.IsNotFound(err) {
		return r.stop(r.unavailable(o, sourcev1.FetchFailedCondition, "SourceUnavailable", fmt.Sprintf("HelmRepository '%s' does not exist", key)))
	}
	if err != nil {
		return r.stop(r.fail(o, err))
	}
	opts, _, err := r.env.helmOptions(ctx, repo)
	if err != nil {
		return r.stop(r.fail(o, err))
	}
	if o.Spec.Verify != nil {
		if opts.Verifier, err = r.env.cosign(ctx, o.Namespace, o.Spec.Verify.SecretRef); err != nil {
			return r.stop(r.fail(o, err))
		}
	}
	server, err := helmrepo.New(repo.Spec.URL, opts)
	if err != nil {
		return r.stop(r.broken(o, sourcev1.FetchFailedCondition, "InvalidChartReference", err))
	}
	c, err := server.Chart(o.Spec.Chart, o.Spec.Version)
	if err != nil {
		return r.stop(r.broken(o, sourcev1.FetchFailedCondition, "InvalidChartReference", err))
	}
	rev, err := c.Resolve(ctx)
	if err != nil {
		return r.stop(r.fail(o, err))
	}
	b := &built{reason: "ChartPullSucceeded", message: fmt.Sprintf("pulled '%s' chart with version '%s'", o.Spec.Chart, rev.Ref)}
	if repo.Status.Artifact != nil {
		b.from = repo.Status.Artifact.Revision
	}
	if a := o.Status.Artifact; a.HasRevision(rev.Ref) && a.HasDigest(rev.Digest.String()) && o.Spec.Verify == nil && len(o.Spec.ValuesFiles)+len(o.Status.ObservedValuesFiles) == 0 {
		return b, nil // the package that is there, byte for byte
	}
	archive, err := c.Download(ctx, rev)
	if err != nil {
		return r.stop(r.fail(o, err))
	}
	b.Package, b.evidence = archive.Package, archive.Verified
	if len(o.Spec.ValuesFiles) > 0 {
		if b.Package, err = chart.Build(ctx, archive.FS(), ".", r.options(o)); err != nil {
			return r.stop(r.broken(o, sourcev1.BuildFailedCondition, "ChartPackageError", err))
		}
		b.message += fmt.Sprintf(" and merged values files %v", o.Spec.ValuesFiles)
	}
	return b, nil
}

// pack makes the chart from a directory of another source.
func (r *helmChart) pack(ctx context.Context, o *sourcev1.HelmChart) (*built, *kube.Result) {
	a, reason, err := r.env.published(ctx, o.Spec.SourceRef.Kind, client.ObjectKey{Namespace: o.Namespace, Name: o.Spec.SourceRef.Name})
	if reason != "" {
		return r.stop(r.unavailable(o, sourcev1.FetchFailedCondition, "SourceUnavailable", err.Error()))
	}
	if err != nil {
		return r.stop(r.fail(o, err))
	}
	content, err := r.env.artifact(ctx, a)
	if gone(err) {
		return r.stop(r.unavailable(o, sourcev1.FetchFailedCondition, "SourceUnavailable", "the artifact of the source is not there yet: "+err.Error()))
	}
	if err != nil {
		return r.stop(r.fail(o, err))
	}
	defer content.Close()
	opts := r.options(o)
	opts.Dependencies = &helmrepo.Resolver{Options: func(ctx context.Context, url string) (*helmrepo.Options, error) {
		return r.credentials(ctx, o.Namespace, url)
	}}
	if o.Spec.ReconcileStrategy == sourcev1.ReconcileStrategyRevision {
		opts.Metadata = shortRevision(a)
	}
	pkg, err := chart.Build(ctx, content, path.Clean("./"+o.Spec.Chart), opts)
	if err != nil {
		return r.stop(r.broken(o, sourcev1.BuildFailedCondition, "ChartPackageError", err))
	}
	return &built{
		Package: pkg, from: a.Revision, reason: "ChartPackageSucceeded",
		message: fmt.Sprintf("packaged '%s' chart with version '%s'", pkg.Name, pkg.Version),
	}, nil
}

// credentials are those of the HelmRepository of the namespace that has the
// address of a dependency; without one, none.
func (r *helmChart) credentials(ctx context.Context, namespace, url string) (*helmrepo.Options, error) {
	all := &sourcev1.HelmRepositoryList{}
	if err := r.env.Manager.GetClient().List(ctx, all, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	for i := range all.Items {
		if path.Clean(all.Items[i].Spec.URL) == path.Clean(url) {
			opts, _, err := r.env.helmOptions(ctx, &all.Items[i])
			return opts, err
		}
	}
	return nil, nil //nolint:nilnil // nil means the defaults
}

// shortRevision is what Flux adds to the version of a chart: the first twelve
// characters of the hash of the source's revision.
func shortRevision(a *meta.Artifact) string {
	rev, err := source.ParseRevision(a.Revision)
	if err != nil {
		return ""
	}
	const length = 12
	hash := rev.Digest.Encoded()
	return hash[:min(length, len(hash))]
}
