// Package fluxrelease translates between Flux's HelmRelease and package release,
// for programs that reconcile objects of that kind, or take their spec and
// status into kinds of their own.
//
//	desired := fluxrelease.Desired(object, chart, values)
//	memory, err := fluxrelease.Load(object, desired)
//	if err != nil {
//		return err
//	}
//	outcome, err := client.Reconcile(ctx, *desired, memory, func(step release.Outcome) error {
//		if c, ok := fluxrelease.Condition(&step, desired); ok {
//			meta.SetStatusCondition(&object.Status.Conditions, c)
//		}
//		return fluxrelease.Store(object, desired, memory) // and write the status
//	})
//
// Types and semantics are those of github.com/fluxcd/helm-controller/api/v2
// (https://fluxcd.io/flux/components/helm/helmreleases/). [Unsupported] has the
// fields that package release cannot honour: refuse an object that sets one.
//
// The functions are pure but for the objects they are given, and safe for
// concurrent use on different objects.
package fluxrelease

import (
	"cmp"
	"fmt"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/helm"
	"github.com/gitopskit/gitopskit/helm/release"
)

// Desired returns the release that the spec of an object describes, with the
// defaults of Flux. Post-renderers, common metadata and the cluster are the
// caller's to add. Without a chart the release can be uninstalled only.
//
// Requests by annotation to reset the failures and to force an upgrade count once:
// they are noted in the status of the object, which the caller stores.
func Desired(o *helmv2.HelmRelease, chart *helm.Chart, values map[string]any) *release.Desired {
	helmv2.ShouldHandleResetRequest(o)
	install, upgrade, rollback, uninstall, test := o.GetInstall(), o.GetUpgrade(), o.GetRollback(), o.GetUninstall(), o.GetTest()
	action := func(timeout metav1.Duration, wait, jobs, hooks bool) release.ActionOptions {
		return release.ActionOptions{Timeout: timeout.Duration, DisableWait: wait, DisableWaitForJobs: jobs, DisableHooks: hooks}
	}
	drift := o.GetDriftDetection()
	d := &release.Desired{
		Name: helm.ReleaseName(o.GetReleaseName()), Namespace: o.GetReleaseNamespace(), Chart: chart, Values: values,
		Generation: fmt.Sprintf("%d/%s", o.Generation, o.Status.LastHandledResetAt), Force: helmv2.ShouldHandleForceRequest(o),
		Install:   action(install.GetTimeout(o.GetTimeout()), install.DisableWait, install.DisableWaitForJobs, install.DisableHooks),
		Upgrade:   action(upgrade.GetTimeout(o.GetTimeout()), upgrade.DisableWait, upgrade.DisableWaitForJobs, upgrade.DisableHooks),
		Rollback:  action(rollback.GetTimeout(o.GetTimeout()), rollback.DisableWait, rollback.DisableWaitForJobs, rollback.DisableHooks),
		Uninstall: action(uninstall.GetTimeout(o.GetTimeout()), uninstall.DisableWait, false, uninstall.DisableHooks),
		Test:      action(test.GetTimeout(o.GetTimeout()), false, false, false),
		CRDs:      crdPolicy(o), CreateNamespace: install.CreateNamespace, TakeOwnership: !install.DisableTakeOwnership && !upgrade.DisableTakeOwnership,
		KeepHistory: uninstall.KeepHistory, Propagation: propagations()[uninstall.GetDeletionPropagation()],
		MaxHistory: cmp.Or(o.GetMaxHistory(), -1), // Flux: 0 is no limit
		Policy:     release.Policy{Test: test.Enable, IgnoreTestFailures: test.IgnoreFailures, Drift: driftModes()[drift.GetMode()]},
	}
	d.Policy.Install, d.Policy.Upgrade = remediations(o)
	for _, f := range test.GetFilters() {
		if f.Exclude {
			d.ExcludeTests = append(d.ExcludeTests, f.Name)
		} else {
			d.IncludeTests = append(d.IncludeTests, f.Name)
		}
	}
	if d.Render.SkipSchema = upgrade.DisableSchemaValidation; o.Status.History.Latest() == nil {
		d.Render.SkipSchema = install.DisableSchemaValidation
	}
	return d
}

func propagations() map[string]metav1.DeletionPropagation {
	return map[string]metav1.DeletionPropagation{"foreground": metav1.DeletePropagationForeground, "orphan": metav1.DeletePropagationOrphan}
}

func driftModes() map[helmv2.DriftDetectionMode]release.DriftMode {
	return map[helmv2.DriftDetectionMode]release.DriftMode{helmv2.DriftDetectionEnabled: release.DriftCorrected, helmv2.DriftDetectionWarn: release.DriftReported}
}

// Unsupported are the fields of the actions that package release does not
// honour. "a=b" and "a!=b|c" are values of a field.
func Unsupported() []string {
	return []string{
		"spec.driftDetection.ignore", "spec.waitStrategy.name!=poller",
		"spec.install.disableOpenAPIValidation", "spec.install.replace",
		"spec.upgrade.disableOpenAPIValidation", "spec.upgrade.preserveValues", "spec.upgrade.force", "spec.upgrade.cleanupOnFail",
		"spec.upgrade.serverSideApply=disabled", "spec.upgrade.chartNameChangeStrategy=InPlaceUpdate",
		"spec.rollback.recreate", "spec.rollback.force", "spec.rollback.cleanupOnFail", "spec.rollback.serverSideApply=disabled",
	}
}

// Timeout returns the longest that a reconciliation can take by the timeouts of
// its actions.
func Timeout(o *helmv2.HelmRelease) time.Duration {
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

// crdPolicy is that of the action that will be made.
func crdPolicy(o *helmv2.HelmRelease) release.CRDPolicy {
	install, upgrade := o.GetInstall(), o.GetUpgrade()
	first := o.Status.History.Latest() == nil
	switch policy := cmp.Or(upgrade.CRDs, helmv2.Skip); {
	case first && install.SkipCRDs, first && install.CRDs == helmv2.Skip, !first && policy == helmv2.Skip:
		return release.SkipCRDs
	case first && install.CRDs == helmv2.CreateReplace, !first && policy == helmv2.CreateReplace:
		return release.CreateReplaceCRDs
	}
	return release.CreateCRDs
}

// remediations are those of a spec.
func remediations(o *helmv2.HelmRelease) (install, upgrade release.Remediation) {
	if m := o.GetInstall().Remediation; m != nil {
		install = release.Remediation{Retries: m.Retries, IgnoreTestFailures: m.MustIgnoreTestFailures(o.GetTest().IgnoreFailures), RemediateLast: m.RemediateLastFailure}
	}
	if m := o.GetUpgrade().Remediation; m != nil {
		upgrade = release.Remediation{
			Retries: m.Retries, IgnoreTestFailures: m.MustIgnoreTestFailures(o.GetTest().IgnoreFailures), RemediateLast: m.RemediateLastFailure,
			Uninstall: m.GetStrategy() == helmv2.UninstallRemediationStrategy,
		}
	}
	if s := o.GetInstall().Strategy; s != nil && s.Name == string(helmv2.ActionStrategyRetryOnFailure) {
		install.RetryOnFailure, install.RetryInterval = true, s.GetRetryInterval()
	}
	if s := o.GetUpgrade().Strategy; s != nil && s.Name == string(helmv2.ActionStrategyRetryOnFailure) {
		upgrade.RetryOnFailure, upgrade.RetryInterval = true, s.GetRetryInterval()
	}
	return install, upgrade
}
