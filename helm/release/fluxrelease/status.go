package fluxrelease

import (
	"encoding/json"
	"fmt"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
)

// Load reads from the status of an object what is known of its release, for
// [release.Client.Reconcile]. Failures count only if the last attempt was the
// one that is to be made.
func Load(o *helmv2.HelmRelease, d *release.Desired) (*release.Status, error) {
	attempt, err := d.Attempt()
	if err != nil {
		return nil, err
	}
	s, err := form[*release.Status](o.Status)
	if err != nil {
		return nil, fmt.Errorf("helm/release: status of the HelmRelease: %w", err)
	}
	config, err := helm.DigestValues(digest.SHA256, d.Values)
	if o.Status.LastAttemptedGeneration == o.Generation && o.Status.LastAttemptedRevision == d.Chart.Version() && o.Status.LastAttemptedConfigDigest == config.String() {
		s.Attempt = attempt
	}
	return s, err
}

// Store writes to the status of an object what is known of its release. Other
// parts of the status stay as they are.
func Store(o *helmv2.HelmRelease, d *release.Desired, s *release.Status) error {
	config, err := helm.DigestValues(digest.SHA256, d.Values)
	if err != nil {
		return err
	}
	now, err := form[helmv2.HelmReleaseStatus](s)
	if err != nil {
		return err
	}
	to := &o.Status
	to.History, to.ObservedPostRenderersDigest = now.History, now.ObservedPostRenderersDigest
	to.Failures, to.InstallFailures, to.UpgradeFailures, to.LastAttemptedReleaseAction = now.Failures, now.InstallFailures, now.UpgradeFailures, now.LastAttemptedReleaseAction
	to.LastAttemptedGeneration, to.LastAttemptedRevision, to.LastAttemptedConfigDigest = o.Generation, d.Chart.Version(), config.String()
	to.StorageNamespace = o.GetStorageNamespace()
	return nil
}

// Condition returns the condition that tells how the action of a step ended:
// Released, TestSuccess or Remediated. There is none for other actions. A new
// release makes the conditions TestSuccess and Remediated outdated.
func Condition(step *release.Outcome, d *release.Desired) (metav1.Condition, bool) {
	event, ok := step.Event(d)
	c := metav1.Condition{Status: metav1.ConditionTrue, Reason: event.Reason, Message: event.Message}
	if event.Failed {
		c.Status = metav1.ConditionFalse
	}
	switch step.Next {
	case release.Install, release.Upgrade:
		c.Type = helmv2.ReleasedCondition
	case release.Test:
		c.Type = helmv2.TestSuccessCondition
	case release.Rollback, release.UninstallFailed:
		c.Type = helmv2.RemediatedCondition
	case release.None, release.ResumeUninstall, release.Unlock, release.CorrectDrift:
		return metav1.Condition{}, false
	}
	return c, ok
}

// form returns a value as another type that has the same JSON form.
func form[T any](from any) (T, error) {
	var to T
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, &to)
	}
	return to, err
}
