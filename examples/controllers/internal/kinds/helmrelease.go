package kinds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"github.com/opencontainers/go-digest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/ssa"
)

// HelmRelease reconciles helm.toolkit.fluxcd.io HelmRelease.
func HelmRelease(ctx context.Context, env *Env) (*kube.Controller[*helmv2.HelmRelease], error) {
	return add(ctx, env, &helmRelease{env}, kube.Options[*helmv2.HelmRelease]{
		Schedule: func(o *helmv2.HelmRelease) kube.Schedule {
			return kube.Schedule{Interval: o.GetRequeueAfter(), Timeout: bound(o), Retry: env.backoff(), Suspend: o.Spec.Suspend}
		},
		DependsOn: func(o *helmv2.HelmRelease) (out []client.ObjectKey) {
			for _, d := range o.Spec.DependsOn {
				out = append(out, client.ObjectKey{Namespace: or(d.Namespace, o.Namespace), Name: d.Name})
			}
			return out
		},
		References: func(o *helmv2.HelmRelease) []kube.Reference {
			var out []kube.Reference
			for _, v := range o.Spec.ValuesFrom {
				out = append(out, kube.Reference{GroupKind: schema.GroupKind{Kind: v.Kind}, ObjectKey: client.ObjectKey{Namespace: o.Namespace, Name: v.Name}})
			}
			return append(out, chartRef(o))
		},
		Watches: append(configWatches(), sourceWatches("OCIRepository", "HelmChart")...),
	})
}

type helmRelease struct{ env *Env }

// bound is the longest that a pass can take by its own timeouts.
func bound(o *helmv2.HelmRelease) time.Duration {
	const slack, waits = 2 * time.Minute, 3 // waits of hooks before and after, and of the objects
	sum := time.Duration(slack)
	for _, d := range []metav1.Duration{
		o.GetInstall().GetTimeout(o.GetTimeout()), o.GetUpgrade().GetTimeout(o.GetTimeout()), o.GetTest().GetTimeout(o.GetTimeout()),
		o.GetRollback().GetTimeout(o.GetTimeout()), o.GetUninstall().GetTimeout(o.GetTimeout()),
	} {
		sum += waits * d.Duration
	}
	return sum
}

// chartRef names the object whose artifact is the chart.
func chartRef(o *helmv2.HelmRelease) kube.Reference {
	ref := kube.Reference{GroupKind: schema.GroupKind{Group: sourcev1.GroupVersion.Group, Kind: sourcev1.HelmChartKind}}
	switch {
	case o.Spec.ChartRef != nil:
		ref.Kind = o.Spec.ChartRef.Kind
		ref.ObjectKey = client.ObjectKey{Namespace: or(o.Spec.ChartRef.Namespace, o.Namespace), Name: o.Spec.ChartRef.Name}
	case o.Spec.Chart != nil:
		ref.ObjectKey = client.ObjectKey{Namespace: o.Spec.Chart.GetNamespace(o.Namespace), Name: o.GetHelmChartName()}
	}
	return ref
}

// Reconcile brings the release to what the spec says.
func (r *helmRelease) Reconcile(ctx context.Context, o *helmv2.HelmRelease, pass *kube.Pass) kube.Result {
	if err := r.refused(o); err != nil {
		return kube.Fail(refusal(err), err)
	}
	if err := r.chartObject(ctx, o); err != nil {
		return kube.Fail("ArtifactFailed", err)
	}
	ref := chartRef(o)
	artifact, missing := r.env.source(ctx, ref.Kind, ref.ObjectKey)
	if missing != nil {
		return *missing
	}
	chart, err := r.chart(ctx, o, artifact)
	if gone(err) {
		return kube.NotYet("ArtifactFailed", "the artifact of the chart is not there yet: "+err.Error(), r.env.DependencyRetry)
	}
	if err != nil {
		return kube.Fail("ArtifactFailed", outside{err})
	}
	values, err := helm.Compose(ctx, r.lookup(o.Namespace), o.GetValues(), references(o)...)
	if err != nil {
		return kube.Fail("ValuesError", err)
	}
	client, err := r.client(ctx, o)
	if err != nil {
		return kube.Fail("RESTClientError", err)
	}
	desired, err := r.desired(o, chart, values)
	if err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	return r.release(ctx, o, pass, client, desired)
}

