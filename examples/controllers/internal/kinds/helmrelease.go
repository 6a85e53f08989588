package kinds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/helm/release/fluxrelease"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/ssa"
)

// HelmRelease reconciles helm.toolkit.fluxcd.io HelmRelease.
func HelmRelease(ctx context.Context, env *Env) (*kube.Controller[*helmv2.HelmRelease], error) {
	return add(ctx, env, &helmRelease{env}, kube.Options[*helmv2.HelmRelease]{
		Schedule: func(o *helmv2.HelmRelease) kube.Schedule {
			return kube.Schedule{Interval: o.GetRequeueAfter(), Timeout: fluxrelease.Timeout(o), Retry: env.backoff(), Suspend: o.Spec.Suspend}
		},
		DependsOn: func(o *helmv2.HelmRelease) []client.ObjectKey { return keys(o.Namespace, o.Spec.DependsOn) },
		Depends:   depends(env, func(o *helmv2.HelmRelease) []meta.DependencyReference { return o.Spec.DependsOn }, nil),
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
		return kube.NotYet("ArtifactFailed", "the artifact of the chart is not there yet: "+err.Error(), r.env.Flags.RequeueDependency)
	}
	if err != nil {
		return kube.Fail("ArtifactFailed", outside{err})
	}
	values, err := r.values(ctx, o, pass)
	if err != nil {
		return kube.Fail("ValuesError", err)
	}
	client, err := r.client(ctx, o)
	if err != nil {
		return kube.Fail("RESTClientError", err)
	}
	desired := fluxrelease.Desired(o, chart, values)
	if err := postRender(o, desired); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	return r.release(ctx, o, pass, client, desired)
}

// recordTimeout bounds the write of a step that was made, also when the
// program is about to end.
const recordTimeout = 10 * time.Second

// release makes the steps that are to be made now.
func (r *helmRelease) release(ctx context.Context, o *helmv2.HelmRelease, pass *kube.Pass, client *release.Client, desired *release.Desired) kube.Result {
	memory, err := fluxrelease.Load(o, desired)
	if err != nil {
		return kube.Fail("ArtifactFailed", err)
	}
	record := func(ctx context.Context) error {
		if err := fluxrelease.Store(o, desired, memory); err != nil {
			return in("status", err)
		}
		return pass.Record(ctx)
	}
	if err := record(ctx); err != nil { // the attempt is on record before it is made
		return kube.Fail("ReconciliationFailed", err)
	}
	failed := ""
	outcome, err := client.Reconcile(ctx, *desired, memory, func(step release.Outcome) error {
		if failed = tell(o, pass, desired, step); step.Err == nil {
			failed = ""
		}
		told, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		return record(told)
	})
	err = errors.Join(err, in("status", fluxrelease.Store(o, desired, memory)))
	drift(o, pass, desired, outcome)
	switch latest := o.Status.History.Latest(); {
	case errors.Is(err, release.ErrRetriesExceeded) || errors.Is(err, release.ErrNoRollbackTarget):
		return kube.Fail(or(failed, "ReconciliationFailed"), err)
	case err != nil:
		return kube.Fail(or(failed, "ReconciliationFailed"), outside{err}) // values and objects of others may change
	case outcome.Again:
		return kube.NotYet("Progressing", outcome.Reason, max(outcome.After, r.env.Flags.MinRetryDelay))
	case latest == nil:
		return kube.Fail("ReconciliationFailed", fmt.Errorf("there is no release: %s", outcome.Reason))
	case status.Is(o, helmv2.ReleasedCondition, metav1.ConditionTrue):
		c := status.Get(o, helmv2.ReleasedCondition)
		return kube.Ready(c.Message).Because(c.Reason).At(desired.Chart.Version())
	default:
		text := fmt.Sprintf("Helm release %s with chart %s is in sync", latest.FullReleaseName(), latest.VersionedChartName())
		return kube.Ready(text).Because("ReconciliationSucceeded").At(desired.Chart.Version())
	}
}

// Finalize uninstalls the release, unless it is suspended.
func (r *helmRelease) Finalize(ctx context.Context, o *helmv2.HelmRelease, pass *kube.Pass) kube.Result {
	if !pass.Suspended && (len(o.Status.History) > 0 || o.Status.LastAttemptedRevision != "") {
		if lost := r.env.identityLost(ctx, o.Namespace, o.Spec.ServiceAccountName, o.Spec.KubeConfig); lost != nil {
			pass.Event(kube.Event{Warning: true, Reason: helmv2.UninstallFailedReason, Message: fmt.Sprintf("%v: the release is left behind", lost)})
			return kube.Ready("deleted")
		}
		helmClient, err := r.client(ctx, o)
		if err != nil {
			return kube.Fail(helmv2.UninstallFailedReason, err)
		}
		desired := fluxrelease.Desired(o, nil, nil)
		ours, err := installed(ctx, o, helmClient, desired)
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

// tell sets the condition of a step, sends its event, and returns its reason.
func tell(o *helmv2.HelmRelease, pass *kube.Pass, d *release.Desired, step release.Outcome) string {
	if c, ok := fluxrelease.Condition(&step, d); ok {
		if c.Type == helmv2.ReleasedCondition {
			status.Delete(o, helmv2.TestSuccessCondition, helmv2.RemediatedCondition)
		}
		status.Set(o, c)
	}
	event, ok := step.Event(d)
	if ok {
		pass.Event(kube.Event{Warning: event.Failed, Reason: event.Reason, Message: event.Message, Metadata: map[string]string{"revision": d.Chart.Version()}})
	}
	return event.Reason
}

// drift tells what differs from the release.
func drift(o *helmv2.HelmRelease, pass *kube.Pass, d *release.Desired, outcome release.Outcome) {
	message := outcome.Drifted(d)
	switch {
	case d.Policy.Drift == release.DriftIgnored:
		status.Delete(o, helmv2.DriftedCondition)
	case message == "":
		status.Set(o, metav1.Condition{Type: helmv2.DriftedCondition, Status: metav1.ConditionFalse, Reason: helmv2.NoDriftDetectedReason, Message: "No drift detected"})
	case status.Set(o, metav1.Condition{Type: helmv2.DriftedCondition, Status: metav1.ConditionTrue, Reason: helmv2.DriftDetectedReason, Message: message}):
		pass.Event(kube.Event{Warning: true, Reason: helmv2.DriftDetectedReason, Message: message})
	}
}
