package release

import (
	"fmt"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/release"
)

// State is how a release compares with what is wanted.
type State string

// The states of a release.
const (
	Absent       State = "Absent"       // it is not installed
	Locked       State = "Locked"       // an action was interrupted
	Uninstalling State = "Uninstalling" // an uninstall was interrupted
	Unmanaged    State = "Unmanaged"    // somebody else made or changed it
	OutOfSync    State = "OutOfSync"    // another chart, other values
	Failed       State = "Failed"       // the last action or a test failed
	Untested     State = "Untested"     // tests have to run
	Drifted      State = "Drifted"      // objects differ from the manifest
	InSync       State = "InSync"       // as wanted
	Unknown      State = "Unknown"      // the record says something else
)

// Action is what is to be done about a state.
type Action string

// The actions.
const (
	None            Action = ""
	Install         Action = "install"
	Upgrade         Action = "upgrade"
	Test            Action = "test"
	Rollback        Action = "rollback"  // remediation of an upgrade
	UninstallFailed Action = "uninstall" // remediation
	ResumeUninstall Action = "resume uninstall"
	Unlock          Action = "unlock"
	CorrectDrift    Action = "correct drift"
)

// Remediation says what to do when an install or upgrade fails.
type Remediation struct {
	// Retries is how often the action is tried again, each time after a
	// remediation; negative means without end.
	Retries int
	// IgnoreTestFailures does not count a failed test as a failure.
	IgnoreTestFailures bool
	// RemediateLast also remediates when there is no retry left. Nil means no
	// for an install, and for an upgrade yes if it has retries.
	RemediateLast *bool
	// Uninstall, for an upgrade, uninstalls where the default rolls back. An
	// install is always uninstalled.
	Uninstall bool
	// RetryOnFailure never remediates: a failed install or upgrade is upgraded
	// again after RetryInterval.
	RetryOnFailure bool
	// RetryInterval is the pause of RetryOnFailure; 0 means five minutes.
	RetryInterval time.Duration
}

func (r Remediation) exhausted(failures int64) bool {
	return r.Retries >= 0 && failures > int64(r.Retries)
}

func (r Remediation) last(def bool) bool {
	if r.RemediateLast == nil {
		return def
	}
	return *r.RemediateLast
}

func (r Remediation) pause() time.Duration {
	if r.RetryInterval == 0 {
		return 5 * time.Minute
	}
	return r.RetryInterval
}

// DriftMode says what is done about objects that differ from the manifest.
type DriftMode int

// The drift modes.
const (
	DriftIgnored DriftMode = iota // not even looked for
	DriftReported
	DriftCorrected
)

// Policy is how the actions on a release depend on its state. The zero value
// installs and upgrades, tries once for each change of the chart or the
// values, and remediates nothing, runs no tests and looks for no drift.
type Policy struct {
	Install, Upgrade Remediation
	// Test runs the test hooks after each install and upgrade.
	Test bool
	// IgnoreTestFailures lets a release be in sync though a test failed.
	IgnoreTestFailures bool
	// Drift says what is done about drift.
	Drift DriftMode
}

// Wanted is what of a desired release its state depends on.
type Wanted struct {
	ChartName, ChartVersion string
	// ConfigDigest is that of the values.
	ConfigDigest string
	// RenderKey stands for everything else that changes the manifest, such as
	// post-renderers and common metadata.
	RenderKey string
	Policy    Policy
	// Force upgrades a release that is in sync and ignores exhausted retries.
	Force bool
}

// Observed is what is there.
type Observed struct {
	// Status of the newest record; empty if there is no record.
	Status release.Status
	// ChartName and ChartVersion are those of the newest record.
	ChartName, ChartVersion string
	// Managed reports whether the newest record is the one that the newest
	// snapshot was taken of; false if there is no snapshot.
	Managed bool
	// Snapshot is the newest, nil if there is none.
	Snapshot *Snapshot
	// RenderKey is the one the newest snapshot was made with.
	RenderKey string
	// Previous reports whether there is a revision to roll back to, and
	// PreviousIntact whether it is still the one a snapshot was taken of.
	Previous, PreviousIntact bool
	// Drift reports whether objects differ from the manifest.
	Drift bool
}

// Counters count failures since the chart, the values or the policy changed.
type Counters struct {
	Failures        int64 `json:"failures,omitempty"`
	InstallFailures int64 `json:"installFailures,omitempty"`
	UpgradeFailures int64 `json:"upgradeFailures,omitempty"`
	// Last is the last release action, [Install] or [Upgrade]; empty if none.
	Last Action `json:"lastAttemptedReleaseAction,omitempty"`
}

// remediation returns the policy of the last release action, and its failures.
func (c Counters) remediation(p Policy) (Remediation, int64) {
	switch c.Last {
	case Install:
		return p.Install, c.InstallFailures
	case Upgrade:
		return p.Upgrade, c.UpgradeFailures
	default:
		return Remediation{}, 0
	}
}

// Decision is what to do next, and why.
type Decision struct {
	State State
	// Reason explains the state in a few words.
	Reason string
	// Next is what to do; [None] if nothing, which is well only in the state
	// InSync, or Drifted when drift is only reported.
	Next Action
	// Err is why nothing can be done: [ErrRetriesExceeded],
	// [ErrNoRollbackTarget] or [ErrStatus].
	Err error
}

