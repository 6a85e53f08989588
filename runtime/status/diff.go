package status

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// A Change is what a pass adds to the status besides what the kind's own code
// has set. It works on every kind that has the fields of Flux.
type Change struct {
	// Observed sets status.observedGeneration to the generation of the object,
	// if the kind has that field.
	Observed bool
	// Token, if not empty, is written to status.lastHandledReconcileAt: the
	// value of the annotation reconcile.fluxcd.io/requestedAt that the pass has answered.
	Token string
	// ForceToken and ResetToken are the same for the annotations
	// reconcile.fluxcd.io/forceAt and resetAt, in status.lastHandledForceAt and
	// status.lastHandledResetAt.
	ForceToken, ResetToken string
}

// Diff returns the JSON merge patch (RFC 7386) that turns the status of before
// into that of after with the change, and nil if there is nothing to write.
// With a resource version it is part of the patch, so that the API server
// refuses it if the object has changed since. Both are objects of the same
// kind; they are only read.
func Diff(before, after Object, change Change, resourceVersion string) ([]byte, error) {
	was, is, err := statuses(before, after, change)
	if err != nil {
		return nil, err
	}
	patch := merge(was, is)
	if len(patch) == 0 {
		return nil, nil
	}
	body := map[string]any{"status": patch}
	if resourceVersion != "" {
		body["metadata"] = map[string]any{"resourceVersion": resourceVersion}
	}
	return json.Marshal(body)
}

// statuses returns the two statuses with the change, of fields that differ.
func statuses(before, after Object, change Change) (was, is map[string]any, err error) {
	b, a := statusField(before), statusField(after)
	if !b.IsValid() || !a.IsValid() || a.Type() != b.Type() {
		return wholeStatuses(before, after, change)
	}
	b, a = shallow(b), shallow(a)
	if f := a.FieldByName("ObservedGeneration"); change.Observed && f.IsValid() && f.CanInt() {
		f.SetInt(after.GetGeneration())
	}
	for _, t := range change.tokens() {
		if f := a.FieldByName(t.field); t.token != "" && f.IsValid() && f.Kind() == reflect.String {
			f.SetString(t.token)
		}
	}
	same := true
	for i := range a.NumField() {
		fa, fb := a.Field(i), b.Field(i)
		if !fa.CanSet() || !reflect.DeepEqual(fa.Interface(), fb.Interface()) {
			same = false
			continue
		}
		fa.SetZero() // in both: no difference
		fb.SetZero()
	}
	if same {
		return nil, nil, nil
	}
	if was, err = convert(b.Addr().Interface(), before); err == nil {
		is, err = convert(a.Addr().Interface(), after)
	}
	return was, is, err
}

// statusField returns the field Status of a struct, if there is one.
func statusField(o Object) reflect.Value {
	v := reflect.Indirect(reflect.ValueOf(o))
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	s := v.FieldByName("Status")
	if !s.IsValid() || s.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return s
}

