package ssa

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
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

// takeOver makes fields of former managers ours: their entries become a part of
// ours. The patch is of the version that was read; if somebody wrote the object
// meanwhile it is read again.
func (c *Client) takeOver(ctx context.Context, it *item) error {
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
		entries, changed, err := c.merged(live.GetManagedFields(), it.obj.GetAPIVersion())
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
		set := &fieldpath.Set{}
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			return nil, false, fmt.Errorf("managed fields of %s: %w", entry.Manager, err)
		}
		all = all.Union(set)
	}
	raw, err := all.ToJSON()
	if err != nil {
		return nil, false, err
	}
	own.FieldsV1 = &metav1.FieldsV1{}
	if err := own.FieldsV1.UnmarshalJSON(bytes.TrimSpace(raw)); err != nil {
		return nil, false, err
	}
	return append(out, own), changed, nil
}
