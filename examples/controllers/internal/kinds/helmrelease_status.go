package kinds

import (
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/opencontainers/go-digest"
	helmrelease "helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/status"
)

// snapshotVersion is the form of digests in status.history.
const snapshotVersion = "v2"

// remembered reads from the status of an object what is known of its release.
func remembered(o *helmv2.HelmRelease, d *release.Desired, attempt string) *release.Status {
	s := &release.Status{
		RenderKey: o.Status.ObservedPostRenderersDigest,
		Counters:  release.Counters{Failures: o.Status.Failures, InstallFailures: o.Status.InstallFailures, UpgradeFailures: o.Status.UpgradeFailures},
	}
	switch o.Status.LastAttemptedReleaseAction {
	case helmv2.ReleaseActionInstall:
		s.Counters.Last = release.Install
	case helmv2.ReleaseActionUpgrade:
		s.Counters.Last = release.Upgrade
	}
	config, err := helm.DigestValues(digest.SHA256, d.Values)
	if err == nil && o.Status.LastAttemptedGeneration == o.Generation && o.Status.LastAttemptedRevision == d.Chart.Version() && o.Status.LastAttemptedConfigDigest == config.String() {
		s.Attempt = attempt
	}
	for _, h := range o.Status.History {
		s.History = append(s.History, fromSnapshot(h))
	}
	return s
}

// remember writes to the status of an object what is known of its release.
func (r *helmRelease) remember(o *helmv2.HelmRelease, d *release.Desired, s *release.Status) error {
	config, err := helm.DigestValues(digest.SHA256, d.Values)
	if err != nil {
		return err
	}
	o.Status.LastAttemptedGeneration, o.Status.LastAttemptedRevision, o.Status.LastAttemptedConfigDigest = o.Generation, d.Chart.Version(), config.String()
	o.Status.ObservedPostRenderersDigest, o.Status.StorageNamespace = s.RenderKey, o.GetStorageNamespace()
	o.Status.Failures, o.Status.InstallFailures, o.Status.UpgradeFailures = s.Counters.Failures, s.Counters.InstallFailures, s.Counters.UpgradeFailures
	switch s.Counters.Last {
	case release.Install:
		o.Status.LastAttemptedReleaseAction = helmv2.ReleaseActionInstall
	case release.Upgrade:
		o.Status.LastAttemptedReleaseAction = helmv2.ReleaseActionUpgrade
	default:
		o.Status.LastAttemptedReleaseAction = ""
	}
	o.Status.History = nil
	for i := range s.History {
		o.Status.History = append(o.Status.History, toSnapshot(&s.History[i]))
	}
	return nil
}

func fromSnapshot(h *helmv2.Snapshot) release.Snapshot {
	s := release.Snapshot{
		Name: h.Name, Namespace: h.Namespace, Revision: h.Version, Status: helmrelease.Status(h.Status), ChartName: h.ChartName, ChartVersion: h.ChartVersion,
		AppVersion: h.AppVersion, ConfigDigest: digest.Digest(h.ConfigDigest), Digest: digest.Digest(h.Digest),
		FirstDeployed: h.FirstDeployed.Time, LastDeployed: h.LastDeployed.Time, Deleted: h.Deleted.Time, OCIDigest: h.OCIDigest,
	}
	if h.TestHooks != nil {
		s.Tests = map[string]release.TestResult{}
		for name, t := range *h.TestHooks {
			if t != nil {
				s.Tests[name] = release.TestResult{Phase: t.Phase, Started: t.LastStarted.Time, Completed: t.LastCompleted.Time}
			}
		}
	}
	return s
}

func toSnapshot(s *release.Snapshot) *helmv2.Snapshot {
	seconds := func(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }
	h := &helmv2.Snapshot{
		APIVersion: snapshotVersion, Digest: s.Digest.String(), Name: s.Name, Namespace: s.Namespace, Version: s.Revision, Status: s.Status.String(),
		ChartName: s.ChartName, ChartVersion: s.ChartVersion, AppVersion: s.AppVersion, ConfigDigest: s.ConfigDigest.String(),
		FirstDeployed: seconds(s.FirstDeployed), LastDeployed: seconds(s.LastDeployed), Deleted: seconds(s.Deleted), OCIDigest: s.OCIDigest,
	}
	if s.Tests != nil {
		hooks := map[string]*helmv2.TestHookStatus{}
		for name, t := range s.Tests {
			hooks[name] = &helmv2.TestHookStatus{Phase: t.Phase, LastStarted: seconds(t.Started), LastCompleted: seconds(t.Completed)}
		}
		h.SetTestHooks(hooks)
	}
	return h
}