// shallow returns a copy whose fields can be set.
func shallow(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

func convert(v any, of Object) (map[string]any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(v)
	if err != nil {
		return nil, fmt.Errorf("status of %T: %w", of, err)
	}
	return content, nil
}

// wholeStatuses is statuses for objects that are no such structs.
func wholeStatuses(before, after Object, change Change) (was, is map[string]any, err error) {
	if was, err = statusOf(before); err == nil {
		is, err = statusOf(after)
	}
	if err != nil {
		return nil, nil, err
	}
	if change.Observed && has(after, "ObservedGeneration") {
		is["observedGeneration"] = after.GetGeneration()
	}
	for _, t := range change.tokens() {
		if t.token != "" && has(after, t.field) {
			is[t.name] = t.token
		}
	}
	return was, is, nil
}

// tokens are the answers of a change, with the names of their fields.
func (c Change) tokens() [3]struct{ token, field, name string } {
	return [3]struct{ token, field, name string }{
		{c.Token, "LastHandledReconcileAt", "lastHandledReconcileAt"},
		{c.ForceToken, "LastHandledForceAt", "lastHandledForceAt"},
		{c.ResetToken, "LastHandledResetAt", "lastHandledResetAt"},
	}
}

// Rebase makes the status of after what it would be had it been made from fresh
// instead of before: what was changed between before and after is changed, and
// all else is as fresh has it, conditions one by one. It is for writing again
// what the API server has refused because somebody else was faster. Before and
// fresh are only read.
func Rebase(before, after, fresh Object) error { return replay(before, after, fresh, after) }

// Replay changes the status of fresh as that of before was changed to become
// that of after: [Rebase] the other way round, for going on with an object whose
// status was never written. Before and after are only read.
func Replay(before, after, fresh Object) error { return replay(before, after, fresh, fresh) }

func replay(before, after, fresh, target Object) error {
	conditions := rebaseConditions(before.GetConditions(), after.GetConditions(), fresh.GetConditions())
	field := statusField(target)
	if !field.IsValid() {
		target.SetConditions(conditions)
		return nil
	}
	was, is, err := statuses(before, after, Change{})
	if err != nil {
		return err
	}
	patch := merge(was, is)
	delete(patch, "conditions")
	content, err := statusOf(fresh)
	if err != nil {
		return err
	}
	merged := reflect.New(field.Type())
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(apply(content, patch), merged.Interface()); err != nil {
		return fmt.Errorf("status of %T: %w", after, err)
	}
	field.Set(merged.Elem())
	target.SetConditions(conditions)
	return nil
}

// rebaseConditions returns the conditions of fresh with the changes between the
// other two.
func rebaseConditions(before, after, fresh []metav1.Condition) []metav1.Condition {
	find := func(in []metav1.Condition, of string) *metav1.Condition {
		for i := range in {
			if in[i].Type == of {
				return &in[i]
			}
		}
		return nil
	}
	var out []metav1.Condition
	for _, theirs := range fresh {
		was, is := find(before, theirs.Type), find(after, theirs.Type)
		switch {
		case reflect.DeepEqual(was, is):
			out = append(out, theirs)
		case is != nil:
			out = append(out, *is)
		}
	}
	for _, is := range after {
		if find(fresh, is.Type) == nil && !reflect.DeepEqual(find(before, is.Type), &is) {
			out = append(out, is)
		}
	}
	slices.SortStableFunc(out, order)
	return out
}

// apply applies a merge patch.
func apply(to, patch map[string]any) map[string]any {
	if to == nil {
		to = map[string]any{}
	}
	for key, v := range patch {
		inner, isMap := v.(map[string]any)
		switch {
		case v == nil:
			delete(to, key)
		case isMap:
			below, _ := to[key].(map[string]any)
			to[key] = apply(below, inner)
		default:
			to[key] = v
		}
	}
	return to
}

// has reports whether the status of a kind has a field. What it does not have,
// the API server would drop, and it would be sent again with every write.
func has(o Object, field string) bool {
	v := reflect.Indirect(reflect.ValueOf(o))
	if v.Kind() != reflect.Struct {
		return true
	}
	s := v.FieldByName("Status")
	return !s.IsValid() || s.Kind() != reflect.Struct || s.FieldByName(field).IsValid()
}

func statusOf(o Object) (map[string]any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("status of %T: %w", o, err)
	}
	status, _ := content["status"].(map[string]any)
	if status == nil {
		status = map[string]any{}
	}
	return status, nil
}

// merge returns the merge patch from was to is.
func merge(was, is map[string]any) map[string]any {
	patch := map[string]any{}
	for key := range was {
		if _, ok := is[key]; !ok {
			patch[key] = nil
		}
	}
	for key, v := range is {
		old, ok := was[key]
		if ok && reflect.DeepEqual(old, v) {
			continue
		}
		oldMap, wasMap := old.(map[string]any)
		newMap, isMap := v.(map[string]any)
		if !wasMap || !isMap {
			patch[key] = v
		} else if below := merge(oldMap, newMap); len(below) > 0 {
			patch[key] = below
		}
	}
	return patch
}
