package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"helm.sh/helm/v3/pkg/release"

	"github.com/gitopskit/gitopskit/helm"
)

// Status is what a controller remembers of a release between two calls. Its
// zero value is that of a release nobody dealt with yet.
//
// Its JSON form is a part of status of Flux's HelmRelease: history, failures,
// installFailures, upgradeFailures, lastAttemptedReleaseAction and
// observedPostRenderersDigest, which is RenderKey. Attempt, which Flux keeps in
// other words, is "attempt".
type Status struct {
	// History are snapshots of the revisions this controller made, newest
	// first: at most five, or as many as records are kept.
	History []Snapshot
	// Counters count failures of the present attempt.
	Counters Counters
	// Attempt identifies the chart, values and generation that Counters are
	// for; when it changes they start again.
	Attempt string
	// RenderKey is the one the newest revision was made with.
	RenderKey string
}

// statusJSON is the stored form of a status.
type statusJSON struct {
	History []Snapshot `json:"history,omitempty"`
	Counters
	Attempt   string `json:"attempt,omitempty"`
	RenderKey string `json:"observedPostRenderersDigest,omitempty"`
}

// MarshalJSON writes the form of Flux.
func (s Status) MarshalJSON() ([]byte, error) {
	return json.Marshal(statusJSON{s.History, s.Counters, s.Attempt, s.RenderKey})
}

// UnmarshalJSON reads the form that MarshalJSON writes.
func (s *Status) UnmarshalJSON(data []byte) error {
	var stored statusJSON
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	*s = Status{stored.History, stored.Counters, stored.Attempt, stored.RenderKey}
	return nil
}

// Outcome is what one step found and did.
type Outcome struct {
	Decision
	// Record is the newest after the action, nil if it did not get that far.
	Record *Record
	// Drift is what differs from the manifest, if the policy looks for drift
	// and nothing else was to do.
	Drift []Difference
	// Again reports that another step should follow: now, or after After.
	Again bool
	After time.Duration
	// Duration is how long the action took.
	Duration time.Duration
}

// Step looks at a release, decides by [Decide], carries out the action and
// brings status up to date, which the caller stores before the next step. The
// error is that of the action, or of the decision.
func (c *Client) Step(ctx context.Context, d Desired, status *Status) (Outcome, error) {
	out, err := c.look(ctx, &d, status)
	if err != nil || out.Next == None {
		return out, err
	}
	return c.act(ctx, &d, status, out)
}

// Reconcile makes steps until there is nothing more to do now. By the rules of
// Flux no action is done twice, and a remediation is the last one. Progress, if
// not nil, is called after every step, when status is up to date, with the error
// of the step in its outcome; its own error ends the call.
//
// The error is the first of an action, even if a remediation followed.
func (c *Client) Reconcile(ctx context.Context, d Desired, status *Status, progress func(Outcome) error) (Outcome, error) {
	var failed error
	ran := map[string]bool{}
	for {
		out, err := c.look(ctx, &d, status)
		if err == nil && out.Next == None {
			return out, failed
		}
		if err != nil {
			return out, errors.Join(failed, err)
		}
		kind := out.Next.kind()
		if ran[kind] {
			out.Again = true
			return out, failed
		}
		ran[kind] = true
		out, err = c.act(ctx, &d, status, out)
		failed = errors.Join(failed, err)
		if progress != nil {
			step := out
			step.Err = err
			if err := progress(step); err != nil {
				return out, errors.Join(failed, err)
			}
		}
		if out.Next == Upgrade || out.Next == Install {
			d.Force = false // once
		}
		if ctx.Err() != nil || !out.Again || out.After > 0 {
			return out, failed
		}
	}
}

// kind is the group of actions of which a reconciliation does one.
func (a Action) kind() string {
	switch a {
	case Install, Upgrade:
		return "release"
	case Rollback, UninstallFailed:
		return "remediation"
	case None, Test, Unlock, CorrectDrift, ResumeUninstall:
	}
	return string(a)
}

