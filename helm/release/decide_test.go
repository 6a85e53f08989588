package release_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	helmrelease "helm.sh/helm/v3/pkg/release"

	"github.com/gitopskit/gitopskit/helm/release"
)

const (
	oldValues = digest.Digest("sha256:old")
	newValues = digest.Digest("sha256:new")
)

func wanted(change func(*release.Wanted)) release.Wanted {
	w := release.Wanted{ChartName: "web", ChartVersion: "1.0.0", ConfigDigest: newValues.String()}
	if change != nil {
		change(&w)
	}
	return w
}

// deployed is a release that is as wanted.
func deployed(change func(*release.Observed)) release.Observed {
	o := release.Observed{
		Status: helmrelease.StatusDeployed, ChartName: "web", ChartVersion: "1.0.0", Managed: true,
		Snapshot: &release.Snapshot{ConfigDigest: newValues},
	}
	if change != nil {
		change(&o)
	}
	return o
}

func failed(change func(*release.Observed)) release.Observed {
	return deployed(func(o *release.Observed) {
		o.Status = helmrelease.StatusFailed
		if change != nil {
			change(o)
		}
	})
}

func upgrades(r release.Remediation) func(*release.Wanted) {
	return func(w *release.Wanted) { w.Policy.Upgrade = r }
}

func installs(r release.Remediation) func(*release.Wanted) {
	return func(w *release.Wanted) { w.Policy.Install = r }
}

var (
	yes, no        = true, false
	upgradedOnce   = release.Counters{Failures: 1, UpgradeFailures: 1, Last: release.Upgrade}
	upgradedTwice  = release.Counters{Failures: 2, UpgradeFailures: 2, Last: release.Upgrade}
	installedOnce  = release.Counters{Failures: 1, InstallFailures: 1, Last: release.Install}
	testFailed     = map[string]release.TestResult{"a": {Phase: "Succeeded"}, "b": {Phase: "Failed"}}
	testSucceeded  = map[string]release.TestResult{"a": {Phase: "Succeeded"}}
	testUnfinished = map[string]release.TestResult{"a": {Phase: "Succeeded"}, "b": {Phase: "Running"}}
	intact         = func(o *release.Observed) { o.Previous, o.PreviousIntact = true, true }
)