// Decide returns what to do about a release. It is a pure function of its
// arguments, and total: with no other state than InSync, or Drifted if drift
// is only reported, does it return neither an action nor an error. The rules
// are those of Flux; an interrupted uninstall, on which Flux gives up, is
// finished first.
func Decide(w Wanted, o Observed, c Counters) Decision {
	d := stateOf(w, o, c)
	switch d.State {
	case InSync:
		if w.Force {
			d.Next, d.Reason = Upgrade, "an upgrade was asked for"
		}
	case Locked:
		d.Next = Unlock
	case Uninstalling:
		d.Next = ResumeUninstall
	case Absent:
		d.Next = Install
		d.giveUp(w.Policy.Install, c.InstallFailures, w.Force)
	case Unmanaged:
		d.Next = Upgrade
	case OutOfSync:
		d.Next = Upgrade
		d.giveUp(w.Policy.Upgrade, c.UpgradeFailures, w.Force)
	case Drifted:
		if w.Policy.Drift == DriftCorrected {
			d.Next = CorrectDrift
		}
	case Untested:
		d.Next = Test
	case Failed:
		decideFailed(&d, w, o, c)
	default:
		d.Err = fmt.Errorf("%w: %q: the newest record has to be corrected or removed", ErrStatus, o.Status)
	}
	return d
}

// giveUp replaces an action by an error if it failed too often.
func (d *Decision) giveUp(r Remediation, failures int64, force bool) {
	if force || r.RetryOnFailure || !r.exhausted(failures) {
		return
	}
	d.Err = fmt.Errorf("%w: the %s failed %d times: change the chart, the values or the policy", ErrRetriesExceeded, d.Next, failures)
	d.Next = None
}

// stateOf compares what is there with what is wanted.
func stateOf(w Wanted, o Observed, c Counters) Decision {
	switch {
	case o.Status == "":
		return Decision{State: Absent, Reason: "there is no release"}
	case o.Status.IsPending():
		return Decision{State: Locked, Reason: fmt.Sprintf("the status is %s", o.Status)}
	case o.Status == release.StatusUninstalling:
		return Decision{State: Uninstalling, Reason: "an uninstall was not finished"}
	case o.Snapshot == nil && o.Status == release.StatusUninstalled:
		return Decision{State: Absent, Reason: "the release was uninstalled"}
	case o.Snapshot == nil:
		return Decision{State: Unmanaged, Reason: "the release was made by somebody else"}
	case !o.Managed:
		return Decision{State: Unmanaged, Reason: "the release was changed by somebody else"}
	}
	switch o.Status {
	case release.StatusFailed:
		return Decision{State: Failed, Reason: "the last action failed"}
	case release.StatusUninstalled:
		return Decision{State: Absent, Reason: "the release was uninstalled"}
	case release.StatusSuperseded: // the revision that superseded it was removed
		return Decision{State: OutOfSync, Reason: "the newest revision is missing"}
	case release.StatusDeployed:
		return stateOfDeployed(w, o, c)
	default:
		return Decision{State: Unknown, Reason: fmt.Sprintf("the status is %q", o.Status)}
	}
}

func stateOfDeployed(w Wanted, o Observed, c Counters) Decision {
	switch {
	case o.ChartName != w.ChartName:
		return Decision{State: OutOfSync, Reason: fmt.Sprintf("the chart is %s, wanted is %s", o.ChartName, w.ChartName)}
	case o.ChartVersion != w.ChartVersion:
		return Decision{State: OutOfSync, Reason: fmt.Sprintf("the chart version is %s, wanted is %s", o.ChartVersion, w.ChartVersion)}
	case o.Snapshot.ConfigDigest.String() != w.ConfigDigest:
		return Decision{State: OutOfSync, Reason: "the values changed"}
	case o.RenderKey != w.RenderKey:
		return Decision{State: OutOfSync, Reason: "the post-renderers or the metadata changed"}
	case w.Policy.Test && !o.Snapshot.Tested():
		return Decision{State: Untested, Reason: "the tests did not run"}
	}
	if r, _ := c.remediation(w.Policy); w.Policy.Test && o.Snapshot.TestFailed() && !w.Policy.IgnoreTestFailures && !r.IgnoreTestFailures &&
		!r.RetryOnFailure && c.Last != None {
		return Decision{State: Failed, Reason: "a test failed"}
	}
	if w.Policy.Drift != DriftIgnored && o.Drift {
		return Decision{State: Drifted, Reason: "objects differ from the manifest"}
	}
	return Decision{State: InSync, Reason: "it is as wanted"}
}

// decideFailed chooses between another upgrade and a remediation.
func decideFailed(d *Decision, w Wanted, o Observed, c Counters) {
	d.Next = Upgrade
	r, failures := c.remediation(w.Policy)
	if r.RetryOnFailure || c.Last == None || failures == 0 || w.Force {
		return
	}
	if r.exhausted(failures) && !r.last(c.Last == Upgrade && r.Retries > 0) {
		d.giveUp(r, failures, false)
		return
	}
	switch {
	case c.Last == Install || r.Uninstall:
		d.Next = UninstallFailed
	case !o.Previous:
		d.Next, d.Err = None, fmt.Errorf("%w: no revision before this one was deployed and passed its tests", ErrNoRollbackTarget)
	case o.PreviousIntact:
		d.Next = Rollback
	}
}

// previous returns the newest snapshot before the first that can be rolled
// back to, nil if there is none.
func previous(snapshots []Snapshot, ignoreTests bool) *Snapshot {
	if len(snapshots) == 0 {
		return nil
	}
	i := slices.IndexFunc(snapshots[1:], func(s Snapshot) bool {
		ran := s.Status == release.StatusDeployed || s.Status == release.StatusSuperseded
		return ran && s.Revision < snapshots[0].Revision && (ignoreTests || !s.TestFailed())
	})
	if i < 0 {
		return nil
	}
	return &snapshots[1+i]
}