// recordTimeout bounds the write of a step that was made, also when the
// program is about to end.
const recordTimeout = 10 * time.Second

// release makes the steps that are to be made now.
func (r *helmRelease) release(ctx context.Context, o *helmv2.HelmRelease, pass *kube.Pass, client *release.Client, desired *release.Desired) kube.Result {
	attempt, err := desired.Attempt()
	if err != nil {
		return kube.Fail("ArtifactFailed", err)
	}
	memory := remembered(o, desired, attempt)
	record := func() error {
		return in("status", r.remember(o, desired, memory))
	}
	if err := errors.Join(record(), pass.Record(ctx)); err != nil { // the attempt is on record before it is made
		return kube.Fail("ReconciliationFailed", err)
	}
	last := ""
	outcome, err := client.Reconcile(ctx, *desired, memory, func(step release.Outcome) error {
		last = r.tell(o, pass, desired, step)
		told, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		return errors.Join(record(), pass.Record(told))
	})
	if e := record(); e != nil {
		err = errors.Join(err, e)
	}
	r.drift(o, pass, desired, outcome)
	switch {
	case err != nil:
		if !errors.Is(err, release.ErrRetriesExceeded) && !errors.Is(err, release.ErrNoRollbackTarget) {
			err = outside{err} // values and objects of others may change
		}
		return kube.Fail(or(failedReason(last), "ReconciliationFailed"), err)
	case outcome.Again:
		return kube.NotYet("Progressing", outcome.Reason, max(outcome.After, r.env.MinRetry))
	}
	latest := o.Status.History.Latest()
	if latest == nil {
		return kube.Fail("ReconciliationFailed", fmt.Errorf("there is no release: %s", outcome.Reason))
	}
	message, reason := status.Get(o, helmv2.ReleasedCondition), "ReconciliationSucceeded"
	text := fmt.Sprintf("Helm release %s with chart %s is in sync", latest.FullReleaseName(), latest.VersionedChartName())
	if message != nil && message.Status == metav1.ConditionTrue {
		text, reason = message.Message, message.Reason
	}
	return kube.Ready(text).Because(reason).At(desired.Chart.Version())
}

// Finalize uninstalls the release, unless it is suspended.
func (r *helmRelease) Finalize(ctx context.Context, o *helmv2.HelmRelease, pass *kube.Pass) kube.Result {
	if !pass.Suspended && (len(o.Status.History) > 0 || o.Status.LastAttemptedRevision != "") {
		id := r.env.Policy.Identity(o.Namespace, o.Spec.ServiceAccountName)
		if lost := r.env.identityLost(ctx, id); lost != nil {
			pass.Event(kube.Event{Warning: true, Reason: helmv2.UninstallFailedReason, Message: fmt.Sprintf("%v: the release is left behind", lost)})
			return kube.Ready("deleted")
		}
		helmClient, err := r.client(ctx, o)
		if err != nil {
			return kube.Fail(helmv2.UninstallFailedReason, err)
		}
		desired, err := r.desired(o, nil, nil)
		ours := false
		if err == nil {
			ours, err = installed(ctx, o, helmClient, desired)
		}
		if err == nil && ours {
			err = helmClient.Uninstall(ctx, *desired)
		}
		if err != nil {
			return kube.Fail(helmv2.UninstallFailedReason, err)
		}
		pass.Event(kube.Event{Reason: helmv2.UninstallSucceededReason, Message: "Helm uninstall succeeded for release " + desired.Namespace + "/" + desired.Name})
	}
	if err := r.removeChartObject(ctx, o); err != nil {
		return kube.Fail(helmv2.UninstallFailedReason, err)
	}
	return kube.Ready("deleted")
}

