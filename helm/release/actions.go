package release

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
)

// Install installs a release that does not exist, or was uninstalled. The
// record is stored before the first object is sent, and again when all is
// ready; if something fails in between it says so. The record is returned even
// with an error, if there is one.
func (c *Client) Install(ctx context.Context, d Desired) (*Record, error) {
	return c.do(string(Install), &d, nil, func(r *run) (*Record, error) { return r.install(ctx) })
}

func (r *run) install(ctx context.Context) (*Record, error) {
	history, err := r.Store.History(ctx, r.d.Name)
	if err != nil {
		return nil, err
	}
	revision := 1
	if len(history) > 0 {
		if status := history[0].Status; status != release.StatusUninstalled {
			return nil, fmt.Errorf("%w: its revision %d is %s", ErrExists, history[0].Revision, status)
		}
		revision = history[0].Revision + 1
	}
	result, err := r.render(ctx, revision, false)
	if err != nil {
		return nil, err
	}
	record, err := r.newRecord(result, release.StatusPendingInstall, "Initial install underway")
	if err != nil {
		return nil, err
	}
	return r.release(ctx, change{
		record: record, history: history, crds: result.CRDs, after: result.Objects, options: r.d.Install,
		pre: helm.HookPreInstall, post: helm.HookPostInstall, done: "Install complete",
	})
}

// Upgrade makes a new revision of a release. Objects that left the manifest
// are deleted, those of a failed revision, too, unless their annotation
// helm.sh/resource-policy is keep. See [Client.Install] for the record.
func (c *Client) Upgrade(ctx context.Context, d Desired) (*Record, error) {
	return c.do(string(Upgrade), &d, nil, func(r *run) (*Record, error) { return r.upgrade(ctx) })
}

func (r *run) upgrade(ctx context.Context) (*Record, error) {
	newest, history, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	before, err := r.manifests(ctx, newest, history)
	if err != nil {
		return nil, err
	}
	result, err := r.render(ctx, newest.Release.Version+1, true)
	if err != nil {
		return nil, err
	}
	record, err := r.newRecord(result, release.StatusPendingUpgrade, "Preparing upgrade")
	if err != nil {
		return nil, err
	}
	record.Release.Info.FirstDeployed = newest.Release.Info.FirstDeployed
	return r.release(ctx, change{
		record: record, history: history, crds: result.CRDs, before: before, after: result.Objects, options: r.d.Upgrade,
		pre: helm.HookPreUpgrade, post: helm.HookPostUpgrade, done: "Upgrade complete",
	})
}

// Rollback makes a new revision with the chart, values and manifest of an
// earlier one. It renders nothing.
func (c *Client) Rollback(ctx context.Context, d Desired, revision int) (*Record, error) {
	return c.do(string(Rollback), &d, nil, func(r *run) (*Record, error) { return r.rollback(ctx, revision) })
}

func (r *run) rollback(ctx context.Context, revision int) (*Record, error) {
	newest, history, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	target, err := r.Store.Get(ctx, r.d.Name, revision)
	if err != nil {
		return nil, err
	}
	before, err := r.manifests(ctx, newest, history)
	if err != nil {
		return nil, err
	}
	after, err := helm.ReadManifest(target.Release.Manifest)
	if err != nil {
		return nil, err
	}
	record := target.clone()
	record.Version = ""
	record.Release.Version = newest.Release.Version + 1
	record.Release.Info = &release.Info{
		FirstDeployed: newest.Release.Info.FirstDeployed, LastDeployed: now(), Notes: target.Release.Info.Notes,
		Status: release.StatusPendingRollback, Description: fmt.Sprintf("Rollback to %d", revision),
	}
	record.setApplyMethod("ssa")
	resetHooks(record)
	return r.release(ctx, change{
		record: record, history: history, before: before, after: after, options: r.d.Rollback,
		pre: helm.HookPreRollback, post: helm.HookPostRollback, done: record.Release.Info.Description,
	})
}

