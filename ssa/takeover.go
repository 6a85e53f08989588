package ssa

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// former reports a manager whose fields are to become ours. Our own name counts
// where it stands for updates, not for applies.
func (c *Client) former(entry metav1.ManagedFieldsEntry) bool {
	if entry.Subresource != "" || entry.FieldsV1 == nil {
		return false
	}
	if entry.Manager == c.manager() {
		return entry.Operation == metav1.ManagedFieldsOperationUpdate && len(c.Policy.TakeOver) > 0
	}
	return slices.ContainsFunc(c.Policy.TakeOver, func(name string) bool {
		prefix, wild := strings.CutSuffix(name, "*")
		return entry.Manager == name || wild && strings.HasPrefix(entry.Manager, prefix)
	})
}

// succeeds reports whether one of the managers, as "operation manager", is one
// whose fields are to become ours.
func (c *Client) succeeds(managers []string) bool {
	if len(c.Policy.TakeOver) == 0 {
		return false
	}
	return slices.ContainsFunc(managers, func(m string) bool {
		operation, name, _ := strings.Cut(m, " ")
		return c.former(metav1.ManagedFieldsEntry{Manager: name, Operation: metav1.ManagedFieldsOperationType(operation), FieldsV1: &metav1.FieldsV1{}})
	})
}

// formers returns the managers of a live object whose fields are to become ours.
func (p *plan) formers(it *item, live *unstructured.Unstructured) []string {
	if live == nil || p.client.Owner.says(it.obj, "ssa", "Merge") {
		return nil
	}
	var names []string
	for _, entry := range live.GetManagedFields() {
		if p.client.former(entry) {
			names = append(names, entry.Manager)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// abandoned returns the fields that go when the fields of former managers become
// ours: those that neither we nor anybody else wants.
func (p *plan) abandoned(live, merged *unstructured.Unstructured) []FieldChange {
	theirs, wanted := &fieldpath.Set{}, &fieldpath.Set{}
	for _, entry := range merged.GetManagedFields() {
		set := fieldSet(entry.FieldsV1)
		switch {
		case set == nil:
		case p.client.former(entry):
			theirs = theirs.Union(set)
		default:
			wanted = wanted.Union(set)
		}
	}
	var out []FieldChange
	secret := live.GetKind() == "Secret" && live.GetAPIVersion() == "v1" && !p.unmask
	theirs.Leaves().RecursiveDifference(wanted.Leaves()).Iterate(func(place fieldpath.Path) {
		pointer, ok := pointerTo(live.Object, place)
		old := at(live.Object, place)
		if _, gone := old.(absent); gone || !ok || pointer == "/metadata" || strings.HasPrefix(pointer, "/status") {
			return
		}
		if secret || strings.HasPrefix(pointer, "/metadata/annotations/"+escape(lastApplied)) {
			old = "***"
		}
		out = append(out, FieldChange{Path: strings.TrimPrefix(place.String(), "."), Pointer: pointer, Old: old})
	})
	return out
}

// pointerTo returns a place as a JSON pointer into an object.
func pointerTo(object any, place fieldpath.Path) (string, bool) {
	pointer := ""
	for n, element := range place {
		token := ""
		switch {
		case element.FieldName != nil:
			token = escape(*element.FieldName)
		default:
			list, _ := at(object, place[:n]).([]any) // nil has no items
			i := slices.IndexFunc(list, func(item any) bool {
				return element.Key != nil && hasKey(item, *element.Key) || element.Value != nil && value.Equals(value.NewValueInterface(item), *element.Value)
			})
			if element.Index != nil {
				i = *element.Index
			}
			if i < 0 || i >= len(list) {
				return "", false
			}
			token = strconv.Itoa(i)
		}
		pointer += "/" + token
	}
	return pointer, true
}

// takeOver makes fields of former managers ours: their entries become a part of
// ours.
func (c *Client) takeOver(ctx context.Context, it *item) error {
	return c.rewrite(ctx, it, func(entries []metav1.ManagedFieldsEntry) ([]metav1.ManagedFieldsEntry, bool, error) {
		return c.merged(entries, it.obj.GetAPIVersion())
	})
}

// rewrite changes the managed fields of a live object. The patch is of the version
// that was read; if somebody wrote the object meanwhile it is read again.
func (c *Client) rewrite(ctx context.Context, it *item, f func([]metav1.ManagedFieldsEntry) (out []metav1.ManagedFieldsEntry, changed bool, err error)) error {
	resource := c.resource(it.mapping, it.id.Namespace)
	const attempts = 5
	for attempt := 1; ; attempt++ {
		live, err := resource.Get(ctx, it.id.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		entries, changed, err := f(live.GetManagedFields())
		if err != nil || !changed {
			return err
		}
		patch, err := json.Marshal([]map[string]any{
			{"op": "replace", "path": "/metadata/managedFields", "value": entries},
			{"op": "replace", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
		})
		if err != nil {
			return err
		}
		_, err = resource.Patch(ctx, it.id.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: c.manager()})
		if err == nil || !apierrors.IsConflict(err) || attempt == attempts {
			return err
		}
	}
}

// merged returns managed fields with the entries of former managers in ours.
func (c *Client) merged(entries []metav1.ManagedFieldsEntry, apiVersion string) (out []metav1.ManagedFieldsEntry, changed bool, err error) {
	own := metav1.ManagedFieldsEntry{Manager: c.manager(), Operation: metav1.ManagedFieldsOperationApply, APIVersion: apiVersion, FieldsType: "FieldsV1"}
	all := &fieldpath.Set{}
	for _, entry := range entries {
		ours := entry.Manager == c.manager() && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == ""
		if !ours && !c.former(entry) {
			out = append(out, entry)
			continue
		}
		changed = changed || !ours
		if ours {
			own.Time, own.APIVersion = entry.Time, entry.APIVersion
		} else if own.Time == nil {
			own.Time = entry.Time
		}
		set, err := readFields(entry)
		if err != nil {
			return nil, false, err
		}
		all = all.Union(set)
	}
	own.FieldsV1, err = writeFields(all)
	return append(out, own), changed, err
}

func readFields(entry metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	set := &fieldpath.Set{}
	if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
		return nil, fmt.Errorf("managed fields of %s: %w", entry.Manager, err)
	}
	return set, nil
}

func writeFields(set *fieldpath.Set) (*metav1.FieldsV1, error) {
	raw, err := set.ToJSON()
	if err != nil {
		return nil, err
	}
	out := &metav1.FieldsV1{}
	return out, out.UnmarshalJSON(bytes.TrimSpace(raw))
}
