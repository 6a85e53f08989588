package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
)

// Applier is the cluster that a release is installed in. Its methods take the
// objects a caller wants; namespaced ones that name no namespace are in that of
// the release. ssa.Objects is one. It must be safe for concurrent use.
type Applier interface {
	Reader
	Writer
	Waiter
}

// Reader reads objects.
type Reader interface {
	// Get returns the live objects, in order; nil for one that does not exist.
	Get(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error)
	// Diff returns for each object what an apply would change, a line for
	// each field; nil where nothing would. It changes nothing.
	Diff(ctx context.Context, objects []*unstructured.Unstructured) ([][]string, error)
}

// Writer changes objects.
type Writer interface {
	// Apply creates or changes objects. Definitions among them are served when
	// it returns.
	Apply(ctx context.Context, objects []*unstructured.Unstructured) error
	// Delete deletes objects, the last first, and accepts that some are gone.
	// One with a UID is deleted only if it is still the same.
	Delete(ctx context.Context, objects []*unstructured.Unstructured, propagation metav1.DeletionPropagation) error
}

// Waiter waits for objects, until ctx ends.
type Waiter interface {
	// WaitReady returns when all objects are ready.
	WaitReady(ctx context.Context, objects []*unstructured.Unstructured) error
	// WaitFor calls done with the live object, nil if it does not exist, now
	// and after every change, until that returns true or an error.
	WaitFor(ctx context.Context, object *unstructured.Unstructured, done func(live *unstructured.Unstructured) (bool, error)) error
}

// CRDPolicy says what happens to the definitions in crds/ of a chart. None is
// ever deleted.
type CRDPolicy string

// The policies for definitions.
const (
	CreateCRDs        CRDPolicy = ""              // those that do not exist
	CreateReplaceCRDs CRDPolicy = "CreateReplace" // all of them
	SkipCRDs          CRDPolicy = "Skip"
)

// ActionOptions are the settings of one action. The zero value waits and runs hooks.
type ActionOptions struct {
	// Timeout bounds each wait and each hook; 0 means five minutes.
	Timeout time.Duration
	// DisableWait does not wait until objects are ready, or gone.
	DisableWait bool
	// DisableWaitForJobs does not wait until Jobs are complete.
	DisableWaitForJobs bool
	// DisableHooks runs no hooks.
	DisableHooks bool
}

func (o ActionOptions) timeout() time.Duration {
	if o.Timeout == 0 {
		return 5 * time.Minute
	}
	return o.Timeout
}

// Desired is a release as it should be. [Client.Uninstall], [Client.Unlock],
// [Client.Rollback] and [Client.Test] need only its name and their options.
type Desired struct {
	// Name and Namespace are required. helm.ReleaseName shortens a name.
	Name, Namespace string
	// Chart and Values are what to install.
	Chart  *helm.Chart
	Values map[string]any
	// OCIDigest is the digest of the artifact the chart came in; empty if none.
	OCIDigest string
	// Render are the options of the render: capabilities, post-renderers.
	Render helm.RenderOptions
	// RenderKey changes whenever Render would change the manifest, which the
	// options, being functions, cannot tell; it leads to an upgrade.
	RenderKey string
	// Generation changes whenever failures should be forgotten.
	Generation string
	// Policy says which action follows which state.
	Policy Policy
	// Install, Upgrade, Rollback, Uninstall and Test are the options of the
	// actions; those of Uninstall hold for remediation, too.
	Install, Upgrade, Rollback, Uninstall, Test ActionOptions
	// CRDs says what happens to definitions; the zero value creates those that
	// do not exist.
	CRDs CRDPolicy
	// CreateNamespace creates the namespace if it does not exist.
	CreateNamespace bool
	// TakeOwnership takes over objects that exist and belong to nobody or to
	// another release. By default such an object is an error.
	TakeOwnership bool
	// KeepHistory keeps the records of an uninstalled release.
	KeepHistory bool
	// Propagation says what an uninstall does to objects that deleted ones
	// own; empty means in the background.
	Propagation metav1.DeletionPropagation
	// MaxHistory is how many records are kept; 0 means 5, negative all.
	MaxHistory int
	// Labels are set on the records.
	Labels map[string]string
	// IncludeTests and ExcludeTests choose test hooks by name; none means all.
	IncludeTests, ExcludeTests []string
	// Force upgrades once, whatever the state. The caller clears it.
	Force bool
}

func (d *Desired) validate(op string) error {
	var errs []error
	if d.Name == "" || d.Namespace == "" {
		errs = append(errs, fmt.Errorf("%w: it needs a name and a namespace", ErrInvalid))
	}
	if d.Chart == nil && (op == string(Install) || op == string(Upgrade)) {
		errs = append(errs, fmt.Errorf("%w: there is no chart", ErrInvalid))
	}
	switch d.CRDs {
	case CreateCRDs, CreateReplaceCRDs, SkipCRDs:
	default:
		errs = append(errs, fmt.Errorf("%w: unknown policy %q for definitions", ErrInvalid, d.CRDs))
	}
	return errors.Join(errs...)
}