// installed reports whether a release is ours to uninstall: one that is in the
// history, or a first install that was interrupted before it got there. Any
// other release of the name is somebody else's.
func installed(ctx context.Context, o *helmv2.HelmRelease, c *release.Client, d *release.Desired) (bool, error) {
	if len(o.Status.History) > 0 {
		return true, nil
	}
	records, err := c.Store.History(ctx, d.Name)
	return len(records) == 1 && records[0].Revision == 1 && records[0].Status.IsPending(), err
}

// chartObject makes the HelmChart of a chart template, and removes one that is
// not of the spec any more.
func (r *helmRelease) chartObject(ctx context.Context, o *helmv2.HelmRelease) error {
	name := ""
	if o.Spec.Chart != nil {
		name = chartRef(o).ObjectKey.String()
	}
	if o.Status.HelmChart != "" && o.Status.HelmChart != name {
		if err := r.removeChartObject(ctx, o); err != nil {
			return err
		}
	}
	o.Status.HelmChart = name
	if name == "" {
		return nil
	}
	want := chartOf(o)
	have := &sourcev1.HelmChart{}
	err := r.env.Manager.GetClient().Get(ctx, client.ObjectKeyFromObject(want), have)
	if err == nil && sameChart(have, want) {
		return nil
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	want.TypeMeta = metav1.TypeMeta{APIVersion: sourcev1.GroupVersion.String(), Kind: sourcev1.HelmChartKind}
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
	if err := r.env.Manager.GetClient().Delete(ctx, old); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	o.Status.HelmChart = ""
	return nil
}

// chart loads the chart of an artifact. A chart from a registry gets the
// digest of its revision as build metadata, so that a moved tag is a new version.
func (r *helmRelease) chart(ctx context.Context, o *helmv2.HelmRelease, a *meta.Artifact) (*helm.Chart, error) {
	data, err := r.env.blob(ctx, a)
	if err != nil {
		return nil, err
	}
	chart, err := helm.LoadArchive(ctx, bytes.NewReader(data), nil)
	if err != nil || chartRef(o).Kind != sourcev1.OCIRepositoryKind {
		return chart, err
	}
	version, _, _ := strings.Cut(chart.Version(), "+")
	return chart.WithVersion(version + "+" + shortRevision(a))
}

// blob reads an artifact as it is.
func (e *Env) blob(ctx context.Context, a *meta.Artifact) ([]byte, error) {
	want := digest.Digest(a.Digest)
	if e.Store == nil || a.URL != e.StoreURL+"/"+a.Path {
		return e.Fetch.FetchBytes(ctx, a.URL, want)
	}
	if err := e.Store.Verify(ctx, a.Path, want); err != nil {
		return nil, err
	}
	f, err := e.Store.Open(a.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(f)
}

// client acts on releases as whom, and where, the spec says.
func (r *helmRelease) client(ctx context.Context, o *helmv2.HelmRelease) (*release.Client, error) {
	cluster, err := r.env.cluster(ctx, o.Namespace, o.Spec.ServiceAccountName, o.Spec.KubeConfig)
	if err != nil {
		return nil, err
	}
	return &release.Client{
		Applier: &ssa.Objects{Managers: []string{"helm"}, Client: &ssa.Client{
			Dynamic: cluster.Dynamic, Mapper: cluster.Mapper, FieldManager: "helm-controller", DefaultNamespace: o.GetReleaseNamespace(),
			Owner: ssa.Owner{Name: o.Name, Namespace: o.Namespace, Group: helmv2.GroupVersion.Group},
		}},
		Store: &release.Secrets{Dynamic: cluster.Dynamic, Namespace: o.GetStorageNamespace()},
	}, nil
}