// tell sets the conditions for a step, sends its event, and returns its reason.
func (r *helmRelease) tell(o *helmv2.HelmRelease, pass *kube.Pass, d *release.Desired, step release.Outcome) string {
	what, condition, success, failure := "", "", "", ""
	switch step.Next {
	case release.Install:
		what, condition, success, failure = "install", helmv2.ReleasedCondition, helmv2.InstallSucceededReason, helmv2.InstallFailedReason
	case release.Upgrade:
		what, condition, success, failure = "upgrade", helmv2.ReleasedCondition, helmv2.UpgradeSucceededReason, helmv2.UpgradeFailedReason
	case release.Test:
		what, condition, success, failure = "test", helmv2.TestSuccessCondition, helmv2.TestSucceededReason, helmv2.TestFailedReason
	case release.Rollback:
		what, condition, success, failure = "rollback", helmv2.RemediatedCondition, helmv2.RollbackSucceededReason, helmv2.RollbackFailedReason
	case release.UninstallFailed:
		what, condition, success, failure = "uninstall", helmv2.RemediatedCondition, helmv2.UninstallSucceededReason, helmv2.UninstallFailedReason
	case release.CorrectDrift:
		pass.Event(kube.Event{Warning: true, Reason: helmv2.DriftDetectedReason, Message: "Cluster state of release " + d.Namespace + "/" + d.Name + " has drifted from the desired state and was corrected"})
		return ""
	default:
		return ""
	}
	name := d.Namespace + "/" + d.Name
	if step.Record != nil && step.Record.Release != nil {
		name = fmt.Sprintf("%s.v%d", name, step.Record.Release.Version)
	}
	c := metav1.Condition{
		Type: condition, Status: metav1.ConditionTrue, Reason: success,
		Message: fmt.Sprintf("Helm %s succeeded for release %s with chart %s@%s", what, name, d.Chart.Name(), d.Chart.Version()),
	}
	if step.Err != nil {
		c.Status, c.Reason = metav1.ConditionFalse, failure
		c.Message = fmt.Sprintf("Helm %s failed for release %s with chart %s@%s: %v", what, name, d.Chart.Name(), d.Chart.Version(), step.Err)
	}
	if condition == helmv2.ReleasedCondition {
		status.Delete(o, helmv2.TestSuccessCondition, helmv2.RemediatedCondition)
	}
	status.Set(o, c)
	pass.Event(kube.Event{Warning: step.Err != nil, Reason: c.Reason, Message: c.Message, Metadata: map[string]string{"revision": d.Chart.Version()}})
	return c.Reason
}

// drift tells what differs from the release.
func (r *helmRelease) drift(o *helmv2.HelmRelease, pass *kube.Pass, d *release.Desired, outcome release.Outcome) {
	if d.Policy.Drift == release.DriftIgnored {
		status.Delete(o, helmv2.DriftedCondition)
		return
	}
	if len(outcome.Drift) == 0 {
		status.Set(o, metav1.Condition{Type: helmv2.DriftedCondition, Status: metav1.ConditionFalse, Reason: helmv2.NoDriftDetectedReason, Message: "No drift detected"})
		return
	}
	message := fmt.Sprintf("Cluster state of release %s/%s has drifted from the desired state:", d.Namespace, d.Name)
	for _, x := range outcome.Drift {
		message += fmt.Sprintf("\n%s %s/%s changed", x.Object.GetKind(), x.Object.GetNamespace(), x.Object.GetName())
	}
	if status.Set(o, metav1.Condition{Type: helmv2.DriftedCondition, Status: metav1.ConditionTrue, Reason: helmv2.DriftDetectedReason, Message: message}) {
		pass.Event(kube.Event{Warning: true, Reason: helmv2.DriftDetectedReason, Message: message})
	}
}

// failedReason keeps a reason only if it is one of a failure.
func failedReason(reason string) string {
	switch reason {
	case helmv2.InstallFailedReason, helmv2.UpgradeFailedReason, helmv2.TestFailedReason, helmv2.RollbackFailedReason, helmv2.UninstallFailedReason:
		return reason
	}
	return ""
}