// Client acts on releases. It holds no state of its own and is safe for
// concurrent use, except that one release must not be acted on by two calls at
// a time: the records notice, and one of the two fails with [ErrConflict] or
// [ErrExists].
type Client struct {
	// Applier is the cluster. Required. The labels of Flux, which name the
	// HelmRelease an object is from, are those of an ssa.Owner whose Group is
	// "helm.toolkit.fluxcd.io".
	Applier Applier
	// Store keeps the records. Required.
	Store Store
}

// run is one action on one release.
type run struct {
	*Client
	op string
	d  *Desired
	// saved is told of every record that was stored; nil if nobody cares.
	saved func(*Record)
	wrote bool
}

// do runs an action and wraps its error.
func (c *Client) do(op string, d *Desired, saved func(*Record), action func(*run) (*Record, error)) (*Record, error) {
	_, r, err := c.doing(op, d, saved, action)
	return r, err
}

// doing also reports whether a record was written.
func (c *Client) doing(op string, d *Desired, saved func(*Record), action func(*run) (*Record, error)) (wrote bool, r *Record, err error) {
	this := &run{Client: c, op: op, d: d, saved: saved}
	switch {
	case c.Applier == nil || c.Store == nil:
		err = fmt.Errorf("%w: Client needs an Applier and a Store", ErrInvalid)
	default:
		if err = d.validate(op); err == nil {
			r, err = action(this)
		}
	}
	if err == nil {
		return this.wrote, r, nil
	}
	wrapped := &Error{Op: op, Namespace: d.Namespace, Name: d.Name, Err: err}
	if r != nil {
		wrapped.Revision = r.Release.Version
	}
	return this.wrote, r, wrapped
}

// save stores a record and tells who wants to know.
func (r *run) save(ctx context.Context, record *Record) error {
	if err := r.Store.Save(ctx, record); err != nil {
		return err
	}
	r.wrote = true
	if r.saved != nil {
		r.saved(record)
	}
	return nil
}

// conclude stores how an action ended. A cancelled action has done something,
// too, which must be noted.
func (r *run) conclude(ctx context.Context, record *Record, status release.Status, description string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	record.set(status, description)
	return r.save(ctx, record)
}

// fail stores that an action failed, and returns why.
func (r *run) fail(ctx context.Context, record *Record, cause error) error {
	const longest = 1000
	text := fmt.Sprintf("%s%s %q failed: %s", strings.ToUpper(r.op[:1]), r.op[1:], r.d.Name, cause)
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return errors.Join(cause, r.conclude(ctx, record, release.StatusFailed, strings.ToValidUTF8(text, "\uFFFD")))
}

// render renders the chart for a revision.
func (r *run) render(ctx context.Context, revision int, upgrade bool) (*helm.Result, error) {
	target := helm.Release{Name: r.d.Name, Namespace: r.d.Namespace, Revision: revision, Upgrade: upgrade}
	return helm.Render(ctx, r.d.Chart, target, r.d.Values, &r.d.Render)
}

// newRecord makes the record of a rendered chart.
func (r *run) newRecord(result *helm.Result, status release.Status, description string) (*Record, error) {
	data, err := json.Marshal(result.Values)
	if err != nil {
		return nil, fmt.Errorf("%w: the values are not JSON", ErrInvalid)
	}
	var config map[string]any // with numbers as they are after it is stored
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("%w: the values are not JSON", ErrInvalid)
	}
	at := now()
	record := &Record{Release: &release.Release{
		Name: r.d.Name, Namespace: r.d.Namespace, Version: result.Release.Revision, Chart: result.Chart, Config: config,
		Manifest: string(result.Manifest), Labels: r.d.Labels,
		Info: &release.Info{FirstDeployed: at, LastDeployed: at, Status: status, Description: description, Notes: strings.ToValidUTF8(result.Notes, "\uFFFD")},
	}}
	for _, h := range result.Hooks {
		hook := &release.Hook{Name: h.Object.GetName(), Kind: h.Object.GetKind(), Path: h.Path, Manifest: h.Manifest, Weight: h.Weight}
		for _, e := range h.Events {
			hook.Events = append(hook.Events, release.HookEvent(e))
		}
		for _, p := range h.DeletePolicies {
			hook.DeletePolicies = append(hook.DeletePolicies, release.HookDeletePolicy(p))
		}
		for _, p := range h.OutputLogPolicies {
			hook.OutputLogPolicies = append(hook.OutputLogPolicies, release.HookOutputLogPolicy(p))
		}
		record.Release.Hooks = append(record.Release.Hooks, hook)
	}
	record.setApplyMethod("ssa")
	return record, nil
}

// prune removes old records, to make room for one more. The newest one that
// is deployed stays.
func (r *run) prune(ctx context.Context, history []Meta) error {
	most := r.d.MaxHistory
	if most == 0 {
		most = 5
	}
	if most < 0 {
		return nil
	}
	deployed := 0
	for _, m := range history {
		if m.Status == release.StatusDeployed && m.Revision > deployed {
			deployed = m.Revision
		}
	}
	left := len(history)
	for i := len(history) - 1; i > 0 && left >= most; i-- {
		if history[i].Revision == deployed {
			continue
		}
		if err := r.Store.Delete(ctx, r.d.Name, history[i].Revision); err != nil {
			return err
		}
		left--
	}
	return nil
}