func TestDecide(t *testing.T) {
	cases := map[string]struct {
		w     release.Wanted
		o     release.Observed
		c     release.Counters
		state release.State
		next  release.Action
		err   error
	}{
		"no release":             {wanted(nil), release.Observed{}, release.Counters{}, release.Absent, release.Install, nil},
		"no release, exhausted":  {wanted(nil), release.Observed{}, installedOnce, release.Absent, release.None, release.ErrRetriesExceeded},
		"no release, retry":      {wanted(installs(release.Remediation{Retries: 1})), release.Observed{}, installedOnce, release.Absent, release.Install, nil},
		"no release, unlimited":  {wanted(installs(release.Remediation{Retries: -1})), release.Observed{}, installedOnce, release.Absent, release.Install, nil},
		"no release, forced":     {wanted(func(w *release.Wanted) { w.Force = true }), release.Observed{}, installedOnce, release.Absent, release.Install, nil},
		"pending install":        {wanted(nil), release.Observed{Status: helmrelease.StatusPendingInstall}, release.Counters{}, release.Locked, release.Unlock, nil},
		"pending upgrade":        {wanted(nil), release.Observed{Status: helmrelease.StatusPendingUpgrade}, release.Counters{}, release.Locked, release.Unlock, nil},
		"pending rollback":       {wanted(nil), release.Observed{Status: helmrelease.StatusPendingRollback}, release.Counters{}, release.Locked, release.Unlock, nil},
		"uninstalling":           {wanted(nil), release.Observed{Status: helmrelease.StatusUninstalling}, release.Counters{}, release.Uninstalling, release.ResumeUninstall, nil},
		"uninstalled by others":  {wanted(nil), release.Observed{Status: helmrelease.StatusUninstalled}, release.Counters{}, release.Absent, release.Install, nil},
		"installed by others":    {wanted(nil), release.Observed{Status: helmrelease.StatusDeployed}, release.Counters{}, release.Unmanaged, release.Upgrade, nil},
		"changed by others":      {wanted(nil), deployed(func(o *release.Observed) { o.Managed = false }), release.Counters{}, release.Unmanaged, release.Upgrade, nil},
		"uninstalled":            {wanted(nil), deployed(func(o *release.Observed) { o.Status = helmrelease.StatusUninstalled }), release.Counters{}, release.Absent, release.Install, nil},
		"superseded":             {wanted(nil), deployed(func(o *release.Observed) { o.Status = helmrelease.StatusSuperseded }), release.Counters{}, release.OutOfSync, release.Upgrade, nil},
		"unknown":                {wanted(nil), deployed(func(o *release.Observed) { o.Status = "strange" }), release.Counters{}, release.Unknown, release.None, release.ErrStatus},
		"other chart":            {wanted(nil), deployed(func(o *release.Observed) { o.ChartName = "x" }), release.Counters{}, release.OutOfSync, release.Upgrade, nil},
		"other version":          {wanted(nil), deployed(func(o *release.Observed) { o.ChartVersion = "0.9.0" }), release.Counters{}, release.OutOfSync, release.Upgrade, nil},
		"other values":           {wanted(nil), deployed(func(o *release.Observed) { o.Snapshot.ConfigDigest = oldValues }), release.Counters{}, release.OutOfSync, release.Upgrade, nil},
		"other post-renderers":   {wanted(func(w *release.Wanted) { w.RenderKey = "x" }), deployed(nil), release.Counters{}, release.OutOfSync, release.Upgrade, nil},
		"out of sync, exhausted": {wanted(nil), deployed(func(o *release.Observed) { o.ChartName = "x" }), upgradedOnce, release.OutOfSync, release.None, release.ErrRetriesExceeded},
		"out of sync, retry":     {wanted(upgrades(release.Remediation{Retries: 1})), deployed(func(o *release.Observed) { o.ChartName = "x" }), upgradedOnce, release.OutOfSync, release.Upgrade, nil},
		"in sync":                {wanted(nil), deployed(nil), release.Counters{}, release.InSync, release.None, nil},
		"in sync, forced":        {wanted(func(w *release.Wanted) { w.Force = true }), deployed(nil), release.Counters{}, release.InSync, release.Upgrade, nil},
		"untested":               {wanted(func(w *release.Wanted) { w.Policy.Test = true }), deployed(nil), release.Counters{}, release.Untested, release.Test, nil},
		"unfinished tests":       {wanted(func(w *release.Wanted) { w.Policy.Test = true }), deployed(func(o *release.Observed) { o.Snapshot.Tests = testUnfinished }), release.Counters{}, release.Untested, release.Test, nil},
		"tested":                 {wanted(func(w *release.Wanted) { w.Policy.Test = true }), deployed(func(o *release.Observed) { o.Snapshot.Tests = testSucceeded }), release.Counters{}, release.InSync, release.None, nil},
		"no tests":               {wanted(func(w *release.Wanted) { w.Policy.Test = true }), deployed(func(o *release.Observed) { o.Snapshot.Tests = map[string]release.TestResult{} }), release.Counters{}, release.InSync, release.None, nil},
		"test failed":            {wanted(func(w *release.Wanted) { w.Policy.Test = true; w.Policy.Upgrade.Retries = 1 }), deployed(func(o *release.Observed) { o.Snapshot.Tests = testFailed; intact(o) }), upgradedOnce, release.Failed, release.Rollback, nil},
		"test failed, no retry":  {wanted(func(w *release.Wanted) { w.Policy.Test = true }), deployed(func(o *release.Observed) { o.Snapshot.Tests = testFailed }), upgradedOnce, release.Failed, release.None, release.ErrRetriesExceeded},
		"test failure ignored":   {wanted(func(w *release.Wanted) { w.Policy.Test, w.Policy.IgnoreTestFailures = true, true }), deployed(func(o *release.Observed) { o.Snapshot.Tests = testFailed }), upgradedOnce, release.InSync, release.None, nil},
		"test failure ignored 2": {wanted(func(w *release.Wanted) { w.Policy.Test = true; w.Policy.Upgrade.IgnoreTestFailures = true }), deployed(func(o *release.Observed) { o.Snapshot.Tests = testFailed }), upgradedOnce, release.InSync, release.None, nil},
		"drift, corrected":       {wanted(func(w *release.Wanted) { w.Policy.Drift = release.DriftCorrected }), deployed(func(o *release.Observed) { o.Drift = true }), release.Counters{}, release.Drifted, release.CorrectDrift, nil},
		"drift, reported":        {wanted(func(w *release.Wanted) { w.Policy.Drift = release.DriftReported }), deployed(func(o *release.Observed) { o.Drift = true }), release.Counters{}, release.Drifted, release.None, nil},
		"drift, ignored":         {wanted(nil), deployed(func(o *release.Observed) { o.Drift = true }), release.Counters{}, release.InSync, release.None, nil},
		"failed by others":       {wanted(nil), failed(nil), release.Counters{}, release.Failed, release.Upgrade, nil},
		"failed, not counted":    {wanted(upgrades(release.Remediation{Retries: 1})), failed(nil), release.Counters{Last: release.Upgrade}, release.Failed, release.Upgrade, nil},
		"failed, forced":         {wanted(func(w *release.Wanted) { w.Force = true }), failed(nil), upgradedOnce, release.Failed, release.Upgrade, nil},
		"failed, retried":        {wanted(upgrades(release.Remediation{RetryOnFailure: true})), failed(nil), upgradedTwice, release.Failed, release.Upgrade, nil},
		"failed, exhausted":      {wanted(nil), failed(intact), upgradedOnce, release.Failed, release.None, release.ErrRetriesExceeded},
		"failed, rolled back":    {wanted(upgrades(release.Remediation{Retries: 1})), failed(intact), upgradedOnce, release.Failed, release.Rollback, nil},
		"failed, last one too":   {wanted(upgrades(release.Remediation{Retries: 1})), failed(intact), upgradedTwice, release.Failed, release.Rollback, nil},
		"failed, not the last":   {wanted(upgrades(release.Remediation{Retries: 1, RemediateLast: &no})), failed(intact), upgradedTwice, release.Failed, release.None, release.ErrRetriesExceeded},
		"failed, only the last":  {wanted(upgrades(release.Remediation{RemediateLast: &yes})), failed(intact), upgradedOnce, release.Failed, release.Rollback, nil},
		"failed, no target":      {wanted(upgrades(release.Remediation{Retries: 1})), failed(nil), upgradedOnce, release.Failed, release.None, release.ErrNoRollbackTarget},
		"failed, target changed": {wanted(upgrades(release.Remediation{Retries: 1})), failed(func(o *release.Observed) { o.Previous = true }), upgradedOnce, release.Failed, release.Upgrade, nil},
		"failed, uninstall":      {wanted(upgrades(release.Remediation{Retries: 1, Uninstall: true})), failed(nil), upgradedOnce, release.Failed, release.UninstallFailed, nil},
		"install failed":         {wanted(installs(release.Remediation{Retries: 1})), failed(nil), installedOnce, release.Failed, release.UninstallFailed, nil},
		"install failed, last":   {wanted(installs(release.Remediation{})), failed(nil), installedOnce, release.Failed, release.None, release.ErrRetriesExceeded},
		"install failed, last 2": {wanted(installs(release.Remediation{RemediateLast: &yes})), failed(nil), installedOnce, release.Failed, release.UninstallFailed, nil},
		"install retried":        {wanted(installs(release.Remediation{RetryOnFailure: true})), failed(nil), installedOnce, release.Failed, release.Upgrade, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := release.Decide(c.w, c.o, c.c)
			if got.State != c.state || got.Next != c.next || !errors.Is(got.Err, c.err) || (got.Err == nil) != (c.err == nil) || got.Reason == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestDecideIsTotal tries all combinations: there is always an action, an
// error, or nothing to do.
func TestDecideIsTotal(t *testing.T) {
	statuses := []helmrelease.Status{
		"", "strange", helmrelease.StatusUnknown, helmrelease.StatusDeployed, helmrelease.StatusUninstalled, helmrelease.StatusSuperseded,
		helmrelease.StatusFailed, helmrelease.StatusUninstalling, helmrelease.StatusPendingInstall, helmrelease.StatusPendingUpgrade, helmrelease.StatusPendingRollback,
	}
	snapshots := []*release.Snapshot{nil, {}, {ConfigDigest: newValues}, {ConfigDigest: newValues, Tests: testFailed}, {ConfigDigest: newValues, Tests: testSucceeded}}
	var remediations []release.Remediation
	for _, retries := range []int{-1, 0, 1} {
		for _, last := range []*bool{nil, &yes, &no} {
			for bits := range 8 {
				remediations = append(remediations, release.Remediation{
					Retries: retries, RemediateLast: last, Uninstall: bits&1 > 0, RetryOnFailure: bits&2 > 0, IgnoreTestFailures: bits&4 > 0})
			}
		}
	}
	counters := []release.Counters{{}, upgradedOnce, upgradedTwice, installedOnce, {Last: release.Install}, {Last: release.Upgrade}}
	n := 0
	for _, status := range statuses {
		for _, snapshot := range snapshots {
			for _, r := range remediations {
				for _, c := range counters {
					for bits := range 64 {
						w := wanted(func(w *release.Wanted) {
							w.Policy = release.Policy{Install: r, Upgrade: r, Test: bits&1 > 0, Drift: release.DriftMode(bits & 2)}
							w.Force = bits&4 > 0
						})
						o := release.Observed{Status: status, Snapshot: snapshot, ChartName: "web", ChartVersion: "1.0.0",
							Managed: snapshot != nil && bits&8 > 0, Previous: bits&16 > 0, PreviousIntact: bits&48 == 48, Drift: bits&8 > 0}
						d := release.Decide(w, o, c)
						idle := d.State == release.InSync || d.State == release.Drifted && w.Policy.Drift == release.DriftReported
						if (d.Next != release.None) == (d.Err != nil) && !(idle && d.Err == nil) {
							t.Fatalf("%+v %+v %+v: %+v", w, o, c, d)
						}
						n++
					}
				}
			}
		}
	}
	t.Log(fmt.Sprint(n, " combinations"))
}