// look observes and decides.
func (c *Client) look(ctx context.Context, d *Desired, status *Status) (Outcome, error) {
	var out Outcome
	_, err := c.do("decide", d, nil, func(r *run) (*Record, error) {
		if d.Chart == nil {
			return nil, fmt.Errorf("%w: there is no chart", ErrInvalid)
		}
		wanted, err := d.wanted()
		if err != nil {
			return nil, err
		}
		attempt := d.attempt(wanted)
		if attempt != status.Attempt {
			status.Counters, status.Attempt = Counters{Last: status.Counters.Last}, attempt
		}
		newest, _, err := last(ctx, r.Store, d.Name)
		if err != nil {
			return nil, err
		}
		seen, err := r.observe(ctx, wanted, newest, status)
		if err != nil {
			return newest, err
		}
		out.Record = newest
		out.Decision = Decide(wanted, seen, status.Counters)
		if out.State == InSync && out.Next == None && d.Policy.Drift != DriftIgnored {
			if out.Drift, err = r.drift(ctx, newest); err != nil {
				return newest, err
			}
			seen.Drift = len(out.Drift) > 0
			out.Decision = Decide(wanted, seen, status.Counters)
		}
		return newest, out.Err
	})
	return out, err
}

// Attempt is what Status.Attempt becomes when a release is reconciled as
// desired, for callers who keep its parts and not its text.
func (d *Desired) Attempt() (string, error) {
	if d.Chart == nil {
		return "", fmt.Errorf("%w: there is no chart", ErrInvalid)
	}
	wanted, err := d.wanted()
	return d.attempt(wanted), err
}

func (d *Desired) attempt(w Wanted) string {
	return strings.Join([]string{w.ChartName, w.ChartVersion, w.ConfigDigest, d.RenderKey, d.Generation}, " ")
}

func (d *Desired) wanted() (Wanted, error) {
	config, err := helm.DigestValues(digest.SHA256, d.Values)
	return Wanted{
		ChartName: d.Chart.Name(), ChartVersion: d.Chart.Version(), ConfigDigest: config.String(),
		RenderKey: d.RenderKey, Policy: d.Policy, Force: d.Force,
	}, err
}

// observe compares the newest record with what is remembered.
func (r *run) observe(ctx context.Context, w Wanted, newest *Record, status *Status) (Observed, error) {
	o := Observed{RenderKey: status.RenderKey}
	if newest == nil {
		return o, nil
	}
	metadata := metadataOf(newest.Release)
	o.Status, o.ChartName, o.ChartVersion = newest.status(), metadata.Name, metadata.Version
	if len(status.History) == 0 {
		return o, nil
	}
	o.Snapshot = &status.History[0]
	o.Managed = o.Snapshot.Verify(newest)
	if newest.status() == release.StatusDeployed && !o.Snapshot.TestFailed() {
		return o, nil // nothing will be rolled back
	}
	policy, _ := status.Counters.remediation(w.Policy)
	if target := previous(status.History, policy.IgnoreTestFailures); target != nil {
		record, err := r.Store.Get(ctx, r.d.Name, target.Revision)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return o, err
		}
		o.Previous, o.PreviousIntact = true, err == nil && target.Verify(record)
	}
	return o, nil
}

// act carries out a decision.
func (c *Client) act(ctx context.Context, d *Desired, status *Status, out Outcome) (Outcome, error) {
	began := time.Now()
	out.Drift = nil
	var config digest.Digest
	if wanted, err := d.wanted(); err == nil { // look checked it
		config = digest.Digest(wanted.ConfigDigest)
	}
	if out.State == Unmanaged || out.Next == Install {
		status.History = nil // revisions may be counted from one again
	}
	op := string(out.Next)
	if out.Next == Install || out.Next == Upgrade {
		status.Counters.Last = out.Next
	}
	saved := func(r *Record) { status.remember(r, d, out.Next, config) }
	wrote, record, err := c.doing(op, d, saved, func(r *run) (*Record, error) { return r.perform(ctx, &out, status) })
	if record != nil {
		out.Record = record
	}
	out.Duration = time.Since(began)
	out.count(ctx, d, status, wrote, err)
	return out, err
}