// current returns the newest record if there can be a next one.
func (r *run) current(ctx context.Context) (*Record, []Meta, error) {
	newest, history, err := last(ctx, r.Store, r.d.Name)
	switch {
	case err != nil:
		return nil, nil, err
	case newest == nil || newest.status() == release.StatusUninstalled:
		return nil, nil, ErrNotFound
	case newest.status().IsPending() || newest.status() == release.StatusUninstalling:
		return nil, nil, fmt.Errorf("%w: its revision %d is %s", ErrLocked, newest.Release.Version, newest.status())
	}
	return newest, history, nil
}

// manifests returns the objects that the release may have: those of the newest
// record, of the one that is deployed, and of those between that failed.
func (r *run) manifests(ctx context.Context, newest *Record, history []Meta) ([]*unstructured.Unstructured, error) {
	out, err := helm.ReadManifest(newest.Release.Manifest)
	if err != nil {
		return nil, err
	}
	for _, m := range history {
		if newest.status() == release.StatusDeployed {
			break
		}
		if m.Revision >= newest.Release.Version {
			continue
		}
		older, err := r.Store.Get(ctx, r.d.Name, m.Revision)
		if err != nil {
			return nil, err
		}
		objects, err := helm.ReadManifest(older.Release.Manifest)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
		if m.Status == release.StatusDeployed {
			break
		}
	}
	return out, nil
}

// change is what install, upgrade and rollback have in common.
type change struct {
	record        *Record
	history       []Meta
	crds          []*unstructured.Unstructured
	before, after []*unstructured.Unstructured
	pre, post     helm.HookEvent
	options       ActionOptions
	done          string
}

// release carries a change out. Up to the first save nothing is changed but
// definitions and the namespace, which no action ever removes.
func (r *run) release(ctx context.Context, c change) (*Record, error) {
	if err := r.mayTake(ctx, c.after, c.before); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, c.crds); err != nil {
		return nil, err
	}
	if err := r.prune(ctx, c.history); err != nil {
		return nil, err
	}
	if err := r.save(ctx, c.record); err != nil {
		return nil, err
	}
	if err := r.apply(ctx, c); err != nil {
		return c.record, r.fail(ctx, c.record, err)
	}
	if err := r.supersede(ctx, c.history); err != nil {
		return c.record, r.fail(ctx, c.record, err)
	}
	return c.record, r.conclude(ctx, c.record, release.StatusDeployed, c.done)
}

// prepare creates what the objects need: namespace and definitions.
func (r *run) prepare(ctx context.Context, crds []*unstructured.Unstructured) error {
	var wanted []*unstructured.Unstructured
	if r.d.CreateNamespace {
		namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
		namespace.SetName(r.d.Namespace)
		namespace.SetLabels(map[string]string{"name": r.d.Namespace})
		wanted = append(wanted, namespace)
	}
	if r.d.CRDs == CreateCRDs {
		wanted = append(wanted, crds...)
	}
	live, err := r.Applier.Get(ctx, wanted)
	if err != nil {
		return err
	}
	var missing []*unstructured.Unstructured
	for i, o := range live {
		if o == nil {
			missing = append(missing, wanted[i])
		}
	}
	if r.d.CRDs == CreateReplaceCRDs {
		missing = append(missing, crds...)
	}
	if len(missing) == 0 {
		return nil
	}
	return r.Applier.Apply(ctx, missing)
}

// apply sends the objects, between the hooks.
func (r *run) apply(ctx context.Context, c change) error {
	if err := r.hooks(ctx, c.record, c.pre, c.options, nil); err != nil {
		return err
	}
	if len(c.after) > 0 {
		if err := r.Applier.Apply(ctx, r.owned(c.after)); err != nil {
			return err
		}
	}
	if err := r.removeGone(ctx, c.before, c.after); err != nil {
		return err
	}
	if err := r.waitReady(ctx, c.after, c.options); err != nil {
		return err
	}
	return r.hooks(ctx, c.record, c.post, c.options, nil)
}

// supersede stores that the records that were deployed are not any more.
func (r *run) supersede(ctx context.Context, history []Meta) error {
	for _, m := range history {
		if m.Status != release.StatusDeployed {
			continue
		}
		older, err := r.Store.Get(ctx, r.d.Name, m.Revision)
		if errors.Is(err, ErrNotFound) {
			continue // pruned
		}
		if err != nil {
			return err
		}
		older.Release.Info.Status = release.StatusSuperseded
		if err := r.save(ctx, older); err != nil {
			return err
		}
	}
	return nil
}

