package release

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// How Helm marks what belongs to a release.
const (
	managedByLabel      = "app.kubernetes.io/managed-by"
	managedBy           = "Helm"
	nameAnnotation      = "meta.helm.sh/release-name"
	namespaceAnnotation = "meta.helm.sh/release-namespace"
	policyAnnotation    = "helm.sh/resource-policy"
)

// owned returns copies of objects that carry the marks of the release.
func (r *run) owned(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	out := make([]*unstructured.Unstructured, len(objects))
	for i, o := range objects {
		o = o.DeepCopy()
		labels, annotations := o.GetLabels(), o.GetAnnotations()
		if labels == nil {
			labels = map[string]string{}
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		labels[managedByLabel] = managedBy
		annotations[nameAnnotation], annotations[namespaceAnnotation] = r.d.Name, r.d.Namespace
		o.SetLabels(labels)
		o.SetAnnotations(annotations)
		out[i] = o
	}
	return out
}

// foreign says why a live object is not of the release; empty if it is.
func (r *run) foreign(live *unstructured.Unstructured) string {
	annotations := live.GetAnnotations()
	switch {
	case live.GetLabels()[managedByLabel] != managedBy:
		return fmt.Sprintf("its label %s is %q, not %q", managedByLabel, live.GetLabels()[managedByLabel], managedBy)
	case annotations[nameAnnotation] != r.d.Name:
		return fmt.Sprintf("its annotation %s is %q, not %q", nameAnnotation, annotations[nameAnnotation], r.d.Name)
	case annotations[namespaceAnnotation] != r.d.Namespace:
		return fmt.Sprintf("its annotation %s is %q, not %q", namespaceAnnotation, annotations[namespaceAnnotation], r.d.Namespace)
	}
	return ""
}

// mayTake reports the objects that exist and are not of the release, unless
// they may be taken over, or were in a manifest of it before.
func (r *run) mayTake(ctx context.Context, objects, before []*unstructured.Unstructured) error {
	if r.d.TakeOwnership {
		return nil
	}
	known := map[string]bool{}
	for _, o := range before {
		known[r.key(o)] = true
	}
	var fresh []*unstructured.Unstructured
	for _, o := range objects {
		if !known[r.key(o)] {
			fresh = append(fresh, o)
		}
	}
	live, err := r.Applier.Get(ctx, fresh)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range live {
		if o == nil {
			continue
		}
		if why := r.foreign(o); why != "" {
			errs = append(errs, fmt.Errorf("%w: %s: %s: remove it, or take it over", ErrForeign, describe(o), why))
		}
	}
	return errors.Join(errs...)
}

// key identifies an object of a manifest.
func (r *run) key(o *unstructured.Unstructured) string {
	namespace := o.GetNamespace()
	if namespace == "" {
		namespace = r.d.Namespace
	}
	gvk := o.GroupVersionKind()
	return strings.Join([]string{gvk.Group, gvk.Kind, namespace, o.GetName()}, "\x00")
}

func describe(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

// removeGone deletes the live objects of before that are not in after, with
// what deletable allows.
func (r *run) removeGone(ctx context.Context, before, after []*unstructured.Unstructured) error {
	stays := map[string]bool{}
	for _, o := range after {
		stays[r.key(o)] = true
	}
	var gone []*unstructured.Unstructured
	names := map[string]bool{}
	for _, o := range before {
		if !stays[r.key(o)] {
			stays[r.key(o)] = true // once
			gone = append(gone, o)
			names[o.GetKind()+"/"+o.GetName()] = true
		}
	}
	if len(gone) == 0 {
		return nil
	}
	live, err := r.deletable(ctx, gone)
	if err != nil {
		return err
	}
	// The same object can be written in another group, or with a namespace
	// that its kind does not have.
	var alike []*unstructured.Unstructured
	for _, o := range after {
		if names[o.GetKind()+"/"+o.GetName()] {
			alike = append(alike, o)
		}
	}
	same, err := r.Applier.Get(ctx, alike)
	if err != nil {
		return err
	}
	needed := map[types.UID]bool{}
	for _, o := range same {
		if o != nil {
			needed[o.GetUID()] = true
		}
	}
	var victims []*unstructured.Unstructured
	for _, o := range live {
		if !needed[o.GetUID()] {
			victims = append(victims, o)
		}
	}
	return r.Applier.Delete(ctx, victims, "")
}

// deletable returns the live ones of objects that exist, are not of another
// release, and do not ask to be kept.
func (r *run) deletable(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	live, err := r.Applier.Get(ctx, objects)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for i, o := range live {
		if o == nil || keep(o) || keep(objects[i]) {
			continue
		}
		if name := o.GetAnnotations()[nameAnnotation]; name != "" && r.foreign(o) != "" {
			continue // handed over
		}
		out = append(out, o)
	}
	return out, nil
}

func keep(o *unstructured.Unstructured) bool {
	return strings.EqualFold(strings.TrimSpace(o.GetAnnotations()[policyAnnotation]), "keep")
}

// waitGone waits until objects do not exist any more.
func (r *run) waitGone(ctx context.Context, objects []*unstructured.Unstructured, options ActionOptions) error {
	return r.bounded(ctx, options, func(ctx context.Context) error {
		for _, o := range objects {
			uid := o.GetUID()
			gone := func(live *unstructured.Unstructured) (bool, error) {
				return live == nil || uid != "" && live.GetUID() != uid, nil
			}
			if err := r.Applier.WaitFor(ctx, o, gone); err != nil {
				return fmt.Errorf("wait until %s is gone: %w", describe(o), err)
			}
		}
		return nil
	})
}

// waitReady waits until objects are ready, and Jobs complete.
func (r *run) waitReady(ctx context.Context, objects []*unstructured.Unstructured, options ActionOptions) error {
	if options.DisableWait {
		return nil
	}
	var jobs, rest []*unstructured.Unstructured
	for _, o := range objects {
		if isJob(o) {
			jobs = append(jobs, o)
			continue
		}
		rest = append(rest, o)
	}
	return r.bounded(ctx, options, func(ctx context.Context) error {
		if len(rest) > 0 {
			if err := r.Applier.WaitReady(ctx, rest); err != nil {
				return err
			}
		}
		for _, o := range jobs {
			if options.DisableWaitForJobs {
				break
			}
			if err := r.Applier.WaitFor(ctx, o, completed); err != nil {
				return fmt.Errorf("%s: %w", describe(o), err)
			}
		}
		return nil
	})
}

// bounded gives a wait its timeout, and its error the class.
func (r *run) bounded(ctx context.Context, options ActionOptions, wait func(context.Context) error) error {
	timed, cancel := context.WithTimeoutCause(ctx, options.timeout(), errTimeout{options.timeout().String()})
	defer cancel()
	err := wait(timed)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return err
}

// errTimeout says how long a wait was allowed to take.
type errTimeout struct{ after string }

func (e errTimeout) Error() string { return "timeout after " + e.after }

func isJob(o *unstructured.Unstructured) bool {
	return o.GetKind() == "Job" && o.GroupVersionKind().Group == "batch"
}

func isPod(o *unstructured.Unstructured) bool {
	return o.GetKind() == "Pod" && o.GroupVersionKind().Group == ""
}

// completed reports whether a Job or Pod ran to its end. One that is gone did:
// Jobs can remove themselves.
func completed(live *unstructured.Unstructured) (bool, error) {
	switch {
	case live == nil:
		return true, nil
	case isPod(live):
		phase, _, _ := unstructured.NestedString(live.Object, "status", "phase") // no phase yet is none
		if phase == "Failed" {
			message, _, _ := unstructured.NestedString(live.Object, "status", "message")
			return false, fmt.Errorf("the Pod failed: %s", message)
		}
		return phase == "Succeeded", nil
	case !isJob(live):
		return true, nil
	}
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions") // none yet
	for _, c := range conditions {
		condition, ok := c.(map[string]any)
		if !ok || condition["status"] != "True" {
			continue
		}
		switch condition["type"] {
		case "Complete":
			return true, nil
		case "Failed":
			return false, fmt.Errorf("the Job failed: %v", condition["message"])
		}
	}
	return false, nil
}