// perform runs the action of a decision.
func (r *run) perform(ctx context.Context, out *Outcome, status *Status) (*Record, error) {
	switch out.Next {
	case Install:
		return r.install(ctx)
	case Upgrade:
		return r.upgrade(ctx)
	case Test:
		record, err := r.test(ctx)
		if record != nil && len(status.History) > 0 {
			status.History[0].Tests = testResults(record, r.d.chosen)
		}
		return record, err
	case Rollback:
		policy, _ := status.Counters.remediation(r.d.Policy)
		target := previous(status.History, policy.IgnoreTestFailures)
		if target == nil {
			return nil, ErrNoRollbackTarget
		}
		return r.rollback(ctx, target.Revision)
	case UninstallFailed, ResumeUninstall:
		return r.uninstall(ctx)
	case Unlock:
		return r.unlock(ctx)
	case CorrectDrift:
		var err error
		out.Drift, err = r.correct(ctx, out.Record)
		return out.Record, err
	case None:
	}
	return out.Record, nil
}

// count takes in how an action ended, and says what follows.
func (o *Outcome) count(ctx context.Context, d *Desired, status *Status, wrote bool, err error) {
	counters := &status.Counters
	policy, _ := counters.remediation(d.Policy)
	released := o.Next == Install || o.Next == Upgrade
	ignored := o.Next == Test && (d.Policy.IgnoreTestFailures || policy.IgnoreTestFailures)
	switch {
	case err == nil:
		o.Again = o.Next != Rollback && o.Next != CorrectDrift
		if released && policy.RetryOnFailure {
			*counters = Counters{Last: counters.Last}
		}
	case ctx.Err() != nil:
		o.Again = true // interrupted, not failed
	case released && wrote, o.Next == Test && errors.Is(err, ErrHook) && !ignored:
		counters.Failures++
		if counters.Last == Install {
			counters.InstallFailures++
		} else {
			counters.UpgradeFailures++
		}
		o.Again = true
		if released && policy.RetryOnFailure {
			o.After = policy.pause()
		}
	case o.Next == Test && errors.Is(err, ErrHook):
		o.Again = true
	}
}

// remember brings the history up to date with a stored record. The values a
// rollback brings back are those of the revision, not those that are wanted.
func (s *Status) remember(r *Record, d *Desired, action Action, config digest.Digest) {
	i := slices.IndexFunc(s.History, func(h Snapshot) bool { return h.Revision == r.Release.Version })
	var old Snapshot
	if i >= 0 {
		old = s.History[i]
	}
	oci := old.OCIDigest
	made := i < 0 && (action == Install || action == Upgrade) && (len(s.History) == 0 || r.Release.Version > s.History[0].Revision)
	if made {
		oci, s.RenderKey = d.OCIDigest, d.RenderKey
	}
	if i < 0 && !made && action != Rollback && len(s.History) > 0 {
		return // an older record that somebody else made
	}
	snapshot, err := Observe(r, oci)
	if err != nil {
		return // its values are JSON, they were stored
	}
	snapshot.Tests = old.Tests
	switch {
	case i >= 0:
		snapshot.ConfigDigest = old.ConfigDigest
		s.History[i] = snapshot
		return
	case made:
		snapshot.ConfigDigest = config
	}
	s.History = append([]Snapshot{snapshot}, s.History...)
	slices.SortStableFunc(s.History, func(a, b Snapshot) int { return b.Revision - a.Revision })
	if most := max(d.MaxHistory, 5); len(s.History) > most {
		s.History = s.History[:most]
	}
	if r.status() == release.StatusUninstalled {
		s.History = s.History[:1]
	}
}