// Uninstall deletes the objects of a release and its records, or with
// KeepHistory marks it as uninstalled. A release that does not exist counts as
// uninstalled. Objects whose annotation helm.sh/resource-policy is keep stay,
// and so do those that another release took over. An uninstall that was
// interrupted is finished.
func (c *Client) Uninstall(ctx context.Context, d Desired) error {
	_, err := c.do("uninstall", &d, nil, func(r *run) (*Record, error) { return r.uninstall(ctx) })
	return err
}

func (r *run) uninstall(ctx context.Context) (*Record, error) {
	newest, history, err := last(ctx, r.Store, r.d.Name)
	if err != nil || newest == nil {
		return nil, err
	}
	if newest.status() == release.StatusUninstalled {
		return newest, r.purge(ctx, history)
	}
	objects, err := r.manifests(ctx, newest, history)
	if err != nil {
		return newest, err
	}
	newest.Release.Info.Deleted = now()
	newest.set(release.StatusUninstalling, "Deletion in progress (or silently failed)")
	if err := r.save(ctx, newest); err != nil {
		return newest, err
	}
	if err := r.hooks(ctx, newest, helm.HookPreDelete, r.d.Uninstall, nil); err != nil {
		return newest, err
	}
	live, err := r.deletable(ctx, objects)
	if err == nil {
		err = r.Applier.Delete(ctx, live, r.d.Propagation)
	}
	if err == nil && !r.d.Uninstall.DisableWait {
		err = r.waitGone(ctx, live, r.d.Uninstall)
	}
	if err != nil {
		return newest, err
	}
	if err := r.hooks(ctx, newest, helm.HookPostDelete, r.d.Uninstall, nil); err != nil {
		return newest, err
	}
	if err := r.supersede(ctx, history[1:]); err != nil {
		return newest, err
	}
	if err := r.conclude(ctx, newest, release.StatusUninstalled, "Uninstallation complete"); err != nil {
		return newest, err
	}
	return newest, r.purge(ctx, history)
}

// purge removes the records, the newest last, so that an interruption leaves
// one that says what happened.
func (r *run) purge(ctx context.Context, history []Meta) error {
	if r.d.KeepHistory {
		return nil
	}
	for _, m := range slices.Backward(history) {
		if err := r.Store.Delete(ctx, r.d.Name, m.Revision); err != nil {
			return err
		}
	}
	return nil
}

// Test runs the test hooks of a deployed release, by weight, and stops at the
// first that fails. The outcome is in the record.
func (c *Client) Test(ctx context.Context, d Desired) (*Record, error) {
	return c.do(string(Test), &d, nil, func(r *run) (*Record, error) { return r.test(ctx) })
}

func (r *run) test(ctx context.Context) (*Record, error) {
	newest, _, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	err = r.hooks(ctx, newest, helm.HookTest, r.d.Test, r.d.chosen)
	info := newest.Release.Info
	return newest, errors.Join(err, r.conclude(ctx, newest, info.Status, info.Description))
}

// chosen reports whether a test is to be run.
func (d *Desired) chosen(name string) bool {
	if slices.Contains(d.ExcludeTests, name) {
		return false
	}
	return len(d.IncludeTests) == 0 || slices.Contains(d.IncludeTests, name)
}

// Unlock marks a release whose action was interrupted as failed, so that the
// next action can begin. Only call it if no action is under way.
func (c *Client) Unlock(ctx context.Context, d Desired) (*Record, error) {
	return c.do(string(Unlock), &d, nil, func(r *run) (*Record, error) { return r.unlock(ctx) })
}

func (r *run) unlock(ctx context.Context) (*Record, error) {
	newest, _, err := last(ctx, r.Store, r.d.Name)
	switch {
	case err != nil:
		return nil, err
	case newest == nil:
		return nil, ErrNotFound
	case !newest.status().IsPending():
		return newest, nil
	}
	newest.set(release.StatusFailed, fmt.Sprintf("Release unlocked from stale '%s' state", newest.status()))
	return newest, r.save(ctx, newest)
}
