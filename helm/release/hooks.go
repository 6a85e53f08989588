package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/helm"
)

// HookError says which hook failed. It matches [ErrHook].
type HookError struct {
	Event string
	// Name and Path are those of the hook and of its template.
	Name, Path string
	Err        error
}

func (e *HookError) Error() string {
	return fmt.Sprintf("%s hook %s (%s): %s", e.Event, e.Name, e.Path, e.Err)
}

// Unwrap makes the error match [ErrHook] and its cause.
func (e *HookError) Unwrap() []error { return []error{ErrHook, e.Err} }

// hooks runs the hooks of an event that chosen accepts, by weight and name,
// and stops at the first that fails. Their outcome is in the record, which is
// stored before each hook begins; the caller stores how the last one ended.
func (r *run) hooks(ctx context.Context, record *Record, event helm.HookEvent, options ActionOptions, chosen func(string) bool) error {
	if options.DisableHooks {
		return nil
	}
	var due []*release.Hook
	for _, h := range record.Release.Hooks {
		if slices.Contains(h.Events, release.HookEvent(event)) && (chosen == nil || chosen(h.Name)) {
			due = append(due, h)
		}
	}
	slices.SortStableFunc(due, func(a, b *release.Hook) int {
		if a.Weight != b.Weight {
			return a.Weight - b.Weight
		}
		return strings.Compare(a.Name, b.Name)
	})
	var done []*release.Hook
	for _, h := range due {
		err := r.hook(ctx, record, h, options)
		if err == nil {
			done = append(done, h)
			continue
		}
		err = &HookError{Event: string(event), Name: h.Name, Path: h.Path, Err: err}
		return errors.Join(err, r.cleanUp(ctx, []*release.Hook{h}, helm.DeleteFailed, options), r.cleanUp(ctx, done, helm.DeleteSucceeded, options))
	}
	return r.cleanUp(ctx, done, helm.DeleteSucceeded, options)
}

// hook runs one hook to its end.
func (r *run) hook(ctx context.Context, record *Record, h *release.Hook, options ActionOptions) error {
	if err := r.cleanUp(ctx, []*release.Hook{h}, helm.DeleteBeforeCreation, options); err != nil {
		return err
	}
	objects, err := helm.ReadManifest(h.Manifest)
	if err != nil {
		return err
	}
	live, err := r.Applier.Get(ctx, objects)
	if err != nil {
		return err
	}
	for _, o := range live {
		if o != nil {
			return fmt.Errorf("%s exists already, and the hook does not delete it before", describe(o))
		}
	}
	h.LastRun = release.HookExecution{StartedAt: now(), Phase: release.HookPhaseRunning}
	if err := r.save(ctx, record); err != nil {
		return err
	}
	err = r.Applier.Apply(ctx, objects)
	if err == nil {
		err = r.bounded(ctx, options, func(ctx context.Context) error {
			for _, o := range objects {
				if !isJob(o) && !isPod(o) {
					continue
				}
				if err := r.Applier.WaitFor(ctx, o, completed); err != nil {
					return err
				}
			}
			return nil
		})
	}
	h.LastRun.CompletedAt, h.LastRun.Phase = now(), release.HookPhaseSucceeded
	if err != nil {
		h.LastRun.Phase = release.HookPhaseFailed
	}
	if ctx.Err() != nil {
		h.LastRun.Phase = release.HookPhaseUnknown // interrupted
	}
	return err
}

// cleanUp deletes the objects of hooks that have a policy, the last first, and
// waits until they are gone. Definitions are never deleted this way.
func (r *run) cleanUp(ctx context.Context, hooks []*release.Hook, policy helm.HookDeletePolicy, options ActionOptions) error {
	var errs []error
	for _, h := range slices.Backward(hooks) {
		if !deletes(h, policy) || h.Kind == "CustomResourceDefinition" {
			continue
		}
		objects, err := helm.ReadManifest(h.Manifest)
		var live []*unstructured.Unstructured
		if err == nil {
			live, err = r.Applier.Get(ctx, objects)
		}
		live = slices.DeleteFunc(live, func(o *unstructured.Unstructured) bool { return o == nil })
		if err == nil && len(live) > 0 {
			if err = r.Applier.Delete(ctx, live, ""); err == nil {
				err = r.waitGone(ctx, live, options)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func deletes(h *release.Hook, policy helm.HookDeletePolicy) bool {
	if len(h.DeletePolicies) == 0 {
		return policy == helm.DeleteBeforeCreation
	}
	return slices.Contains(h.DeletePolicies, release.HookDeletePolicy(policy))
}

// resetHooks forgets earlier runs.
func resetHooks(record *Record) {
	for _, h := range record.Release.Hooks {
		h.LastRun = release.HookExecution{StartedAt: helmtime.Time{}}
	}
}
